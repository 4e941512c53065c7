"""What a sentence changes of a source sentence that it repeats nearly word for word.

The other rules read what sentences say; this one reads how one was made from the other. It applies
where a statement has nearly all of its words from one source sentence, in their order: then a
value, unit, name or opposite in the place of another, a denial more or less, or two things in each
other's place, is a contradiction, however the sentence is built.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from ragkit.indexes.terms import TermAnalyzer
from ragkit.normalize import normalize
from ragkit.readers.support.wording import OPPOSITES

_TOKEN = re.compile(
    r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’-][^\W\d_]+)*|[^\W_]+|[%‰°$€£]|(?<![\w.])[-+](?=\d)"  # noqa: RUF001
)
_SAME = 0.75  # share of the statement's tokens that one source has in their order
_FEWEST = 6  # tokens of a statement that is compared in this way
_DENIALS = frozenset(
    "not never no none nobody nothing neither nor cannot without hardly scarcely barely rarely "
    "seldom fails failed lacks lacked n't isn't aren't wasn't weren't doesn't don't didn't hasn't "
    "haven't hadn't can't couldn't won't wouldn't".split()
)
_DENYING = ("no longer", "by no means", "far from")
_SMALL = frozenset(
    "the a an of in on at to by for with from as and or but that which who whom this these those "
    "its his her their it he she they is are was were be been being has have had do does did also "
    "however then than so such very quite about approximately around roughly nearly indeed fact "
    "according source sources text passage passages yes".split()
)
_NUMBER = re.compile(r"\d")
_COMMUTES = frozenset("and or with plus between both versus vs".split())
_SYMMETRIC = re.compile(r"\b(?:marri\w+|met|meets?|equals?|is|are|near|border\w*)\b")
_ANALYZER = TermAnalyzer("english")


@dataclass(frozen=True, slots=True)
class Edit:
    """How a statement differs from the source sentence that it is nearest to.

    Attributes:
        source: Index of the source sentence.
        kind: "same" (nothing but small words differ), "conflict", or "other": content differs, and
            the rule cannot tell whether the meaning does.
        reason: What differs, in words.
    """

    source: int
    kind: Literal["same", "conflict", "other"]
    reason: str


def compare_words(statement: str, sources: Sequence[str]) -> Edit | None:
    """Return the edit that makes a statement from the nearest source, or None if none is near.

    >>> compare_words("The lake is 12 miles long and quite deep.",
    ...               ["The lake is 12 km long and quite deep."]).reason
    'the source says 12 km, not 12 miles'
    """
    mine = _tokens(statement)
    if len(mine) < _FEWEST:
        return None
    best: tuple[float, int] | None = None
    texts = [_tokens(source) for source in sources]
    for i, theirs in enumerate(texts):
        matcher = SequenceMatcher(None, _lower(mine), _lower(theirs), autojunk=False)
        share = sum(block.size for block in matcher.get_matching_blocks()) / len(mine)
        if share >= _SAME and (best is None or share > best[0]):
            best = share, i
    if best is None:
        return None
    source = best[1]
    elsewhere = {token for i, text in enumerate(texts) if i != source for token in _lower(text)}
    return _edit(mine, texts[source], source, elsewhere)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(normalize(text))


def _lower(tokens: Sequence[str]) -> list[str]:
    return [token.lower() for token in tokens]


def _edit(mine: list[str], theirs: list[str], source: int, elsewhere: set[str]) -> Edit:
    if reason := _exchange(mine, theirs):
        return Edit(source, "conflict", reason)
    a, b = _lower(mine), _lower(theirs)
    changes = [
        (mine[i:j], theirs[k:m], i, k)
        for tag, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
    denied = _denials(a), _denials(b)
    if denied[0] != denied[1]:
        who = "statement" if denied[0] > denied[1] else "source"
        return Edit(source, "conflict", f"only the {who} denies it")
    is_other = ""
    for new, old, i, k in changes:
        if reason := _replaced(new, old, mine[:i], theirs[:k], elsewhere):
            return Edit(source, "conflict", reason)
        content = [t for t in _lower(new) if t not in _SMALL | elsewhere | set(b)]
        if content and not _related(content, _lower(old)):
            is_other = f"the source says {' '.join(old) or 'nothing'!r}, not {' '.join(new)!r}"
    return Edit(source, "other" if is_other else "same", is_other)


def _denials(tokens: Sequence[str]) -> int:
    """Count denials; each of the longer forms counts once."""
    text = " ".join(tokens)
    n = 0
    for form in _DENYING:
        n += text.count(form)
        text = text.replace(form, " ")
    return n + sum(token in _DENIALS for token in text.split())


def _replaced(
    new: Sequence[str],
    old: Sequence[str],
    before: Sequence[str],
    before_old: Sequence[str],
    elsewhere: set[str],
) -> str:
    """Return why what stands in another's place contradicts it, or ""."""
    mine, theirs = _lower(new), _lower(old)
    if not mine or not theirs or any(token in elsewhere for token in mine if token not in _SMALL):
        return ""
    shown = f"the source says {' '.join(old)}, not {' '.join(new)}"
    numbers = [[t for t in tokens if _NUMBER.search(t)] for tokens in (mine, theirs)]
    if all(numbers) and _values(numbers[0]) != _values(numbers[1]):
        return shown
    if before and before_old and before[-1] == before_old[-1] and _NUMBER.search(before[-1]):
        first = mine[0] not in _SMALL and theirs[0] not in _SMALL
        if first and not numbers[0] and not _related(mine[:1], theirs[:1]):
            return f"the source says {before[-1]} {old[0]}, not {before[-1]} {new[0]}"
    stems = [_stems(tokens) for tokens in (mine, theirs)]
    if any(OPPOSITES.get(stem, frozenset()) & stems[1] for stem in stems[0]):
        return f"{shown}: the opposite"
    names = [[t for t in tokens if t[0].isupper() and len(t) > 1] for tokens in (new, old)]
    is_name = all(names) and len(names[0]) == len(new) and len(names[1]) == len(old)
    if is_name and (before or min(len(new), len(old)) > 1):  # any word opens with a capital
        first_letters = ["".join(t[0] for t in tokens) for tokens in names]
        is_short = first_letters[0] in old or first_letters[1] in new
        if not is_short and not _related(mine, theirs):
            return shown
    return ""


