"""Questions about two things: "Compare the gaps of Si and Ge" asks for the gap of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ragkit.normalize import normalize

_COMPARES = re.compile(
    r"\b(?:compar\w+|versus|vs|differences?|differ|than|both|between|respectively|or|and|which)\b",
    re.IGNORECASE,
)
# What joins two things. It is left out with the other one.
_JOIN = re.compile(
    r"\b(?:and|or|with|to|than|versus|vs|against|from|not|the|compared?|compares|(?:that|those) of"
    r"|(?:that|those) for|the ones? of)\b|[,;]|(?<=vs)\.",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^\s*(?:please\s+)?"
    r"(?:compare|how (?:does|do)|what (?:is|are) the differences? (?:between|in))\s+",
    re.IGNORECASE,
)
_SHORTEST = 2  # letters of a name


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a question.

    Attributes:
        subject: The thing it asks about, as the question writes it.
        question: The question without the other things.
        hits: Indices of the hits that are about the subject.
    """

    subject: str
    question: str
    hits: tuple[int, ...]


def split_question(question: str, names: Sequence[Sequence[str]]) -> list[Part]:
    """Split a question that asks about several things into one part for each.

    Args:
        question: The question.
        names: For each hit the names of what it is about: title, headings, aliases.

    Returns:
        The parts in the order of the question; none if it asks about fewer than two things that
        hits are about.

    >>> names = [["Silicon", "Si"], ["Germanium"], ["Silicon carbide"]]
    >>> parts = split_question("Compare the gaps of silicon and germanium", names)
    >>> [part.question for part in parts]
    ['the gaps of silicon', 'the gaps of germanium']
    >>> split_question("What is the gap of silicon?", names)
    []
    """
    if not _COMPARES.search(question):
        return []
    found: dict[tuple[int, int], list[int]] = {}
    for i, known in enumerate(names):
        for name in known:
            match = _find(name, question)
            if match:
                found.setdefault(match.span(), []).append(i)
    spans = [
        span
        for span in sorted(found)
        if not any(a <= span[0] and span[1] <= b and (a, b) != span for a, b in found)
    ]
    if len(spans) < 2:
        return []
    low, high = spans[0][0], spans[-1][1]
    between = [question[one[1] : other[0]] for one, other in pairwise(spans)]
    rest = " ".join(_JOIN.sub(" ", " ".join(between)).split())
    parts = []
    for start, end in spans:
        subject = question[start:end]
        middle = f"{subject} {rest}" if rest and rest not in question[:low] else subject
        part = _LEAD.sub("", question[:low] + middle + question[high:])
        parts.append(Part(subject, part.strip(), tuple(sorted(set(found[start, end])))))
    return parts


def _find(name: str, question: str) -> re.Match[str] | None:
    name = normalize(name).strip()
    if len(name) < _SHORTEST or name.isdigit():
        return None
    # A formula is written in one way; a word may begin with a capital.
    flags = re.IGNORECASE if name[1:].islower() or " " in name else 0
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", question, flags)
