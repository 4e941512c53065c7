"""Is a sentence supported by a source, and by which span of it?

A sentence is supported by one source sentence if every number and every name in it occurs there,
and at least 60 % of its content words do (their stems), or the whole of it stands there word for
word. The model's own citation marks are not trusted; they are not even read.

What this misses: a sentence that uses the source's words and denies them, or that swaps two of them
("A is larger than B"). What it refuses though true: a sentence put together from two sources, and a
paraphrase in other words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from ragkit.indexes.terms import TermAnalyzer
from ragkit.sentences import RuleSegmenter
from ragkit.types import Citation, Hit

# Fitted on the training pairs of STS-B by `benchmarks/support.py`: see docs/citations.md.
COVERAGE = 0.6

_TOKEN = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*", re.UNICODE)  # noqa: RUF001
_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")  # noqa: RUF001
_MARK = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\]")
_OPENERS = frozenset("the a an in on at it its this these those there he she they we i".split())


@dataclass(frozen=True, slots=True)
class Evidence:
    """The source span that supports a sentence: `hits[hit].chunk.text[start:end]`."""

    hit: int
    start: int
    end: int
    coverage: float


@dataclass(frozen=True, slots=True)
class _Source:
    hit: int
    start: int
    end: int
    stems: frozenset[str]
    words: frozenset[str]
    numbers: frozenset[str]
    flat: str


class SupportChecker:
    """Checks sentences against the sentences of some hits.

    Args:
        hits: The sources, best first; ties go to the earlier hit.
        coverage: Share of content words that one source sentence must hold, 0 to 1.
    """

    def __init__(self, hits: Sequence[Hit], *, coverage: float = COVERAGE) -> None:
        self._coverage = coverage
        self._analyzer = TermAnalyzer()
        segmenter = RuleSegmenter()
        self._sources = [
            self._source(i, hit.chunk.text, start, end)
            for i, hit in enumerate(hits)
            for start, end in segmenter.sentences(hit.chunk.text)
        ]

    def _source(self, hit: int, text: str, start: int, end: int) -> _Source:
        sentence = text[start:end]
        return _Source(
            hit,
            start,
            end,
            frozenset(self._analyzer.terms(sentence)),
            frozenset(_words(sentence)),
            frozenset(numbers(sentence)),
            _flat(sentence),
        )

    def check(self, sentence: str) -> Evidence | None:
        """The source sentence that supports it best, or None."""
        plain = strip_marks(sentence)
        stems = set(self._analyzer.terms(plain))
        needed_names, needed_numbers, flat = names(plain), numbers(plain), _flat(plain)
        if not stems and not needed_numbers:
            return None
        best: Evidence | None = None
        for source in self._sources:
            if not needed_numbers <= source.numbers or not needed_names <= source.words:
                continue
            covered = len(stems & source.stems) / len(stems) if stems else 1.0
            if flat and f" {flat} " in f" {source.flat} ":
                covered = 1.0
            if covered >= self._coverage and (best is None or covered > best.coverage):
                best = Evidence(source.hit, source.start, source.end, covered)
        return best


def cite(hit: Hit, start: int, end: int) -> Citation:
    """A citation of `hit.chunk.text[start:end]`."""
    chunk = hit.chunk
    return Citation(
        doc_id=chunk.doc_id,
        chunk_id=chunk.id,
        start=chunk.start + start,
        end=chunk.start + end,
        quote=chunk.text[start:end],
        digest=str(chunk.metadata.get("digest", "")),
    )


def strip_marks(text: str) -> str:
    """The text without citation marks.

    >>> strip_marks("It is 0.186 eV [1, 2].")
    'It is 0.186 eV.'
    """
    return _MARK.sub("", text)


def numbers(text: str) -> set[str]:
    """The numbers of a text in one spelling: no thousands commas, no trailing zeros.

    >>> sorted(numbers("1,250 atoms, 0.50 eV, -3 and Fe3O4"))
    ['-3', '0.5', '1250']
    """
    found = set()
    for match in _NUMBER.finditer(text):
        word = match[0].replace(",", "").replace("−", "-").lstrip("+")  # noqa: RUF001
        try:
            found.add(f"{Decimal(word).normalize():f}")
        except InvalidOperation:
            found.add(word)
    return found


def names(text: str) -> set[str]:
    """Words that only a source can know: capitals inside a sentence, letters mixed with digits.

    >>> sorted(names("The gap of GaAs was measured by Sturge, mp-2534."))
    ['gaas', 'mp-2534', 'sturge']
    """
    found = set()
    for i, match in enumerate(_TOKEN.finditer(text)):
        word = match[0]
        mixed = any(char.isdigit() for char in word) and any(char.isalpha() for char in word)
        inner_capital = any(char.isupper() for char in word[1:])
        capital = word[0].isupper() and i > 0 and word.lower() not in _OPENERS and len(word) > 1
        if mixed or inner_capital or capital:
            found.add(word.lower())
    return found


def _words(text: str) -> set[str]:
    return {match[0].lower() for match in _TOKEN.finditer(text)}


def _flat(text: str) -> str:
    return " ".join(match[0].lower() for match in _TOKEN.finditer(text))
