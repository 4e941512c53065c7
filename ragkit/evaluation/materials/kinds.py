"""The benchmark's questions about named materials: lookups, conversions, polymorphs, refusals.

Each function draws one question from the data and gives None where the draw makes no good one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ragkit.agents.materials.chemistry.names import composition_of
from ragkit.evaluation.materials.data import (
    QuestionData,
    Value,
    english_name,
    reduced_or_none,
)
from ragkit.evaluation.materials.question import Call, Fact, Kind, Plan, Truth, row
from ragkit.evaluation.materials.words import WORDINGS, Wording, careless

NUMERIC = tuple(
    name for name in WORDINGS
    if name not in ("ordering", "space_group", "crystal_system", "point_group")
)  # fmt: skip
# CODATA 2018; written out here so that the truths do not come from the tools' unit library.
_FACTORS = {
    ("eV", "meV"): 1e3,
    ("eV", "J"): 1.602176634e-19,
    ("eV", "hartree"): 1 / 27.211386245988,
    ("eV", "rydberg"): 1 / 13.605693122994,
    ("eV/atom", "kJ/mol"): 96.48533212,
    ("eV/atom", "meV/atom"): 1e3,
    ("GPa", "Mbar"): 0.01,
    ("GPa", "MPa"): 1e3,
    ("GPa", "eV/angstrom^3"): 1 / 160.2176634,
    ("MPa", "GPa"): 1e-3,
    ("MPa", "psi"): 145.0377377,
    ("bohr_magneton", "A*m^2"): 9.2740100783e-24,
    ("bohr_magneton", "J/T"): 9.2740100783e-24,
    ("C/m**2", "uC/cm^2"): 100.0,
    ("angstrom**3", "nm^3"): 1e-3,
    ("angstrom**3", "bohr^3"): 1 / 0.529177210903**3,
    ("angstrom**3", "cm^3"): 1e-24,
    ("1/cm", "THz"): 0.0299792458,
    ("1/cm", "meV"): 0.1239841984,
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A question before it is known whether it belongs to the split.

    Attributes:
        text: As asked.
        truth: See `Question`.
        plan: See `Question`.
        materials: The reduced formulas it is about.
        key: What decides its split where it is about no material.
    """

    text: str
    truth: Truth
    plan: Plan
    materials: frozenset[str] = frozenset()
    key: str = ""


_ASIDE_SHARE = _OPENER_SHARE = 0.15
Maker = Callable[[QuestionData, random.Random], Draft | None]


def pick(data: QuestionData, rng: random.Random, kind: Kind, **values: str) -> str:
    """A phrasing of the kind that uses just these values, filled."""
    return drawn(data, rng, kind, **values)[1]


def drawn(data: QuestionData, rng: random.Random, kind: Kind, **values: str) -> tuple[str, str]:
    """(the phrasing as the words have it, the text): what is asked is read off the first."""
    fitting = [
        phrasing
        for phrasing in data.words.phrasings[kind]
        if {name for name in _SLOTS if f"{{{name}}}" in phrasing} == set(values)
    ]
    chosen = rng.choice(fitting)
    text = finished(data, rng, chosen, values)
    if text.startswith("what") and kind != "misspelt" and not data.words.noise:
        text = text[0].upper() + text[1:]
    return chosen, text


def finished(
    data: QuestionData, rng: random.Random, phrasing: str, values: Mapping[str, str]
) -> str:
    """The phrasing filled; now and then careless, or with something said before or after."""
    if data.words.noise and rng.random() < data.words.noise:
        phrasing = careless(phrasing, rng)
    text = phrasing.format(**values)
    if data.words.openers and rng.random() < _OPENER_SHARE:
        text = f"{rng.choice(data.words.openers)} {text}"
    if data.words.asides and rng.random() < _ASIDE_SHARE:
        text = f"{text} {rng.choice(data.words.asides)}"
    return text


def requested(data: QuestionData, rng: random.Random, part: str, kind: Kind, **values: str) -> str:
    """What a supervisor asks an assistant: in its own words for that part, or drawn of a kind."""
    own = data.words.requests.get(part, "")
    return own.format(**values) if own else pick(data, rng, kind, **values)


_SLOTS = (
    "name", "subject", "group", "condition", "extreme", "first", "second", "unit",
)  # fmt: skip


def search(
    place: str, request: str, *, thought: str = "", **arguments: str | int | list[str]
) -> Call:
    """A call of a search tool."""
    why = thought or f"{place} has the {arguments.get('fields', 'materials')}."
    return Call(f"search_{place}", arguments, why, request)


