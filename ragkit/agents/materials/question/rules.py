"""A planner without a language model: a question is read by rules, and the plan follows from it.

It answers what it can read (see `reading`), in the same loop and with the same tools as a model,
and refuses the rest. It is the default where no trained model is, as the extractive reader is.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any

from ragkit.agents.ledger import Quantity
from ragkit.agents.materials.chemistry.formulas import parse_formula, reduced
from ragkit.agents.materials.chemistry.names import ELEMENTS
from ragkit.agents.materials.chemistry.properties import Property, find_property
from ragkit.agents.materials.question.parsed import Limit, ParsedQuestion
from ragkit.agents.materials.question.reading import read_question
from ragkit.agents.materials.question.unrecognized import VAGUE
from ragkit.agents.planner import ANSWER, REFUSE, Proposal, State
from ragkit.agents.steps import Action, Observation
from ragkit.agents.tools import ToolError

Plan = Generator[tuple[str, Action], State, tuple[str, Action]]
"""Yields (thought, action), is sent the state after it, and returns the last action."""

_SHOWN, _CONVERTED = 20, 5
_ASIDE = (
    r"what is (?:the|their) (?:difference|ratio)|by how much|"
    r"(?:which|what) (?:material|compound|one|polymorph)s? (?:is|are) (?:it|they|that)"
)
_NOT_READ = "These words were not understood: {}."
_BACK = re.compile(
    r"\b(?:its|(?:of|than) (?:it|this|that|them|these)|the two|"
    r"(?:which|this|that|the other|the first|the second) (?:one|material|compound|sample))\b",
    re.IGNORECASE,
)
_ID = "material_id"  # no property, and a field of every search
_ELEMENT_FACTS = {
    "melting point": "melting_point", "boiling point": "boiling_point",
    "atomic number": "atomic_number", "atomic mass": "atomic_mass",
    "atomic weight": "atomic_mass", "atomic radius": "atomic_radius",
    "electronegativity": "electronegativity", "oxidation states": "oxidation_states",
    "electron configuration": "electronic_structure", "ionization energy": "ionization_energy",
}  # fmt: skip


class MaterialsRulePlanner:
    """Plans by rules; the same question gives the same plan."""

    name = "rules"

    def begin(self) -> _Turns:
        """A new run."""
        return _Turns()

    def may_misread(self, state: State, reason: str) -> bool:
        """Return True if a model might answer what these rules just refused.

        That is so if words were not recognized, or if nothing was found in a group of materials: a
        group that somebody asks about is rarely empty and often misread. A question about "it" with
        no turn before is unclear to everybody.
        """
        reading = read_question(state.question)
        if state.steps:
            return reason == "not_held" and _named(reading) <= ELEMENTS.keys()
        if state.history:
            return True
        refers_back = not (_named(reading) or reading.filters) and _BACK.search(state.question)
        return bool(reading.unrecognized) and not refers_back


def _named(reading: ParsedQuestion) -> set[str]:
    """Return the materials that a question names; a lone element may stand for its group."""
    return {*reading.formulas, *reading.material_ids, *reading.misspelt}


class _Turns:
    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._end: tuple[str, Action] | None = None

    def next(self, state: State) -> Proposal:
        if self._end is not None:  # it was rejected, which can only be for its note
            thought, action = self._end
            bare = {name: value for name, value in action.arguments.items() if name != "note"}
            return Proposal(Action(action.tool, bare), thought)
        try:
            if self._plan is None:
                self._plan = _plan(state)
                thought, action = next(self._plan)
            else:
                thought, action = self._plan.send(state)
        except StopIteration as end:
            self._end = thought, action = end.value
        return Proposal(action, thought)


def _plan(state: State) -> Plan:
    reading = read_question(state.question)
    extra = _special(state, reading)
    if extra is not None:
        return (yield from extra)
    named = reading.formulas or reading.material_ids or reading.misspelt
    lists = reading.filters or reading.polymorphs
    if not named and not reading.filters and not reading.order:
        return _refuse(state, "unclear" if reading.properties else "off_topic")
    if reading.unrecognized:
        return _refuse(state, "unclear", note=_NOT_READ.format(", ".join(reading.unrecognized[:6])))
    if not reading.properties and not lists and not (reading.count and named):
        return _refuse(state, "unclear", note=_several(state.question))
    doubt = _doubt(state.question, reading)
    if doubt:
        return _refuse(state, "unclear", note=doubt)
    if reading.count:
        return (yield from _count(state, reading))
    if reading.order and not (reading.compare and len(reading.formulas) > 1):
        return (yield from _extreme(state, reading))
    if named:
        return (yield from _look_up(state, reading))
    return (yield from _select(state, reading))


def _several(question: str) -> str:
    """What a word of the question may mean, if it names several properties."""
    vague = [word for word in re.findall(r"\w+", question.lower()) if word in VAGUE]
    if not vague:
        return ""
    *others, last = VAGUE[vague[0]]
    return f"Say which {vague[0]}: {', '.join(others)} or {last}."


def _doubt(question: str, reading: ParsedQuestion) -> str:
    """Why a question that was read may still ask for something else."""
    lower = re.sub(_ASIDE, "", question.lower())
    asks = re.findall(r"\b(?:which|what|what's|how many|how much)\b", lower)
    if len(asks) > 1 and not reading.polymorphs:
        return "Ask one question at a time."
    if (reading.count or reading.order) and reading.formulas and " than " in lower:
        return "A comparison with the value of another material is not understood."
    for limit in reading.limits:
        try:
            _in_own_unit(limit)
        except ToolError:
            return f"The unit {limit.unit} does not fit the {limit.property}."
    return ""


def _special(state: State, reading: ParsedQuestion) -> Plan | None:
    """Questions for other tools: facts of an element, structures, similar materials."""
    tools = {tool.name for tool in state.tools}
    facts = [fact for words, fact in _ELEMENT_FACTS.items() if words in state.question.lower()]
    if "element" in tools and facts and reading.formulas:
        return _one_call(state, "element", {"name": reading.formulas[0], "property": facts[0]})
    if not reading.material_ids:
        return None
    given = {"material_id": reading.material_ids[0]}
    if "get_structure" in tools and re.search(r"\b(POSCAR|CIF|structure of)\b", state.question):
        file_format = "cif" if "CIF" in state.question else "poscar"
        return _one_call(state, "get_structure", {**given, "format": file_format})
    if "similar_structures" in tools and re.search(r"\bsimilar\b", state.question):
        return _one_call(state, "similar_structures", given)
    return None


def _one_call(state: State, tool: str, arguments: dict[str, Any]) -> Plan:
    state = yield f"{tool} does this.", Action(tool, arguments)
    rows = _last(state).rows
    return _answer(rows[:_SHOWN]) if rows else _refuse(state, "not_held")


def _look_up(state: State, reading: ParsedQuestion) -> Plan:
    """Values of named materials; then a comparison or a conversion, if one is asked for."""
    rows: list[str] = []
    missing: list[str] = []
    for name in reading.material_ids or reading.formulas or reading.misspelt:
        for property_name in reading.properties or (_ID,):
            found, state = yield from _values(state, reading, name, property_name)
            rows += found
            missing += [] if found else [name]
    if not rows:
        return _refuse(state, "not_held", missing)
    if reading.compare and len(rows) > 1 and len(reading.formulas) > 1:
        chosen = _one_each(state, rows)
        if len(chosen) > 1:
            quotient = Action("calculate", {"expression": " / ".join(chosen[:2])})
            wants_ratio = len(chosen) == 2 and "ratio" in state.question.lower()
            compared = quotient if wants_ratio else Action("compare", {"rows": chosen})
            state = yield "Compare them.", compared
            rows = [*chosen, *(row for row in _last(state).rows if row not in chosen)]
    elif reading.unit:
        rows, state = yield from _converted(state, rows, reading.unit)
    return _answer(rows[:_SHOWN], _told(state, reading, rows, missing))


def _told(
    state: State, reading: ParsedQuestion, rows: Sequence[str], missing: Sequence[str]
) -> str:
    """What the answer is not, in words."""
    named = [state.ledger[row] for row in rows]
    held = [row for row in named if isinstance(row, Quantity)]
    told = []
    if missing:
        told.append(f"Nothing is held for {', '.join(dict.fromkeys(missing))}.")
    if reading.measured and not any("experiment" in row.method for row in held):
        told.append("No measured value is held: these are calculated.")
    fits = any(row.derived_from or row.unit == reading.unit for row in held)
    if reading.unit and len(reading.formulas) < 2 and not fits:
        told.append(f"It cannot be given in {reading.unit}.")
    return " ".join(told)


def _values(
    state: State, reading: ParsedQuestion, name: str, property_name: str
) -> Generator[tuple[str, Action], State, tuple[list[str], State]]:
    """The rows of one property of one material, from the first place that holds it."""
    key = "material_ids" if name in reading.material_ids else "formula"
    places = _places(reading, property_name)
    offered = {tool.name for tool in state.tools}
    for place in dict.fromkeys(places):
        tool = f"search_{place}"
        if tool not in offered:
            continue
        given: dict[str, Any] = {"fields": property_name, "limit": _SHOWN}
        given |= _filters(reading, only_conditions=True) if place != "formula_tables" else {}
        state = yield f"{place} may have it.", Action(tool, {key: name, **given})
        right = _meant(_last(state), name)
        if right and right != name:
            thought, name = f"{name} is no formula held; {right} may be meant.", right
            state = yield thought, Action(tool, {key: name, **given})
        rows = [row for row in _last(state).rows if _property_of(state, row) == property_name]
        if rows:
            return rows, state
        if _last(state).error:
            break
    return [], state


def _places(reading: ParsedQuestion, property_name: str) -> list[str]:
    """Where a property may be held, the widest place first."""
    if property_name == _ID:
        return ["summary"]
    served = find_property(property_name).places
    places = ["formula_tables"] if reading.measured else []
    places += [each for each in ("summary", *served) if each in served]
    structural = {"space_group", "crystal_system", "spacegroup_number"}
    if reading.polymorphs or structural & {each.property for each in reading.conditions}:
        return [each for each in places if each != "formula_tables"]  # they know no polymorph
    return places


def _meant(observation: Observation, name: str) -> str:
    """The formula that an error suggests, if it is the name but for capitals, or 0 for O."""
    found = re.search(r"did you mean ([^\s?,;]+)\??", observation.text, re.IGNORECASE)
    right = found[1].rstrip("?.") if observation.error and found else ""
    if _is_formula(name):
        return ""  # another formula than the one that was written
    return right if right.lower() == name.lower().replace("0", "o") else ""


def _is_formula(text: str) -> bool:
    try:
        parse_formula(text)
    except ToolError:
        return False
    return True


def _extreme(state: State, reading: ParsedQuestion) -> Plan:
    """The material with the highest or lowest value; then what else is asked of it."""
    by = reading.order_by or reading.properties[0]
    if reading.formulas or reading.material_ids:
        place = _place_of((find_property(by),))
        given: dict[str, Any] = {"formula": ", ".join(reading.formulas)} if reading.formulas else {}
        if reading.material_ids:
            given["material_ids"] = ", ".join(reading.material_ids)
    else:
        place = "formula_tables" if reading.measured else _place_of((find_property(by),))
        given = _filters(reading)
    sign = "-" if reading.order == "highest" else ""
    given |= {"fields": by, "sort_fields": f"{sign}{by}", "limit": 1}
    state = yield f"Sort by {by}, take the first.", Action(f"search_{place}", given)
    top = [row for row in _last(state).rows if _property_of(state, row) == by]
    if not top:
        return _refuse(state, "not_held")
    rest = [name for name in reading.properties if name != by]
    rows = top[:1]
    first = state.ledger[rows[0]]
    if rest and isinstance(first, Quantity) and first.subject_id:
        for name in rest:
            found, state = yield from _values(
                state,
                ParsedQuestion(material_ids=(first.subject_id,), properties=(name,)),
                first.subject_id,
                name,
            )
            if not found:
                return _refuse(state, "not_held", [first.subject_id])
            rows = [*found, *rows]
    if reading.unit:
        rows, state = yield from _converted(state, rows, reading.unit)
    return _answer(rows)


def _count(state: State, reading: ParsedQuestion) -> Plan:
    place, given = _search(reading)
    state = yield "The search counts all matching rows.", Action(f"search_{place}", given)
    rows = [row for row in _last(state).rows if _property_of(state, row).startswith("n_")]
    if rows and _number(state, rows[0]) == 0 and "where" in given:
        asked = {each.property for each in reading.limits}
        asked |= {each.property for each in reading.conditions}
        wider = {name: value for name, value in given.items() if name != "where"}
        wider["fields"] = ", ".join(sorted(asked))
        state = yield "Is the property held at all?", Action(f"search_{place}", wider)
        held = [row for row in _last(state).rows if _property_of(state, row) in asked]
        if not held:
            return _refuse(state, "not_held", note="The property is not held for these materials.")
    return _answer(rows[:1]) if rows else _refuse(state, "not_held")


def _number(state: State, row: str) -> object:
    held = state.ledger[row]
    return held.value if isinstance(held, Quantity) else None


def _select(state: State, reading: ParsedQuestion) -> Plan:
    """All materials that meet the conditions."""
    place, given = _search(reading)
    state = yield "Search with the conditions.", Action(f"search_{place}", given)
    shown = [row for row in _last(state).rows if not _property_of(state, row).startswith("n_")]
    counts = [row for row in _last(state).rows if _property_of(state, row).startswith("n_")]
    return _answer([*shown[: _SHOWN - 1], *counts]) if shown else _refuse(state, "not_held")


def _search(reading: ParsedQuestion) -> tuple[str, dict[str, Any]]:
    used = [*(limit.property for limit in reading.limits), *reading.properties]
    properties = tuple(find_property(name) for name in dict.fromkeys(used) if name != _ID)
    place = "formula_tables" if reading.measured else _place_of(properties)
    given = _filters(reading)
    if reading.formulas:
        given["formula"] = ", ".join(reading.formulas)
    names = [each.name for each in properties if place in each.places]
    given["fields"] = ", ".join(names or [_ID])
    return place, {**given, "limit": _SHOWN}


def _filters(reading: ParsedQuestion, *, only_conditions: bool = False) -> dict[str, Any]:
    where = [
        f"{each.property} {each.operator} {'true' if each.value is True else each.value}"
        for each in reading.conditions
    ]
    given: dict[str, Any] = {}
    if not only_conditions:
        where += [
            f"{each.property} {each.operator} {_in_own_unit(each):g}" for each in reading.limits
        ]
        if reading.elements:
            given["elements"] = ", ".join(reading.elements)
        if reading.without:
            given["exclude_elements"] = ", ".join(reading.without)
        if reading.chemsys:
            given["chemsys"] = reading.chemsys
    return {**given, "where": where} if where else given


def _in_own_unit(limit: Limit) -> float:
    own = find_property(limit.property).unit
    if not limit.unit or not own:
        return limit.value
    from ragkit.agents.units import convert

    if own == f"{limit.unit}/atom":  # "above 3 eV" of an energy per atom
        return limit.value
    return float(f"{convert(limit.value, limit.unit, own):.9g}")


def _converted(
    state: State, rows: Sequence[str], unit: str
) -> Generator[tuple[str, Action], State, tuple[list[str], State]]:
    """The first rows in another unit; those already in it, and those that cannot be, stay."""
    out: list[str] = []
    for n, row in enumerate(rows):
        held = state.ledger[row]
        if isinstance(held, Quantity) and held.unit not in ("", unit) and n < _CONVERTED:
            given: dict[str, Any] = {"row": row, "unit": unit}
            state = yield f"Convert to {unit}.", Action("convert_unit", given)
            if _last(state).error and "spectroscopy" in _last(state).text:
                given["context"] = "spectroscopy"
                state = yield "As light or phonons.", Action("convert_unit", given)
            out += _last(state).rows or [row]
        else:
            out.append(row)
    return out, state


def _one_each(state: State, rows: Sequence[str]) -> list[str]:
    """The first row of each material, by formula, where they share the first one's property."""
    chosen: dict[str, str] = {}
    first = _property_of(state, rows[0])
    for row in rows:
        held = state.ledger[row]
        if isinstance(held, Quantity) and held.property == first:
            chosen.setdefault(reduced(held.subject), row)
    return list(chosen.values())


