"""Search over the live endpoints, with joins by material id.

For an endpoint without filters by formula or elements, and for conditions on properties of other
endpoints, the matching ids are fetched first (from summary and those endpoints).
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
from ragkit.agents.materials.chemistry.ids import canonical_id
from ragkit.agents.materials.chemistry.properties import Property
from ragkit.agents.materials.live.filters import Clause, endpoint_of, server_conditions
from ragkit.agents.materials.live.pages import Pages
from ragkit.agents.materials.live.parse import MATERIAL_ID, Record, read_record, server_fields
from ragkit.agents.tools import ToolError

# Maximum length of ids or formulas in one request, since servers reject long URLs.
_MAX_BATCH_CHARS = 2500
# Maximum length of a list of elements; the server refuses longer ones.
_MAX_ELEMENT_CHARS = 60
# Endpoints with few materials; summary can filter by their presence.
_SPARSE = ("elasticity", "dielectric", "piezoelectric")


class Search:
    """One search.

    Args:
        pages: Source of the records.
        query: Normalized query, see `normalized`.
        clauses: Conditions of the query.
        takes: Filters that each endpoint accepts besides ids.
        thermo_type: Convex hull that the energies of thermo refer to.
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
        self._material_filter_names = {
            name
            for name in ("formulas", "chemsys", "elements", "exclude_elements")
            if getattr(query, name)
        }

    def page(
        self, endpoint: Endpoint, shown: Sequence[Property], keys: Sequence[tuple[Property, bool]]
    ) -> Page:
        """Return the first page of sorted rows.

        Args:
            endpoint: Endpoint of the fields.
            shown: Properties to return.
            keys: Sort keys as (property, descending).
        """
        clause_endpoints = [
            (clause, endpoint_of(clause.spec, endpoint)) for clause in self._clauses
        ]
        ids = self._ids(endpoint, clause_endpoints)
        if ids is not None and not ids:
            return Page((), 0, tuple(self._dropped))
        own_clauses = [clause for clause, source in clause_endpoints if source == endpoint]
        specs = [*shown, *(key for key, _ in keys if endpoint in key.places)]
        records = self._records(endpoint, ids, own_clauses, specs)
        names = [spec.name for spec in shown]
        rows = {
            material_id: record
            for material_id, record in records.items()
            if _has_any(names, record)
        }
        for key, _ in keys:
            if rows and endpoint not in key.places:
                for name, other in self._records(endpoint_of(key), sorted(rows), [], [key]).items():
                    rows[name].quantities.update(other.quantities)
        names = list(dict.fromkeys([*names, *(key.name for key, _ in keys)]))
        ranked = _sort_records(list(rows.values()), keys)
        page = tuple(_to_material(record, names) for record in ranked[: max(self._query.limit, 0)])
        return Page(page, len(ranked), tuple(self._dropped))

    def _ids(
        self, endpoint: Endpoint, clause_endpoints: Sequence[tuple[Clause, Endpoint]]
    ) -> list[str] | None:
        """Return the ids that pass all filters of other endpoints, or None without such filters."""
        ids = list(self._query.material_ids) or None
        requested = {source for _, source in clause_endpoints} | {endpoint}
        sources = requested - {endpoint}
        if any(self._material_filter_names - self._takes[source] for source in requested):
            sources.add("summary")
        for source in ENDPOINTS:
            if source in sources:
                clauses = [clause for clause, owner in clause_endpoints if owner == source]
                sparse = (
                    [name for name in _SPARSE if name in requested] if source == "summary" else []
                )
                specs = [clause.spec for clause in clauses]
                ids = sorted(self._records(source, ids, clauses, specs, sparse), key=material_order)
                if not ids:
                    break
        return ids

    def _records(
        self,
        endpoint: Endpoint,
        ids: Sequence[str] | None,
        clauses: Sequence[Clause],
        specs: Iterable[Property],
        present: Sequence[str] = (),
    ) -> dict[str, Record]:
        """Return matching records by id; `present` lists endpoints that must have data as well."""
        properties = list(dict.fromkeys([*specs, *(clause.spec for clause in clauses)]))
        params = {"_fields": server_fields(endpoint, properties)} | server_conditions(
            endpoint, clauses
        )
        if present:
            params["has_props"] = ",".join(present)
        if endpoint == "thermo":
            params["thermo_types"] = self._thermo_type
        id_set = None if ids is None else frozenset(ids)
        records: dict[str, Record] = {}
        for filters in self._material_filters(endpoint, ids):
            for document in self._pages.records(f"materials/{endpoint}/", params | filters):
                if endpoint == "thermo" and self._has_other_hull(document):
                    continue
                record = read_record(document, endpoint, properties, self._pages.version)
                if isinstance(record, str):
                    self._dropped[record] = None
                    continue
                self._dropped.update(dict.fromkeys(record.problems))
                if record.material_id in records:
                    problem = (
                        f"{record.material_id} came twice from {endpoint}, another may be missing"
                    )
                    self._dropped[problem] = None
                elif self._matches_query(record, id_set) and all(
                    clause.matches(record) for clause in clauses
                ):
                    records[record.material_id] = record
        return records

    def _has_other_hull(self, document: object) -> bool:
        named = document.get("thermo_type") if isinstance(document, Mapping) else None
        return isinstance(named, str) and named.lower() != self._thermo_type.lower()

    def _material_filters(
        self, endpoint: Endpoint, ids: Sequence[str] | None
    ) -> Iterator[dict[str, str]]:
        """Yield the filters by material, split into batches by URL length."""
        query, accepted = self._query, self._takes[endpoint]
        shared: dict[str, str] = {}
        if self._material_filter_names <= accepted:
            if query.chemsys:
                shared["chemsys"] = "-".join(query.chemsys)
            # What does not fit is checked on the records.
            if query.elements:
                shared["elements"] = next(_batches(query.elements, _MAX_ELEMENT_CHARS))
            if query.exclude_elements:
                shared["exclude_elements"] = next(
                    _batches(query.exclude_elements, _MAX_ELEMENT_CHARS)
                )
        formulas = query.formulas if self._material_filter_names <= accepted else ()
        if ids is not None:
            for batch in _batches(ids):
                yield shared | {"material_ids": batch}
        elif formulas:
            for batch in _batches(formulas):
                yield shared | {"formula": batch}
        else:
            yield shared

    def _matches_query(self, record: Record, id_set: frozenset[str] | None) -> bool:
        """Return True if a record matches the query, in case the server ignored a filter."""
        query = self._query
        return (
            (id_set is None or record.material_id in id_set)
            and (not query.formulas or reduced(record.formula) in query.formulas)
            and (not query.chemsys or record.elements == frozenset(query.chemsys))
            and record.elements.issuperset(query.elements)
            and record.elements.isdisjoint(query.exclude_elements)
        )


