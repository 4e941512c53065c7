"""The snapshot as the benchmark's truths see it: plain rows, read without the tools' code."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ragkit.agents.ledger import Scalar
from ragkit.agents.materials.chemistry.formulas import reduced
from ragkit.agents.materials.chemistry.names import ELEMENTS, composition_of
from ragkit.agents.tools import ToolError
from ragkit.evaluation.materials.question import Fact
from ragkit.evaluation.materials.words import BENCHMARK, Words
from ragkit.evaluation.splits import Split, split_of

_ROWS = """
    SELECT m.material_id, f.formula, f.reduced, f.elements, p.name, p.unit, p.kind,
           q.number, q.text, o.method
    FROM quantities q
    JOIN properties p ON p.id = q.property
    JOIN formulas f ON f.id = q.formula
    JOIN origins o ON o.id = q.origin
    LEFT JOIN materials m ON m.id = q.material
    ORDER BY q.id
"""
_ANIONS = {
    "O": "oxide", "S": "sulfide", "Se": "selenide", "Te": "telluride", "F": "fluoride",
    "Cl": "chloride", "Br": "bromide", "I": "iodide", "N": "nitride", "P": "phosphide",
    "As": "arsenide", "Sb": "antimonide",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Value:
    """A row of the database: a value of the property `name`, of a material or of a formula only."""

    material_id: str | None
    formula: str
    reduced: str
    elements: frozenset[str]
    name: str
    value: Scalar
    unit: str
    method: str

    @property
    def number(self) -> float:
        """The value of a property that has numbers."""
        return float(self.value)

    @property
    def fact(self) -> Fact:
        """As a truth states it."""
        return Fact(self.name, self.value, self.unit, self.formula, self.material_id)


class QuestionData:
    """All values of a snapshot.

    Args:
        path: The snapshot's file.
        split: Whose materials questions may be about; truths are over all of them.
        words: How questions are worded.

    Attributes:
        values: In the order of the database.
        of_formula: By (reduced formula, property), with those known by formula only.
        of_material: By (material id, property).
        of_property: Of materials, by property.
        tables: Known by formula only, by property.
        ids: Material ids by reduced formula.
        pool: Reduced formulas of the split that have materials, sorted.
        table_pool: Reduced formulas of the split that the tables have, by property, sorted.
    """

    def __init__(self, path: str | Path, split: Split, words: Words = BENCHMARK) -> None:
        self.values = _read(path)
        self.words = words
        self.of_formula: dict[tuple[str, str], list[Value]] = defaultdict(list)
        self.of_material: dict[tuple[str, str], list[Value]] = defaultdict(list)
        self.of_property: dict[str, list[Value]] = defaultdict(list)
        self.tables: dict[str, list[Value]] = defaultdict(list)
        ids: dict[str, dict[str, None]] = defaultdict(dict)
        for value in self.values:
            self.of_formula[value.reduced, value.name].append(value)
            if value.material_id is None:
                self.tables[value.name].append(value)
            else:
                self.of_material[value.material_id, value.name].append(value)
                self.of_property[value.name].append(value)
                ids[value.reduced][value.material_id] = None
        self.ids = {key: tuple(found) for key, found in ids.items()}
        self.written = {value.formula: value.reduced for value in self.values}
        self.held = frozenset(self.written.values())
        self.in_split = _memory(split, words.held_out)
        self.pool = sorted(key for key in self.ids if self.in_split(key))
        self.table_pool = {
            name: sorted({each.reduced for each in found if self.in_split(each.reduced)})
            for name, found in self.tables.items()
        }
        self.material_pool = {
            name: sorted({each.reduced for each in found if self.in_split(each.reduced)})
            for name, found in self.of_property.items()
        }

    def may_combine(self, *parts: str) -> bool:
        """Whether questions may be about these together; see `Words.holds_out`."""
        return not self.words.holds_out or split_of(" ".join(parts)) != "test"

    def formula_of(self, key: str) -> str:
        """How a material with this reduced formula is written."""
        return next(
            value.formula
            for value in self.of_formula[key, "nelements"]
            if value.material_id is not None
        )

    def matching(self, name: str, elements: Iterable[str]) -> list[Value]:
        """The materials' values of a property whose composition has all the elements."""
        wanted = set(elements)
        return [value for value in self.of_property[name] if wanted <= value.elements]


def english_name(formula: str) -> str:
    """ "gallium arsenide" for a binary compound whose name settles its formula; else "".

    >>> english_name("MgO"), english_name("FeO")
    ('magnesium oxide', '')
    """
    symbols = re.findall(r"[A-Z][a-z]?", reduced(formula))
    for anion, word in _ANIONS.items():
        rest = [each for each in symbols if each != anion]
        if anion in symbols and len(rest) == 1:
            name = f"{ELEMENTS[rest[0]]} {word}"
            if (meant := composition_of(name)) and reduced(meant) == reduced(formula):
                return name
    return ""


def reduced_or_none(text: str) -> str | None:
    """The reduced formula of a text; None if it is none."""
    try:
        return reduced(text)
    except ToolError:
        return None


def _read(path: str | Path) -> list[Value]:
    address = f"file:{quote(str(Path(path).resolve()))}?mode=ro&immutable=1"
    connection = sqlite3.connect(address, uri=True)
    try:
        rows = connection.execute(_ROWS).fetchall()
    finally:
        connection.close()
    values = []
    for material_id, formula, key, elements, name, unit, kind, number, text, method in rows:
        value: Scalar = bool(number) if kind == "flag" else number if number is not None else text
        parts = frozenset(elements.strip("-").split("-"))
        values.append(Value(material_id, formula, key, parts, name, value, unit, method))
    return values


def _memory(split: Split, held_out: frozenset[str]) -> Callable[[str], bool]:
    """Whether a key is of the split, each looked at once."""
    seen: dict[str, bool] = {}

    def is_in(key: str) -> bool:
        if key not in seen:
            seen[key] = key not in held_out and split_of(key) == split
        return seen[key]

    return is_in
