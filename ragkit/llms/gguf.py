"""Convert GGUF files to folders of safetensors in the format of transformers.

De-quantising a GGUF file takes seconds, so it is done once and the result is cached. The weights of
every model are de-quantised in NumPy. The configuration and tokenizer of SmolLM and SmolLM2 are
built from the file's metadata, without torch and transformers; those of other models are read by
transformers. Both ways write the same bytes for SmolLM2.

Weights are stored in bf16: compared with fp32 storage the next-token distribution of SmolLM2
changes by a mean KL divergence of 7e-5 nats, far less than the 4-bit file has lost already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.errors import ModelError, require

_CONVERSION = 1  # part of the fingerprint: increase it when the converted files change
_ARCHITECTURES = ("llama", "qwen2", "qwen3")
_END_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>")  # llama.cpp ends replies at these, too
_NORMAL_TOKEN, _CONTROL_TOKEN = 1, 3  # values of `tokenizer.ggml.token_type`

# Names of a Llama's configuration in transformers, by those of GGUF.
_CONFIG_FIELDS = {
    "general.architecture": "model_type", "general.name": "_model_name_or_path",
    "llama.attention.head_count": "num_attention_heads",
    "llama.attention.head_count_kv": "num_key_value_heads",
    "llama.attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "llama.block_count": "num_hidden_layers", "llama.context_length": "max_position_embeddings",
    "llama.embedding_length": "hidden_size", "llama.feed_forward_length": "intermediate_size",
    "llama.rope.dimension_count": "head_dim", "llama.vocab_size": "vocab_size",
    "tokenizer.ggml.bos_token_id": "bos_token_id", "tokenizer.ggml.eos_token_id": "eos_token_id",
    "tokenizer.ggml.padding_token_id": "pad_token_id",
    "tokenizer.ggml.unknown_token_id": "unk_token_id",
}  # fmt: skip
_REQUIRED_FIELDS = (
    *_CONFIG_FIELDS, "llama.rope.freq_base", "tokenizer.ggml.tokens", "tokenizer.ggml.merges",
    "tokenizer.ggml.token_type",
)  # fmt: skip
# The rest of the configuration; GGUF has no fields for it. The version is that of the transformers
# release whose files ours are equal to; it writes its own version into each file.
_TRANSFORMERS_VERSION = {"transformers_version": "5.24.0"}
_LLAMA_DEFAULTS = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "dtype": "bfloat16", "hidden_act": "silu", "initializer_range": 0.02, "mlp_bias": False,
    "pretraining_tp": 1, "use_cache": True,
}  # fmt: skip
_TOKENIZER_DEFAULTS = {
    "backend": "tokenizers", "is_local": True, "local_files_only": True,
    "model_max_length": int(1e30), "tokenizer_class": "TokenizersBackend",
}  # fmt: skip
_LLAMA_LAYER = (
    "input_layernorm", "mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "post_attention_layernorm",
    "self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj",
)  # fmt: skip


def as_folder(file: Path) -> Path:
    """Return the folder of the converted model; convert the file on first use.

    Raises:
        ModelError: The file is damaged, or its architecture is not supported.
        MissingExtra: gguf is not installed; or, for models other than SmolLM and SmolLM2, torch or
            transformers.
    """
    digest = models.fingerprint([file], {"conversion": "gguf", "version": _CONVERSION})
    return models.convert_once(digest, lambda folder: _convert(file, folder))


def _convert(file: Path, folder: Path) -> None:
    gguf = require("gguf", extra="agent")
    from safetensors.numpy import save_file

    damage = (ValueError, KeyError, IndexError, TypeError, NotImplementedError)
    try:
        reader = gguf.GGUFReader(file)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except damage as error:
        raise ModelError(f"{str(file)!r} is not a readable GGUF file ({error})") from error
    architecture = str(fields.get("general.architecture"))
    if architecture not in _ARCHITECTURES:
        raise ModelError(
            f"{str(file)!r} is a model of architecture {architecture!r}; expected one of "
            f"{', '.join(_ARCHITECTURES)}. Pass a folder with safetensors instead."
        )
    try:
        if _is_smollm(fields):
            tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
            names = _write_smollm(fields, folder, tied=tied)
        else:
            names = _write_with_transformers(file, folder, str(fields.get("tokenizer.ggml.pre")))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = dict(_tensors(reader, config, names, architecture))
    except damage as error:
        raise ModelError(f"{str(file)!r} cannot be converted ({error})") from error
    missing = set(names) - set(tensors)
    if missing or len(tensors) != len(reader.tensors):
        raise ModelError(
            f"{str(file)!r} does not match {architecture!r}: {len(missing)} weights are missing "
            f"and {len(reader.tensors) - len(tensors)} of its tensors are unknown. "
            "Pass a folder with safetensors instead."
        )
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _is_smollm(fields: Mapping[str, Any]) -> bool:
    """Return True if `_write_smollm` writes what transformers would."""
    from tokenizers.pre_tokenizers import ByteLevel

    flags = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token")
    return (
        all(name in fields for name in _REQUIRED_FIELDS)
        and fields["general.architecture"] == "llama"
        and fields["general.name"] != "mistral"  # transformers loads another class then
        and fields.get("tokenizer.ggml.model") == "gpt2"  # byte-level BPE
        and fields.get("tokenizer.ggml.pre") == "smollm"
        and not any(fields.get(flag) for flag in flags)
        and set(fields["tokenizer.ggml.token_type"]) <= {_NORMAL_TOKEN, _CONTROL_TOKEN}
        and set("".join(fields["tokenizer.ggml.tokens"])) <= set(ByteLevel.alphabet())
    )


def _write_smollm(fields: Mapping[str, Any], folder: Path, *, tied: bool) -> list[str]:
    """Write the configuration and tokenizer, and return the names of the weights.

    Args:
        fields: Metadata of the GGUF file.
        folder: Existing folder to write to.
        tied: True if input and output embeddings are the same.
    """
    tokens = fields["tokenizer.ggml.tokens"]
    config = {name: fields[key] for key, name in _CONFIG_FIELDS.items()}
    rotary = {"rope_theta": fields["llama.rope.freq_base"], "rope_type": "default"}
    config |= _LLAMA_DEFAULTS | {"rope_parameters": rotary, "tie_word_embeddings": tied}
    _write_json(folder / "config.json", config | _TRANSFORMERS_VERSION)
    ends = {fields["tokenizer.ggml.eos_token_id"]}
    ends |= {tokens.index(token) for token in _END_TOKENS if token in tokens}
    generation = {"eos_token_id": sorted(ends)}
    _write_json(folder / "generation_config.json", generation | _TRANSFORMERS_VERSION)
    roles = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    named = {
        f"{role}_token": tokens[fields[f"tokenizer.ggml.{name}_token_id"]]
        for role, name in roles.items()
    }
    _write_json(folder / "tokenizer_config.json", _TOKENIZER_DEFAULTS | named, ascii=False)
    _bpe_tokenizer(fields).save(str(folder / "tokenizer.json"), pretty=True)
    if template := fields.get("tokenizer.chat_template"):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    layers = range(config["num_hidden_layers"])
    names = [f"model.layers.{n}.{name}.weight" for n in layers for name in _LLAMA_LAYER]
    output = [] if tied else ["lm_head.weight"]
    return ["model.embed_tokens.weight", "model.norm.weight", *output, *names]


def _bpe_tokenizer(fields: Mapping[str, Any]) -> Any:
    """Build SmolLM's tokenizer: digits are split off, then byte-level BPE.

    Raises:
        ValueError: A merge is not of two tokens to a third.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, processors
    from tokenizers import models as algorithms

    tokens = fields["tokenizer.ggml.tokens"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    for merge in merges:
        if len(merge) != 2 or not {*merge, "".join(merge)} <= vocabulary.keys():
            raise ValueError(f"the merge {' '.join(merge)!r:.60} is not of two tokens to a third")
    tokenizer = Tokenizer(
        algorithms.BPE(
            vocab=vocabulary,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="",
            fuse_unk=False,
        )
    )
    tokenizer.pre_tokenizer = _smollm_splitting()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0", pair="$A:0 $B:1", special_tokens=[]
    )
    kinds = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in control]
    )
    return tokenizer


