"""Database schema of the snapshot, shared by `tools.materials_snapshot` and `SnapshotBackend`.

The schema is normalized: a value is a number (or text) with references to a property, a formula and
an origin. Values without a material are identified by formula only.
"""

from __future__ import annotations

import sqlalchemy as sa

FORMAT = "1"
"""Version of the schema; snapshots of other versions are rejected."""

METADATA = sa.MetaData()

META = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),  # "format", "version", "attribution", "sha256 …"
    sa.Column("value", sa.Text, nullable=False),
)

FORMULAS = sa.Table(
    "formulas",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("formula", sa.Text, nullable=False, unique=True),  # as the source writes it
    sa.Column("reduced", sa.Text, nullable=False),  # by `chemistry.formulas.reduced`
    sa.Column("elements", sa.Text, nullable=False),  # "-As-Ga-", so that "-Ga-" can be searched
)

MATERIALS = sa.Table(
    "materials",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order of the numbers in material_id
    sa.Column("material_id", sa.Text, nullable=False, unique=True),
    sa.Column("formula", sa.ForeignKey("formulas.id"), nullable=False),
    sa.Column("space_group", sa.Text, nullable=False),  # "" if not known
    sa.Column("poscar", sa.LargeBinary),  # zlib
    sa.Column("fingerprint", sa.LargeBinary),  # float16 (64,), little-endian: see `similarity`
)

PROPERTIES = sa.Table(
    "properties",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # "number", "text", "flag"
)

ORIGINS = sa.Table(
    "origins",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("licence", sa.Text, nullable=False),
)

QUANTITIES = sa.Table(
    "quantities",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("material", sa.ForeignKey("materials.id")),  # NULL: identified by formula only
    sa.Column("formula", sa.ForeignKey("formulas.id"), nullable=False),
    sa.Column("property", sa.ForeignKey("properties.id"), nullable=False),
    sa.Column("number", sa.Float),  # flags are 0 and 1
    sa.Column("text", sa.Text),
    sa.Column("origin", sa.ForeignKey("origins.id"), nullable=False),
)

TENSORS = sa.Table(
    "tensors",
    METADATA,
    sa.Column("material", sa.ForeignKey("materials.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("rows", sa.Text, nullable=False),  # JSON, a list of rows
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("origin", sa.ForeignKey("origins.id"), nullable=False),
)

INDEXES = (
    sa.Index("formulas_by_reduced", FORMULAS.c.reduced),
    sa.Index("materials_by_formula", MATERIALS.c.formula),
    sa.Index("quantities_by_material", QUANTITIES.c.material, QUANTITIES.c.property),
    sa.Index("quantities_by_formula", QUANTITIES.c.formula),
)


def create(connection: sa.Connection) -> None:
    """Create the tables and indexes in a fixed order."""
    for table in METADATA.sorted_tables:
        connection.execute(sa.schema.CreateTable(table))
    for index in INDEXES:
        connection.execute(sa.schema.CreateIndex(index))
