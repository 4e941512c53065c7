"""The benchmark's questions about sets of materials, and those that must be refused."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ragkit.agents.materials.chemistry.names import ELEMENTS
from ragkit.evaluation.materials.data import QuestionData, Value, reduced_or_none
from ragkit.evaluation.materials.kinds import (
    NUMERIC,
    Draft,
    Maker,
    choose_property,
    comparison,
    conversion,
    extreme_of,
    extreme_word,
    finished,
    lookup,
    misspelt,
    pick,
    polymorph,
    requested,
    search,
)
from ragkit.evaluation.materials.question import Call, Fact, Kind, Plan, Truth, row
from ragkit.evaluation.materials.words import (
    FAMILIES,
    ORDERINGS,
    SHOWN_UNITS,
    WORDINGS,
)

# Many materials have these. Where a table of values without ids has the property too, "calculated"
# tells the two apart.
_RARE = ("homogeneous_poisson", "universal_anisotropy")
_SEARCHED = [
    name for name in NUMERIC
    if (WORDINGS[name].material_only and name not in _RARE) or name == "band_gap"
]  # fmt: skip
_SWAPS = {
    "Li": "Na", "Na": "K", "K": "Rb", "Mg": "Ca", "Ca": "Sr", "Sr": "Ba", "Al": "Ga", "Ga": "In",
    "Ti": "Zr", "Zr": "Hf", "V": "Nb", "Nb": "Ta", "Cr": "Mo", "Mo": "W", "Si": "Ge", "Ge": "Sn",
    "S": "Se", "Se": "Te", "Cl": "Br", "Br": "I", "N": "P", "P": "As", "Y": "La", "La": "Ce",
}  # fmt: skip


def searched(data: QuestionData, rng: random.Random) -> tuple[str, str, str]:
    """A numeric property, its tool and a phrase that means the materials' values only."""
    name, wording, phrase = choose_property(data, rng, _SEARCHED)
    says_so = wording.material_only or phrase.startswith(("calculated", "DFT"))
    return name, wording.tool, phrase if says_so else f"calculated {phrase}"


def some_elements(data: QuestionData, rng: random.Random, name: str) -> list[str] | None:
    """One or two elements of some material of the split that has the property."""
    keys = data.material_pool.get(name)
    if not keys:
        return None
    key = rng.choice(keys)
    held = sorted(data.of_formula[key, name][0].elements)
    chosen = sorted(rng.sample(held, min(len(held), rng.choice((1, 1, 2)))))
    return chosen if data.may_combine("group", name, *chosen) else None


def group_of(
    data: QuestionData, rng: random.Random, elements: Sequence[str], values: Iterable[Value]
) -> str:
    """ "oxides" where only one thing can be meant by it, else "materials containing O"."""
    if len(elements) == 1 and elements[0] in FAMILIES and rng.random() < 0.5:
        mixed = elements[0] != "O" and any("O" in value.elements for value in values)
        if not mixed:
            return f"{FAMILIES[elements[0]]}s"
    if data.words.spoken and rng.random() < data.words.spoken:
        names = [ELEMENTS[each] for each in elements]
        one = f"{names[0]} compounds"
        return one if len(names) == 1 else f"compounds of {' and '.join(names)}"
    return rng.choice(data.words.classes).format(elements=" and ".join(elements))


def article(text: str) -> str:
    """With "an" where a vowel follows."""
    return re.sub(r"\ba (?=[aeio])", "an ", text)


def valued(number: float, unit: str) -> str:
    """A number as a question states it."""
    return f"{number:g} {SHOWN_UNITS.get(unit, unit)}".strip()


def extremum(data: QuestionData, rng: random.Random) -> Draft | None:
    """The material with the highest or lowest value of all that have some elements."""
    return extreme_worded(data, rng, partial(pick, data, rng, "extremum"))


def extreme_worded(
    data: QuestionData, rng: random.Random, worded: Callable[..., str]
) -> Draft | None:
    """An extreme in such words: of the group, the extreme and the property's name."""
    found = _extreme(data, rng)
    if found is None:
        return None
    top, name, place, values = found
    text = worded(**values["words"])
    call = search(place, text, fields=name, limit=1, **values["arguments"])
    plan = Plan((call,), (row(0, name, top.material_id),))
    return Draft(text, Truth(((top.fact,),)), plan, frozenset({top.reduced}))


