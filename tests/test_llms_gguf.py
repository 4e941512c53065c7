"""Conversion of GGUF files: the same files as transformers writes, without it for SmolLM2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers.pre_tokenizers import ByteLevel

from ragkit import models
from ragkit.errors import MissingExtra, ModelError
from ragkit.llms import gguf as conversion
from ragkit.llms.llama import check_packages

gguf = pytest.importorskip("gguf")

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "Ċ Ċ"]
WIDTH, INNER, N_HEADS, N_KEY_HEADS, N_LAYERS = 64, 96, 4, 2, 2
TOKENS = [*CONTROL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
TEXTS = ["", "the 1234 the", "1.\n\n2.", "  é ☃ 😀\t\r\n", "<|im_end|> <|im_start", "don't they'll"]


def shapes(*, tied: bool) -> dict[str, tuple[int, ...]]:
    keys = N_KEY_HEADS * (WIDTH // N_HEADS)
    layer = {
        "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH),
        "attn_k": (keys, WIDTH), "attn_v": (keys, WIDTH), "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
    }  # fmt: skip
    found = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    if not tied:
        found["output.weight"] = (len(TOKENS), WIDTH)
    for n in range(N_LAYERS):
        found |= {f"blk.{n}.{name}.weight": shape for name, shape in layer.items()}
    return found


def write_gguf(
    file: Path,
    *,
    architecture: str = "llama",
    splitting: str = "smollm",
    tied: bool = True,
    merges: list[str] = MERGES,
    without: str = "",
    extra: str = "",
) -> Path:
    """Write a tiny random Llama; `without` and `extra` are names of tensors."""
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("Tiny é")
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KEY_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_rope_dimension_count(WIDTH // N_HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(CONTROL) + [1] * (len(TOKENS) - len(CONTROL)))
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}\né{% endfor %}")
    random = np.random.default_rng(0)
    wanted = shapes(tied=tied) | ({extra: (WIDTH,)} if extra else {})
    for name, shape in wanted.items():
        if name == without:
            continue
        weights = random.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, weights)
        else:
            kind = (
                gguf.GGMLQuantizationType.Q8_0 if "attn" in name else gguf.GGMLQuantizationType.Q4_1
            )
            writer.add_tensor(name, gguf.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def converted(file: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    conversion._convert(file, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def converted_by_transformers(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    pytest.importorskip("transformers")
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_is_smollm", lambda fields: False)
        return converted(file, folder)


def assert_same_files(ours: dict[str, bytes], theirs: dict[str, bytes]) -> None:
    import transformers

    assert sorted(ours) == sorted(theirs)
    for name, content in ours.items():
        version = b'"transformers_version": "%s"'
        stated = version % transformers.__version__.encode()
        assert content == theirs[name].replace(stated, version % b"5.24.0"), name


@pytest.mark.models
@pytest.mark.reference
def test_smollm2_when_converted_then_every_file_is_that_of_transformers(tmp_path, monkeypatch):
    try:
        file = models.resolve("smollm2")
    except MissingExtra as error:
        pytest.skip(str(error))
    ours = converted(file, tmp_path / "ours")
    assert_same_files(ours, converted_by_transformers(file, tmp_path / "theirs", monkeypatch))


@pytest.mark.reference
@pytest.mark.parametrize("tied", [True, False])
def test_smollm_of_another_shape_when_converted_then_every_file_is_that_of_transformers(
    tmp_path, monkeypatch, tied
):
    file = write_gguf(tmp_path / "tiny.gguf", tied=tied)
    ours = converted(file, tmp_path / "ours")
    assert_same_files(ours, converted_by_transformers(file, tmp_path / "theirs", monkeypatch))


@pytest.mark.reference
def test_weights_when_compared_with_transformers_reader_then_equal_bit_by_bit(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    file = write_gguf(tmp_path / "tiny.gguf", tied=False)
    converted(file, tmp_path / "ours")
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "ours", local_files_only=True)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    theirs = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=empty)["tensors"]
    assert set(ours) == set(theirs) == set(empty.state_dict())
    for name, weights in theirs.items():
        assert torch.equal(ours[name].view(torch.int16), weights.bfloat16().view(torch.int16)), name


@pytest.mark.reference
def test_tokenizer_when_compared_with_transformers_own_then_ids_are_equal(tmp_path):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    file = write_gguf(tmp_path / "tiny.gguf")
    converted(file, tmp_path / "ours")
    ours = Tokenizer.from_file(str(tmp_path / "ours" / "tokenizer.json"))
    source = {"gguf_file": file.name, "local_files_only": True}
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, **source)
    theirs.backend_tokenizer.pre_tokenizer = ours.pre_tokenizer  # they do not split off digits
    for text in TEXTS:
        assert ours.encode(text).ids == theirs.encode(text), text
        assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text


def test_model_that_is_not_smollm_is_read_by_transformers(tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", splitting="llama-bpe")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        with pytest.raises(MissingExtra, match=r"ragkit-framework\[local\]"):
            converted(file, tmp_path / "without")
    pytest.importorskip("transformers")
    files = converted(file, tmp_path / "with")
    splitting = json.loads(files["tokenizer.json"])["pre_tokenizer"]["pretokenizers"]
    assert [part["type"] for part in splitting] == ["Split", "ByteLevel"]


def test_conversion_needs_gguf(tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match=r"'gguf' is .*not installed.*ragkit-framework\[agent\]"):
        converted(file, tmp_path / "ours")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gpt2"}, "architecture 'gpt2'; expected one of llama"),
        ({"merges": ["a"]}, "the merge 'a' is not of two tokens"),
        ({"merges": ["a b"]}, "the merge 'a b' is not of two tokens"),
        ({"without": "blk.1.ffn_up.weight"}, "1 weights are missing and 0 of its tensors"),
        ({"extra": "rope_freqs.weight"}, "0 weights are missing and 1 of its tensors"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, options, message):
    file = write_gguf(tmp_path / "tiny.gguf", **options)
    with pytest.raises(ModelError, match=message):
        converted(file, tmp_path / "ours")


@pytest.mark.parametrize("length", [0, 3, 100, 2000])
def test_a_truncated_file_is_refused(tmp_path, length):
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ModelError, match="not a readable GGUF file"):
        converted(file, tmp_path / "ours")


def test_conversion_imports_neither_torch_nor_transformers(tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf")
    code = """
import sys
from pathlib import Path
sys.modules["torch"] = sys.modules["transformers"] = None
from ragkit.llms.gguf import as_folder
from ragkit.llms.llama import supports
folder = as_folder(Path(sys.argv[1]))
supports(str(folder))
print(sorted(path.name for path in folder.iterdir()))
"""
    environment = os.environ | {"RAGKIT_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert "model.safetensors" in done.stdout, done.stderr


def test_check_packages_asks_only_for_what_the_model_needs(tmp_path, monkeypatch):
    installed = {"gguf", "llguidance"}
    found = lambda name: name if name in installed else None  # noqa: E731
    monkeypatch.setattr("ragkit.errors.importlib.util.find_spec", found)
    file = tmp_path / "tiny.gguf"
    file.touch()
    check_packages(str(file))
    with pytest.raises(MissingExtra, match=r"'torch' is .*not installed.*\[local\]"):
        check_packages(str(tmp_path))
    installed.remove("llguidance")
    with pytest.raises(MissingExtra, match=r"'llguidance' is .*not installed.*\[agent\]"):
        check_packages(str(file))
    installed.clear()
    with pytest.raises(MissingExtra, match=r"'gguf' is .*not installed.*\[agent\]"):
        check_packages(str(file))
