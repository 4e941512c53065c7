"""Do the facts of a statement agree with those of its evidence, by rules?

A statement and a few sentences of sources are read as values (what, number, unit, conditions),
comparisons, denials and opposites, and these are compared one by one. The rules stand beside a
neural judge, which overlooks exchanged values and names. They call a conflict only what they are
certain of: the source speaks of the same thing and property and says otherwise. All else is open.

What they do not see: conflicts of names ("in Paris" for "in London"), of roles, and of words
outside their tables; two things that have the same name; what "it" is without `context`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ragkit.readers.support.contrasts import contraries, exchanged, judge_comparison
from ragkit.readers.support.facts import (
    COVERED,
    METHOD_OF,
    Finding,
    Source,
    alike_kind,
    coverage,
    prepare,
    says_all,
    segments,
    stands,
)
from ragkit.readers.support.quantities import Quantity
from ragkit.readers.support.sums import compute
from ragkit.readers.support.wording import Sentence, Word

_WINDOW = 5  # content words before and after a value that say what it is the value of
_CONDITIONS = frozenset(
    "bulk monolay surfac film nanotub dope strain alloy layer thin pure".split()
)
_CONDITION_UNITS = frozenset(("K", "°C", "°F", "Pa", "bar"))


def compare_frames(
    statement: str, evidence: Sequence[str], *, context: Sequence[str] = ()
) -> list[Finding]:
    """Return what agrees, conflicts or can be computed, fact by fact of the statement.

    Args:
        statement: One sentence, or a few.
        evidence: Sentences of sources.
        context: The title or heading of each evidence sentence: the subject of one that says "it".

    >>> compare_frames("GaAs has a gap of 1.12 eV.", ["The gap of GaAs is 1.42 eV."])[0].reason
    'the source gives 1.42 eV, not 1.12 eV'
    """
    parts, sources = prepare(statement, evidence, context)
    return [finding for part in parts for finding in _judge(part, sources)]


def frame_features(
    statement: str, evidence: Sequence[str], *, context: Sequence[str] = ()
) -> dict[str, float]:
    """Return figures for a classifier: shares of what the evidence holds, and counts of findings.

    A share of nothing is 1. Keys: numbers, names, words (shares), negation_differs,
    comparison_conflicts, qualifier_conflicts (0 or 1), conflicts, agreements, computed (counts).
    """
    parts, sources = prepare(statement, evidence, context)
    findings = [finding for part in parts for finding in _judge(part, sources)]
    kinds = [finding.kind for finding in findings]
    conflicts = [finding.reason for finding in findings if finding.kind == "conflicts"]
    keys = frozenset[str]().union(*(source.keys for source in sources))
    stems = frozenset[str]().union(*(source.stems for source in sources))
    quantities = [quantity for part in parts for quantity in part.quantities]
    held = [any(stands(quantity, source) for source in sources) for quantity in quantities]
    names = {word.key for part in parts for word in part.words if word.name}
    words = {word.stem for part in parts for word in part.words if word.content and not word.name}
    best = max(sources, key=lambda source: len(source.stems & words), default=None)
    denies = any(word.denied for part in parts for word in part.words)
    source_denies = best is not None and any(word.denied for word in best.sentence.words)
    return {
        "numbers": _share(held),
        "names": _share([name in keys for name in sorted(names)]),
        "words": _share([word in stems for word in sorted(words)]),
        "negation_differs": float(denies != source_denies and best is not None),
        "comparison_conflicts": float(any("compar" in reason for reason in conflicts)),
        "qualifier_conflicts": float(any("qualifier" in reason for reason in conflicts)),
        "conflicts": float(kinds.count("conflicts")),
        "agreements": float(kinds.count("agrees")),
        "computed": float(kinds.count("computed")),
    }


def _share(held: Sequence[bool]) -> float:
    return sum(held) / len(held) if held else 1.0


def _judge(part: Sentence, sources: Sequence[Source]) -> list[Finding]:
    """Return the findings on one sentence of a statement."""
    findings = [_judge_value(quantity, part, sources) for quantity in part.quantities]
    findings += [judge_comparison(frame, sources) for frame in part.comparisons]
    contrary = [found for source in sources for found in contraries(part, source)]
    if part.text.endswith("?"):
        return [Finding("open", "a question states nothing", -1)]
    said = any(says_all(part, source) for source in sources)
    turned = [found for source in sources for found in exchanged(part, source)]
    findings += turned[:1] or ([] if said else contrary[:1])
    if any(finding.kind != "open" for finding in findings):
        return findings
    for source in sources:
        if says_all(part, source):
            return [*findings, Finding("agrees", "the source says so in these words", source.index)]
    nothing = Finding("open", "no value, comparison or denial to compare", -1)
    return findings or [nothing]


def _scope(quantity: Quantity, part: Sentence) -> list[Word]:
    """Return the content words that a quantity of a statement is about, without its own."""
    clause = max((word.clause for word in part.words if word.start <= quantity.start), default=0)
    here = [word for word in part.words if word.content and word.clause == clause]
    middle = sum(word.start < quantity.start for word in here)
    near = here[max(0, middle - _WINDOW) : middle + _WINDOW]
    here = [word for word in here if word in near or word.name]
    if not any(word.name for word in here):
        here += [word for word in part.words if word.name and word.clause == 0 != clause]
    return [word for word in here if not quantity.start <= word.start < quantity.end]


def _judge_value(quantity: Quantity, part: Sentence, sources: Sequence[Source]) -> Finding:
    words = _scope(quantity, part)
    known = any(stands(quantity, source) for source in sources)
    texts = [source.sentence for source in sources]
    computed = None if known else compute(quantity, part, texts)
    agreeing: list[tuple[float, Finding]] = []
    conflicting: list[tuple[float, Finding]] = []
    for source in sources:
        share = coverage(words, source)
        finding = _against(quantity, words, part, source)
        if finding is not None and finding.kind == "agrees":
            agreeing.append((share, finding))
        elif finding is not None and share >= COVERED and _head_stands(quantity, words, source):
            conflicting.append((share, finding))
    best = max((share for share, _ in agreeing), default=-1.0)
    worst = max((share for share, _ in conflicting), default=-1.0)
    if computed:
        return Finding("computed", computed[0], computed[1])
    if best >= 0 and (best >= 0.5 or not conflicting):
        if best >= 0.4 or quantity.kind == "label":
            return next(finding for share, finding in agreeing if share == best)
        return Finding("elsewhere", f"the sources say {quantity.text} of another thing", -1)
    if conflicting and not any(word.denied for word in words):
        return next(finding for share, finding in conflicting if share == worst)
    return Finding("open", f"no source gives a value to compare with {quantity.text}", -1)


def _head_stands(quantity: Quantity, words: Sequence[Word], source: Source) -> bool:
    """Tell whether the word before a number, or else the one after it, stands in a source."""
    before = [word for word in words if word.start < quantity.start]
    after = [word for word in words if word.start > quantity.start]
    near = before[-1:] or after[:1]
    known = source.sentence.stems() | source.sentence.keys() | METHOD_OF.keys()
    known |= {word.key for word in words if word.name}
    return bool(near) and all(word.stem in known or word.key in known for word in near)


def _against(
    quantity: Quantity, words: Sequence[Word], part: Sentence, source: Source
) -> Finding | None:
    """Compare a quantity with the quantities of one source; None if nothing is certain."""
    alike = [other for other in source.sentence.quantities if alike_kind(quantity, other)]
    if not alike:
        return _other_unit(quantity, words, source)
    meant = _meant_by(quantity, words, part, alike, source)
    for other in meant:
        if quantity.agrees(other):
            return _same_value(quantity, words, other, source)
    if any(quantity.near(other) for other in meant) or not _comparable(quantity, part, source):
        return None
    taken = _taken(quantity, part, source)
    free = [other for other in meant if other not in taken and _same_size(quantity, other, meant)]
    if not free or quantity.kind == "label" or quantity.unit in ("", "th"):
        return None
    if not (quantity.of <= source.stems and free[0].of <= part.stems()):
        return None
    others = [other for other in part.quantities if other is not quantity and other.unit]
    if _is_condition(quantity, part) and not all(stands(other, source) for other in others):
        return None
    swapped = any(quantity.agrees(other) for other in alike)
    if not swapped and any(quantity.low == other.low for other in source.sentence.quantities):
        return None
    theirs = " or ".join(dict.fromkeys(other.text for other in free))
    reason = f"the source gives {theirs}, not {quantity.text}"
    if swapped:
        reason += ", which it gives for another thing"
    return Finding("conflicts", reason, source.index)


def _is_condition(quantity: Quantity, part: Sentence) -> bool:
    """Tell whether a quantity says when another one holds: "at 300 K"."""
    before = part.text[max(0, quantity.start - 8) : quantity.start]
    return quantity.unit in _CONDITION_UNITS and bool(re.search(r"\b(?:at|under|near) $", before))


def _same_size(mine: Quantity, other: Quantity, meant: Sequence[Quantity]) -> bool:
    """Tell whether two values may be of one property; of many, only those of like size."""
    if len(meant) == 1 or mine.kind != "number" or not (mine.point and other.point):
        return True
    return abs(mine.low) < 10 * abs(other.low) and abs(other.low) < 10 * abs(mine.low)


def _meant_by(
    quantity: Quantity,
    words: Sequence[Word],
    part: Sentence,
    alike: Sequence[Quantity],
    source: Source,
) -> Sequence[Quantity]:
    """Return those of a source's quantities that belong to what a quantity is about."""
    mine = [other for other in part.quantities if alike_kind(quantity, other)]
    if len(mine) == 1:
        return _meant(alike, words, source)
    owners = segments(mine, part)
    if owners is None:
        return alike
    return _meant(alike, owners[mine.index(quantity)], source)