def choose_property(
    data: QuestionData, rng: random.Random, names: Sequence[str]
) -> tuple[str, Wording, str]:
    """A property, its wording, and one of its phrases."""
    name = rng.choice(list(names))
    wording = data.words.properties[name]
    return name, wording, rng.choice(wording.phrases)


@dataclass(frozen=True, slots=True)
class _Subject:
    """A material as a question names it, with the values that are right and the call for them."""

    text: str
    key: str
    values: tuple[Value, ...]
    place: str
    arguments: dict[str, str]


def _subject(data: QuestionData, rng: random.Random, name: str) -> _Subject | None:
    """By formula or name (any polymorph is right), or by id."""
    if not data.material_pool.get(name):
        return None
    key = rng.choice(data.material_pool[name])
    formula = data.formula_of(key)
    place = data.words.properties[name].tool
    if rng.random() < 0.25:
        held = [each for each in data.ids[key] if data.of_material.get((each, name))]
        chosen = rng.choice(held)
        text = rng.choice((chosen, f"{formula} ({chosen})"))
        values = data.of_material[chosen, name]
        return _Subject(text, key, tuple(values), place, {"material_ids": chosen})
    text = (english_name(formula) if rng.random() < 0.4 else "") or formula
    values = data.of_formula[key, name]
    return _Subject(text, key, tuple(values), place, {"formula": formula})


def _measured_subject(data: QuestionData, rng: random.Random, name: str) -> _Subject | None:
    if not data.table_pool.get(name):
        return None
    key = rng.choice(data.table_pool[name])
    held = [each for each in data.of_formula[key, name] if each.material_id is None]
    tables = [each for each in held if name != "band_gap" or each.method == "experiment"]
    if len(tables) != len(held) or len(held[0].formula) > 40:
        return None
    return _Subject(
        held[0].formula, key, tuple(held), "formula_tables", {"formula": held[0].formula}
    )


def _facts(values: Sequence[Value]) -> tuple[Fact, ...]:
    return tuple(dict.fromkeys(value.fact for value in values))


def lookup(data: QuestionData, rng: random.Random) -> Draft | None:
    """A property of a material: by formula, name or id; some of them measured."""
    if rng.random() < 0.2:
        name = rng.choice(list(data.words.measured))
        phrase = rng.choice(data.words.measured[name].phrases)
        subject = _measured_subject(data, rng, name)
    else:
        name, _, phrase = choose_property(data, rng, list(WORDINGS))
        subject = _subject(data, rng, name)
    if subject is None:
        return None
    text = pick(data, rng, "lookup", name=phrase, subject=subject.text)
    call = search(subject.place, text, fields=name, **subject.arguments)
    truth = Truth((_facts(subject.values),))
    return Draft(text, truth, Plan((call,), (row(0, name),)), frozenset({subject.key}))


def conversion(data: QuestionData, rng: random.Random) -> Draft | None:
    """A value in a unit that the database does not use."""
    measured = rng.random() < 0.25
    words = data.words.measured if measured else data.words.properties
    name = rng.choice([each for each in words if words[each].units])
    subject = (_measured_subject if measured else _subject)(data, rng, name)
    if subject is None or any(not value.number for value in subject.values):
        return None
    unit, own = rng.choice(words[name].units), subject.values[0].unit
    phrase = rng.choice(words[name].phrases)
    text = pick(data, rng, "conversion", name=phrase, subject=subject.text, unit=unit)
    request = requested(data, rng, "given", "lookup", name=phrase, subject=subject.text)
    given: dict[str, object] = {**row_argument(0, name), "unit": unit}
    if own == "1/cm":
        given["context"] = "spectroscopy"
    calls = (
        search(subject.place, request, fields=name, **subject.arguments),
        Call("convert_unit", given, f"Convert it to {unit}."),
    )
    facts = _facts(subject.values)
    factor = _FACTORS[own, unit]
    wanted = tuple(replace(each, value=float(each.value) * factor, unit=unit) for each in facts)
    truth = Truth((wanted,), also=facts, exact_unit=True)
    return Draft(text, truth, Plan(calls, (row(1, name),)), frozenset({subject.key}))


def row_argument(step: int, name: str) -> dict[str, object]:
    """The argument `row` of a calculator tool."""
    return {"row": row(step, name)}


