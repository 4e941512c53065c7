"""The words of a question that no rule accounts for.

A question that was understood but for "not", "second" or "at 300 K" is another question. So what
is left after the rules' own words, and words that carry nothing, makes the planner refuse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ragkit.agents.materials.chemistry.formulas import from_name
from ragkit.agents.materials.chemistry.names import BY_NAME
from ragkit.agents.materials.question.parsed import (
    FAMILIES,
    LIMIT,
    ParsedQuestion,
    property_spans,
)

_CARRY_NOTHING = frozenset(
    "a an the is are was were be been being what what's which whose how many much do does did done "
    "has have had having of in on at for to and with that it its it's this these those there their "
    "them they me my give gives tell show find list name state report please can could would you i "
    "we us want wants know need needs get got look up as by value values number figure property "
    "properties material materials compound compounds crystal crystals solid solids substance "
    "substances entry entries held hold holds database snapshot data known any all every each one "
    "ones among so if also both then take taken let say said tell's question hi hello thanks thank "
    "hey kindly ok okay belong belongs present given exist exists there's contain contains "
    "containing made up expressed express converted convert units unit into count counts counted "
    "but different calculated computed dft "
    "larger largest smaller higher lower greater bigger wider stiffer softer compare compared "
    "difference ratio between than by who's whether formula formulas whatever most id ids "
    "identifier identifiers polymorph polymorphs phase phases allotrope allotropes system systems "
    "chemical possess possesses show shows sort kind type high low large small big wide".split()
)
VAGUE = {
    "modulus": ("bulk modulus", "shear modulus", "piezoelectric modulus"),
    "moduli": ("bulk moduli", "shear moduli"),
    "constant": ("dielectric constant", "piezoelectric constant"),
    "energy": ("formation energy", "total energy", "energy above hull"),
    "index": ("refractive index", "anisotropy index"),
}
"""Words that are understood, and name several properties."""
_ALSO = (
    r"non-?magnetic|(?:anti|ferri|ferro)+magnet(?:ic|s)?|magnetic|stable|metals?|metallic|direct|"
    r"cubic|hexagonal|trigonal|tetragonal|orthorhombic|monoclinic|triclinic|"
    r"measured|experimental(?:ly)?|experiments?"
)
_SUPERLATIVES = (
    r"highest|largest|greatest|maximum|maximal|biggest|hardest|stiffest|widest|lowest|smallest|"
    r"minimum|minimal|least|softest|narrowest"
)


def unrecognized_words(text: str, lower: str, reading: ParsedQuestion) -> tuple[str, ...]:
    """What is left of a question, in order, each word once.

    Args:
        text: The question.
        lower: The same in lower case, slips put right; as long as it may be.
        reading: What was understood.
    """
    rest = list(lower)
    for start, end, _ in property_spans(lower):
        rest[start:end] = " " * (end - start)
    left = "".join(rest)
    for pattern in _patterns(reading):
        left = re.sub(pattern, " ", left)
    words = [each.strip(".'-") for each in re.findall(r"[a-z0-9][\w.'-]*", left)]
    kept = (word.removesuffix("'s") for word in _without_names(words, reading.formulas))
    return tuple(dict.fromkeys(w for w in kept if w and w not in _CARRY_NOTHING | VAGUE.keys()))


def _without_names(words: list[str], formulas: Sequence[str]) -> list[str]:
    """The words but for names of the materials: "gallium arsenide" for GaAs."""
    kept, at = [], 0
    while at < len(words):
        named = [n for n in (3, 2, 1) if from_name(" ".join(words[at : at + n])) in formulas]
        if not named:
            kept.append(words[at])
        at += named[0] if named else 1
    return kept


def _patterns(reading: ParsedQuestion) -> list[str]:
    """What the reading stands for, as it may be written in lower case."""
    said = [*reading.formulas, *reading.material_ids]
    said += () if reading.formulas else reading.misspelt
    symbols = [*reading.elements, *reading.without, *said]
    names = [name for name, symbol in BY_NAME.items() if symbol in symbols]
    names += [word for word, symbol in FAMILIES.items() if symbol in reading.elements]
    patterns = [r"\bsteels?\b"] if "yield_strength" in reading.asked else []
    if reading.limits:
        patterns.append(LIMIT)
    if reading.unit:
        asked = rf"(?:in|to|into) (?:units of )?{re.escape(reading.unit.lower())}(?!\w)"
        patterns.append(asked)
    literal = [reading.chemsys, *names, *symbols]
    literal += [str(each.value) for each in reading.conditions]
    for each in sorted(filter(None, literal), key=len, reverse=True):
        patterns.append(rf"(?<!\w){re.escape(each.lower())}(?:s|es)?(?!\w)")
    if reading.without:
        patterns.append(r"\b(?:without|not contain(?:ing)?|free of|excluding|no)\b")
    if reading.order:
        patterns.append(rf"\b(?:{_SUPERLATIVES}|most)\b")
    if reading.conditions or reading.measured:
        patterns.append(rf"\b(?:space ?group(?: number| no\.?)?|{_ALSO})\b")
    if reading.compare and len(reading.formulas) > 1:
        patterns.append(r"\bor\b")
    return patterns
