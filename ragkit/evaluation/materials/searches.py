"""Makers of questions about sets of materials, and of questions that must be refused."""

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
    extreme_word,
    fill_phrasing,
    find_extreme,
    lookup,
    misspelt,
    polymorph,
    question_text,
    request_text,
    search_call,
)
from ragkit.evaluation.materials.question import Call, Fact, Kind, Plan, Truth, row_template
from ragkit.evaluation.materials.words import (
    FAMILIES,
    ORDERINGS,
    SHOWN_UNITS,
    WORDINGS,
)

# Properties that many materials have. If a table of values without ids has the property too, the
# word "calculated" distinguishes the two.
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


def choose_searched_property(data: QuestionData, rng: random.Random) -> tuple[str, str, str]:
    """Draw a numeric property; return it, its tool and a phrase for values of materials only."""
    name, wording, phrase = choose_property(data, rng, _SEARCHED)
    is_explicit = wording.material_only or phrase.startswith(("calculated", "DFT"))
    return name, wording.tool, phrase if is_explicit else f"calculated {phrase}"


def choose_elements(data: QuestionData, rng: random.Random, name: str) -> list[str] | None:
    """Draw one or two elements of a material in the split that has the property."""
    keys = data.material_pool.get(name)
    if not keys:
        return None
    key = rng.choice(keys)
    available = sorted(data.of_formula[key, name][0].elements)
    chosen = sorted(rng.sample(available, min(len(available), rng.choice((1, 1, 2)))))
    return chosen if data.may_combine("group", name, *chosen) else None


def group_phrase(
    data: QuestionData, rng: random.Random, elements: Sequence[str], values: Iterable[Value]
) -> str:
    """Name a group of materials: "oxides" if that is unambiguous, else "materials containing O"."""
    if len(elements) == 1 and elements[0] in FAMILIES and rng.random() < 0.5:
        mixed = elements[0] != "O" and any("O" in value.elements for value in values)
        if not mixed:
            return f"{FAMILIES[elements[0]]}s"
    if data.words.spoken and rng.random() < data.words.spoken:
        names = [ELEMENTS[symbol] for symbol in elements]
        phrase = f"{names[0]} compounds"
        return phrase if len(names) == 1 else f"compounds of {' and '.join(names)}"
    return rng.choice(data.words.classes).format(elements=" and ".join(elements))


def fix_articles(text: str) -> str:
    """Replace "a" by "an" before vowels."""
    return re.sub(r"\ba (?=[aeio])", "an ", text)


def format_value(number: float, unit: str) -> str:
    """Format a number with its unit, as questions state it."""
    return f"{number:g} {SHOWN_UNITS.get(unit, unit)}".strip()


