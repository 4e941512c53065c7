"""Does an answer cover its question? What it leaves out, by rules; for every planner.

A planner may drop a material, take a failed search for an answer ("0 materials"), or answer a
condition that was not asked. The rules read the question on their own and compare it with the rows
that the answer cites. They only say what they are sure of: a question that they read nothing in is
covered by any answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ragkit.agents.ledger import Evidence, Quantity
from ragkit.agents.materials.chemistry.formulas import parse_formula, reduced
from ragkit.agents.materials.question.parsed import ParsedQuestion
from ragkit.agents.materials.question.reading import POLYMORPHS, read_question
from ragkit.agents.tools import ToolError

_COUNTS = frozenset({"n_materials", "n_values", "n_rows"})
_ASKS_WHETHER = re.compile(
    r"\b(?:(?:is|are) there|any|exists?|how many|number of|counts?|how often)\b",
    re.IGNORECASE,
)
_STABLE = re.compile(r"\b(?:most stable|stable|ground state)\b", re.IGNORECASE)
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
    missing = _missing_materials(reading, rows) + _missing_polymorphs(question, real)
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
    asked = [limit.property for limit in reading.limits]
    asked += [condition.property for condition in reading.conditions]
    if reading.elements or not (reading.formulas or reading.material_ids):
        for name in dict.fromkeys(asked):
            told = {row.subject_id for row in rows if row.property == name}
            if any(
                row.query and not row.derived_from and name not in row.query
                and row.subject_id not in told
                for row in rows
            ):  # fmt: skip
                return f"by {name.replace('_', ' ')}"
    return ""


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


def _missing_materials(reading: ParsedQuestion, rows: Sequence[Quantity]) -> list[str]:
    # A slip in upper and lower case is no other material: the tools ask "did you mean InBO3?".
    held = {key for row in rows for key in (_key(row.subject), row.subject.lower()) if key}
    if reading.elements:  # "oxides of iron": iron is a part of each
        held |= {symbol for row in rows for symbol in _elements(row.subject)}
    return [f for f in reading.formulas if held.isdisjoint((_key(f), f, f.lower()))]


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