def _taken(quantity: Quantity, part: Sentence, source: Source) -> list[Quantity]:
    """Return the values of a source with which other quantities of the statement agree."""
    alike = [other for other in source.sentence.quantities if alike_kind(quantity, other)]
    taken = []
    for mine in part.quantities:
        if mine is not quantity and alike_kind(quantity, mine):
            theirs = _meant_by(mine, _scope(mine, part), part, alike, source)
            taken += [other for other in theirs if mine.agrees(other)]
    return taken


def _comparable(quantity: Quantity, part: Sentence, source: Source) -> bool:
    """Tell whether a statement and a source speak of the same conditions and methods."""
    mine, theirs = part.stems(), source.sentence.stems()
    if (mine ^ theirs) & _CONDITIONS:
        return False
    methods = [{METHOD_OF[s] for s in stems if s in METHOD_OF} for stems in (mine, theirs)]
    if methods[0] != methods[1]:
        return False
    conditions = [
        {(q.low, q.unit) for q in quantities if q.unit in _CONDITION_UNITS}
        for quantities in (part.quantities, source.sentence.quantities)
    ]
    return quantity.unit in _CONDITION_UNITS or conditions[0] == conditions[1]


def _other_unit(quantity: Quantity, words: Sequence[Word], source: Source) -> Finding | None:
    if not quantity.unit or quantity.unit[0] == "#" or quantity.kind != "number":
        return None
    for other in source.sentence.quantities:
        measured = other.unit and other.unit[0] != "#" and other.kind == "number"
        if measured and other.low / other.scale == quantity.low / quantity.scale:
            reason = f"the source gives {other.text}, not {quantity.text}: another unit"
            return Finding("conflicts", reason, source.index)
    return None