def normalized(query: Query) -> Query:
    """Return the query with reduced formulas, sorted element symbols and unique, valid ids.

    Raises:
        ToolError: A formula, element or id is invalid.
    """

    def symbols(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted({element_symbol(text) for text in names}))

    return replace(
        query,
        material_ids=tuple(dict.fromkeys(checked_id(text) for text in query.material_ids)),
        formulas=tuple(sorted({reduced(text) for text in query.formulas})),
        chemsys=symbols(query.chemsys),
        elements=symbols(query.elements),
        exclude_elements=symbols(query.exclude_elements),
    )


def checked_id(material_id: str) -> str:
    """Strip and validate a material id; return it with its number in digits.

    Raises:
        ToolError: The id is invalid.
    """
    plain = material_id.strip()
    if not MATERIAL_ID.fullmatch(plain):
        raise ToolError(f"{material_id[:60]!r} is no material id. Give one such as mp-2534.")
    return canonical_id(plain)


def _batches(items: Sequence[str], most: int = _MAX_BATCH_CHARS) -> Iterator[str]:
    """Yield the items as comma-separated batches of limited length."""
    comma = 3 if most == _MAX_BATCH_CHARS else 1  # characters of a comma in a URL, or in the value
    batch: list[str] = []
    length = 0
    for item in items:
        if batch and length + len(item) + comma > most:
            yield ",".join(batch)
            batch, length = [], 0
        batch.append(item)
        length += len(item) + comma
    if batch:
        yield ",".join(batch)


def _has_any(names: Iterable[str], record: Record) -> bool:
    return any(name in record.quantities for name in names)


def _sort_records(records: list[Record], keys: Sequence[tuple[Property, bool]]) -> list[Record]:
    """Sort records by the keys, then by id; records without a key's property come last."""
    ranked = sorted(records, key=lambda record: material_order(record.material_id))
    for spec, descends in reversed(keys):
        with_value = [record for record in ranked if spec.name in record.quantities]
        without_value = [record for record in ranked if spec.name not in record.quantities]

        def value(record: Record, name: str = spec.name) -> tuple[float, str]:
            record_value = record.quantities[name].value
            return (
                (0.0, record_value) if isinstance(record_value, str) else (float(record_value), "")
            )

        ranked = sorted(with_value, key=value, reverse=descends) + without_value
    return ranked


def _to_material(record: Record, names: Sequence[str]) -> Material:
    quantities = tuple(record.quantities[name] for name in names if name in record.quantities)
    return Material(record.material_id, record.formula, record.space_group, quantities)
