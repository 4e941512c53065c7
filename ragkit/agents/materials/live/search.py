"""A search over the live endpoints: which are asked, in which order, and how the rows are joined.

An endpoint that does not take formulas or elements gets the ids that summary finds for them;
conditions on another endpoint's properties become ids in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ragkit.agents.materials.backend import (
    ENDPOINTS,
    Endpoint,
    Material,
    Page,
    Query,
    material_order,
)
from ragkit.agents.materials.chemistry.formulas import element_symbol, reduced
from ragkit.agents.materials.chemistry.properties import Property
from ragkit.agents.materials.live.filters import Clause, home, server_conditions
from ragkit.agents.materials.live.pages import Pages
from ragkit.agents.materials.live.parse import MATERIAL_ID, Record, read_record, server_fields
from ragkit.agents.tools import ToolError

# Ids and formulas in one request, so that no URL is refused for its length.
_MAX_LISTED = 2500
# Endpoints that few materials have, which summary can be asked for.
_SPARSE = ("elasticity", "dielectric", "piezoelectric")


class Search:
    """One search.

    Args:
        pages: Where records come from.
        query: With formulas reduced and elements as symbols, see `normal`.
        clauses: The conditions.
        takes: Which filters each endpoint takes besides ids.
        thermo_type: Which hull the energies of thermo refer to.
    """

    def __init__(
        self,
        pages: Pages,
        query: Query,
        clauses: Sequence[Clause],
        *,
        takes: Mapping[Endpoint, frozenset[str]],
        thermo_type: str,
    ) -> None:
        self._pages = pages
        self._query = query
        self._clauses = clauses
        self._takes = takes
        self._thermo_type = thermo_type
        self._dropped: dict[str, None] = {}
        self._given = {
            name
            for name in ("formulas", "chemsys", "elements", "exclude_elements")
            if getattr(query, name)
        }

    def page(
        self, endpoint: Endpoint, shown: Sequence[Property], keys: Sequence[tuple[Property, bool]]
    ) -> Page:
        """The first rows, and how many there are.

        Args:
            endpoint: Where the fields are.
            shown: The fields.
            keys: To sort by, each with whether it descends.
        """
        homes = [(clause, home(clause.spec, endpoint)) for clause in self._clauses]
        ids = self._ids(endpoint, homes)
        if ids is not None and not ids:
            return Page((), 0, tuple(self._dropped))
        own = [clause for clause, home in homes if home == endpoint]
        specs = [*shown, *(key for key, _ in keys if endpoint in key.places)]
        found = self._records(endpoint, ids, own, specs)
        names = [each.name for each in shown]
        rows = {name: each for name, each in found.items() if _any(names, each)}
        for key, _ in keys:
            if rows and endpoint not in key.places:
                for name, other in self._records(home(key), sorted(rows), [], [key]).items():
                    rows[name].quantities.update(other.quantities)
        names = list(dict.fromkeys([*names, *(key.name for key, _ in keys)]))
        ranked = _sorted(list(rows.values()), keys)
        page = tuple(_material(each, names) for each in ranked[: max(self._query.limit, 0)])
        return Page(page, len(ranked), tuple(self._dropped))

    def _ids(
        self, endpoint: Endpoint, homes: Sequence[tuple[Clause, Endpoint]]
    ) -> list[str] | None:
        """The ids that conditions elsewhere leave; None if nothing restricts them."""
        ids = list(self._query.material_ids) or None
        asked = {home for _, home in homes} | {endpoint}
        places = asked - {endpoint}
        if any(self._given - self._takes[each] for each in asked):
            places.add("summary")
        for place in ENDPOINTS:
            if place in places:
                clauses = [clause for clause, home in homes if home == place]
                present = [each for each in _SPARSE if each in asked] if place == "summary" else []
                specs = [clause.spec for clause in clauses]
                ids = sorted(self._records(place, ids, clauses, specs, present), key=material_order)
                if not ids:
                    break
        return ids

    def _records(
        self,
        place: Endpoint,
        ids: Sequence[str] | None,
        clauses: Sequence[Clause],
        specs: Iterable[Property],
        present: Sequence[str] = (),
    ) -> dict[str, Record]:
        """The records that pass, by id; `present` names endpoints that must hold something too."""
        wanted = list(dict.fromkeys([*specs, *(clause.spec for clause in clauses)]))
        params = {"_fields": server_fields(place, wanted)} | server_conditions(place, clauses)
        if present:
            params["has_props"] = ",".join(present)
        if place == "thermo":
            params["thermo_types"] = self._thermo_type
        among = None if ids is None else frozenset(ids)
        found: dict[str, Record] = {}
        for listed in self._listed(place, ids):
            for document in self._pages.records(f"materials/{place}/", params | listed):
                if place == "thermo" and self._of_another_hull(document):
                    continue
                record = read_record(document, place, wanted, self._pages.version)
                if isinstance(record, str):
                    self._dropped[record] = None
                    continue
                self._dropped.update(dict.fromkeys(record.unread))
                if record.material_id in found:
                    twice = f"{record.material_id} came twice from {place}, another may be missing"
                    self._dropped[twice] = None
                elif self._fits(record, among) and all(clause.holds(record) for clause in clauses):
                    found[record.material_id] = record
        return found

    def _of_another_hull(self, document: object) -> bool:
        named = document.get("thermo_type") if isinstance(document, Mapping) else None
        return isinstance(named, str) and named.lower() != self._thermo_type.lower()

    def _listed(self, place: Endpoint, ids: Sequence[str] | None) -> Iterator[dict[str, str]]:
        """The filters by material, in as many requests as their lengths need."""
        query, takes = self._query, self._takes[place]
        same: dict[str, str] = {}
        if self._given <= takes:
            if query.chemsys:
                same["chemsys"] = "-".join(query.chemsys)
            if query.elements:
                same["elements"] = ",".join(query.elements)
            if query.exclude_elements:
                same["exclude_elements"] = ",".join(query.exclude_elements)
        formulas = query.formulas if self._given <= takes else ()
        if ids is not None:
            for batch in _batches(ids):
                yield same | {"material_ids": batch}
        elif formulas:
            for batch in _batches(formulas):
                yield same | {"formula": batch}
        else:
            yield same

    def _fits(self, record: Record, among: frozenset[str] | None) -> bool:
        """Whether it is one that was asked for, should the server have ignored a filter."""
        query = self._query
        return (
            (among is None or record.material_id in among)
            and (not query.formulas or reduced(record.formula) in query.formulas)
            and (not query.chemsys or record.elements == frozenset(query.chemsys))
            and record.elements.issuperset(query.elements)
            and record.elements.isdisjoint(query.exclude_elements)
        )


def normal(query: Query) -> Query:
    """The query with formulas as keys, elements as sorted symbols, ids checked, nothing twice.

    Raises:
        ToolError: One of them cannot be read.
    """

    def symbols(given: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted({element_symbol(each) for each in given}))

    return replace(
        query,
        material_ids=tuple(dict.fromkeys(checked_id(each) for each in query.material_ids)),
        formulas=tuple(sorted({reduced(each) for each in query.formulas})),
        chemsys=symbols(query.chemsys),
        elements=symbols(query.elements),
        exclude_elements=symbols(query.exclude_elements),
    )


def checked_id(material_id: str) -> str:
    """The id without blanks around it.

    Raises:
        ToolError: It is no id.
    """
    plain = material_id.strip()
    if not MATERIAL_ID.fullmatch(plain):
        raise ToolError(f"{material_id[:60]!r} is no material id. Give one such as mp-2534.")
    return plain


def _batches(items: Sequence[str]) -> Iterator[str]:
    """The items joined by commas, as many at a time as a URL should hold."""
    batch: list[str] = []
    length = 0
    for item in items:
        if batch and length + len(item) + 3 > _MAX_LISTED:
            yield ",".join(batch)
            batch, length = [], 0
        batch.append(item)
        length += len(item) + 3  # a comma is three characters in a URL
    if batch:
        yield ",".join(batch)


def _any(names: Iterable[str], record: Record) -> bool:
    return any(name in record.quantities for name in names)


def _sorted(records: list[Record], keys: Sequence[tuple[Property, bool]]) -> list[Record]:
    """By the keys, then by id; those without a key's property come after those with it."""
    ranked = sorted(records, key=lambda each: material_order(each.material_id))
    for spec, descends in reversed(keys):
        having = [each for each in ranked if spec.name in each.quantities]
        without = [each for each in ranked if spec.name not in each.quantities]

        def value(each: Record, name: str = spec.name) -> tuple[float, str]:
            held = each.quantities[name].value
            return (0.0, held) if isinstance(held, str) else (float(held), "")

        ranked = sorted(having, key=value, reverse=descends) + without
    return ranked


def _material(record: Record, names: Sequence[str]) -> Material:
    quantities = tuple(record.quantities[name] for name in names if name in record.quantities)
    return Material(record.material_id, record.formula, record.space_group, quantities)
