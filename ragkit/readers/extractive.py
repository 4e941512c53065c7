"""Extractive question answering: selects sentences of the passages, without a language model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.indexes.terms import TermAnalyzer
from ragkit.markdown import find_headings
from ragkit.pipeline import last_answer
from ragkit.readers.assemble import AnswerBuilder
from ragkit.readers.citations import cite, names, numbers, strip_marks
from ragkit.readers.codes import find_codes, has_code
from ragkit.readers.sources import source_sentences
from ragkit.types import Answer, Chunk, Embedder, Event, Hit

# A logistic regression on 629 training questions of NQ with their retrieved passages, with and
# without the gold one (`benchmarks/fit_readers.py`). Youden's J on the development questions is
# largest at 0.15: there 92 % of answerable questions are answered and 74 % of the others refused.
WEIGHTS = {
    "cosine": 7.98,  # of question and title + sentence
    "coverage": 0.93,  # of the question's stems, weighted by rarity among the candidates
    "title": -0.21,  # the same for the title
    "kind": 0.89,  # when asks for a date, who and where for a name, how many for a number
    "hit": 2.63,  # 1 / rank of the hit
    "length": 0.81,  # in units of 200 characters, at most 2
}
BIAS = -10.19
THRESHOLD = 0.15
# Minimum likelihood of further sentences, relative to the first. On the development
# questions 41 % of the answers then have two sentences instead of 58 %, with 36 words instead of 40
# in the mean, and 69.9 % instead of 71.9 % hold a gold answer; a lone sentence holds it in 60.6 %.
FURTHER = 0.5
FEATURES = tuple(WEIGHTS)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate: the sentence or table row `hits[hit].chunk.text[start:end]`.

    `text` is what the answer says: for a row of a table "name: cell; …". `table` is the header row.
    """

    hit: int
    start: int
    end: int
    text: str
    table: str = ""


class ExtractiveReader:
    """Selects the sentences most likely to contain the answer, or refuses if none is likely.

    If the question names a code (see `ragkit.readers.codes`), only sentences that name it count.

    Args:
        embedder: Embedder of the question and the sentences.
        max_sentences: Maximum number of sentences in an answer.
        threshold: Minimum likelihood of the best sentence, from 0 to 1; below it, refuse.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self, embedder: Embedder, *, max_sentences: int = 2, threshold: float = THRESHOLD
    ) -> None:
        if max_sentences < 1:
            raise ValueError(f"max_sentences is {max_sentences}; expected at least 1")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; expected 0 to 1")
        self._embedder = embedder
        self._max_sentences = max_sentences
        self._threshold = threshold
        self._analyzer = TermAnalyzer()
        self._segmenter = RuleSegmenter()

    def read(self, questions: Sequence[str], runs: Sequence[Sequence[Hit]]) -> list[Answer]:
        """Return one answer per question."""
        return [
            last_answer(self.stream(question, hits))
            for question, hits in zip(questions, runs, strict=True)
        ]

    def candidates(self, hits: Sequence[Hit]) -> list[Candidate]:
        """Return the sentences and table rows of the hits that contain a word, except headings."""
        candidates = []
        for i, hit in enumerate(hits):
            headings = _headings(hit.chunk)
            for source in source_sentences(hit.chunk, self._segmenter):
                if (
                    re.search(r"\w", strip_marks(source.text))
                    and not source.text.startswith("<!--")
                    and not any(start <= source.start < end for start, end in headings)
                ):
                    candidates.append(
                        Candidate(i, source.start, source.end, source.text, source.table)
                    )
        return candidates

    def features(
        self, question: str, hits: Sequence[Hit], candidates: Sequence[Candidate]
    ) -> NDArray[np.float64]:
        """Compute `FEATURES` of the candidates, float64 (candidates, features)."""
        titles = [str(hit.chunk.metadata.get("title", "")) for hit in hits]
        texts = [f"{titles[c.hit]}\n{c.text}" if titles[c.hit] else c.text for c in candidates]
        vectors = self._embedder.embed_passages(texts)  # (candidates, dim)
        query = self._embedder.embed_queries([question])[0]  # (dim,)
        question_stems = set(self._analyzer.terms(question))
        title_stems = [set(self._analyzer.terms(title)) for title in titles]
        stems = [set(self._analyzer.terms(c.text)) for c in candidates]
        n = len(candidates)
        weights = {
            term: np.log(1 + n / (1 + sum(term in sentence_stems for sentence_stems in stems)))
            for term in question_stems
        }
        total = sum(weights.values()) or 1.0
        rows = [
            (
                float(vector @ query),
                sum(weights[term] for term in question_stems & sentence_stems) / total,
                sum(weights[term] for term in question_stems & title_stems[c.hit]) / total,
                _kind_score(question, c.text),
                1.0 / (1 + c.hit),
                min(len(c.text) / 200, 2.0),
            )
            for c, vector, sentence_stems in zip(candidates, vectors, stems, strict=True)
        ]
        return np.array(rows).reshape(n, len(FEATURES))

    def likelihoods(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the likelihood that each candidate contains the answer, float64 (candidates,)."""
        return logistic(features, [WEIGHTS[name] for name in FEATURES], BIAS)

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[Event]:
        """Yield the best sentences, best first, each with itself as citation, then the answer."""
        builder = AnswerBuilder(question, hits)
        if not hits:
            yield builder.finish(refusal="no_hits")
            return
        hits, candidates = with_codes(question, hits, self.candidates(hits))
        if not candidates:
            yield builder.finish(refusal="no_evidence")
            return
        likelihoods = self.likelihoods(self.features(question, hits, candidates))
        threshold = max(self._threshold, FURTHER * likelihoods.max())
        selected: set[str] = set()
        for i in np.argsort(-likelihoods, kind="stable"):
            candidate = candidates[i]
            if (
                not likelihoods[i]
                or likelihoods[i] < threshold
                or len(selected) == self._max_sentences
            ):
                break
            if candidate.text not in selected:
                selected.add(candidate.text)
                hit = hits[candidate.hit]
                citation = cite(hit, candidate.start, candidate.end, candidate.table)
                # Reference marks of the source could be confused with citation marks.
                yield builder.add(
                    strip_marks(candidate.text),
                    [citation],
                    "quoted",
                    probability=float(likelihoods[i]),
                )
        yield builder.finish(refusal="no_evidence")