def _extreme(
    data: QuestionData, rng: random.Random
) -> tuple[Value, str, str, dict[str, dict[str, str]]] | None:
    """(the extreme, its property, the tool's place, words and arguments)."""
    name, place, phrase = searched(data, rng)
    elements = some_elements(data, rng, name)
    if elements is None:
        return None
    values = data.matching(name, elements)
    highest = rng.random() < data.words.highest
    top = extreme_of(values, highest=highest)
    if top is None or not data.in_split(top.reduced):
        return None
    if len({value.material_id for value in values}) < 3:
        return None
    extreme = extreme_word(data, rng, "extremum", highest=highest)
    words = {"group": group_of(data, rng, elements, values), "extreme": extreme, "name": phrase}
    arguments = {"elements": ",".join(elements), "sort_fields": f"-{name}" if highest else name}
    return top, name, place, {"words": words, "arguments": arguments}


def multi_hop(data: QuestionData, rng: random.Random) -> Draft | None:
    """Another property of the material with an extreme value."""
    return hop_worded(data, rng, partial(pick, data, rng, "multi_hop"))


def hop_worded(data: QuestionData, rng: random.Random, worded: Callable[..., str]) -> Draft | None:
    """Another property of an extreme, in such words: as `extreme_worded`, and of the second."""
    found = _extreme(data, rng)
    if found is None:
        return None
    top, name, place, values = found
    other, wording, phrase = choose_property(data, rng, list(WORDINGS))
    held = data.of_material.get((top.material_id or "", other))
    if other == name or not held or not data.may_combine("pair", name, other):
        return None
    text = worded(second=phrase, **values["words"])
    found_id = str(top.material_id)
    first = requested(data, rng, "first hop", "extremum", **values["words"])
    then = requested(data, rng, "second hop", "lookup", name=phrase, subject=found_id)
    calls = (
        search(place, first, fields=name, limit=1, **values["arguments"]),
        search(wording.tool, then, material_ids=found_id, fields=other),
    )
    rows = (row(1, other, top.material_id), row(0, name, top.material_id))
    facts = tuple(dict.fromkeys(value.fact for value in held))
    return Draft(text, Truth((facts,)), Plan(calls, rows), frozenset({top.reduced}))


def filtered(data: QuestionData, rng: random.Random) -> Draft | None:
    """All materials that meet a condition, two to eight."""
    if rng.random() < 0.25:
        return _of_system(data, rng)
    if rng.random() < 0.3:
        return _ordered(data, rng)
    name, place, phrase = searched(data, rng)
    elements = some_elements(data, rng, name)
    if elements is None or name == "nsites":
        return None
    values = data.matching(name, elements)
    above = rng.random() < 0.6
    limit = _limit(data, rng, values, above=above)
    if limit is None:
        return None
    sign = ">" if above else "<"
    chosen = [value for value in values if (value.number > limit) == above]
    condition = rng.choice(data.words.conditions[sign]).format(
        name=phrase, value=valued(limit, values[0].unit)
    )
    group = group_of(data, rng, elements, values)
    text = pick(data, rng, "filter", group=group, condition=article(condition))
    call = search(place, text, elements=",".join(elements), where=[f"{name} {sign} {limit:g}"],
                  fields=name, limit=20)  # fmt: skip
    return as_set(text, call, name, chosen)


def _limit(
    data: QuestionData, rng: random.Random, values: Sequence[Value], *, above: bool
) -> float | None:
    """A short number that two to eight materials of the split exceed (or stay below)."""
    ordered = sorted(values, key=lambda value: value.number, reverse=above)
    places = []
    for n in range(2, min(9, len(ordered))):
        inside, outside = ordered[n - 1].number, ordered[n].number
        short = _between(inside, outside)
        ids = {value.material_id for value in ordered[:n]}
        rest = {value.material_id for value in ordered[n:]}
        in_split = all(data.in_split(value.reduced) for value in ordered[:n])
        if short is not None and in_split and len(ids) > 1 and not ids & rest:
            places.append(short)
    # Larger sets are rarer, since all of a set must be of the split.
    return rng.choice(places[-2:]) if places else None