def _same_value(
    quantity: Quantity, words: Sequence[Word], other: Quantity, source: Source
) -> Finding:
    mine = {METHOD_OF[word.stem] for word in words if word.stem in METHOD_OF}
    theirs = {METHOD_OF[word.stem] for word in source.sentence.words if word.stem in METHOD_OF}
    if quantity.unit and quantity.kind == "number" and mine and theirs and not mine & theirs:
        reason = f"another qualifier: the source says {min(theirs)}, not {min(mine)}"
        return Finding("conflicts", reason, source.index)
    return Finding("agrees", f"the source gives {other.text}", source.index)


def _meant(alike: Sequence[Quantity], words: Sequence[Word], source: Source) -> Sequence[Quantity]:
    """Return those of a source's quantities that belong to the things that the words name."""
    if len(alike) == 1:
        return alike
    owners = segments(alike, source.sentence)
    if owners is None:
        return alike
    names = {word.key for word in words}
    stems = {word.stem for word in words}
    scores = []
    for owner in owners:
        named = {word.key for word in owner if word.name}
        plain = {word.stem for word in owner if not word.name}
        others = [other for other in owners if other is not owner]
        named -= set[str]().union(*({word.key for word in other} for other in others))
        plain -= set[str]().union(*({word.stem for word in other} for other in others))
        if named:
            scores.append(len(named & names) / len(named))
        else:
            scores.append(len(plain & stems) / len(plain) if plain else 0.0)
    best = max(scores)
    if best < 0.5 or scores.count(best) > 1 or sorted(scores)[-2] > best / 2:
        return alike
    return [alike[scores.index(best)]]
