"""The ledger of a run: all values and quotations that tools returned, with their provenance.

An agent's answer cites rows of the ledger by id, and a template renders them, so every number in an
answer has a unit, a subject, a method, a source and the query that produced it.
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
    """A value with its unit and provenance.

    Attributes:
        value: Number, string ("FM") or boolean.
        unit: Unit in pint's notation ("eV", "GPa", "eV/atom", "angstrom**3"); "" for plain numbers
            and strings.
        property: Name of the property: "band_gap", "k_vrh", "n_rows".
        subject: What the value describes, as the source writes it ("GaAs"); may be "".
        subject_id: Identifier of the subject in its database ("mp-2534"), or None.
        variant: Form of the subject, if several exist (a crystal's space group, "F-43m").
        method: How the value was obtained: "DFT (PBE)", "experiment", "count over all matching
            rows".
        source: Publication or database that the value comes from.
        licence: Licence of the source.
        version: Version of the database.
        query: Tool call that returned the value, as canonical JSON; set by the ledger.
        derived_from: Ids of the ledger rows that the value was computed from.
        kind: Noun for the subject in answers ("material"): "no material id", "5 of 20 materials".
    """

    value: Scalar
    unit: str = ""
    property: str = ""
    subject: str = ""
    subject_id: str | None = None
    variant: str = ""
    method: str = ""
    source: str = ""
    licence: str = ""
    version: str = ""
    query: str = ""
    derived_from: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence verified by a reader, with the spans that support it.

    Attributes:
        text: Sentence without citation marks.
        citations: One or more supporting spans.
        query: Tool call that returned the sentence, as canonical JSON; set by the ledger.
    """

    text: str
    citations: tuple[Citation, ...]
    query: str = ""


Evidence = Quantity | Quote


class Ledger:
    """Evidence by row id ("r1", "r2", …), in insertion order.

    Args:
        parent: Ledger of the calling agent. Both number their rows with one counter, and evidence
            that the parent contains has the same id here; rows are not shared.

    Attributes:
        rows: Evidence by id.
        question: The user's question; its numbers are allowed as constants in calculations. ""
            allows any constant.
    """

    def __init__(self, parent: Ledger | None = None) -> None:
        self.rows: dict[str, Evidence] = {}
        self.question: str = parent.question if parent is not None else ""
        self._ids: dict[Evidence, str] = dict(parent._ids) if parent is not None else {}
        # `next` on a counter is atomic: a tool that timed out may still add rows from its thread.
        self._numbers: itertools.count[int] = (
            parent._numbers if parent is not None else itertools.count(1)
        )

    def add(
        self, evidence: Sequence[Evidence], tool: str, arguments: Mapping[str, Any]
    ) -> list[str]:
        """Add evidence and return its row ids; evidence that is already present keeps its id."""
        call = {"tool": tool, "arguments": arguments}
        query = json.dumps(call, sort_keys=True, ensure_ascii=False, default=str)
        ids = []
        for item in evidence:
            key = replace(item, query="")
            if key not in self._ids:
                self._ids[key] = f"r{next(self._numbers)}"
            ids.append(self._ids[key])
            self.rows.setdefault(ids[-1], replace(item, query=item.query or query))
        return ids

    def merge(self, child: Ledger, row_ids: Iterable[str]) -> None:
        """Copy rows from a child ledger, together with the rows they were computed from."""
        pending = list(row_ids)
        for row_id in pending:  # grows during the loop
            row = child.rows.get(row_id)
            if row is None or row_id in self.rows:
                continue
            self.rows[row_id] = row
            self._ids[replace(row, query="")] = row_id
            pending += row.derived_from if isinstance(row, Quantity) else ()

    def copy(self) -> Ledger:
        """Return a copy that shares the id counter; rows added later to either are not shared."""
        copied = Ledger(self)
        copied.rows = dict(self.rows)
        return copied

    def __getitem__(self, row_id: str) -> Evidence:
        return self.rows[row_id]

    def __contains__(self, row_id: object) -> bool:
        return row_id in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)