def _values(numbers: Sequence[str]) -> list[float]:
    values = []
    for text in numbers:
        try:
            values.append(float(text.replace(",", "")))
        except ValueError:
            return [float("nan")]  # a code: different from everything
    return values


def _related(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    """Return True if two texts share a stem, or one word begins like the other."""
    if _stems(mine) & _stems(theirs):
        return True
    return any(a[:4] == b[:4] or a == b + "s" for a in mine for b in theirs if len(a) > 3 < len(b))


def _stems(tokens: Sequence[str]) -> frozenset[str]:
    return frozenset(_ANALYZER.terms(" ".join(tokens)))


def _exchange(mine: list[str], theirs: list[str]) -> str:
    """Return a reason if two things of the source stand in each other's place, else ""."""
    a, b = _lower(mine), _lower(theirs)
    if sorted(a) != sorted(b) or a == b:
        return ""
    low = next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
    high = next(i for i, (x, y) in enumerate(zip(reversed(a), reversed(b), strict=True)) if x != y)
    x, y = b[low : len(b) - high], a[low : len(a) - high]
    for i in range(1, len(x)):
        for j in range(1, len(x) - i):
            ends = x[:i] == y[len(y) - i :] and x[len(x) - j :] == y[:j]
            middle = x[i : len(x) - j]
            if ends and middle == y[j : len(y) - i]:
                if _COMMUTES.issuperset(middle) or _SYMMETRIC.search(" ".join(middle)):
                    return ""
                shown = theirs[low : len(theirs) - high]
                first, second = " ".join(shown[:i]), " ".join(shown[len(shown) - j :])
                return f"{first} and {second} stand in each other's place"
    return ""