def _between(one: float, other: float) -> float | None:
    """The shortest number well between two; None if it takes more than four digits."""
    low, high = sorted((one, other))
    for digits in (1, 2, 3, 4):
        short = float(f"{(low + high) / 2:.{digits}g}")
        margin = 0.05 * (high - low)
        if low + margin < short < high - margin:
            return short
    return None


def as_set(text: str, call: Call, name: str, chosen: Sequence[Value]) -> Draft:
    """A question whose answer is a set of materials."""
    ids = list(dict.fromkeys(str(value.material_id) for value in chosen))
    plan = Plan((call,), tuple(row(0, name, each) for each in ids))
    keys = frozenset(value.reduced for value in chosen)
    return Draft(text, Truth(material_ids=frozenset(ids)), plan, keys)


def _ordered(data: QuestionData, rng: random.Random) -> Draft | None:
    """Materials of some elements with a magnetic ordering."""
    elements = some_elements(data, rng, "ordering")
    ordering = rng.choice(list(ORDERINGS))
    chosen = [
        value for value in data.matching("ordering", elements or ()) if value.value == ordering
    ]
    in_split = all(data.in_split(value.reduced) for value in chosen)
    if elements is None or not in_split or not 2 <= len(chosen) <= 8:
        return None
    group = rng.choice(data.words.classes).format(elements=" and ".join(elements))
    text = pick(data, rng, "filter", group=group, condition=f"are {ORDERINGS[ordering]}")
    call = search("magnetism", text, elements=",".join(elements),
                  where=[f"ordering = {ordering}"], fields="ordering", limit=20)  # fmt: skip
    return as_set(text, call, "ordering", chosen)


def _of_system(data: QuestionData, rng: random.Random) -> Draft | None:
    """All materials of exactly these elements."""
    key = rng.choice(data.pool)
    elements = data.of_formula[key, "nelements"][0].elements
    chosen = [value for value in data.matching("nelements", elements) if value.elements == elements]
    in_split = all(data.in_split(value.reduced) for value in chosen)
    if not in_split or not 2 <= len(chosen) <= 8 or len(elements) < 2:
        return None
    system = "-".join(sorted(elements))
    condition = f"{rng.choice(('are', 'belong to', 'are held'))} in the {system} system"
    condition = condition.replace("belong to in", "belong to")
    text = pick(data, rng, "filter", group="materials", condition=condition)
    call = search("summary", text, chemsys=system, fields="material_id", limit=20)
    return as_set(text, call, "material_id", chosen)


def count(data: QuestionData, rng: random.Random) -> Draft | None:
    """How many materials, or measured values, meet a condition."""
    if rng.random() < 0.25:
        return _count_measured(data, rng)
    name, place, phrase = searched(data, rng)
    elements = some_elements(data, rng, name)
    values = data.matching(name, elements or ())
    if elements is None or len(values) < 5:
        return None
    if rng.random() < 0.3:
        return _count_held(data, rng, elements)
    limit = float(f"{rng.choice(values).number:.1g}")
    sign = rng.choice("><")
    if any(abs(value.number - limit) < 1e-6 * max(1, abs(limit)) for value in values):
        return None
    ids = {value.material_id for value in values if (value.number > limit) == (sign == ">")}
    condition = rng.choice(data.words.conditions[sign]).format(
        name=phrase, value=valued(limit, values[0].unit)
    )
    group = group_of(data, rng, elements, values)
    text = pick(data, rng, "count", group=group, condition=article(condition))
    call = search(place, text, elements=",".join(elements), where=[f"{name} {sign} {limit:g}"],
                  fields=name, limit=1, thought="Searches count all rows.")  # fmt: skip
    return as_number(text, call, "n_materials", len(ids))


def as_number(text: str, call: Call, name: str, n: int) -> Draft | None:
    """The count as a draft; its split is that of the conditions, however they are worded."""
    if not n:
        return None
    conditions = {key: call.arguments[key] for key in sorted(call.arguments)}
    plan = Plan((call,), (row(0, name, None),))
    return Draft(text, Truth(((Fact("count", n),),)), plan, key=f"count {conditions}")


