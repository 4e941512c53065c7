"""Make the snapshot: `python -m tools.materials_snapshot.build DATA_DIR OUT.db`.

The same files give the same bytes: rows are sorted, ids follow the order, the file is compacted.
"""

from __future__ import annotations

import json
import math
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from ragkit.agents.materials.backend import material_order
from ragkit.agents.materials.chemistry.formulas import parse_formula, reduced
from ragkit.agents.materials.chemistry.properties import PROPERTIES
from ragkit.agents.materials.snapshot import schema
from ragkit.agents.tools import ToolError
from ragkit.digests import file_digest, text_digest
from ragkit.errors import DatasetError
from tools.materials_snapshot import sources
from tools.materials_snapshot.sources import Item, Origin, Structure, Tensor, Value

_T = TypeVar("_T")

ATTRIBUTION = (
    "Data of the Materials Project (materialsproject.org), CC BY 4.0; of Petousis et al. 2017 and "
    "de Jong et al. 2015, CC BY 4.0; of Matbench v0.1, MIT; taken from the public repositories of "
    "matminer, LLaMP and CrabNet. Each value names its own source."
)
# What identifies a polymorph; saying it once is enough.
_OF_THE_CRYSTAL = frozenset(
    {"space_group", "spacegroup_number", "crystal_system", "point_group", "nsites"}
)


@dataclass(slots=True)
class Contents:
    """What the snapshot will hold, without repetitions.

    Attributes:
        formulas: Of each material.
        values: In the order read.
        poscars: By material id.
        tensors: By material id and name.
        left_out: How many items were left out, by reason.
        key_of: `formulas.reduced`, remembering what it was asked.
    """

    formulas: dict[str, str] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    poscars: dict[str, str] = field(default_factory=dict)
    tensors: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    key_of: Callable[[str], str] = field(default_factory=lambda: lru_cache(maxsize=None)(reduced))