def comparison(data: QuestionData, rng: random.Random) -> Draft | None:
    """Two materials with one value each: which is larger, and by how much."""
    name, wording, phrase = choose_property(data, rng, NUMERIC)
    pool = [
        key for key in data.material_pool.get(name, ())
        if len({value.number for value in data.of_formula[key, name]}) == 1
        and len({value.material_id for value in data.of_formula[key, name]}) == 1
    ]  # fmt: skip
    if len(pool) < 2:
        return None
    keys = rng.sample(pool, 2)
    values = [data.of_formula[key, name][0] for key in keys]
    difference = abs(values[0].number - values[1].number)
    if difference <= 1e-3 * max(abs(value.number) for value in values):
        return None
    formulas = [value.formula for value in values]
    text = pick(data, rng, "comparison", name=phrase, first=formulas[0], second=formulas[1])
    requests = [
        requested(data, rng, "one of two", "lookup", name=phrase, subject=formula)
        for formula in formulas
    ]
    calls = [
        search(wording.tool, request, formula=formula, fields=name)
        for request, formula in zip(requests, formulas, strict=True)
    ]
    ids = [value.material_id for value in values]
    both = [row(step, name, material_id) for step, material_id in enumerate(ids)]
    calls.append(Call("compare", {"rows": both}, "Compare the two."))
    apart = Fact("difference", difference, values[0].unit)
    truth = _compared(text, apart, values)
    plan = Plan(tuple(calls), (*both, row(2, "difference")))
    return Draft(text, truth, plan, frozenset(keys))


def _compared(text: str, apart: Fact, values: Sequence[Value]) -> Truth:
    """What the wording asks for: the difference, both values, or all three."""
    both = tuple(value.fact for value in values)
    if "difference between" in text:
        return Truth(((apart,),), also=both)
    if text.startswith("Compare"):
        return Truth(tuple((fact,) for fact in both), also=(apart,))
    return Truth(((apart,), *((fact,) for fact in both)))


def polymorph(data: QuestionData, rng: random.Random) -> Draft | None:
    """Several materials of one formula: their number, ids, an extreme, or one of them."""
    keys = [key for key in data.pool if len(data.ids[key]) > 1]
    if not keys:
        return None
    make = rng.choice((_how_many, _which_ids, _extreme_polymorph, _by_space_group))
    return make(data, rng, rng.choice(keys))


def _how_many(data: QuestionData, rng: random.Random, key: str) -> Draft | None:
    formula = data.formula_of(key)
    phrasing, text = drawn(data, rng, "polymorph", subject=formula)
    if not counts(data, phrasing):
        return None
    call = search("summary", text, formula=formula, limit=1, thought="Searches count all rows.")
    truth = Truth(((Fact("count", len(data.ids[key])),),))
    return Draft(text, truth, Plan((call,), (row(0, "n_materials"),)), frozenset({key}))


def counts(data: QuestionData, phrasing: str) -> bool:
    """Whether a phrasing about polymorphs asks for their number."""
    return any(each in phrasing for each in data.words.counting)


def _which_ids(data: QuestionData, rng: random.Random, key: str) -> Draft | None:
    formula, ids = data.formula_of(key), data.ids[key]
    phrasing, text = drawn(data, rng, "polymorph", subject=formula)
    if counts(data, phrasing) or len(ids) > 8:
        return None
    call = search("summary", text, formula=formula, fields="material_id", limit=20)
    rows = tuple(row(0, "material_id", each) for each in ids)
    return Draft(text, Truth(material_ids=frozenset(ids)), Plan((call,), rows), frozenset({key}))


def _extreme_polymorph(data: QuestionData, rng: random.Random, key: str) -> Draft | None:
    name, wording, phrase = choose_property(data, rng, NUMERIC)
    held = [value for value in data.of_formula.get((key, name), ()) if value.material_id]
    highest = rng.random() < 0.5
    top = extreme_of(held, highest=highest)
    if top is None or len({value.material_id for value in held}) < 2:
        return None
    formula = data.formula_of(key)
    extreme = extreme_word(data, rng, "polymorph", highest=highest)
    text = pick(data, rng, "polymorph", subject=formula, extreme=extreme, name=phrase)
    order = f"-{name}" if highest else name
    call = search(wording.tool, text, formula=formula, fields=name, sort_fields=order, limit=1)
    plan = Plan((call,), (row(0, name, top.material_id),))
    return Draft(text, Truth(((top.fact,),)), plan, frozenset({key}))