def _count_held(data: QuestionData, rng: random.Random, elements: Sequence[str]) -> Draft | None:
    group = rng.choice(data.words.classes).format(elements=" and ".join(elements))
    text = pick(data, rng, "count", group=group, condition="are held in the database")
    call = search("summary", text, elements=",".join(elements), limit=1,
                  thought="Searches count all rows.")  # fmt: skip
    ids = {value.material_id for value in data.matching("nelements", elements)}
    return as_number(text, call, "n_materials", len(ids))


def _count_measured(data: QuestionData, rng: random.Random) -> Draft | None:
    """Values known by formula only; the ones counted must all be measured."""
    name, group, unit = rng.choice(
        (("band_gap", "measured band gaps of compounds with {}", "eV"),
         ("yield_strength", "measured yield strengths of steels with {}", "MPa"))
    )  # fmt: skip
    anchor = rng.choice(data.tables[name])
    element = rng.choice(sorted(anchor.elements))
    values = [value for value in data.tables[name] if element in value.elements]
    limit = float(f"{anchor.number:.2g}")
    if any(value.method != "experiment" or value.number == limit for value in values):
        return None
    n = sum(value.number > limit for value in values)
    text = pick(data, rng, "count", group=group.format(element),
                condition=f"are above {valued(limit, unit)}")  # fmt: skip
    call = search("formula_tables", text, elements=element, where=[f"{name} > {limit:g}"],
                  fields=name, limit=1, thought="Searches count all rows.")  # fmt: skip
    return as_number(text, call, "n_values", n)


def missing(data: QuestionData, rng: random.Random) -> Draft | None:
    """A material that is not held, or a property that is not held for it."""
    name, wording, phrase = choose_property(data, rng, NUMERIC)
    key = rng.choice(data.pool)
    subject = data.formula_of(key)
    given = "formula"
    draw = rng.random()
    if draw < 0.4:
        subject = _invented(subject, rng)
        key = reduced_or_none(subject) or ""
    elif draw < 0.55:
        given, subject = "material_ids", f"mp-{rng.randint(4_000_000, 9_999_999)}"
    held = data.held if draw < 0.4 else ()
    if not key or key in held or (given == "formula" and data.of_formula.get((key, name))):
        return None
    text = pick(data, rng, "missing", name=phrase, subject=subject)
    call = search(wording.tool, text, fields=name, **{given: subject})
    keys = frozenset({key}) if given == "formula" else frozenset()
    plan = Plan((call,), refusal="not_held")
    return Draft(text, Truth(refusal="not_held"), plan, keys, key=subject)


def _invented(formula: str, rng: random.Random) -> str:
    """The formula with one element exchanged for its neighbour in the group."""
    symbols = [each for each in re.findall(r"[A-Z][a-z]?", formula) if each in _SWAPS]
    if not symbols:
        return ""
    old = rng.choice(symbols)
    return re.sub(rf"{old}(?![a-z])", _SWAPS[old], formula)


def ambiguous(data: QuestionData, rng: random.Random) -> Draft | None:
    """A question that does not say which material or which property is meant."""
    phrasing = rng.choice(data.words.phrasings["ambiguous"])
    key = rng.choice(data.pool)
    _, _, phrase = choose_property(data, rng, NUMERIC)
    text = finished(data, rng, phrasing, {"name": phrase, "subject": data.formula_of(key)})
    keys = frozenset({key}) if "{subject}" in phrasing else frozenset()
    return Draft(text, Truth(refusal="unclear"), Plan(refusal="unclear"), keys, key=text)


def irrelevant(data: QuestionData, rng: random.Random) -> Draft | None:
    """A question that has nothing to do with materials data."""
    values = {
        name: rng.choice(words.split()).replace("_", " ")
        for name, words in data.words.fillers.items()
    }
    text = finished(data, rng, rng.choice(data.words.phrasings["irrelevant"]), values)
    return Draft(text, Truth(refusal="off_topic"), Plan(refusal="off_topic"), key=text)


MAKERS: dict[Kind, Maker] = {
    "lookup": lookup,
    "filter": filtered,
    "extremum": extremum,
    "count": count,
    "comparison": comparison,
    "conversion": conversion,
    "polymorph": polymorph,
    "missing": missing,
    "ambiguous": ambiguous,
    "misspelt": misspelt,
    "multi_hop": multi_hop,
    "irrelevant": irrelevant,
}
