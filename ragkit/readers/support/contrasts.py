"""What two sentences say the other way round: comparisons, denials, opposites, exchanged names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ragkit.readers.support.facts import COVERED, Finding, Source, coverage, segments, stands
from ragkit.readers.support.quantities import Quantity
from ragkit.readers.support.wording import OPPOSITES, Comparison, Sentence, Word, names_apart

_SYMMETRIC = re.compile(
    r"[,;()/-]|\b(?:and|or|with|marri\w+|met|meets?|equals?|is|near|border\w*)\b"
)


def judge_comparison(frame: Comparison, sources: Sequence[Source]) -> Finding:
    """Judge a comparison by those of the sources, or by their values."""
    for source in sources:
        for other in source.sentence.comparisons:
            order = _order(frame, other)
            left = (frame.left | frame.right) - source.stems - source.keys
            if other.axis != frame.axis or not order or len(left) > 1:
                continue
            if order * frame.sign * other.sign > 0:
                return Finding("agrees", "the source compares them likewise", source.index)
            reason = f"the source compares them the other way round: {other.word}"
            return Finding("conflicts", reason, source.index)
    return _by_values(frame, sources) or Finding("open", "no source compares them", -1)


def _order(mine: Comparison, other: Comparison) -> int:
    """Return 1 if both have the things in the same order, -1 if exchanged, 0 if unclear."""
    left, right = mine.left - mine.right, mine.right - mine.left
    their_left, their_right = other.left - other.right, other.right - other.left
    if right & their_right and left & their_left and not right & their_left:
        return 0 if left & their_right else 1
    if right & their_left and left & their_right and not right & their_right:
        return -1
    return 0


def _by_values(frame: Comparison, sources: Sequence[Source]) -> Finding | None:
    """Compare two things by the values that the sources give for them."""
    if frame.axis not in ("size", "time"):
        return None
    left, right = frame.left - frame.right, frame.right - frame.left
    own = _own(left, sources)
    mine: dict[str, list[tuple[Quantity, int]]] = {}
    theirs: dict[str, list[tuple[Quantity, int]]] = {}
    for value, words, index in _owned("year" if frame.axis == "time" else "number", sources):
        same_property = len(left) == 1 or bool(left & words)
        if right <= words and not own & words and same_property:
            theirs.setdefault(value.unit, []).append((value, index))
        elif own <= words and not right & words:
            mine.setdefault(value.unit, []).append((value, index))
    for unit in mine.keys() & theirs.keys():
        if len({q.low for q, _ in mine[unit]}) == len({q.low for q, _ in theirs[unit]}) == 1:
            (a, index), (b, _) = mine[unit][0], theirs[unit][0]
            if a.near(b):
                continue
            reason = f"{a.text} {'<' if a.low < b.low else '>'} {b.text}"
            if (a.low - b.low) * frame.sign > 0:
                return Finding("computed", reason, index)
            return Finding("conflicts", f"by comparison of the values, {reason}", index)
    return None


def _owned(kind: str, sources: Sequence[Source]) -> Iterator[tuple[Quantity, frozenset[str], int]]:
    """Yield the values of the sources with the words that belong to each."""
    for source in sources:
        values = [q for q in source.sentence.quantities if q.kind == kind and q.unit and q.point]
        for unit in sorted({value.unit for value in values}):
            alike = [value for value in values if value.unit == unit]
            if len(alike) == 1:
                yield alike[0], source.stems | source.keys, source.index
                continue
            for value, words in zip(alike, segments(alike, source.sentence) or (), strict=False):
                keys = {word.stem for word in words} | {word.key for word in words}
                yield value, frozenset(keys), source.index


def _own(left: frozenset[str], sources: Sequence[Source]) -> frozenset[str]:
    """Return the words of the left side that not every source with a value has."""
    common = [source.stems | source.keys for source in sources if source.sentence.quantities]
    shared = frozenset.intersection(*common) if len(common) > 1 else frozenset[str]()
    return left - shared


def contraries(part: Sentence, source: Source) -> list[Finding]:
    """The conflicts of a sentence with one source in what is denied, or in opposites."""
    content = [word for word in part.words if word.content]
    theirs = {word.stem: word for word in source.sentence.words}
    found = []
    if len(content) >= 2 and coverage(content, source) >= COVERED:
        mine_denied = {word.stem for word in content if word.denied}
        their_denied = {word.stem for word in source.sentence.words if word.denied}
        stems = {word.stem for word in content}
        flipped = mine_denied and mine_denied <= theirs.keys() and not their_denied
        flipped = flipped and all(stands(quantity, source) for quantity in part.quantities)
        other = their_denied and their_denied <= stems and not mine_denied
        if flipped or other:
            where = part if flipped else source.sentence
            word = next(word.key for word in where.words if word.denied)
            who = "statement" if flipped else "source"
            reason = f"only the {who} denies it: not {word}"
            found.append(Finding("conflicts", reason, source.index))
    found += [
        finding
        for i, word in enumerate(content)
        if (finding := _opposite(word, content[max(0, i - 4) : i + 5], source)) is not None
    ]
    return found


def _opposite(word: Word, near: Sequence[Word], source: Source) -> Finding | None:
    """Return a conflict if a source has the opposite of a word among the same words."""
    theirs = {other.stem: other for other in source.sentence.words}
    against = OPPOSITES.get(word.stem, frozenset()) & theirs.keys()
    if not against or word.stem in theirs or against & {other.stem for other in near}:
        return None
    rest = [other for other in near if other is not word]
    other_word = theirs[min(against)]
    i = near.index(word)
    beside = {other.stem for other in near[max(0, i - 1) : i + 2]} - {word.stem}
    if (
        len(rest) < 2
        or coverage(rest, source) < COVERED
        or not beside & _neighbours(other_word, source.sentence)
        or word.denied != other_word.denied
    ):
        return None
    reason = f"the source says {other_word.key}, not {word.key}: the opposite"
    return Finding("conflicts", reason, source.index)


def exchanged(part: Sentence, source: Source) -> list[Finding]:
    """A conflict if a source has two names in the other order around the same words."""
    mine, theirs = names_apart(part), names_apart(source.sentence)
    words = {word.stem for word in part.words if word.content}
    if not words <= source.stems:
        return []
    for left, middle, right in mine:
        asymmetric = 0 < len(middle.split()) < 5 and not _SYMMETRIC.search(middle)
        if asymmetric and (right, middle, left) in theirs and (left, middle, right) not in theirs:
            reason = f"the source says {right} {middle} {left}, not the other way round"
            return [Finding("conflicts", reason, source.index)]
    return []


def _neighbours(word: Word, sentence: Sentence) -> set[str]:
    content = [other for other in sentence.words if other.content]
    i = content.index(word) if word in content else 0
    return {other.stem for other in content[max(0, i - 2) : i + 3]} - {word.stem}
