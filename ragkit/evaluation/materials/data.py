"""The snapshot as plain rows for computing true answers, read without the tools' code."""

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
    """A row of the database: a value of the property `name` of a material, or of a formula only."""

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
        """The value of a numeric property, as a float."""
        return float(self.value)

    @property
    def fact(self) -> Fact:
        """The value as a `Fact`."""
        return Fact(self.name, self.value, self.unit, self.formula, self.material_id)


class QuestionData:
    """All values of a snapshot, indexed for making questions.

    Args:
        path: Path of the snapshot.
        split: Split of the materials that questions are about; truths cover all materials.
        words: Wordings of the questions.

    Attributes:
        values: All values, in database order.
        of_formula: Values by (reduced formula, property), including those known by formula only.
        of_material: Values by (material id, property).
        of_property: Values of materials, by property.
        tables: Values known by formula only, by property.
        ids: Material ids by reduced formula.
        reduced_of: Reduced formula of every formula as written in the database.
        formulas: All reduced formulas in the database.
        in_split: Returns True if a key belongs to the split.
        pool: Reduced formulas of the split that have materials, sorted.
        table_pool: Reduced formulas of the split in the tables, by property, sorted.
        material_pool: Reduced formulas of the split with materials, by property, sorted.
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
        self.ids = {key: tuple(material_ids) for key, material_ids in ids.items()}
        self.reduced_of = {value.formula: value.reduced for value in self.values}
        self.formulas = frozenset(self.reduced_of.values())
        self.in_split = _split_filter(split, words.held_out)
        self.pool = sorted(key for key in self.ids if self.in_split(key))
        self.table_pool = {
            name: sorted({value.reduced for value in values if self.in_split(value.reduced)})
            for name, values in self.tables.items()
        }
        self.material_pool = {
            name: sorted({value.reduced for value in values if self.in_split(value.reduced)})
            for name, values in self.of_property.items()
        }

    def may_combine(self, *parts: str) -> bool:
        """Return True if a question may combine these parts; see `Words.holds_out`."""
        return not self.words.holds_out or split_of(" ".join(parts)) != "test"

    def formula_of(self, key: str) -> str:
        """Return the formula of a material with this reduced formula, as in the database."""
        return next(
            value.formula
            for value in self.of_formula[key, "nelements"]
            if value.material_id is not None
        )

    def matching(self, name: str, elements: Iterable[str]) -> list[Value]:
        """Return the values of a property for materials that contain all the elements."""
        required = set(elements)
        return [value for value in self.of_property[name] if required <= value.elements]


def english_name(formula: str) -> str:
    """Return the name of a binary compound, or "" if the name is not unique to its formula.

    >>> english_name("MgO"), english_name("FeO")
    ('magnesium oxide', '')
    """
    symbols = re.findall(r"[A-Z][a-z]?", reduced(formula))
    for anion, word in _ANIONS.items():
        others = [symbol for symbol in symbols if symbol != anion]
        if anion in symbols and len(others) == 1:
            name = f"{ELEMENTS[others[0]]} {word}"
            if (named := composition_of(name)) and reduced(named) == reduced(formula):
                return name
    return ""


def reduced_or_none(text: str) -> str | None:
    """Return the reduced formula of a text, or None if it is not a formula."""
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


def _split_filter(split: Split, held_out: frozenset[str]) -> Callable[[str], bool]:
    """Return a function that says whether a key belongs to the split; its results are cached."""
    cache: dict[str, bool] = {}

    def is_in(key: str) -> bool:
        if key not in cache:
            cache[key] = key not in held_out and split_of(key) == split
        return cache[key]

    return is_in
