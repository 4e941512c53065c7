"""Makers of questions about named materials: lookups, conversions, comparisons, polymorphs, typos.

Each maker draws one question from the data, or returns None if the draw is unusable.
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
from ragkit.evaluation.materials.question import Call, Fact, Kind, Plan, Truth, row_template
from ragkit.evaluation.materials.words import WORDINGS, Wording, careless

NUMERIC = tuple(
    name for name in WORDINGS
    if name not in ("ordering", "space_group", "crystal_system", "point_group")
)  # fmt: skip
# CODATA 2018. Not taken from the tools' unit library, so that truths are independent of it.
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
    """A question before it has been assigned to a split.

    Attributes:
        text: Text of the question.
        truth: See `MaterialsQuestion`.
        plan: See `MaterialsQuestion`.
        materials: Reduced formulas of the materials it is about.
        key: Key that decides the split of a question about no particular material.
    """

    text: str
    truth: Truth
    plan: Plan
    materials: frozenset[str] = frozenset()
    key: str = ""


_ASIDE_SHARE = _OPENER_SHARE = 0.15
Maker = Callable[[QuestionData, random.Random], Draft | None]


def question_text(data: QuestionData, rng: random.Random, kind: Kind, **values: str) -> str:
    """Draw a phrasing of the kind that has exactly these slots, and fill it."""
    return pick_phrasing(data, rng, kind, **values)[1]


def pick_phrasing(
    data: QuestionData, rng: random.Random, kind: Kind, **values: str
) -> tuple[str, str]:
    """Draw a phrasing that has exactly these slots, and fill it.

    Returns:
        The phrasing as it is in the words, and the text. The phrasing shows what is asked.
    """
    matching = [
        phrasing
        for phrasing in data.words.phrasings[kind]
        if {name for name in _SLOTS if f"{{{name}}}" in phrasing} == set(values)
    ]
    chosen = rng.choice(matching)
    text = fill_phrasing(data, rng, chosen, values)
    if text.startswith("what") and kind != "misspelt" and not data.words.noise:
        text = text[0].upper() + text[1:]
    return chosen, text


def fill_phrasing(
    data: QuestionData, rng: random.Random, phrasing: str, values: Mapping[str, str]
) -> str:
    """Fill a phrasing; sometimes with typos, or with a remark before or after it."""
    if data.words.noise and rng.random() < data.words.noise:
        phrasing = careless(phrasing, rng)
    text = phrasing.format(**values)
    if data.words.openers and rng.random() < _OPENER_SHARE:
        text = f"{rng.choice(data.words.openers)} {text}"
    if data.words.asides and rng.random() < _ASIDE_SHARE:
        text = f"{text} {rng.choice(data.words.asides)}"
    return text


def request_text(
    data: QuestionData, rng: random.Random, part: str, kind: Kind, **values: str
) -> str:
    """Return a supervisor's request: the fixed wording of the part, or a phrasing of the kind."""
    fixed = data.words.requests.get(part, "")
    return fixed.format(**values) if fixed else question_text(data, rng, kind, **values)


_SLOTS = (
    "name", "subject", "group", "condition", "extreme", "first", "second", "unit",
)  # fmt: skip


def search_call(
    tool: str, request: str, *, thought: str = "", **arguments: str | int | list[str]
) -> Call:
    """Make a call of a search tool."""
    reason = thought or f"{tool} has the {arguments.get('fields', 'materials')}."
    return Call(f"search_{tool}", arguments, reason, request)


def choose_property(
    data: QuestionData, rng: random.Random, names: Sequence[str]
) -> tuple[str, Wording, str]:
    """Draw a property; return its name, its wording, and one of its phrases."""
    name = rng.choice(list(names))
    wording = data.words.properties[name]
    return name, wording, rng.choice(wording.phrases)


@dataclass(frozen=True, slots=True)
class _Subject:
    """A material as named in a question, with its correct values and the arguments to find them."""

    text: str
    key: str
    values: tuple[Value, ...]
    tool: str
    arguments: dict[str, str]


