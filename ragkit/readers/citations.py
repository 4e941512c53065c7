"""Is a sentence supported by a source, and by which span of it?

A sentence is supported by one source sentence if every number, every unit after a number and every
name in it occurs there, and if it stands there word for word, or at least 70 % of its content words
(their stems) do, its first word among them if that is capitalised, and both deny or neither does.
The model's own citation marks are not trusted; they are not even read.

What this misses: a sentence that gives a number or a name of the source to another thing of the
same source sentence ("A is larger than B"), and one that drops a condition. What it refuses though
true: a sentence put together from two sources, and a paraphrase in other words. Figures:
docs/citations.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.indexes.terms import TermAnalyzer
from ragkit.layout import boxes
from ragkit.markdown import split_row
from ragkit.normalize import normalize
from ragkit.readers.sources import SourceSentence, source_sentences
from ragkit.types import Citation, Hit, Support

# Fitted on the training pairs of STS-B by `benchmarks/support.py`: see docs/citations.md.
COVERAGE = 0.7

_TOKEN = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*")  # noqa: RUF001
_POSSESSIVE = re.compile(r"['’]s?$")  # noqa: RUF001
_SIGN = "[-+−]"  # noqa: RUF001
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<plain>{_SIGN}?"
    r"(?:\d{1,3}(?:,\d{3}){1,10}+(?!,?\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d{1,3}(?!\d))?)"
    rf"(?:(?:\^|\*\*)(?P<power>{_SIGN}?\d+)|(?P<raised>[⁺⁻]?[⁰¹²³⁴-⁹]+))?"
)
_RAISED = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_SPELLED = {
    word: str(value)
    for value, word in enumerate(
        "two three four five six seven eight nine ten eleven twelve".split(), start=2
    )
}
# Short units, where a slip changes the value and nothing else; longer ones are content words.
_UNIT = re.compile(
    r"(?<=[\d⁰¹²³⁴-⁹])[\s-]?(%|‰|°\s?[CF]|Å|[munpkMGT]?(?:eV|Pa|Hz|[mgsJWVATKNLBCFHΩ])"
    r"|[µμ](?:[mgsJWVALCF]|eV)|cm|bar|mol|min|h|ft|lb|mph|dB)"
    r"(?:(?:\^|\*\*)?([-−]?\d+|[⁺⁻]?[⁰¹²³⁴-⁹]+))?(?!\w)"  # noqa: RUF001
)
# What a model writes as a mark. A direction such as [111] or [001] is none.
_MARK = re.compile(
    r"(?<!\s)\s*+(?:\[(?:(?:passages?|sources?)\s+)?[1-9]\d?(?:\s*(?:[,;–-]|and)\s*[1-9]\d?)*\]"  # noqa: RUF001
    r"|\((?:passages?|sources?)\s+[1-9]\d?(?:\s*(?:[,;–-]|and)\s*[1-9]\d?)*\))",  # noqa: RUF001
    re.IGNORECASE,
)
_OPENERS = frozenset("the a an in on at it its this these those there he she they we i".split())
_DENIALS = frozenset("not no never neither nor none nothing nobody cannot without".split())


@dataclass(frozen=True, slots=True)
class Evidence:
    """Source span that supports a sentence: `hits[hit].chunk.text[start:end]`.

    `table` is the header row of the table of which the span is a row.
    """

    hit: int
    start: int
    end: int
    coverage: float
    table: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the sources say of a sentence.

    Attributes:
        support: See `ragkit.types.Support`.
        probability: Probability that they support it, from 0 to 1.
        reason: Why, in words; empty for a quote.
        evidence: The source sentences that it was judged by, best first.
    """

    support: Support
    probability: float
    reason: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    hit: int
    start: int
    end: int
    stems: frozenset[str]
    words: frozenset[str]
    numbers: frozenset[str]
    units: frozenset[str]
    denies: bool
    flat: str
    table: str