def main() -> None:
    """Build from the folder and to the file named on the command line."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m tools.materials_snapshot.build DATA_DIR OUT.db")
    counts = build(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(json.dumps(counts, indent=2) + "\n")


def build(data: Path, out: Path) -> dict[str, int]:
    """Write the snapshot; what it holds, in numbers.

    Args:
        data: The folder with the source files; see `sources.files`.
        out: The file, replaced only when the new one is complete.

    Raises:
        DatasetError: A source file is missing or malformed.
    """
    missing = [name for name in sources.files() if not (data / name).is_file()]
    if missing:
        raise DatasetError(
            f"{str(data)!r} lacks {', '.join(missing)}. Give the folder that holds mp_dft_tables, "
            "llamp_eval, llamp_fig3 and matbench_tables."
        )
    contents = collect(sources.read_all(data))
    draft = out.with_name(f"{out.name}.draft")
    draft.unlink(missing_ok=True)
    digests = {name: file_digest(data / name) for name in sources.files()}
    _write(draft, contents, digests)
    os.replace(draft, out)
    by_formula = sum(value.material_id is None for value in contents.values)
    return {
        "materials": len(contents.formulas),
        "values of materials": len(contents.values) - by_formula,
        "values by formula": by_formula,
        "structures": len(contents.poscars),
        "tensors": len(contents.tensors),
        "bytes": out.stat().st_size,
    } | {f"left out: {reason}": n for reason, n in sorted(contents.left_out.items())}


def collect(items: Iterable[Item]) -> Contents:
    """What is kept of the items.

    A value said twice by one database is kept once; values that disagree are all kept. A material
    has the formula of the first record that names it, and records that call it another composition
    are left out.
    """
    given = list(items)
    contents = Contents()
    for item in given:
        if isinstance(item, Value) and item.material_id and item.formula:
            contents.formulas.setdefault(item.material_id, item.formula)
    seen: set[tuple[object, ...]] = set()
    for item in given:
        if isinstance(item, Structure):
            contents.poscars.setdefault(item.material_id, item.poscar)
        elif isinstance(item, Tensor):
            contents.tensors.setdefault((item.material_id, item.name), item)
        elif reason := _refused(item, contents, seen):
            contents.left_out[reason] += 1
    contents.values += _element_counts(contents)
    return contents


def _refused(value: Value, contents: Contents, seen: set[tuple[object, ...]]) -> str:
    """Keep the value, or say why not."""
    formula, key_of = value.formula, contents.key_of
    if value.material_id:
        held = contents.formulas.get(value.material_id)
        if held is None:
            return "its material's formula is not known"
        if formula and key_of(formula) != key_of(held):
            return "its material has another composition elsewhere"
        formula = held
    if not formula:
        return "neither material nor formula is known"
    if isinstance(value.value, float) and not math.isfinite(value.value):
        return "it is not finite"
    try:
        key = key_of(formula)
    except ToolError:
        return "its formula cannot be read"
    # One database speaks through several files: what it repeats counts once.
    spoken = value.origin.source.partition(", as recorded in ")[0]
    if value.property in _OF_THE_CRYSTAL:
        spoken = "any database"
    material = value.material_id or formula
    said = (material, value.property, value.value)
    if (*said, spoken) in seen:
        return "it repeats another"
    if "reference in LLaMP" in value.origin.method and _near(value, key, seen):
        return "it repeats another"
    seen.add((*said, spoken))
    seen.add((key, value.property, _rounded(value.value), "any"))
    contents.values.append(
        Value(value.material_id, formula, value.property, value.value, value.origin)
    )
    return ""


def _near(value: Value, key: str, seen: set[tuple[object, ...]]) -> bool:
    return (key, value.property, _rounded(value.value), "any") in seen


def _rounded(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _element_counts(contents: Contents) -> list[Value]:
    origin = Origin("counted from the formula", "Materials Project")
    return [
        Value(name, formula, "nelements", len(parse_formula(formula)), origin)
        for name, formula in contents.formulas.items()
    ]


def _write(path: Path, contents: Contents, digests: dict[str, str]) -> None:
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA page_size = 4096")
        connection.exec_driver_sql("PRAGMA journal_mode = OFF")
        schema.create(connection)
        for table, rows in _tables(contents, digests):
            connection.execute(sa.insert(table), rows)
        connection.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM")


@dataclass(frozen=True, slots=True)
class _Ids:
    """The row numbers of what other rows refer to."""

    formulas: dict[str, int]
    materials: dict[str, int]
    properties: dict[str, int]
    origins: dict[Origin, int]


def _ids(contents: Contents) -> _Ids:
    items: list[Value | Tensor] = [*contents.values, *contents.tensors.values()]
    return _Ids(
        _numbered(sorted({value.formula for value in contents.values})),
        _numbered(sorted(contents.formulas, key=material_order)),
        _numbered(sorted({value.property for value in contents.values})),
        _numbered(sorted({item.origin for item in items}, key=_origin_order)),
    )


def _numbered(items: list[_T]) -> dict[_T, int]:
    return {item: index for index, item in enumerate(items, 1)}


def _tables(
    contents: Contents, digests: dict[str, str]
) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
    """Every table with its rows, in the order in which they refer to one another."""
    ids = _ids(contents)
    kinds = {each.name: each for each in PROPERTIES}
    return [
        (schema.META, _meta(digests)),
        (schema.FORMULAS, [_formula(text) | {"id": i} for text, i in ids.formulas.items()]),
        (schema.PROPERTIES, [
            {"id": index, "name": name, "unit": kinds[name].unit, "kind": kinds[name].kind}
            for name, index in ids.properties.items()
        ]),
        (schema.ORIGINS, [
            {"id": i, "method": o.method, "source": o.source, "licence": o.licence}
            for o, i in ids.origins.items()
        ]),
        (schema.MATERIALS, _materials(contents, ids)),
        (schema.QUANTITIES, _quantities(contents, ids)),
        (schema.TENSORS, [
            {
                "material": ids.materials[name],
                "name": kind,
                "rows": json.dumps(tensor.rows),
                "unit": tensor.unit,
                "origin": ids.origins[tensor.origin],
            }
            for (name, kind), tensor in sorted(contents.tensors.items())
        ]),
    ]  # fmt: skip


def _quantities(contents: Contents, ids: _Ids) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "material": ids.materials.get(value.material_id or ""),
            "formula": ids.formulas[value.formula],
            "property": ids.properties[value.property],
            "number": None if isinstance(value.value, str) else float(value.value),
            "text": value.value if isinstance(value.value, str) else None,
            "origin": ids.origins[value.origin],
        }
        for value in contents.values
    ]
    rows.sort(key=_quantity_order)
    return [row | {"id": index} for index, row in enumerate(rows, 1)]


def _materials(contents: Contents, ids: _Ids) -> list[dict[str, Any]]:
    groups: dict[str, str] = {}
    for value in contents.values:
        if value.property == "space_group" and value.material_id:
            groups.setdefault(value.material_id, str(value.value))
    return [
        {
            "id": index,
            "material_id": name,
            "formula": ids.formulas[contents.formulas[name]],
            "space_group": groups.get(name, ""),
            **_structure(contents.poscars.get(name)),
        }
        for name, index in ids.materials.items()
    ]


def _structure(poscar: str | None) -> dict[str, bytes | None]:
    if poscar is None:
        return {"poscar": None, "fingerprint": None}
    from ragkit.agents.materials.crystals.similarity import fingerprint

    vector = fingerprint(poscar).astype("<f2")
    return {"poscar": zlib.compress(poscar.encode(), 9), "fingerprint": vector.tobytes()}


def _formula(text: str) -> dict[str, str]:
    elements = sorted(parse_formula(text))
    return {"formula": text, "reduced": reduced(text), "elements": f"-{'-'.join(elements)}-"}


def _meta(digests: dict[str, str]) -> list[dict[str, str]]:
    combined = text_digest(json.dumps(digests, sort_keys=True))
    values = {
        "format": schema.FORMAT,
        "version": f"ragkit materials snapshot {schema.FORMAT} ({combined[:8]})",
        "attribution": ATTRIBUTION,
    } | {f"blake2b {name}": digest for name, digest in digests.items()}
    return [{"key": key, "value": value} for key, value in sorted(values.items())]


def _origin_order(origin: Origin) -> tuple[str, str, str]:
    return (origin.source, origin.method, origin.licence)


def _quantity_order(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["material"] or math.inf,
        row["formula"],
        row["property"],
        row["origin"],
        -math.inf if row["number"] is None else row["number"],
        row["text"] or "",
    )


if __name__ == "__main__":
    main()