def _draw_subject(data: QuestionData, rng: random.Random, name: str) -> _Subject | None:
    """Draw a material, named by formula or name (any polymorph is correct) or by id."""
    if not data.material_pool.get(name):
        return None
    key = rng.choice(data.material_pool[name])
    formula = data.formula_of(key)
    tool = data.words.properties[name].tool
    if rng.random() < 0.25:
        with_value = [
            material_id for material_id in data.ids[key]
            if data.of_material.get((material_id, name))
        ]  # fmt: skip
        chosen = rng.choice(with_value)
        text = rng.choice((chosen, f"{formula} ({chosen})"))
        values = data.of_material[chosen, name]
        return _Subject(text, key, tuple(values), tool, {"material_ids": chosen})
    text = (english_name(formula) if rng.random() < 0.4 else "") or formula
    values = data.of_formula[key, name]
    return _Subject(text, key, tuple(values), tool, {"formula": formula})


def _draw_measured_subject(data: QuestionData, rng: random.Random, name: str) -> _Subject | None:
    if not data.table_pool.get(name):
        return None
    key = rng.choice(data.table_pool[name])
    values = [value for value in data.of_formula[key, name] if value.material_id is None]
    tables = [value for value in values if name != "band_gap" or value.method == "experiment"]
    if len(tables) != len(values) or len(values[0].formula) > 40:
        return None
    return _Subject(
        values[0].formula, key, tuple(values), "formula_tables", {"formula": values[0].formula}
    )


def _facts(values: Sequence[Value]) -> tuple[Fact, ...]:
    return tuple(dict.fromkeys(value.fact for value in values))


