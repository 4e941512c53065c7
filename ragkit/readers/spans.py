"""Question answering by the pair model: the sentence with the answer, and the answer inside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ragkit.pair.model import PairModel, Span, shipped_model
from ragkit.readers.assemble import AnswerBuilder
from ragkit.readers.citations import cite, strip_marks
from ragkit.readers.extractive import FEATURES as WORD_FEATURES
from ragkit.readers.extractive import (
    FURTHER,
    Candidate,
    ExtractiveReader,
    find_alias,
    logistic,
    with_codes,
)
from ragkit.readers.subjects import Part, split_question
from ragkit.readers.support.frames import compare_frames
from ragkit.types import Chunk, Embedder, Event, Hit

# A logistic regression on the development questions of NQ and SQuADShifts with their retrieved
# passages, with and without the gold one (`benchmarks/fit_readers.py`).
WEIGHTS = {
    "cosine": 4.11, "coverage": -0.72, "title": -0.68, "kind": 0.01, "hit": 2.42, "length": 0.13,
    "span": 0.05, "relevance": 0.31, "lead": 0.16,
}  # fmt: skip
BIAS = -5.4
THRESHOLD = 0.15
FEATURES = (*WORD_FEATURES, "span", "relevance", "lead")
_COMPARED = 6  # sentences among which a contradiction of the first is looked for
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
    features of `ExtractiveReader` (`benchmarks/fit_readers.py`). A question about two things
    ("compare A and B") is answered by one sentence for each. `Answer.spans` are the short answers
    in the quotes.

    Args:
        embedder: Embedder of the question and the sentences.
        pair: The pair model; default: the shipped one.
        max_sentences: Maximum number of sentences in an answer, or for each thing of a comparison.
        threshold: Minimum likelihood of the best sentence, from 0 to 1; below it, refuse.
    """

    def __init__(
        self,
        embedder: Embedder,
        pair: PairModel | None = None,
        *,
        max_sentences: int = 2,
        threshold: float = THRESHOLD,
    ) -> None:
        super().__init__(embedder, max_sentences=max_sentences, threshold=threshold)
        self._pair = shipped_model() if pair is None else pair

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
        return self.join_features(
            super().features(question, hits, candidates),
            self.readings(question, hits, candidates),
        )

    @staticmethod
    def join_features(
        words: NDArray[np.float64], readings: Sequence[SentenceReading]
    ) -> NDArray[np.float64]:
        """Join the features of `ExtractiveReader` and the pair model's: `FEATURES`.

        "lead" is by how much a span is better than the best one of the other candidates.
        """
        if not readings:
            return np.empty((0, len(FEATURES)))
        spans = np.array([max(_FLOOR, r.span.score) if r.span else _FLOOR for r in readings])
        best, second = np.sort(spans)[::-1][:2] if len(spans) > 1 else (spans[0], _FLOOR)
        lead = np.clip(spans - np.where(spans == best, second, best), _FLOOR, -_FLOOR)
        relevance = np.array([max(_FLOOR, reading.relevance) for reading in readings])
        return np.column_stack([words, spans, relevance, lead])

    def likelihoods(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the likelihood that each candidate contains the answer, float64 (candidates,)."""
        return logistic(features, [WEIGHTS[name] for name in FEATURES], BIAS)

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[Event]:
        """Yield the best sentences, best first, each with itself as citation, then the answer."""
        builder = AnswerBuilder(question, hits)
        if not hits:
            yield builder.finish(refusal="no_hits")
            return
        # A heading may name a thing, or a property; titles name things.
        titles = [tuple(about(hit.chunk, headings=False)) for hit in hits]
        parts = split_question(question, titles)
        if not parts:
            parts = split_question(question, [tuple(about(hit.chunk)) for hit in hits])
        shown: set[str] = set()
        answered: list[Part] = []
        for part in parts:
            own = [hits[i] for i in part.hits]
            rest = [hit for i, hit in enumerate(hits) if i not in part.hits]
            others = {name for hit in rest for name in about(hit.chunk, headings=False)}
            for choice in self._choose(part.question, own, part.subject, others)[:1]:
                answered.append(part)
                yield from self._show(choice, builder, shown)
        for choice in self._choose(question, hits) if len(answered) < max(1, len(parts)) else ():
            left = [part for part in parts if part not in answered]
            # For a thing that its own passages say nothing of, another passage may.
            if not answered or any(_names(choice.candidate.text, part.subject) for part in left):
                yield from self._show(choice, builder, shown)
        yield builder.finish(refusal="no_evidence")

    def _choose(
        self,
        question: str,
        hits: Sequence[Hit],
        subject: str = "",
        others: Set[str] = frozenset(),
    ) -> list[_Choice]:
        """Return the sentences that are likely enough, best first.

        In a comparison only sentences count that name most of what is compared, and not those that
        speak of other things (`others`, or any formula) and not of the subject.
        """
        hits, candidates = with_codes(question, hits, self.candidates(hits))
        if subject:
            own = {subject, *(name for hit in hits for name in about(hit.chunk, headings=False))}
            own |= _formula_of(hits)
            kept = [c for c in candidates if not _is_of_others(c.text, own, others)]
            candidates = self._naming(question, subject, kept or candidates)
        if not candidates:
            return []
        readings = self.readings(question, hits, candidates)
        words = super().features(question, hits, candidates)
        likelihoods = self.likelihoods(self.join_features(words, readings))
        threshold = max(self._threshold, FURTHER * likelihoods.max())
        best = np.argsort(-likelihoods, kind="stable")
        likely = [
            _Choice(hits[candidates[i].hit], candidates[i], readings[i].span, float(likelihoods[i]))
            for i in best
            if likelihoods[i] >= max(threshold, 1e-6)
        ]
        return with_conflicts(likely[:_COMPARED], self._max_sentences)

    def _naming(
        self, question: str, subject: str, candidates: Sequence[Candidate]
    ) -> list[Candidate]:
        """Return the candidates with most of the question's terms, without those of its subject."""
        wanted = set(self._analyzer.terms(question)).difference(self._analyzer.terms(subject))
        counts = [
            len(wanted.intersection(self._analyzer.terms(f"{c.table}\n{c.text}")))
            for c in candidates
        ]
        most = max(counts, default=0)
        return [c for c, count in zip(candidates, counts, strict=True) if count == most]

    @staticmethod
    def _show(choice: _Choice, builder: AnswerBuilder, shown: set[str]) -> Iterator[Event]:
        candidate, hit, span = choice.candidate, choice.hit, choice.span
        if candidate.text in shown:
            return
        shown.add(candidate.text)
        citation = cite(hit, candidate.start, candidate.end, candidate.table)
        # Reference marks of the source could be confused with citation marks.
        text = strip_marks(candidate.text)
        reason = f"another passage says otherwise: {choice.conflict}" if choice.conflict else ""
        yield builder.add(text, [citation], "quoted", probability=choice.likelihood, reason=reason)
        words = candidate.text[span.start : span.end] if span else ""
        if candidate.table:  # "pressure / bar: 16": the cell, not its column's name
            words = words.rpartition(": ")[2].strip("; ")
        # A row is shown with its columns' names, so its cell is looked for in the row.
        at = span.start if span and not candidate.table else citation.quote.find(words)
        if words and citation.quote[at : at + len(words)] == words:
            builder.add_span(words, citation, citation.start + at, choice.likelihood)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A sentence that is shown, with its short answer."""

    hit: Hit
    candidate: Candidate
    span: Span | None
    likelihood: float
    conflict: str = ""

    @property
    def title(self) -> str:
        """Title of the document."""
        return str(self.hit.chunk.metadata.get("title", ""))


def with_conflicts(likely: Sequence[_Choice], n: int) -> list[_Choice]:
    """Return the n likeliest sentences, and one that contradicts the first, each with the reason.

    Only sentences of other documents are compared, by the rules of `compare_frames`.

    Args:
        likely: Sentences that are likely enough to be shown, best first.
        n: Number of sentences without a conflict.
    """
    if not likely:
        return []
    first = likely[0]
    for other in likely[1:]:
        if other.hit.chunk.doc_id != first.hit.chunk.doc_id:
            reasons = _conflict(first, other), _conflict(other, first)
            if all(reasons):
                rest = [choice for choice in likely[1:n] if choice is not other]
                shown = [replace(first, conflict=reasons[0]), replace(other, conflict=reasons[1])]
                return [*shown, *rest[: n - 2]] if n > 1 else shown
    return list(likely[:n])


def _conflict(mine: _Choice, theirs: _Choice) -> str:
    """Return what is said otherwise in another sentence, or ""."""
    text = mine.candidate.text
    if mine.title.lower() not in text.lower():
        text = f"{mine.title}: {text}"
    found = compare_frames(text, [theirs.candidate.text], context=[theirs.title])
    kinds = {finding.kind for finding in found}
    if "conflicts" not in kinds or "agrees" in kinds:
        return ""
    return next(finding.reason for finding in found if finding.kind == "conflicts")


_FORMULA = re.compile(r"(?<![\w-])(?:[A-Z][a-z]?\d*){2,}(?![\w-])")


def _is_of_others(text: str, own: Set[str], others: Set[str]) -> bool:
    """Return True if a sentence names other things and none of its own.

    A formula is another thing only if that of its own is known.

    >>> own = {"hematite"}
    >>> [_is_of_others("Cr2O3 has a gap.", names, set()) for names in (own, own | {"Fe2O3"})]
    [False, True]
    """
    if any(_names(text, name) for name in own):
        return False
    knows_formula = any(_is_formula(name) for name in own)
    is_other = knows_formula and any(map(_is_formula, _FORMULA.findall(text)))
    return is_other or any(_names(text, name) for name in others if name not in own)


def _formula_of(hits: Sequence[Hit]) -> set[str]:
    """Return the formula that the passages name most often, if there is one."""
    found = Counter(
        word for hit in hits for word in _FORMULA.findall(hit.chunk.text) if _is_formula(word)
    )
    return {word for word, _ in found.most_common(1)}


def _is_formula(word: str) -> bool:
    return bool(_FORMULA.fullmatch(word) and re.search(r"\d|[a-z]", word))


def _names(text: str, name: str) -> bool:
    flags = re.IGNORECASE if name[1:].islower() or " " in name else 0
    return len(name) > 1 and bool(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, flags))


def about(chunk: Chunk, *, headings: bool = True) -> Iterator[str]:
    """Yield the names of what a chunk is about: title, headings, a formula or short name."""
    yield str(chunk.metadata.get("title", ""))
    headers = chunk.metadata.get("headers", []) if headings else []
    yield from map(str, headers if isinstance(headers, list) else [])
    if alias := find_alias(chunk):
        yield alias
