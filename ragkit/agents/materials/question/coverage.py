"""Does an answer cover its question? What it leaves out, by rules; for every planner.

A planner may drop a material, take a failed search for an answer ("0 materials"), or answer a
condition that was not asked. The rules read the question on their own and compare it with the rows
that the answer cites. They only say what they are sure of: a question that they read nothing in is
covered by any answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from ragkit.agents.ledger import Evidence, Quantity
from ragkit.agents.materials.chemistry.formulas import parse_formula, reduced
from ragkit.agents.materials.chemistry.properties import find_property
from ragkit.agents.materials.crystals.symmetry import SYMBOLS
from ragkit.agents.materials.question.parsed import ParsedQuestion
from ragkit.agents.materials.question.reading import POLYMORPHS, read_question
from ragkit.agents.tools import ToolError

_COUNTS = frozenset({"n_materials", "n_values", "n_rows"})
_ASKS_WHETHER = re.compile(
    r"\b(?:(?:is|are) there|any|exists?|how many|number of|counts?|how often)\b",
    re.IGNORECASE,
)
_STABLE = re.compile(r"\b(?:most stable|stable)\b", re.IGNORECASE)
_COMPOUNDS = re.compile(
    r"\b(?:compounds?|materials?|solids?|crystals?|members?|substances?|contain\w*)\b",
    re.IGNORECASE,
)
_LISTS = re.compile(
    r"\b(?:list|find|show|give|which|what|all)\b.*\b(?:materials|compounds|oxides|nitrides|sulfides"
    r"|selenides|tellurides|halides|chlorides|fluorides|carbides|crystals|semiconductors|metals"
    r"|magnets|ferromagnets|entries|phases)\b",
    re.IGNORECASE,
)
_NUMERALS = {
    word: n for n, word in enumerate("two three four five six seven eight nine ten".split(), 2)
}
_WANTED = re.compile(
    rf"\b(?:top|which|first|the|best|list|give|show|find)(?: me)?(?: the)?\s+"
    rf"(\d+|{'|'.join(_NUMERALS)})\s+(?:\w+\s+){{0,2}}?(?:materials|compounds|oxides|nitrides|"
    r"sulfides|crystals|semiconductors|phases|entries|structures)\b",
    re.IGNORECASE,
)


def left_out(question: str, rows: Sequence[Evidence], seen: Sequence[Evidence] = ()) -> str:
    """Return what an answer leaves out of a question, or "" if it covers it.

    Args:
        question: The user's question.
        rows: The rows that the answer cites, and those that they are computed from.
        seen: All rows that the run has returned.

    >>> from ragkit.agents.ledger import Quantity
    >>> gap = Quantity(1.4, "eV", "band_gap", "GaAs")
    >>> left_out("What are the band gaps of GaAs and InP?", [gap])
    'it says nothing of InP'
    >>> left_out("What is the band gap of GaAs?", [gap])
    ''
    """
    quantities = [row for row in rows if isinstance(row, Quantity)]
    return next(_faults(question, quantities, seen), "")


def _faults(question: str, rows: Sequence[Quantity], seen: Sequence[Evidence]) -> Iterator[str]:
    values = [row for row in rows if row.property not in _COUNTS]
    real = [row for row in values if row.subject or not row.derived_from]
    if not rows or any(row.property == "dissimilarity" for row in real):
        return  # others than the material named were asked for
    reading = read_question(question)
    asks_count = reading.count or bool(_ASKS_WHETHER.search(question))
    if not real and not asks_count:
        yield "a number of rows is no answer to it"
    missing = _missing_materials(question, reading, rows) + _missing_polymorphs(question, real)
    if missing and not asks_count:
        yield f"it says nothing of {', '.join(missing)}"
    if dropped := _dropped_conditions(reading, real):
        yield f"it was not looked for {dropped}"
    if _STABLE.search(question) and reading.formulas and not _says_stable(real):
        yield "it does not say which phase is the stable one"
    if _is_one_of_many(question, reading, real, seen):
        yield "it names one of those that were found"
    if unwanted := _with_elements(real, reading.without):
        yield f"{', '.join(unwanted)} is with {' or '.join(reading.without)}, which is excluded"
    n, subjects = _wanted(question), {(row.subject, row.subject_id, row.variant) for row in real}
    if n is not None and 0 < len(subjects) < n:
        yield f"{n} were asked for, and it names {len(subjects)}"


def _missing_polymorphs(question: str, rows: Sequence[Quantity]) -> list[str]:
    """Return the names of phases in the question ("anatase") of which no row is."""
    words = set(re.findall(r"[a-z]+", question.lower()))
    held = {row.variant for row in rows} | {str(row.value) for row in rows}
    return [name for name, group in POLYMORPHS.items() if name in words and group not in held]


def _dropped_conditions(reading: ParsedQuestion, rows: Sequence[Quantity]) -> str:
    """Return a condition that neither the call behind a row nor another row of it speaks of."""
    if not reading.elements and (reading.formulas or reading.material_ids):
        return ""
    # The value tells a condition best: which property it is of, the rules may misread.
    asked = [
        (limit.property, rf"[<>=]\s*{re.escape(f'{limit.value:g}')}(?:\.0)?(?![\d.])")
        for limit in reading.limits
        if limit.unit in ("", find_property(limit.property).unit)
    ]
    asked += [(each.property, rf"\W*{re.escape(str(each.value))}") for each in reading.conditions]
    for name, told in asked:
        others = "|".join(re.escape(other) for other, _ in asked if other != name) or "(?!)"
        told = rf"(?<!\w)(?!(?:{others})\W)\w+ *{told}"  # under the name of no other condition
        with_value = {row.subject_id for row in rows if row.property == name}
        if any(
            row.query and not row.derived_from
            and name not in _where(row) and not re.search(told, _where(row))
            and row.subject_id not in with_value
            for row in rows
        ):  # fmt: skip
            return f"by {name.replace('_', ' ')}"
    return ""


def _where(row: Quantity) -> str:
    """Return the conditions of the call that returned a row; all of it if they stand nowhere."""
    try:
        arguments = json.loads(row.query)["arguments"]
    except (ValueError, KeyError, TypeError):
        return row.query
    return json.dumps(arguments.get("where") or "")


def _says_stable(rows: Sequence[Quantity]) -> bool:
    """Return True if each composition of the rows has a phase with a hull distance or a verdict."""
    judged = {
        _key(row.subject)
        for row in rows
        if row.property == "energy_above_hull" or (row.property == "is_stable" and row.value)
    }
    judged |= {_key(row.subject) for row in rows if "energy_above_hull" in row.query}
    asks = {row.property for row in rows} <= {"is_stable", "energy_above_hull"}
    return asks or {_key(row.subject) for row in rows if row.subject} <= judged


def _is_one_of_many(
    question: str,
    reading: ParsedQuestion,
    rows: Sequence[Quantity],
    seen: Sequence[Evidence],
) -> bool:
    """Return True if a list was asked for, several were found, and one is told."""
    if not _LISTS.search(question) or reading.order or reading.formulas:
        return False
    told = {(row.subject, row.subject_id) for row in rows}
    calls = {row.query for row in rows}
    found = {
        (row.subject, row.subject_id)
        for row in seen
        if isinstance(row, Quantity) and row.subject and row.query in calls
    }
    return len(told) == 1 < len(found)


def _missing_materials(
    question: str, reading: ParsedQuestion, rows: Sequence[Quantity]
) -> list[str]:
    held = {key for row in rows for key in (_key(row.subject), _without_slips(row.subject)) if key}
    if reading.elements or _COMPOUNDS.search(question):  # "oxides of iron": iron is in each
        held |= {symbol for row in rows for symbol in _elements(row.subject)}
    groups = [symbol for symbol in SYMBOLS if symbol in question]  # "P1" of "P1 TlNO2"
    return [
        formula
        for formula in reading.formulas
        if held.isdisjoint((_key(formula), formula, _without_slips(formula)))
        and not any(symbol.startswith(formula) for symbol in groups)
    ]


def _without_slips(formula: str) -> str:
    """Return a formula without case, zeros for O, and zeros left out: the tools look past these.

    >>> _without_slips("In.1Se5013") == _without_slips("In0.1Se5O13")
    True
    """
    return re.sub(r"(?<!\d)\.", "0.", formula.lower()).replace("o", "0")


def _with_elements(rows: Iterable[Quantity], without: Iterable[str]) -> list[str]:
    found = [row.subject for row in rows if _elements(row.subject).intersection(without)]
    return list(dict.fromkeys(found))


def _elements(formula: str) -> set[str]:
    try:
        return set(parse_formula(formula)) if formula else set()
    except ToolError:
        return set()


def _wanted(question: str) -> int | None:
    """Return how many materials a question asks for, if it says so."""
    match = _WANTED.search(question)
    if match is None:
        return None
    return _NUMERALS.get(match[1].lower()) or int(match[1])


def _key(formula: str) -> str:
    try:
        return reduced(formula) if formula else ""
    except ToolError:
        return formula
