"""Any sentence-transformers model: every pooling of its config, prompts, CPU or GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ragkit import models
from ragkit.embedders.tokenizer import HubTokenizer, report_cut
from ragkit.errors import ModelError, require
from ragkit.types import Vectors

_CONVERSION = 1
_TEXTS_PER_BATCH = 32


class TransformerEmbedder:
    """Unit vectors from sentence-transformers, in fp32.

    Batches are sorted by length. A text's vector agrees to 1e-6 whatever its neighbours.

    Args:
        model: A name for `ragkit.models.resolve`.
        device: "cpu" or "cuda" (or "cuda:1").

    Raises:
        MissingExtra: torch or sentence-transformers is not installed.
        ModelError: The folder holds no fast tokenizer, or the device is not there.
    """

    def __init__(self, model: str = "minilm", *, device: str = "cpu") -> None:
        torch = require("torch", extra="local")
        library = require("sentence_transformers", extra="local")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"device is {device!r}, but torch sees no GPU; use device='cpu'")
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
        """float32 (len(texts), dim), rows of length 1."""
        return self._embed(self._prompts["query"], texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), rows of length 1."""
        return self._embed(self._prompts["passage"], texts)

    def _embed(self, prompt: str, texts: Sequence[str]) -> Vectors:
        if isinstance(texts, str):
            raise TypeError("expected a sequence of texts, not one string")
        texts = [prompt + text for text in texts]
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        _, lengths = self.tokenizer.ids(texts, self.max_tokens)
        report_cut(texts, lengths, self.max_tokens)
        rows = self._model.encode(
            texts,
            batch_size=_TEXTS_PER_BATCH,
            prompt="",  # already in front of the texts
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)  # (texts, dim)
        return unit


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """transformers draws a bar for its weights on stderr; only ragkit's CLI draws."""
    log = require("transformers.utils.logging", extra="local")
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


def _files(folder: Path) -> list[Path]:
    """Everything that decides the vectors: weights, tokenizer, configuration of every module."""
    names = ("*.safetensors", "*.json", "*.txt", "*.model", "*/config.json", "*/*.safetensors")
    return sorted({path for pattern in names for path in folder.glob(pattern)})
