"""A GGUF file to a folder of safetensors that transformers loads in two seconds.

transformers reads GGUF itself, but de-quantises at every load (15 s for SmolLM2) and wants
`accelerate` for it. Here its configuration and tokenizer are taken over, and the tensors are
de-quantised once. They are stored in bf16: against fp32 storage the next-token distribution of
SmolLM2 moves by a mean KL divergence of 7e-5 nats, far below what the 4-bit file lost already.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragkit import models
from ragkit.errors import ModelError, require

_CONVERSION = 1  # part of the fingerprint: raise it when anything below changes what is written
_ARCHITECTURES = ("llama", "qwen2", "qwen3")
_END_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>")  # what llama.cpp, too, takes as ends


def as_folder(file: Path) -> Path:
    """The converted model's folder, made on first use.

    Raises:
        ModelError: The file is damaged or of an architecture that is not supported.
        MissingExtra: transformers or gguf is not installed.
    """
    digest = models.fingerprint([file], {"conversion": "gguf", "version": _CONVERSION})
    return models.converted(digest, lambda folder: _convert(file, folder))


def _convert(file: Path, folder: Path) -> None:
    require("transformers", extra="local")
    gguf = require("gguf", extra="local")
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    try:
        reader = gguf.GGUFReader(file)
    except (ValueError, KeyError, IndexError) as error:
        raise ModelError(f"{str(file)!r} is not a readable GGUF file ({error})") from error
    architecture = str(_field(reader, "general.architecture"))
    if architecture not in _ARCHITECTURES:
        raise ModelError(
            f"{str(file)!r} holds a model of architecture {architecture!r}; expected one of "
            f"{', '.join(_ARCHITECTURES)}. Give a folder with safetensors instead."
        )
    source = {"gguf_file": file.name, "local_files_only": True}
    config = AutoConfig.from_pretrained(file.parent, **source)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
    _repair_splitting(tokenizer, str(_field(reader, "tokenizer.ggml.pre")))
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    names = list(empty.state_dict())
    tensors = dict(_tensors(reader, config, names, architecture))
    missing = (
        set(names) - set(tensors) - ({"lm_head.weight"} if config.tie_word_embeddings else set())
    )
    if missing or len(tensors) != len(reader.tensors):
        raise ModelError(
            f"{str(file)!r} does not fit {architecture!r}: {len(missing)} weights are missing and "
            f"{len(reader.tensors) - len(tensors)} of its tensors have no place. "
            "Give a folder with safetensors instead."
        )
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.architectures, config.dtype = [type(empty).__name__], "bfloat16"
    config.save_pretrained(folder)
    ends = {config.eos_token_id, *(tokenizer.get_vocab().get(token) for token in _END_TOKENS)}
    GenerationConfig(eos_token_id=sorted(ends - {None})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _field(reader: Any, key: str) -> object:
    field = reader.fields.get(key)
    return None if field is None else field.contents()


def _tensors(
    reader: Any,
    config: Any,
    names: list[str],
    architecture: str,
) -> Iterator[tuple[str, Any]]:
    import gguf
    import numpy as np
    import torch

    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    mapping = gguf.get_tensor_name_map(kinds[architecture], config.num_hidden_layers)
    places = {mapping.get_name(name, try_suffixes=(".weight", ".bias")): name for name in names}
    for tensor in reader.tensors:
        name = places.get(tensor.name)
        if name is None:
            continue
        weights = np.array(gguf.dequantize(tensor.data, tensor.tensor_type))
        if architecture == "llama" and tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            query = tensor.name.endswith("attn_q.weight")
            heads = config.num_attention_heads if query else config.num_key_value_heads
            weights = _halves(weights, heads)
        yield name, torch.from_numpy(weights).to(torch.bfloat16).contiguous()


def _halves(weights: Any, heads: int) -> Any:
    """Each head's rows in transformers' order.

    llama.cpp rotates neighbouring rows, transformers row i with row i + half: the converter to
    GGUF interleaved the halves, and this takes them apart again.
    """
    pairs = weights.reshape(heads, -1, 2, weights.shape[1])  # (heads, half, 2, columns)
    return pairs.swapaxes(1, 2).reshape(weights.shape).copy()


def _repair_splitting(tokenizer: Any, splitting: str) -> None:
    """Split off every digit where the model's tokenizer does.

    transformers drops this step, and so would make two tokens of the line ends in "\\n\\n1.",
    where SmolLM2 was trained with one.
    """
    from tokenizers import pre_tokenizers

    if splitting == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
            ]
        )
