"""Default embedder: a BERT encoder in ONNX Runtime, int8 or fp32, without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ragkit import forks, models
from ragkit.embedders.prompts import Prompts
from ragkit.embedders.tokenizer import HubTokenizer, report_truncation
from ragkit.errors import ModelError
from ragkit.types import Vectors

_CONVERSION = 3  # version in the fingerprint: increase it when graph or quantisation change
_TOKENS_PER_BATCH = 8192  # fp32 only
_THREADS_PER_TEXT = 4  # int8; a short text does not benefit from more


class OnnxEmbedder:
    """Embedder with an encoder that is converted from safetensors to ONNX on first use.

    int8 (the default) runs each text separately in a thread pool. Dynamic quantisation uses one
    scale per batch, so that only separate runs give vectors that are bitwise independent of the
    other texts; without padding they are also faster. fp32 runs length-sorted batches, whose
    vectors are independent of the batch to 1e-6.

    Args:
        model: Name for `ragkit.models.resolve` of a folder with `config.json`,
            `model.safetensors`, `tokenizer.json` and sentence-transformers' pooling file.
        precision: "int8" or "fp32".
        threads: Number of concurrent texts (int8) or of threads per batch (fp32); default: the
            number of cores.

    Attributes:
        name: Name that `ragkit.embedders.load_embedder` accepts.
        dim: Dimension of the vectors.
        max_tokens: Maximum input length in tokens.
        fingerprint: Digest of the weights, the tokenizer, the settings and the conversion.

    Raises:
        ModelError: The model cannot be found, or its architecture is not supported.

    >>> embedder = OnnxEmbedder("minilm")
    >>> embedder.embed_queries(["What is a band gap?"]).shape
    (1, 384)
    """

    def __init__(
        self,
        model: str = "minilm",
        *,
        precision: Literal["int8", "fp32"] = "int8",
        threads: int | None = None,
    ) -> None:
        if precision not in ("int8", "fp32"):
            raise ValueError(f"precision is {precision!r}; expected 'int8' or 'fp32'")
        folder = models.resolve(model)
        settings = read_settings(folder)
        if settings["pooling"] not in ("mean", "cls"):
            raise ModelError(
                f"{model!r} uses {settings['pooling']!r} pooling; the ONNX embedder supports "
                f"'mean' and 'cls'. Use the transformer embedder: 'transformer:{model}'."
            )
        self.name = model if precision == "int8" else f"{model}:{precision}"
        self.precision = precision
        self.max_tokens: int = settings["max_tokens"]
        self.prompts = Prompts(**settings["prompts"])
        self.tokenizer = HubTokenizer(folder / "tokenizer.json")
        self.fingerprint = models.fingerprint(
            [folder / "model.safetensors", folder / "config.json", folder / "tokenizer.json"],
            {**settings, "precision": precision, "conversion": _CONVERSION},
        )
        self._threads = threads or os.cpu_count() or 1

        def build(target: Path) -> None:
            _convert(folder, target, precision=precision, pooling=settings["pooling"])

        self._file = models.convert_once(self.fingerprint, build) / "model.onnx"
        self._pool = self._start_pool()
        forks.renew_after_fork(self, OnnxEmbedder._renew)
        self.dim = int(json.loads((folder / "config.json").read_text())["hidden_size"])

    def _start_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="ragkit-embed")

    def _renew(self) -> None:
        """Make the threads anew in a forked process; sessions are opened again when needed."""
        for name in ("_parallel_session", "_serial_session"):
            if name in vars(self):
                forks.abandon(vars(self).pop(name))
        self._pool = self._start_pool()

    @cached_property
    def _parallel_session(self) -> Any:
        """Session with several threads per run, for a single text and for fp32 batches."""
        max_threads = _THREADS_PER_TEXT if self.precision == "int8" else self._threads
        return open_session(self._file, min(max_threads, self._threads))

    @cached_property
    def _serial_session(self) -> Any:
        """Session with one thread per run, for many concurrent texts."""
        return open_session(self._file, 1)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed queries as unit vectors, float32 (len(texts), dim); longer texts are truncated."""
        return self._embed(self.prompts.query, texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed passages as unit vectors, float32 (len(texts), dim); longer texts are truncated."""
        return self._embed(self.prompts.passage, texts)

    def _embed(self, prompt: str, texts: Sequence[str]) -> Vectors:
        if isinstance(texts, str):
            raise TypeError("expected a sequence of texts, not one string")
        texts = [prompt + text for text in texts]
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        ids, lengths = self.tokenizer.ids(texts, self.max_tokens)
        report_truncation(texts, lengths, self.max_tokens)
        rows = self._one_by_one(ids) if self.precision == "int8" else self._batched(ids)
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)  # (texts, dim)
        return unit

    def _one_by_one(self, ids: list[list[int]]) -> Vectors:
        session = self._parallel_session if len(ids) == 1 else self._serial_session

        def run(text: list[int]) -> Vectors:
            tokens = np.array([text], dtype=np.int32)  # (1, tokens)
            return _run(session, tokens, np.ones_like(tokens))

        return run(ids[0]) if len(ids) == 1 else np.concatenate(list(self._pool.map(run, ids)))

    def _batched(self, ids: list[list[int]]) -> Vectors:
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        rows = np.empty((len(ids), self.dim), dtype=np.float32)
        start = 0
        while start < len(order):
            stop = start + 1
            while (
                stop < len(order)
                and (stop + 1 - start) * len(ids[order[stop]]) <= _TOKENS_PER_BATCH
            ):
                stop += 1
            batch = order[start:stop]
            width = len(ids[batch[-1]])
            tokens = np.zeros((len(batch), width), dtype=np.int32)
            mask = np.zeros_like(tokens)
            for row, i in enumerate(batch):
                tokens[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            rows[batch] = _run(self._parallel_session, tokens, mask)
            start = stop
        return rows


def _run(session: Any, tokens: Any, mask: Any) -> Vectors:
    output: Vectors = session.run(None, {"input_ids": tokens, "mask": mask})[0]
    return output  # (batch, dim)


def read_settings(folder: Path) -> dict[str, Any]:
    """Read pooling, maximum length and prompts of a sentence-transformers folder.

    Missing settings have BERT's defaults.

    Raises:
        ModelError: The folder has no config.json.
    """

    def read(name: str) -> dict[str, Any]:
        path = folder / name
        return dict(json.loads(path.read_text())) if path.exists() else {}

    if not (folder / "config.json").exists():
        raise ModelError(f"{str(folder)!r} has no config.json; expected a model folder")
    config, pooling = read("config.json"), read("1_Pooling/config.json")
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True]
    names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    max_positions = config.get("max_position_embeddings", 512)
    prompts = read("config_sentence_transformers.json").get("prompts") or {}
    return {
        "pooling": "mean" if not modes else "+".join(names.get(mode, mode) for mode in modes),
        "max_tokens": read("sentence_bert_config.json").get("max_seq_length") or max_positions,
        "prompts": {
            "query": prompts.get("query", ""),
            "passage": prompts.get("passage", prompts.get("document", "")),
        },
    }


def _convert(folder: Path, target: Path, *, precision: str, pooling: str) -> None:
    # Imported here because importing onnx takes a third of a second and is needed only once.
    from ragkit.embedders.bert_graph import write_fp32, write_int8

    if precision == "fp32":
        write_fp32(folder, target / "model.onnx", pooling=pooling)
        return
    fp32_file = target / "fp32.onnx"
    write_fp32(folder, fp32_file, pooling=pooling)
    write_int8(fp32_file, target / "model.onnx")
    fp32_file.unlink()


def open_session(file: Path, threads: int) -> Any:
    """Open an ONNX graph on the CPU, with a number of threads per run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
