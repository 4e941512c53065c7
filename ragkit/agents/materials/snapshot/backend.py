"""Back end for the shipped snapshot: published values in a read-only SQLite file."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import sqlalchemy as sa

from ragkit.agents.ledger import Quantity, Scalar
from ragkit.agents.materials.backend import Endpoint, Material, Page, Query
from ragkit.agents.materials.chemistry.formulas import reduced
from ragkit.agents.materials.chemistry.properties import (
    INTEGER_PROPERTIES,
    Property,
    SearchTarget,
    find_property,
    properties_of,
)
from ragkit.agents.materials.snapshot import schema
from ragkit.agents.materials.snapshot.statements import (
    JOINED,
    composition_filters,
    has_value,
    property_ids,
    quantities,
    satisfies,
    sort_expressions,
)
from ragkit.agents.tools import ToolError
from ragkit.errors import RagkitError
from ragkit.recipes import search_folders

_FORMULAS, _MATERIALS, _QUANTITIES = schema.FORMULAS, schema.MATERIALS, schema.QUANTITIES
_PROPERTIES, _ORIGINS, _TENSORS = schema.PROPERTIES, schema.ORIGINS, schema.TENSORS


@dataclass(frozen=True, slots=True)
class Holdings:
    """Data of the snapshot for one composition.

    Attributes:
        material_ids: Ids of the polymorphs.
        properties: Names of the properties with a value for at least one polymorph.
        table_properties: Names of the properties with a value that is identified by formula only.
    """

    material_ids: tuple[str, ...]
    properties: tuple[str, ...]
    table_properties: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.material_ids or self.table_properties)


def default_path() -> Path:
    """Return the path of the snapshot in the working folder, or else of the shipped one.

    Raises:
        RagkitError: There is no snapshot.
    """
    candidates = [root / "materials" / "snapshot.db" for root in search_folders("agents")]
    for path in candidates:
        if path.is_file():
            return path
    raise RagkitError(
        f"there is no materials snapshot; looked for {', '.join(map(str, candidates))}. "
        "Reinstall ragkit, or build one with python -m tools.materials_snapshot.build."
    )


class SnapshotBackend:
    """Materials data without a network; implements `backend.Backend`.

    It is safe to use from several threads and on a read-only file system.

    Args:
        path: Snapshot file; None uses `default_path()`.

    Raises:
        RagkitError: The file is missing, damaged or not a snapshot of this format.

    >>> snapshot = SnapshotBackend()
    >>> page = snapshot.search("summary", Query(material_ids=("mp-2534",), fields=("band_gap",)))
    >>> page.rows[0].formula, round(float(page.rows[0].quantities[0].value), 4)
    ('GaAs', 0.1861)
    """

    name: Literal["snapshot", "live"] = "snapshot"

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_path()
        if not self.path.is_file():
            raise RagkitError(
                f"there is no materials snapshot at {str(self.path)!r}. Give the path of a "
                "snapshot.db, or None for the one that ragkit ships."
            )
        address = f"file:{quote(str(self.path.resolve()))}?mode=ro&immutable=1"
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(address, uri=True),
            poolclass=sa.pool.NullPool,
        )
        self.meta = self._read_meta()
        self.version = self.meta["version"]

    def _read_meta(self) -> dict[str, str]:
        advice = "Rebuild it with python -m tools.materials_snapshot.build, or reinstall ragkit."
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(sa.select(schema.META.c.key, schema.META.c.value)).all()
                n_values = connection.scalar(sa.select(sa.func.count()).select_from(_QUANTITIES))
        except sa.exc.DBAPIError as error:
            raise RagkitError(
                f"{str(self.path)!r} is not a readable materials snapshot ({error.orig}). {advice}"
            ) from error
        meta = {str(row.key): str(row.value) for row in rows}
        if meta.get("format") != schema.FORMAT or "version" not in meta or not n_values:
            raise RagkitError(
                f"{str(self.path)!r} has format {meta.get('format')!r} and {n_values} values; "
                f"expected format {schema.FORMAT!r} and at least one value. {advice}"
            )
        return meta

    def search(self, endpoint: Endpoint, query: Query) -> Page:
        """Return the materials that match and have at least one of the fields.

        The rows also contain the properties they are sorted by (LLaMP's rule 2). If a property has
        several values, any of them may satisfy a condition; the smallest determines ascending and
        the largest descending order.

        Raises:
            ToolError: A field or property is unknown, or a condition is invalid.
        """
        fields = _fields(endpoint, query.fields)
        sort_keys = [find_property(key.removeprefix("-")) for key in query.sort_fields]
        filters = [
            *composition_filters(query),
            has_value(_QUANTITIES.c.property.in_(property_ids(field.name for field in fields))),
            *(has_value(satisfies(condition)) for condition in query.where),
        ]
        if query.material_ids:
            filters.append(_MATERIALS.c.material_id.in_(query.material_ids))
        joined = _MATERIALS.join(_FORMULAS, _MATERIALS.c.formula == _FORMULAS.c.id)
        statement = (
            sa.select(
                _MATERIALS.c.id,
                _MATERIALS.c.material_id,
                _FORMULAS.c.formula,
                _MATERIALS.c.space_group,
            )
            .select_from(joined)
            .where(*filters)
            .order_by(*sort_expressions(query.sort_fields), _MATERIALS.c.id)
            .limit(max(query.limit, 0))
        )
        count = sa.select(sa.func.count()).select_from(joined).where(*filters)
        with self._engine.connect() as connection:
            total = connection.scalar(count) or 0
            rows = connection.execute(statement).all()
            values = self._values(connection, [row.id for row in rows], [*fields, *sort_keys])
        materials = [
            Material(row.material_id, row.formula, row.space_group, tuple(values.get(row.id, ())))
            for row in rows
        ]
        return Page(tuple(materials), total)

    def _values(
        self, connection: sa.Connection, materials: Sequence[int], fields: Sequence[Property]
    ) -> dict[int, list[Quantity]]:
        """Return the quantities of each material in the order of the fields."""
        rank = {field.name: index for index, field in enumerate(dict.fromkeys(fields))}
        statement = quantities().where(
            _QUANTITIES.c.material.in_(materials), _PROPERTIES.c.name.in_(rank)
        )
        rows = connection.execute(statement.order_by(_QUANTITIES.c.id)).all()
        by_material: dict[int, list[Quantity]] = {}
        for row in sorted(rows, key=lambda row: rank[row.name]):
            by_material.setdefault(row.material, []).append(self._quantity(row))
        return by_material

    def formula_values(self, query: Query) -> tuple[tuple[Quantity, ...], int]:
        """Return a page of values that are identified by formula only, and the number of matches.

        Each row is one value that must satisfy all conditions: `band_gap > 1` returns only band
        gaps.

        Raises:
            ToolError: A field or property is not in these tables, or the query has material ids.
        """
        if query.material_ids:
            raise ToolError(
                "the formula tables have no material ids. Give a formula, or search an endpoint."
            )
        fields = _fields("formula_tables", query.fields)
        filters = [
            _QUANTITIES.c.material.is_(None),
            _PROPERTIES.c.name.in_([field.name for field in fields]),
            *composition_filters(query),
            *(satisfies(condition, "formula_tables") for condition in query.where),
        ]
        sort_keys: list[sa.ColumnElement[Any]] = []
        for field in query.sort_fields:
            spec = find_property(field.removeprefix("-"), "formula_tables")
            sort_keys.append(_PROPERTIES.c.name != spec.name)
            number = _QUANTITIES.c.number
            sort_keys.append(number.desc() if field.startswith("-") else number.asc())
        matching = quantities().where(*filters)
        page = matching.order_by(*sort_keys, _QUANTITIES.c.id).limit(max(query.limit, 0))
        with self._engine.connect() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(matching.subquery()))
            rows = connection.execute(page).all()
        return tuple(self._quantity(row) for row in rows), total or 0

    def _quantity(self, row: Any) -> Quantity:
        value: Scalar = row.text if row.number is None else row.number
        if row.kind == "flag":
            value = bool(row.number)
        elif row.name in INTEGER_PROPERTIES:
            value = int(row.number)
        return Quantity(
            value=value,
            unit=row.unit,
            property=row.name,
            subject=row.formula,
            subject_id=row.material_id,
            variant=row.space_group or "",
            kind="material",
            method=row.method,
            source=row.source,
            licence=row.licence,
            version=self.version,
        )

    def holdings(self, formula: str) -> Holdings:
        """Return the data available for a composition, over all endpoints.

        Raises:
            ToolError: The formula is invalid.
        """
        is_composition = _FORMULAS.c.reduced == reduced(formula)
        statement = (
            sa.select(_PROPERTIES.c.name, _QUANTITIES.c.material.is_(None).label("table"))
            .select_from(JOINED)
            .where(is_composition)
            .distinct()
            .order_by(_PROPERTIES.c.name)
        )
        ids = (
            sa.select(_MATERIALS.c.material_id)
            .join(_FORMULAS, _MATERIALS.c.formula == _FORMULAS.c.id)
            .where(is_composition)
            .order_by(_MATERIALS.c.id)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(statement).all()
            materials = tuple(connection.scalars(ids))
        return Holdings(
            materials,
            tuple(row.name for row in rows if not row.table),
            tuple(row.name for row in rows if row.table),
        )

    def formulas(self) -> list[str]:
        """Return all formulas with a value, as written by their sources."""
        with self._engine.connect() as connection:
            return list(connection.scalars(sa.select(_FORMULAS.c.formula).order_by(_FORMULAS.c.id)))

    def structure(self, material_id: str) -> str | None:
        """Return the crystal structure as POSCAR text, or None if it is not available."""
        statement = sa.select(_MATERIALS.c.poscar).where(_MATERIALS.c.material_id == material_id)
        with self._engine.connect() as connection:
            packed = connection.scalar(statement)
        return None if packed is None else zlib.decompress(packed).decode()

    def tensor(self, material_id: str, name: str) -> list[list[float]] | None:
        """Return a tensor as rows: e_total, e_electronic, piezoelectric_tensor, elastic_tensor."""
        statement = (
            sa.select(_TENSORS.c.rows)
            .join(_MATERIALS, _TENSORS.c.material == _MATERIALS.c.id)
            .where(_MATERIALS.c.material_id == material_id, _TENSORS.c.name == name)
        )
        with self._engine.connect() as connection:
            text = connection.scalar(statement)
        rows: list[list[float]] | None = None if text is None else json.loads(text)
        return rows

    def syntheses(
        self, formula: str, keywords: Sequence[str], limit: int
    ) -> list[Mapping[str, Any]]:
        """Raise ToolError, since the snapshot has no recipes.

        Raises:
            ToolError: Always.
        """
        raise ToolError(
            "synthesis recipes are not in the snapshot; they need the live database. "
            "Answer without them or say that they are not available."
        )

    def similar(self, material_id: str, limit: int) -> list[tuple[str, str, float]]:
        """Return the materials with the most similar structures, see `similarity`.

        Raises:
            ToolError: The snapshot has no structure of the material.
        """
        from ragkit.agents.materials.crystals.similarity import nearest

        columns = _MATERIALS.c.material_id, _FORMULAS.c.formula, _MATERIALS.c.fingerprint
        statement = (
            sa.select(*columns)
            .join(_FORMULAS, _MATERIALS.c.formula == _FORMULAS.c.id)
            .where(_MATERIALS.c.fingerprint.is_not(None))
            .order_by(_MATERIALS.c.id)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        formulas = {row.material_id: row.formula for row in rows}
        if material_id not in formulas:
            raise ToolError(
                f"no structure of {material_id!r} is held, so none can be compared with it. "
                "Take a material that search_dielectric or search_piezoelectric finds."
            )
        packed = b"".join(row.fingerprint for row in rows)
        vectors = np.frombuffer(packed, dtype="<f2").reshape(len(rows), -1)  # (structures, 64)
        fingerprint = vectors[list(formulas).index(material_id)].astype(np.float32)
        neighbours = nearest(
            fingerprint, vectors, list(formulas), limit=limit, leave_out=material_id
        )
        return [
            (neighbour_id, formulas[neighbour_id], distance)
            for neighbour_id, distance in neighbours
        ]


def _fields(target: SearchTarget, names: Sequence[str]) -> list[Property]:
    fields = [find_property(name, target) for name in names] or list(properties_of(target))
    return list(dict.fromkeys(fields))