class SupportChecker:
    """Checks sentences against the sentences of some hits.

    Args:
        hits: The sources, best first; ties go to the earlier hit.
        coverage: Share of content words that one source sentence must hold, more than 0, at most 1.
    """

    def __init__(self, hits: Sequence[Hit], *, coverage: float = COVERAGE) -> None:
        if not 0 < coverage <= 1:
            raise ValueError(f"coverage is {coverage}; expected more than 0 and at most 1")
        self._coverage = coverage
        self._analyzer = TermAnalyzer()
        segmenter = RuleSegmenter()
        self._sources = [
            self._source(i, source)
            for i, hit in enumerate(hits)
            for source in source_sentences(hit.chunk, segmenter)
        ]

    def _source(self, hit: int, source: SourceSentence) -> _Source:
        sentence = _uniform(source.text)
        return _Source(
            hit,
            source.start,
            source.end,
            frozenset(self._stems(sentence)),
            frozenset(_words(sentence)),
            frozenset(numbers(sentence)),
            frozenset(units(sentence) | _header_units(source.table)),
            _denies(sentence),
            _flat(sentence),
            source.table,
        )

    def _stems(self, text: str) -> set[str]:
        """Of content words; numbers are looked at apart."""
        return {
            stem
            for stem in self._analyzer.terms(text)
            if not stem[0].isdigit() and stem not in _SPELLED
        }

    def judge(self, sentence: str, quotes: Sequence[str] = ()) -> Verdict:
        """Judge a sentence: "entailed" if a source sentence holds its words, or "unsupported".

        `quotes` are not needed: every source sentence is compared.
        """
        del quotes
        evidence = self.check(sentence)
        if evidence is None:
            return Verdict("unsupported", 0.0, "no source sentence holds its words", ())
        share = round(evidence.coverage, 6)
        return Verdict("entailed", share, "a source holds its words", (evidence,))

    def check(self, sentence: str) -> Evidence | None:
        """The source sentence that supports it best, or None."""
        plain = _uniform(sentence)
        stems, opener = self._stems(plain), self._stems(_first_word(plain))
        needed_numbers, needed_units, needed_names = numbers(plain), units(plain), names(plain)
        denies, flat = _denies(plain), _flat(plain)
        if not stems and not needed_numbers:
            return None
        best: Evidence | None = None
        for source in self._sources:
            if not (
                needed_numbers <= source.numbers
                and needed_units <= source.units
                and all(name in source.words for name in needed_names)
            ):
                continue
            covered = len(stems & source.stems) / len(stems) if stems else 1.0
            if f" {flat} " in f" {source.flat} ":
                covered = 1.0
            elif denies != source.denies or not opener <= source.stems:
                continue
            if covered >= self._coverage and (best is None or covered > best.coverage):
                best = Evidence(source.hit, source.start, source.end, covered, source.table)
        return best


def cite(hit: Hit, start: int, end: int, table: str = "") -> Citation:
    """Create a citation of `hit.chunk.text[start:end]`, with its place if that is known.

    `table` is the header row above it.
    """
    chunk = hit.chunk
    places = boxes(chunk.layout, chunk.start + start, chunk.start + end)
    return Citation(
        doc_id=chunk.doc_id,
        chunk_id=chunk.id,
        start=chunk.start + start,
        end=chunk.start + end,
        quote=chunk.text[start:end],
        digest=str(chunk.metadata.get("digest", "")),
        table=table,
        page=places[0].page if places else None,
        boxes=places,
        url=str(chunk.metadata.get("url", "")),
        time=str(chunk.metadata.get("time", "")),
    )


def strip_marks(text: str) -> str:
    """Remove citation marks from a text.

    >>> strip_marks("It is 0.186 eV [1, 2] along [111] (passage 3).")
    'It is 0.186 eV along [111].'
    """
    return _MARK.sub("", text)


def stands_in(sentence: str, source: str) -> bool:
    """Return True if a sentence stands in a source, apart from case, spaces and its end.

    >>> stands_in("an indirect gap of 1.1 eV.", "Si has an indirect  gap of 1.1 eV, at 300 K.")
    True
    >>> stands_in("a gap of 1.1", "a gap of 1.12 eV"), stands_in("5 K", "-5 K"), stands_in("", "a")
    (False, False, False)
    """
    words = _spaced(sentence).strip(' .!?…;:,"“”')
    found = re.escape(words)
    pattern = rf"(?<![\w+-])(?<!\d[.,]){found}(?!\w|[.,]\d|%)"
    return bool(words) and re.search(pattern, _spaced(source)) is not None