def logistic(
    features: NDArray[np.float64], weights: Sequence[float], bias: float
) -> NDArray[np.float64]:
    """Return the probabilities of a logistic regression, float64 (rows,), rounded to 6 digits."""
    probabilities: NDArray[np.float64] = 1.0 / (
        1.0 + np.exp(-(features @ np.array(weights) + bias))
    )
    return probabilities.round(6)


def _headings(chunk: Chunk) -> list[tuple[int, int]]:
    """Return the (start, end) of the headings; only in Markdown can a line be underlined."""
    markdown = chunk.metadata.get("format") == "markdown"
    return [
        (heading.start, heading.end)
        for heading in find_headings(chunk.text)
        if markdown or chunk.text[heading.start : heading.end].lstrip().startswith("#")
    ]


def with_codes(
    question: str, hits: Sequence[Hit], candidates: Sequence[Candidate]
) -> tuple[Sequence[Hit], Sequence[Candidate]]:
    """Return the candidates with most of the codes in the question, and their hits.

    A code may stand in the candidate, in the header of its table, or in the title, the id or the
    headings of its passage, or be the short name that a passage of the document opens with
    ("Hafnium dioxide, HfO2, is"). If no candidate has any of the codes, there is none; if the
    question has no codes, all candidates remain.
    """
    codes = find_codes(question)
    if not codes:
        return hits, candidates
    aliases: dict[str, list[str]] = {}
    for hit in hits:
        aliases.setdefault(hit.chunk.doc_id, []).append(find_alias(hit.chunk))
    about = ["\n".join([*_context(h.chunk), *aliases[h.chunk.doc_id]]) for h in hits]
    texts = [f"{c.text}\n{c.table}\n{about[c.hit]}" for c in candidates]
    counts = [sum(has_code(text, code) for code in codes) for text in texts]
    has_number = any(char.isdigit() for code in codes for char in code)
    if not any(counts) and not has_number:
        return hits, candidates  # sodium chloride need not be written as NaCl
    most = max(1, *counts)
    kept = [c for c, count in zip(candidates, counts, strict=True) if count == most]
    ranks = {hit: rank for rank, hit in enumerate(sorted({c.hit for c in kept}))}
    return [hits[i] for i in ranks], [replace(c, hit=ranks[c.hit]) for c in kept]


_ALIAS = re.compile(
    r"\A.{0,200}?\b(?:\(([A-Z][\w-]{1,15})\)|, ([A-Z][A-Za-z0-9]{1,15}),)", re.DOTALL
)


def find_alias(chunk: Chunk) -> str:
    """Return the short name or formula that a document's beginning gives its subject, or ""."""
    match = _ALIAS.search(chunk.text) if chunk.start < 400 else None
    return (match[1] or match[2]) if match else ""


def _context(chunk: Chunk) -> Iterator[str]:
    """Yield the id and the title of a chunk's document, and the chunk's headings."""
    yield chunk.doc_id
    yield str(chunk.metadata.get("title", ""))
    headers = chunk.metadata.get("headers", [])
    yield from map(str, headers if isinstance(headers, list) else [])


_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|old|far|tall|big|large|high|often)\b"
    r"|\bwhat (?:year|number|percent|value)\b",
    re.IGNORECASE,
)
_ASKS_TIME = re.compile(r"\bwhen\b|\bwhat (?:year|date|day|time)\b", re.IGNORECASE)
_ASKS_NAME = re.compile(r"\bwho(?:se|m)?\b|\bwhere\b", re.IGNORECASE)
_DATE = re.compile(
    r"\b(?:1\d|20)\d\d\b|\b(?:January|February|March|April|May|June|July|August|September"
    r"|October|November|December)\b"
)


def _kind_score(question: str, sentence: str) -> float:
    """Return 1 if the sentence contains the requested kind of answer, 0 if not, 0.5 if unknown."""
    if _ASKS_TIME.search(question):
        return float(_DATE.search(sentence) is not None)
    if _ASKS_NUMBER.search(question):
        return float(bool(numbers(sentence) - numbers(question)))
    if _ASKS_NAME.search(question):
        question_words = set(question.lower().split())
        return float(any(name.lower() not in question_words for name in names(sentence)))
    return 0.5
