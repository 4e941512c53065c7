"""Embedder for any sentence-transformers model, on CPU or GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ragkit import models
from ragkit.embedders.tokenizer import HubTokenizer, report_truncation
from ragkit.errors import ModelError, require
from ragkit.forks import one_thread_after_fork
from ragkit.types import Vectors

_CONVERSION = 1
_TEXTS_PER_BATCH = 32


class TransformerEmbedder:
    """Embedder with a sentence-transformers model in fp32.

    Batches are sorted by length. Vectors are independent of the batch to 1e-6.

    Args:
        model: Name for `ragkit.models.resolve`.
        device: "cpu" or "cuda" (or "cuda:1").

    Attributes:
        name: Name that `ragkit.embedders.load_embedder` accepts.
        dim: Dimension of the vectors.
        max_tokens: Maximum input length in tokens.
        fingerprint: Digest of the weights, the tokenizer and the configuration.

    Raises:
        MissingExtra: torch or sentence-transformers is not installed.
        ModelError: The folder has no fast tokenizer, or the device is not available.
    """

    def __init__(self, model: str = "minilm", *, device: str = "cpu") -> None:
        torch = require("torch", extra="local")
        one_thread_after_fork("torch")
        library = require("sentence_transformers", extra="local")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"device is {device!r}, but torch finds no GPU; use device='cpu'")
        folder = models.resolve(model)
        self.name = f"transformer:{model}"
        with _no_progress_bars():
            self._model = library.SentenceTransformer(
                str(folder), device=device, local_files_only=True, trust_remote_code=False
            )
        self._model.eval()
        tokenizer = folder / "tokenizer.json"
        if not tokenizer.exists():
            raise ModelError(f"{str(folder)!r} has no tokenizer.json; expected a fast tokenizer")
        self.tokenizer = HubTokenizer(tokenizer)
        self.max_tokens = int(self._model.max_seq_length)
        self.dim = int(self._model.get_embedding_dimension())
        self.fingerprint = models.fingerprint(
            _files(folder), {"embedder": "transformer", "conversion": _CONVERSION}
        )
        self._prompts = {
            "query": self._model.prompts.get("query", ""),
            "passage": self._model.prompts.get("passage", self._model.prompts.get("document", "")),
        }

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed queries as unit vectors, float32 (len(texts), dim)."""
        return self._embed(self._prompts["query"], texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed passages as unit vectors, float32 (len(texts), dim)."""
        return self._embed(self._prompts["passage"], texts)

    def _embed(self, prompt: str, texts: Sequence[str]) -> Vectors:
        if isinstance(texts, str):
            raise TypeError("expected a sequence of texts, not one string")
        texts = [prompt + text for text in texts]
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        _, lengths = self.tokenizer.ids(texts, self.max_tokens)
        report_truncation(texts, lengths, self.max_tokens)
        rows = self._model.encode(
            texts,
            batch_size=_TEXTS_PER_BATCH,
            prompt="",  # already added to the texts
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)  # (texts, dim)
        return unit


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Disable transformers' progress bars, because only ragkit's CLI shows them."""
    log = require("transformers.utils.logging", extra="local")
    was_enabled = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            log.enable_progress_bar()


def _files(folder: Path) -> list[Path]:
    """List the files that determine the vectors: weights, tokenizer and configuration."""
    names = ("*.safetensors", "*.json", "*.txt", "*.model", "*/config.json", "*/*.safetensors")
    return sorted({path for pattern in names for path in folder.glob(pattern)})