def _spaced(text: str) -> str:
    return " ".join(normalize(strip_marks(text)).split()).lower()


def numbers(text: str) -> set[str]:
    """The numbers of a text in one spelling: no thousands commas, no trailing zeros.

    Two to twelve count also as words; powers are part of their number.

    >>> sorted(numbers("1,250 atoms, 0.50 eV, -3, two, 10²¹ and Fe3O4"))
    ['-3', '0.5', '10^21', '1250', '2']
    """
    found = {_SPELLED[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _SPELLED}
    for match in _NUMBER.finditer(text):
        word = match["plain"].replace(",", "").replace("−", "-")  # noqa: RUF001
        value = Decimal(word).normalize(
            Context(prec=len(word))
        )  # by default it rounds to 28 digits
        plain = f"{value:f}" if value else "0"
        power = _signed(match["power"] or (match["raised"] or "").translate(_RAISED))
        found.add(f"{plain}^{power}" if power else plain)
    return found


def _signed(power: str) -> str:
    return power.replace("−", "-").lstrip("+")  # noqa: RUF001


def units(text: str) -> set[str]:
    """The short units that follow a number, in one spelling.

    >>> sorted(units("5 nm thick at 300 K, 12% or 3 percent of it, 10 cm⁻³"))
    ['%', 'K', 'cm-3', 'nm']
    """
    found = set()
    text = unicodedata.normalize("NFC", text)  # the signs for kelvin, ohm and angstrom are letters
    for match in _UNIT.finditer(re.sub(r"\s?\bper ?cent\b", "%", text)):
        unit = match[1].replace("μ", "µ").replace(" ", "")
        found.add(unit + _signed((match[2] or "").translate(_RAISED)))
    return found


def _header_units(header: str) -> set[str]:
    """The units in the column names of a table: "pressure / bar", "mass (kg)", "length [mm]"."""
    named = re.findall(r"[/(\[]\s*([^\s()\[\]|]+)", " | ".join(split_row(header)))
    return {unit for name in named for unit in units(f"1 {name}")}


def names(text: str) -> set[str]:
    """Words that only a source can know: capitals inside a sentence, letters mixed with digits.

    >>> sorted(names("The gap of GaP was measured by Sturge, mp-2534."))
    ['GaP', 'Sturge', 'mp-2534']
    """
    found = set()
    for i, match in enumerate(_TOKEN.finditer(text)):
        word = match[0]
        mixed = any(char.isdigit() for char in word) and any(char.isalpha() for char in word)
        inner_capital = any(char.isupper() for char in word[1:])
        capital = word[0].isupper() and i > 0 and word.lower() not in _OPENERS and len(word) > 1
        if mixed or inner_capital or capital:
            found.add(_POSSESSIVE.sub("", word))
    return found


def _first_word(text: str) -> str:
    """The word at the beginning if it is capitalised: it may be a name, or what it is about."""
    match = _TOKEN.search(text)
    if match is None or not match[0][0].isupper() or match[0].lower() in _OPENERS:
        return ""
    return _POSSESSIVE.sub("", match[0])


def _uniform(text: str) -> str:
    """The text normalized, without marks, with "5 nm" for "5nm" and "is not" for "isn't"."""
    text = re.sub(r"n't\b", " not", normalize(strip_marks(text)))
    return _UNIT.sub(lambda match: " " + match[0][match.start(1) - match.start() :], text)


def _denies(text: str) -> bool:
    return not _DENIALS.isdisjoint(_TOKEN.findall(text.lower()))


def _words(text: str) -> set[str]:
    """As they are written, and capitalised: "Iron" is "iron", but "GaP" is no "gap"."""
    found = {_POSSESSIVE.sub("", word) for word in _TOKEN.findall(text)}
    return found | {word[0].upper() + word[1:] for word in found}


def _flat(text: str) -> str:
    return " ".join(match[0].lower() for match in _TOKEN.finditer(text))