def _by_space_group(data: QuestionData, rng: random.Random, key: str) -> Draft | None:
    name, _, phrase = choose_property(
        data, rng, [each for each in WORDINGS if each != "space_group"]
    )
    groups = {
        each: data.of_material[each, "space_group"][0].value
        for each in data.ids[key]
        if data.of_material.get((each, "space_group")) and data.of_material.get((each, name))
    }
    single = [each for each in groups if list(groups.values()).count(groups[each]) == 1]
    if not single or len(groups) < 2:
        return None
    chosen = rng.choice(single)
    symbol, formula = str(groups[chosen]), data.formula_of(key)
    text = pick(data, rng, "polymorph", subject=formula, name=phrase, group=symbol)
    condition = [f"space_group = {symbol}"]
    call = search("summary", text, formula=formula, where=condition, fields=name)
    truth = Truth((_facts(data.of_material[chosen, name]),))
    return Draft(text, truth, Plan((call,), (row(0, name, chosen),)), frozenset({key}))


def extreme_word(data: QuestionData, rng: random.Random, kind: Kind, *, highest: bool) -> str:
    """What the highest or the lowest is called."""
    known = data.words.extremes[kind][highest]
    return known[0] if len(known) == 1 else rng.choice(known)


def extreme_of(values: Sequence[Value], *, highest: bool) -> Value | None:
    """The value that is further out than every other material's; None where it is a near tie."""
    ordered = sorted(values, key=lambda value: -value.number if highest else value.number)
    if not ordered:
        return None
    top = ordered[0]
    for other in ordered[1:]:
        if other.material_id != top.material_id:
            size = max(abs(top.number), abs(other.number))
            return top if abs(top.number - other.number) > 1e-3 * size else None
    return top


def misspelt(data: QuestionData, rng: random.Random) -> Draft | None:
    """A lookup whose formula or property is written wrongly, but can only mean one thing."""
    name, wording, phrase = choose_property(data, rng, list(WORDINGS))
    if not data.material_pool.get(name):
        return None
    key = rng.choice(data.material_pool[name])
    formula = data.formula_of(key)
    truth = Truth((_facts(data.of_formula[key, name]),))
    if rng.random() < 0.3:
        slip = _transposed(phrase, rng)
        if not slip:
            return None
        text = pick(data, rng, "misspelt", name=slip, subject=formula)
        call = search(wording.tool, text, formula=formula, fields=name)
        return Draft(text, truth, Plan((call,), (row(0, name),)), frozenset({key}))
    wrong = _miswritten(formula, rng)
    if not _means_only(data, wrong, key):
        return None
    text = pick(data, rng, "misspelt", name=phrase, subject=wrong)
    calls = (
        search(wording.tool, text, formula=wrong, fields=name, thought="Try it as written."),
        search(wording.tool, text, formula=formula, fields=name, thought=f"{formula} is meant."),
    )
    return Draft(text, truth, Plan(calls, (row(1, name),)), frozenset({key}))


def _miswritten(formula: str, rng: random.Random) -> str:
    """With a mistake in upper and lower case, or the digit 0 for the letter O."""
    symbols = re.findall(r"[A-Z][a-z]", formula)
    symbol = rng.choice(symbols) if symbols else ""
    shouted = formula.replace(symbol, symbol.upper(), 1) if symbols else ""
    oxygen = re.sub(r"O(?![a-z])", "0", formula)
    return rng.choice((formula.lower(), formula.upper(), oxygen, shouted or formula.lower()))


def _means_only(data: QuestionData, wrong: str, key: str) -> bool:
    """Whether a wrong spelling is of one held composition and says nothing else as it stands."""

    def flat(text: str) -> str:
        return text.lower().replace("o", "0")

    meant = {held for written, held in data.written.items() if flat(written) == flat(wrong)}
    as_it_stands = reduced_or_none(wrong)
    return (
        meant == {key}
        and len(wrong) > 2
        and as_it_stands != key
        and as_it_stands not in data.held
        and composition_of(wrong) is None
    )


def _transposed(phrase: str, rng: random.Random) -> str:
    """The phrase with two neighbouring letters of its longest word exchanged; "" if none can be."""
    word = max(phrase.split(), key=len)
    places = [at for at in range(1, len(word) - 2) if word[at] != word[at + 1]]
    if not places:
        return ""
    at = rng.choice(places)
    return phrase.replace(word, f"{word[:at]}{word[at + 1]}{word[at]}{word[at + 2 :]}")