def _property_of(state: State, row: str) -> str:
    held = state.ledger[row]
    return held.property if isinstance(held, Quantity) else ""


def _last(state: State) -> Observation:
    return next(step for step in reversed(state.steps) if isinstance(step, Observation))


def _answer(rows: Sequence[str], note: str = "") -> tuple[str, Action]:
    given: dict[str, Any] = {"rows": list(rows)}
    return "These rows answer it.", Action(ANSWER, given | ({"note": note} if note else {}))


def _failure(state: State) -> str:
    """A note on the last call, if it failed for another reason than what it was asked for."""
    calls = [step for step in state.steps if isinstance(step, Observation) and step.tool]
    if not calls or not calls[-1].error:
        return ""
    asked = r"formula|did you mean|no element|no property|chemsys|no structure|not permitted"
    if re.search(asked, calls[-1].text, re.IGNORECASE):
        return ""
    return "The last call failed; its observation says why."


def _refuse(
    state: State, reason: str, missing: Sequence[str] = (), note: str = ""
) -> tuple[str, Action]:
    failed = _failure(state)
    given: dict[str, Any] = {"reason": "unavailable" if failed else reason}
    if missing and not failed:
        note = f"Nothing is held for {', '.join(dict.fromkeys(missing))}."
    if note or failed:
        given["note"] = failed or note
    return "There is no answer.", Action(REFUSE, given)


def _place_of(properties: tuple[Property, ...]) -> str:
    """The endpoint that serves all of them, the most special one first."""
    shared = set.intersection(*(set(each.places) for each in properties)) if properties else set()
    for place in (
        "elasticity", "dielectric", "piezoelectric", "magnetism", "thermo", "summary",
        "electronic_structure", "formula_tables",
    ):  # fmt: skip
        if place in shared:
            return place
    return "summary"
