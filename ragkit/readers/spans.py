"""Question answering by the pair model: the sentence with the answer, and the answer inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.pair.model import PairModel, Span
from ragkit.readers.extractive import FEATURES as WORD_FEATURES
from ragkit.readers.extractive import Candidate, ExtractiveReader
from ragkit.types import Embedder, Hit

FEATURES = (*WORD_FEATURES, "span", "relevance", "lead")
_FLOOR = -15.0  # of a logit; sentences without a token have it


@dataclass(frozen=True, slots=True)
class SentenceReading:
    """What the pair model says of a candidate.

    Attributes:
        span: The best short answer in the candidate's text; None without one.
        relevance: Logit of its passage answering the question.
    """

    span: Span | None
    relevance: float


class SpanReader(ExtractiveReader):
    """Selects the sentences with the most likely short answers, or refuses if none is likely.

    The likelihood of a sentence is a logistic regression on the pair model's logits beside the
    features of `ExtractiveReader` (`benchmarks/fit_extractive.py`).

    Args:
        embedder: Embedder of the question and the sentences.
        pair: The pair model; default: the shipped one.
        max_sentences: Maximum number of sentences in an answer.
        threshold: Minimum likelihood of the best sentence, from 0 to 1; below it, refuse.
    """

    def __init__(
        self,
        embedder: Embedder,
        pair: PairModel | None = None,
        *,
        max_sentences: int = 2,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(embedder, max_sentences=max_sentences, threshold=threshold)
        self._pair = PairModel() if pair is None else pair

    def readings(
        self, question: str, hits: Sequence[Hit], candidates: Sequence[Candidate]
    ) -> list[SentenceReading]:
        """Read each hit's candidates as one passage, after its title."""
        passages: list[str] = []
        regions: list[list[tuple[int, int]]] = []
        for i, hit in enumerate(hits):
            title = str(hit.chunk.metadata.get("title", "")).strip()
            text, parts = f"{title}\n" if title else "", []
            for candidate in candidates:
                if candidate.hit == i:
                    parts.append((len(text), len(text) + len(candidate.text)))
                    text += candidate.text + " "
            passages.append(text)
            regions.append(parts)
        found = self._pair.read(question, passages, regions)
        numbers = [0] * len(hits)
        readings = []
        for candidate in candidates:
            n, reading = numbers[candidate.hit], found[candidate.hit]
            numbers[candidate.hit] += 1
            span, start = reading.spans[n], regions[candidate.hit][n][0]
            moved = span and Span(span.start - start, span.end - start, span.score)
            readings.append(SentenceReading(moved, reading.relevance))
        return readings

    def features(
        self, question: str, hits: Sequence[Hit], candidates: Sequence[Candidate]
    ) -> NDArray[np.float64]:
        """Compute `FEATURES` of the candidates, float64 (candidates, features)."""
        words = super().features(question, hits, candidates)
        return np.hstack([words, self.pair_features(self.readings(question, hits, candidates))])

    @staticmethod
    def pair_features(readings: Sequence[SentenceReading]) -> NDArray[np.float64]:
        """Compute the pair model's features, float64 (readings, 3).

        "lead" is by how much a span is better than the best one of the other candidates.
        """
        spans = np.array([max(_FLOOR, r.span.score) if r.span else _FLOOR for r in readings])
        order = np.sort(spans)
        best, second = (order[-1], order[-2]) if len(spans) > 1 else (spans.max(initial=0), _FLOOR)
        others = np.where(spans == best, second, best)
        lead = np.clip(spans - others, _FLOOR, -_FLOOR)
        relevance = np.array([max(_FLOOR, reading.relevance) for reading in readings])
        return np.column_stack([spans, relevance, lead]).reshape(len(readings), 3)
