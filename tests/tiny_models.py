"""Tiny language models with random weights, written as folders that transformers loads."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

from ragkit import models
from ragkit.errors import MissingExtra
from ragkit.llms.gguf import as_folder

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

needs_peft = pytest.mark.skipif(  # its import takes seconds
    importlib.util.find_spec("peft") is None, reason="needs pip install ragkit-framework[train]"
)

WORDS = [f"w{i}" for i in range(37)]
VOCABULARY = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
SMOL_VOCABULARY = 49152
WINDOW = 64
END = VOCABULARY["</s>"]
_SPREAD = 0.3  # of the weights: next tokens are then far from equally likely


def tiny_llama(folder: Path) -> Path:
    """Two layers; two query heads share a key head."""
    config = transformers.LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=WINDOW,
        initializer_range=_SPREAD,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=0,
    )
    return _written(transformers.LlamaForCausalLM, config, folder)


def tiny_bart(folder: Path) -> Path:
    config = transformers.BartConfig(
        vocab_size=len(VOCABULARY),
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=WINDOW,
        init_std=_SPREAD,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=0,
        decoder_start_token_id=END,
        forced_eos_token_id=None,
    )
    return _written(transformers.BartForConditionalGeneration, config, folder)


def tiny_t5(folder: Path) -> Path:
    config = transformers.T5Config(
        vocab_size=len(VOCABULARY),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        initializer_factor=1.0,
        eos_token_id=END,
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    return _written(transformers.T5ForConditionalGeneration, config, folder)


def smol_llama(folder: Path, *, seed: int = 0, dtype: Any = None, **config: Any) -> Path:
    """Random weights with SmolLM2's tokenizer and template; skips where that is missing."""
    try:
        source = as_folder(models.resolve("smollm2"))
    except MissingExtra as error:
        pytest.skip(str(error))
    given = {"vocab_size": SMOL_VOCABULARY, **config}
    _saved(transformers.LlamaForCausalLM, transformers.LlamaConfig(**given), folder, seed, dtype)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source / name, folder / name)
    return folder


def _saved(kind: Any, config: Any, folder: Path, seed: int = 0, dtype: Any = None) -> None:
    random_state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = kind(config)
    torch.set_rng_state(random_state)
    model.to(dtype or torch.float32).save_pretrained(folder)


def _written(kind: Any, config: Any, folder: Path) -> Path:
    _saved(kind, config, folder)
    words = tokenizers.models.WordLevel(VOCABULARY, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=WINDOW,
    ).save_pretrained(folder)
    return folder