def extremum(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for the material with the highest or lowest value among those with some elements."""
    return extremum_draft(data, rng, partial(question_text, data, rng, "extremum"))


def extremum_draft(
    data: QuestionData, rng: random.Random, worded: Callable[..., str]
) -> Draft | None:
    """Draft a question about an extreme.

    Args:
        data: The snapshot.
        rng: Generator for the draws.
        worded: Returns the text for the keywords group, extreme and name.
    """
    drawn = _draw_extreme(data, rng)
    if drawn is None:
        return None
    top, name, tool, values = drawn
    text = worded(**values["words"])
    call = search_call(tool, text, fields=name, limit=1, **values["arguments"])
    plan = Plan((call,), (row_template(0, name, top.material_id),))
    return Draft(text, Truth(((top.fact,),)), plan, frozenset({top.reduced}))


def _draw_extreme(
    data: QuestionData, rng: random.Random
) -> tuple[Value, str, str, dict[str, dict[str, str]]] | None:
    """Draw an extreme; return (value, property, tool, words and arguments)."""
    name, tool, phrase = choose_searched_property(data, rng)
    elements = choose_elements(data, rng, name)
    if elements is None:
        return None
    values = data.matching(name, elements)
    highest = rng.random() < data.words.highest
    top = find_extreme(values, highest=highest)
    if top is None or not data.in_split(top.reduced):
        return None
    if len({value.material_id for value in values}) < 3:
        return None
    extreme = extreme_word(data, rng, "extremum", highest=highest)
    words = {"group": group_phrase(data, rng, elements, values), "extreme": extreme, "name": phrase}
    arguments = {"elements": ",".join(elements), "sort_fields": f"-{name}" if highest else name}
    return top, name, tool, {"words": words, "arguments": arguments}


def multi_hop(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for another property of the material with an extreme value."""
    return multi_hop_draft(data, rng, partial(question_text, data, rng, "multi_hop"))


def multi_hop_draft(
    data: QuestionData, rng: random.Random, worded: Callable[..., str]
) -> Draft | None:
    """Draft a question about another property of an extreme; `worded` also takes `second`."""
    drawn = _draw_extreme(data, rng)
    if drawn is None:
        return None
    top, name, tool, values = drawn
    other, wording, phrase = choose_property(data, rng, list(WORDINGS))
    values_of_other = data.of_material.get((top.material_id or "", other))
    if other == name or not values_of_other or not data.may_combine("pair", name, other):
        return None
    text = worded(second=phrase, **values["words"])
    material_id = str(top.material_id)
    first_request = request_text(data, rng, "first hop", "extremum", **values["words"])
    second_request = request_text(
        data, rng, "second hop", "lookup", name=phrase, subject=material_id
    )
    calls = (
        search_call(tool, first_request, fields=name, limit=1, **values["arguments"]),
        search_call(wording.tool, second_request, material_ids=material_id, fields=other),
    )
    rows = (row_template(1, other, top.material_id), row_template(0, name, top.material_id))
    facts = tuple(dict.fromkeys(value.fact for value in values_of_other))
    return Draft(text, Truth((facts,)), Plan(calls, rows), frozenset({top.reduced}))


def filtered(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for all materials that meet a condition, two to eight."""
    if rng.random() < 0.25:
        return _by_chemical_system(data, rng)
    if rng.random() < 0.3:
        return _by_ordering(data, rng)
    name, tool, phrase = choose_searched_property(data, rng)
    elements = choose_elements(data, rng, name)
    if elements is None or name == "nsites":
        return None
    values = data.matching(name, elements)
    above = rng.random() < 0.6
    limit = _draw_limit(data, rng, values, above=above)
    if limit is None:
        return None
    sign = ">" if above else "<"
    chosen = [value for value in values if (value.number > limit) == above]
    condition = rng.choice(data.words.conditions[sign]).format(
        name=phrase, value=format_value(limit, values[0].unit)
    )
    group = group_phrase(data, rng, elements, values)
    text = question_text(data, rng, "filter", group=group, condition=fix_articles(condition))
    call = search_call(tool, text, elements=",".join(elements), where=[f"{name} {sign} {limit:g}"],
                  fields=name, limit=20)  # fmt: skip
    return set_draft(text, call, name, chosen)


def _draw_limit(
    data: QuestionData, rng: random.Random, values: Sequence[Value], *, above: bool
) -> float | None:
    """Return a short number that two to eight materials of the split exceed, or stay below."""
    ordered = sorted(values, key=lambda value: value.number, reverse=above)
    limits = []
    for n in range(2, min(9, len(ordered))):
        inside, outside = ordered[n - 1].number, ordered[n].number
        short = _short_number_between(inside, outside)
        ids = {value.material_id for value in ordered[:n]}
        others = {value.material_id for value in ordered[n:]}
        in_split = all(data.in_split(value.reduced) for value in ordered[:n])
        if short is not None and in_split and len(ids) > 1 and not ids & others:
            limits.append(short)
    # Prefer larger sets: they are rarer, since the split must contain the whole set.
    return rng.choice(limits[-2:]) if limits else None


def _short_number_between(one: float, other: float) -> float | None:
    """Return the shortest number well between two; None if it needs more than four digits."""
    low, high = sorted((one, other))
    for digits in (1, 2, 3, 4):
        short = float(f"{(low + high) / 2:.{digits}g}")
        margin = 0.05 * (high - low)
        if low + margin < short < high - margin:
            return short
    return None


def set_draft(text: str, call: Call, name: str, chosen: Sequence[Value]) -> Draft:
    """Draft a question whose answer is a set of materials."""
    ids = list(dict.fromkeys(str(value.material_id) for value in chosen))
    plan = Plan((call,), tuple(row_template(0, name, material_id) for material_id in ids))
    keys = frozenset(value.reduced for value in chosen)
    return Draft(text, Truth(material_ids=frozenset(ids)), plan, keys)


def _by_ordering(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for materials of some elements with a magnetic ordering."""
    elements = choose_elements(data, rng, "ordering")
    ordering = rng.choice(list(ORDERINGS))
    chosen = [
        value for value in data.matching("ordering", elements or ()) if value.value == ordering
    ]
    in_split = all(data.in_split(value.reduced) for value in chosen)
    if elements is None or not in_split or not 2 <= len(chosen) <= 8:
        return None
    group = rng.choice(data.words.classes).format(elements=" and ".join(elements))
    text = question_text(data, rng, "filter", group=group, condition=f"are {ORDERINGS[ordering]}")
    call = search_call("magnetism", text, elements=",".join(elements),
                  where=[f"ordering = {ordering}"], fields="ordering", limit=20)  # fmt: skip
    return set_draft(text, call, "ordering", chosen)


def _by_chemical_system(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for all materials of a chemical system."""
    key = rng.choice(data.pool)
    elements = data.of_formula[key, "nelements"][0].elements
    chosen = [value for value in data.matching("nelements", elements) if value.elements == elements]
    in_split = all(data.in_split(value.reduced) for value in chosen)
    if not in_split or not 2 <= len(chosen) <= 8 or len(elements) < 2:
        return None
    system = "-".join(sorted(elements))
    condition = f"{rng.choice(('are', 'belong to', 'are held'))} in the {system} system"
    condition = condition.replace("belong to in", "belong to")
    text = question_text(data, rng, "filter", group="materials", condition=condition)
    call = search_call("summary", text, chemsys=system, fields="material_id", limit=20)
    return set_draft(text, call, "material_id", chosen)


def count(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask how many materials, or measured values, meet a condition."""
    if rng.random() < 0.25:
        return _count_measured(data, rng)
    name, tool, phrase = choose_searched_property(data, rng)
    elements = choose_elements(data, rng, name)
    values = data.matching(name, elements or ())
    if elements is None or len(values) < 5:
        return None
    if rng.random() < 0.3:
        return _count_all(data, rng, elements)
    limit = float(f"{rng.choice(values).number:.1g}")
    sign = rng.choice("><")
    if any(abs(value.number - limit) < 1e-6 * max(1, abs(limit)) for value in values):
        return None
    ids = {value.material_id for value in values if (value.number > limit) == (sign == ">")}
    condition = rng.choice(data.words.conditions[sign]).format(
        name=phrase, value=format_value(limit, values[0].unit)
    )
    group = group_phrase(data, rng, elements, values)
    text = question_text(data, rng, "count", group=group, condition=fix_articles(condition))
    call = search_call(tool, text, elements=",".join(elements), where=[f"{name} {sign} {limit:g}"],
                  fields=name, limit=1, thought="Searches count all rows.")  # fmt: skip
    return count_draft(text, call, "n_materials", len(ids))


def count_draft(text: str, call: Call, name: str, n: int) -> Draft | None:
    """Draft a question for a count; its split depends on the conditions, not on their wording."""
    if not n:
        return None
    conditions = {key: call.arguments[key] for key in sorted(call.arguments)}
    plan = Plan((call,), (row_template(0, name, None),))
    return Draft(text, Truth(((Fact("count", n),),)), plan, key=f"count {conditions}")


def _count_all(data: QuestionData, rng: random.Random, elements: Sequence[str]) -> Draft | None:
    group = rng.choice(data.words.classes).format(elements=" and ".join(elements))
    text = question_text(data, rng, "count", group=group, condition="are held in the database")
    call = search_call("summary", text, elements=",".join(elements), limit=1,
                  thought="Searches count all rows.")  # fmt: skip
    ids = {value.material_id for value in data.matching("nelements", elements)}
    return count_draft(text, call, "n_materials", len(ids))


def _count_measured(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for a count of values known by formula only, all of which are measured."""
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
    text = question_text(data, rng, "count", group=group.format(element),
                condition=f"are above {format_value(limit, unit)}")  # fmt: skip
    call = search_call("formula_tables", text, elements=element, where=[f"{name} > {limit:g}"],
                  fields=name, limit=1, thought="Searches count all rows.")  # fmt: skip
    return count_draft(text, call, "n_values", n)


def missing(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for a material that is not in the database, or a property it does not have."""
    name, wording, phrase = choose_property(data, rng, NUMERIC)
    key = rng.choice(data.pool)
    subject = data.formula_of(key)
    identified_by = "formula"
    draw = rng.random()
    if draw < 0.4:
        subject = _invent_formula(subject, rng)
        key = reduced_or_none(subject) or ""
    elif draw < 0.55:
        identified_by, subject = "material_ids", f"mp-{rng.randint(4_000_000, 9_999_999)}"
    known = data.formulas if draw < 0.4 else ()
    if not key or key in known or (identified_by == "formula" and data.of_formula.get((key, name))):
        return None
    text = question_text(data, rng, "missing", name=phrase, subject=subject)
    call = search_call(wording.tool, text, fields=name, **{identified_by: subject})
    keys = frozenset({key}) if identified_by == "formula" else frozenset()
    plan = Plan((call,), refusal="not_held")
    return Draft(text, Truth(refusal="not_held"), plan, keys, key=subject)


def _invent_formula(formula: str, rng: random.Random) -> str:
    """Replace one element of a formula by its neighbour in the group."""
    symbols = [symbol for symbol in re.findall(r"[A-Z][a-z]?", formula) if symbol in _SWAPS]
    if not symbols:
        return ""
    old = rng.choice(symbols)
    return re.sub(rf"{old}(?![a-z])", _SWAPS[old], formula)


def ambiguous(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask without saying which material or which property is meant."""
    phrasing = rng.choice(data.words.phrasings["ambiguous"])
    key = rng.choice(data.pool)
    _, _, phrase = choose_property(data, rng, NUMERIC)
    text = fill_phrasing(data, rng, phrasing, {"name": phrase, "subject": data.formula_of(key)})
    keys = frozenset({key}) if "{subject}" in phrasing else frozenset()
    return Draft(text, Truth(refusal="unclear"), Plan(refusal="unclear"), keys, key=text)


def irrelevant(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask something unrelated to materials data."""
    values = {
        name: rng.choice(words.split()).replace("_", " ")
        for name, words in data.words.fillers.items()
    }
    text = fill_phrasing(data, rng, rng.choice(data.words.phrasings["irrelevant"]), values)
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
