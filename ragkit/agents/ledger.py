"""The ledger of a run: every value and quotation that tools returned, each with its origin.

An agent's answer names rows of it; a template renders them. So a number in an answer has a unit, a
material, a method, a source and the query it came from, or it is not there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ragkit.types import Citation

Scalar = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with everything that is needed to check it.

    Attributes:
        value: A number, a text ("FM") or a flag.
        unit: As pint reads it ("eV", "GPa", "eV/atom", "angstrom**3"); "" for plain numbers and
            texts.
        property: The property's path: "band_gap", "k_vrh", "n_rows".
        formula: Of the material, as the source writes it; "" where it belongs to no material.
        material_id: As in the Materials Project ("mp-2534"); None for values known by formula only.
        space_group: International symbol ("F-43m"), if known.
        method: How it was got: "DFT (PBE)", "experiment", "count over all matching rows".
        source: Where it was published.
        licence: Under which it may be used.
        version: Of the database it was read from.
        query: The tool call it came from, as canonical JSON; the ledger fills it in.
        derived_from: Ids of the ledger rows that it was computed from.
    """

    value: Scalar
    unit: str = ""
    property: str = ""
    formula: str = ""
    material_id: str | None = None
    space_group: str = ""
    method: str = ""
    source: str = ""
    licence: str = ""
    version: str = ""
    query: str = ""
    derived_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence that a reader checked, with the spans that support it.

    Attributes:
        text: The sentence, without citation marks.
        citations: At least one.
        query: The tool call it came from, as canonical JSON; the ledger fills it in.
    """

    text: str
    citations: tuple[Citation, ...]
    query: str = ""


Evidence = Quantity | Quote


class Ledger:
    """Evidence by row id ("r1", "r2", …), in the order it came.

    Args:
        parent: The ledger of the agent that asked this one: ids are shared, rows are not. What the
            parent holds already keeps its id.

    Attributes:
        rows: Evidence by id.
        question: What the person asked: its numbers may be computed with. "" allows all.
    """

    def __init__(self, parent: Ledger | None = None) -> None:
        self.rows: dict[str, Evidence] = {}
        self.question: str = parent.question if parent is not None else ""
        self._ids: dict[Evidence, str] = dict(parent._ids) if parent is not None else {}
        # Taken in one step: a tool that ran out of time may still add rows in its thread.
        self._numbers: itertools.count[int] = (
            parent._numbers if parent is not None else itertools.count(1)
        )

    def add(
        self, evidence: Sequence[Evidence], tool: str, arguments: Mapping[str, Any]
    ) -> list[str]:
        """The ids of the rows; one that is held already keeps its first id."""
        call = {"tool": tool, "arguments": arguments}
        query = json.dumps(call, sort_keys=True, ensure_ascii=False, default=str)
        ids = []
        for item in evidence:
            bare = replace(item, query="")
            if bare not in self._ids:
                self._ids[bare] = f"r{next(self._numbers)}"
            ids.append(self._ids[bare])
            self.rows.setdefault(ids[-1], replace(item, query=item.query or query))
        return ids

    def take(self, child: Ledger, row_ids: Iterable[str]) -> None:
        """Rows of a child, and the rows they were computed from."""
        wanted = list(row_ids)
        for row_id in wanted:  # grows on the way
            row = child.rows.get(row_id)
            if row is None or row_id in self.rows:
                continue
            self.rows[row_id] = row
            self._ids[replace(row, query="")] = row_id
            wanted += row.derived_from if isinstance(row, Quantity) else ()

    def copy(self) -> Ledger:
        """Another one with the same rows; ids are shared, what is added is not."""
        twin = Ledger(self)
        twin.rows = dict(self.rows)
        return twin

    def __getitem__(self, row_id: str) -> Evidence:
        return self.rows[row_id]

    def __contains__(self, row_id: object) -> bool:
        return row_id in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)