def _smollm_splitting() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )


def _write_json(file: Path, value: Mapping[str, Any], *, ascii: bool = True) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=ascii) + "\n"
    file.write_text(text, encoding="utf-8")


def _write_with_transformers(file: Path, folder: Path, splitting: str) -> list[str]:
    """As `_write_smollm`, for every model that transformers reads."""
    torch = require("torch", extra="local")
    transformers = require("transformers", extra="local")
    source = {"gguf_file": file.name, "local_files_only": True}
    config = transformers.AutoConfig.from_pretrained(file.parent, **source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **source)
    if splitting == "smollm":
        # transformers omits this step. It would make two tokens of the line ends in "\n\n1.", where
        # SmolLM2 was trained with one.
        tokenizer.backend_tokenizer.pre_tokenizer = _smollm_splitting()
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    config.architectures, config.dtype = [type(empty).__name__], "bfloat16"
    config.save_pretrained(folder)
    ends = {config.eos_token_id, *(tokenizer.get_vocab().get(token) for token in _END_TOKENS)}
    transformers.GenerationConfig(eos_token_id=sorted(ends - {None})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    return [name for name in empty.state_dict() if name not in tied]


def _tensors(
    reader: Any, config: Mapping[str, Any], names: list[str], architecture: str
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (name in transformers, weights in bf16) for each tensor whose name is known."""
    import gguf
    import ml_dtypes

    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    mapping = gguf.get_tensor_name_map(kinds[architecture], config["num_hidden_layers"])
    renamed = {mapping.get_name(name, try_suffixes=(".weight", ".bias")): name for name in names}
    for tensor in reader.tensors:
        name = renamed.get(tensor.name)
        if name is None:
            continue
        weights = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type))
        if architecture == "llama" and tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            is_query = tensor.name.endswith("attn_q.weight")
            n_heads = config["num_attention_heads" if is_query else "num_key_value_heads"]
            weights = _rotary_halves(weights, n_heads)
        yield name, np.ascontiguousarray(weights.astype(ml_dtypes.bfloat16))


def _rotary_halves(weights: NDArray[Any], n_heads: int) -> NDArray[Any]:
    """Return each head's rows in the order of transformers.

    llama.cpp rotates neighbouring rows together, transformers rotates row i with row i + half of
    the head. The converter to GGUF interleaved the halves; this undoes it.
    """
    pairs = weights.reshape(n_heads, -1, 2, weights.shape[1])  # (heads, half, 2, columns)
    return pairs.swapaxes(1, 2).reshape(weights.shape)