def lookup(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for a property of a material, named by formula, name or id; some are measured."""
    if rng.random() < 0.2:
        name = rng.choice(list(data.words.measured))
        phrase = rng.choice(data.words.measured[name].phrases)
        subject = _draw_measured_subject(data, rng, name)
    else:
        name, _, phrase = choose_property(data, rng, list(WORDINGS))
        subject = _draw_subject(data, rng, name)
    if subject is None:
        return None
    text = question_text(data, rng, "lookup", name=phrase, subject=subject.text)
    call = search_call(subject.tool, text, fields=name, **subject.arguments)
    truth = Truth((_facts(subject.values),))
    return Draft(text, truth, Plan((call,), (row_template(0, name),)), frozenset({subject.key}))


def conversion(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for a value in a unit other than the one in the database."""
    measured = rng.random() < 0.25
    words = data.words.measured if measured else data.words.properties
    name = rng.choice([name for name in words if words[name].units])
    subject = (_draw_measured_subject if measured else _draw_subject)(data, rng, name)
    if subject is None or any(not value.number for value in subject.values):
        return None
    unit, stored_unit = rng.choice(words[name].units), subject.values[0].unit
    phrase = rng.choice(words[name].phrases)
    text = question_text(data, rng, "conversion", name=phrase, subject=subject.text, unit=unit)
    request = request_text(data, rng, "given", "lookup", name=phrase, subject=subject.text)
    arguments: dict[str, object] = {**row_argument(0, name), "unit": unit}
    if stored_unit == "1/cm":
        arguments["context"] = "spectroscopy"
    calls = (
        search_call(subject.tool, request, fields=name, **subject.arguments),
        Call("convert_unit", arguments, f"Convert it to {unit}."),
    )
    facts = _facts(subject.values)
    factor = _FACTORS[stored_unit, unit]
    converted = tuple(replace(fact, value=float(fact.value) * factor, unit=unit) for fact in facts)
    truth = Truth((converted,), also=facts, exact_unit=True)
    return Draft(text, truth, Plan(calls, (row_template(1, name),)), frozenset({subject.key}))


def row_argument(step: int, name: str) -> dict[str, object]:
    """Return the argument `row` of a calculator tool."""
    return {"row": row_template(step, name)}


def comparison(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask which of two materials has the larger value, and by how much."""
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
    text = question_text(
        data, rng, "comparison", name=phrase, first=formulas[0], second=formulas[1]
    )
    requests = [
        request_text(data, rng, "one of two", "lookup", name=phrase, subject=formula)
        for formula in formulas
    ]
    calls = [
        search_call(wording.tool, request, formula=formula, fields=name)
        for request, formula in zip(requests, formulas, strict=True)
    ]
    ids = [value.material_id for value in values]
    both = [row_template(step, name, material_id) for step, material_id in enumerate(ids)]
    calls.append(Call("compare", {"rows": both}, "Compare the two."))
    difference_fact = Fact("difference", difference, values[0].unit)
    truth = _comparison_truth(text, difference_fact, values)
    plan = Plan(tuple(calls), (*both, row_template(2, "difference")))
    return Draft(text, truth, plan, frozenset(keys))


def _comparison_truth(text: str, difference: Fact, values: Sequence[Value]) -> Truth:
    """Return the truth that the wording asks for: the difference, both values, or all three."""
    both = tuple(value.fact for value in values)
    if "difference between" in text:
        return Truth(((difference,),), also=both)
    if text.startswith("Compare"):
        return Truth(tuple((fact,) for fact in both), also=(difference,))
    return Truth(((difference,), *((fact,) for fact in both)))


def polymorph(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask about the materials of one formula: their number, ids, an extreme, or one of them."""
    keys = [key for key in data.pool if len(data.ids[key]) > 1]
    if not keys:
        return None
    make = rng.choice((_count_polymorphs, _list_ids, _extreme_polymorph, _by_space_group))
    return make(data, rng, rng.choice(keys))


def _count_polymorphs(data: QuestionData, rng: random.Random, key: str) -> Draft | None:
    formula = data.formula_of(key)
    phrasing, text = pick_phrasing(data, rng, "polymorph", subject=formula)
    if not asks_for_count(data, phrasing):
        return None
    call = search_call(
        "summary", text, formula=formula, limit=1, thought="Searches count all rows."
    )
    truth = Truth(((Fact("count", len(data.ids[key])),),))
    return Draft(text, truth, Plan((call,), (row_template(0, "n_materials"),)), frozenset({key}))


def asks_for_count(data: QuestionData, phrasing: str) -> bool:
    """Return True if a phrasing about polymorphs asks for their number."""
    return any(word in phrasing for word in data.words.counting)


def _list_ids(data: QuestionData, rng: random.Random, key: str) -> Draft | None:
    formula, ids = data.formula_of(key), data.ids[key]
    phrasing, text = pick_phrasing(data, rng, "polymorph", subject=formula)
    if asks_for_count(data, phrasing) or len(ids) > 8:
        return None
    call = search_call("summary", text, formula=formula, fields="material_id", limit=20)
    rows = tuple(row_template(0, "material_id", material_id) for material_id in ids)
    return Draft(text, Truth(material_ids=frozenset(ids)), Plan((call,), rows), frozenset({key}))


def _extreme_polymorph(data: QuestionData, rng: random.Random, key: str) -> Draft | None:
    name, wording, phrase = choose_property(data, rng, NUMERIC)
    values = [value for value in data.of_formula.get((key, name), ()) if value.material_id]
    highest = rng.random() < 0.5
    top = find_extreme(values, highest=highest)
    if top is None or len({value.material_id for value in values}) < 2:
        return None
    formula = data.formula_of(key)
    extreme = extreme_word(data, rng, "polymorph", highest=highest)
    text = question_text(data, rng, "polymorph", subject=formula, extreme=extreme, name=phrase)
    order = f"-{name}" if highest else name
    call = search_call(wording.tool, text, formula=formula, fields=name, sort_fields=order, limit=1)
    plan = Plan((call,), (row_template(0, name, top.material_id),))
    return Draft(text, Truth(((top.fact,),)), plan, frozenset({key}))


def _by_space_group(data: QuestionData, rng: random.Random, key: str) -> Draft | None:
    name, _, phrase = choose_property(
        data, rng, [name for name in WORDINGS if name != "space_group"]
    )
    groups = {
        material_id: data.of_material[material_id, "space_group"][0].value
        for material_id in data.ids[key]
        if data.of_material.get((material_id, "space_group"))
        and data.of_material.get((material_id, name))
    }
    symbols = list(groups.values())
    single = [material_id for material_id, symbol in groups.items() if symbols.count(symbol) == 1]
    if not single or len(groups) < 2:
        return None
    chosen = rng.choice(single)
    symbol, formula = str(groups[chosen]), data.formula_of(key)
    text = question_text(data, rng, "polymorph", subject=formula, name=phrase, group=symbol)
    condition = [f"space_group = {symbol}"]
    call = search_call("summary", text, formula=formula, where=condition, fields=name)
    truth = Truth((_facts(data.of_material[chosen, name]),))
    return Draft(text, truth, Plan((call,), (row_template(0, name, chosen),)), frozenset({key}))


def extreme_word(data: QuestionData, rng: random.Random, kind: Kind, *, highest: bool) -> str:
    """Draw a word for the highest or the lowest value."""
    words = data.words.extremes[kind][highest]
    return words[0] if len(words) == 1 else rng.choice(words)


def find_extreme(values: Sequence[Value], *, highest: bool) -> Value | None:
    """Return the value further out than those of all other materials; None if it is a near tie."""
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
    """Ask for a lookup with a misspelt formula or property that has only one possible meaning."""
    name, wording, phrase = choose_property(data, rng, list(WORDINGS))
    if not data.material_pool.get(name):
        return None
    key = rng.choice(data.material_pool[name])
    formula = data.formula_of(key)
    truth = Truth((_facts(data.of_formula[key, name]),))
    if rng.random() < 0.3:
        typo = _swap_letters(phrase, rng)
        if not typo:
            return None
        text = question_text(data, rng, "misspelt", name=typo, subject=formula)
        call = search_call(wording.tool, text, formula=formula, fields=name)
        return Draft(text, truth, Plan((call,), (row_template(0, name),)), frozenset({key}))
    wrong = _misspell_formula(formula, rng)
    if not _is_unambiguous(data, wrong, key):
        return None
    text = question_text(data, rng, "misspelt", name=phrase, subject=wrong)
    calls = (
        search_call(wording.tool, text, formula=wrong, fields=name, thought="Try it as written."),
        search_call(
            wording.tool, text, formula=formula, fields=name, thought=f"{formula} is meant."
        ),
    )
    return Draft(text, truth, Plan(calls, (row_template(1, name),)), frozenset({key}))


def _misspell_formula(formula: str, rng: random.Random) -> str:
    """Return the formula with wrong case, or with the digit 0 for the letter O."""
    symbols = re.findall(r"[A-Z][a-z]", formula)
    symbol = rng.choice(symbols) if symbols else ""
    shouted = formula.replace(symbol, symbol.upper(), 1) if symbols else ""
    oxygen = re.sub(r"O(?![a-z])", "0", formula)
    return rng.choice((formula.lower(), formula.upper(), oxygen, shouted or formula.lower()))


def _is_unambiguous(data: QuestionData, wrong: str, key: str) -> bool:
    """Return True if a misspelling can only mean this composition, and is not valid as written."""

    def fold(text: str) -> str:
        return text.lower().replace("o", "0")

    candidates = {
        reduced for formula, reduced in data.reduced_of.items() if fold(formula) == fold(wrong)
    }
    as_written = reduced_or_none(wrong)
    return (
        candidates == {key}
        and len(wrong) > 2
        and as_written != key
        and as_written not in data.formulas
        and composition_of(wrong) is None
    )


def _swap_letters(phrase: str, rng: random.Random) -> str:
    """Swap two adjacent letters of the longest word; return "" if there are none to swap."""
    word = max(phrase.split(), key=len)
    positions = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
    if not positions:
        return ""
    i = rng.choice(positions)
    return phrase.replace(word, f"{word[:i]}{word[i + 1]}{word[i]}{word[i + 2 :]}")
