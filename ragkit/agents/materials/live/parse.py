"""Parse documents of the Materials Project's API field by field.

Unknown fields are ignored, missing fields are absent, and invalid fields or documents are reported
as problems without failing the search.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragkit.agents.ledger import Quantity, Scalar
from ragkit.agents.materials.backend import Endpoint
from ragkit.agents.materials.chemistry.formulas import parse_formula
from ragkit.agents.materials.chemistry.ids import canonical_id
from ragkit.agents.materials.chemistry.names import ELEMENTS
from ragkit.agents.materials.chemistry.properties import INTEGER_PROPERTIES, PATHS, Property
from ragkit.agents.tools import ToolError

SOURCE = "Materials Project"
LICENCE = "CC BY 4.0"
MATERIAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,59}")
_FLAGS = {"true": True, "false": False}
_PATH_BY_NAME = {name: path for path, name in PATHS.items()}
# Alternative names in other endpoints or releases of the server.
_OTHER_PATHS: dict[str, tuple[str, ...]] = {
    "young_modulus": ("young_modulus", "youngs_modulus"),
    "ordering": ("ordering", "magnetic_ordering"),
}
_HULL_PROPERTIES = frozenset(
    "formation_energy_per_atom energy_above_hull is_stable decomposition_enthalpy "
    "equilibrium_reaction_energy_per_atom energy_per_atom".split()
)
_STRUCTURAL_PROPERTIES = frozenset(
    "space_group spacegroup_number crystal_system point_group nsites nelements volume density "
    "density_atomic".split()
)
_ELASTIC_PREFIXES = ("k_", "g_", "universal_", "homogeneous_", "young_", "thermal_conductivity_")
_RESPONSE_PROPERTIES = frozenset(("e_total", "e_electronic", "e_ionic", "n", "e_ij_max"))
_FUNCTIONAL_MIXES = {
    "GGA_GGA+U_R2SCAN": "mixed GGA/GGA+U/r2SCAN",
    "GGA_GGA+U": "mixed GGA/GGA+U",
    "R2SCAN": "r2SCAN",
    "r2SCAN": "r2SCAN",
}


@dataclass(slots=True)
class Record:
    """Parsed document.

    Attributes:
        material_id: Identifier, such as "mp-2534".
        formula: Formula as the document writes it.
        elements: Elements of the formula.
        space_group: International symbol, "" if the document has none.
        quantities: Quantities by property.
        problems: Descriptions of invalid values.
    """

    material_id: str
    formula: str
    elements: frozenset[str]
    space_group: str
    quantities: dict[str, Quantity] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def server_fields(endpoint: Endpoint, properties: Iterable[Property]) -> str:
    """Return the value of the parameter `_fields` for properties of an endpoint.

    >>> from ragkit.agents.materials.chemistry.properties import find_property
    >>> server_fields("elasticity", [find_property("k_vrh")])
    'bulk_modulus,formula_pretty,material_id,origins,symmetry'
    """
    names = {"material_id", "formula_pretty", "symmetry", "origins"}
    if endpoint == "thermo":
        names |= {"thermo_type", "energy_type"}
    for spec in properties:
        names |= {path.partition(".")[0] for path in _paths(endpoint, spec.name)}
    return ",".join(sorted(names))


def _paths(endpoint: Endpoint, name: str) -> tuple[str, ...]:
    if name == "ordering":
        return _OTHER_PATHS[name][endpoint == "electronic_structure" :][:1]
    return _OTHER_PATHS.get(name) or (_PATH_BY_NAME.get(name, name),)


def read_record(
    document: object, endpoint: Endpoint, properties: Iterable[Property], version: str
) -> Record | str:
    """Parse a document, or return the reason why it is invalid."""
    if not isinstance(document, Mapping):
        return f"a record of {endpoint} is a {type(document).__name__} and no object"
    material_id = document.get("material_id")
    if not isinstance(material_id, str) or not MATERIAL_ID.fullmatch(material_id):
        return f"a record of {endpoint} has no material id ({_short_repr(material_id)})"
    material_id = canonical_id(material_id)
    formula = document.get("formula_pretty")
    if not isinstance(formula, str):
        return f"{material_id} has no formula in {endpoint} ({_short_repr(formula)})"
    try:
        elements = frozenset(parse_formula(formula))
    except ToolError:
        shown = _short_repr(formula)
        return f"{material_id} has a formula in {endpoint} that cannot be read ({shown})"
    symmetry = document.get("symmetry")
    symbol = symmetry.get("symbol") if isinstance(symmetry, Mapping) else None
    record = Record(material_id, formula, elements, symbol[:20] if isinstance(symbol, str) else "")
    for spec in properties:
        raw = _first_present(document, _paths(endpoint, spec.name))
        if raw is None:
            continue
        value = _value(raw, spec)
        if value is not None:
            record.quantities[spec.name] = Quantity(
                value=value,
                unit=spec.unit,
                property=spec.name,
                subject=formula,
                subject_id=material_id,
                variant=record.space_group,
                kind="material",
                method=_method(spec.name, endpoint, document),
                source=SOURCE,
                licence=LICENCE,
                version=version,
            )
        elif not (isinstance(raw, float) and math.isnan(raw)) and raw != "NaN":
            record.problems.append(
                f"{material_id}: {spec.name} is {_short_repr(raw)}, no {spec.kind}"
            )
    return record


def _first_present(document: Mapping[str, Any], paths: Sequence[str]) -> Any:
    """Return the value at the first path that exists in the document, or None."""
    for path in paths:
        node: Any = document
        for step in path.split("."):
            node = node.get(step) if isinstance(node, Mapping) else None
        if node is not None:
            return node
    return None


def _value(raw: object, spec: Property) -> Scalar | None:
    """Convert a raw value to the type of its property; return None if it is invalid."""
    if spec.kind == "flag":
        if isinstance(raw, bool):
            return raw
        return _FLAGS.get(raw.strip().lower()) if isinstance(raw, str) else None
    if spec.kind == "text":
        plain = raw.strip() if isinstance(raw, str) else ""
        plain = plain.removeprefix("Ordering.")
        return plain if 0 < len(plain) <= 60 and plain.isprintable() else None
    number = finite(raw)
    if number is None:
        return None
    if spec.name in INTEGER_PROPERTIES:
        return int(number) if number.is_integer() else None
    return number


def finite(raw: object) -> float | None:
    """Convert a JSON number or numeric text to a finite float; return None if that fails.

    >>> finite("0.5"), finite(3), finite(True), finite(float("nan"))
    (0.5, 3.0, None, None)
    """
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _method(name: str, endpoint: Endpoint, document: Mapping[str, Any]) -> str:
    """Return the level of theory of a property and the id of its task, as far as known."""
    if name in _STRUCTURAL_PROPERTIES:
        return "DFT-relaxed structure"
    if name in _HULL_PROPERTIES:
        thermo_type = document.get("thermo_type")
        mix = thermo_type if isinstance(thermo_type, str) else "GGA_GGA+U_R2SCAN"
        method = f"DFT ({_FUNCTIONAL_MIXES.get(mix, mix[:40])})"
        kind = document.get("energy_type")
        has_energy_type = endpoint == "thermo" and isinstance(kind, str) and 0 < len(kind) <= 20
        return f"{method}, this entry {kind}" if has_energy_type else method
    if name.startswith(_ELASTIC_PREFIXES):
        method = "DFT (PBE), elastic tensor"
    elif name in _RESPONSE_PROPERTIES:
        method = "DFPT (PBE, GGA or GGA+U)"
    else:
        method = "DFT (GGA, GGA+U or r2SCAN)"
    task = _task(endpoint, document.get("origins"))
    return f"{method}, task {task}" if task else method


def _task(endpoint: Endpoint, origins: object) -> str:
    """Return the id of the calculation that the document names as the endpoint's origin."""
    for origin in origins if isinstance(origins, list) else ():
        if isinstance(origin, Mapping) and origin.get("name") == endpoint:
            task = origin.get("task_id")
            if isinstance(task, str) and MATERIAL_ID.fullmatch(task):
                return canonical_id(task)
            return ""
    return ""


def poscar(structure: object, title: str) -> str:
    """Convert a structure of the API (pymatgen's JSON format) to POSCAR text.

    Atoms are grouped by element.

    Raises:
        ToolError: The structure is invalid or disordered.
    """
    try:
        lattice, sites = _matrix(structure), _sites(structure)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ToolError(
            f"the structure of {title} cannot be read ({type(error).__name__}: {error}). "
            "Ask for another material."
        ) from None
    symbols = list(dict.fromkeys(symbol for symbol, _ in sites))
    groups = [[position for symbol, position in sites if symbol == element] for element in symbols]
    lines = [
        " ".join(title.split()),
        "1.0",
        *(_format_vector(row) for row in lattice),
        " ".join(symbols),
        " ".join(str(len(group)) for group in groups),
        "Direct",
    ]
    for symbol, group in zip(symbols, groups, strict=True):
        lines += [f"{_format_vector(position)} {symbol}" for position in group]
    return "\n".join(lines) + "\n"


def _matrix(structure: Any) -> list[list[float]]:
    rows = structure["lattice"]["matrix"]
    if len(rows) != 3:
        raise ValueError(f"the lattice has {len(rows)} vectors")
    return [_parse_vector(row) for row in rows]


def _sites(structure: Any) -> list[tuple[str, list[float]]]:
    sites = []
    for site in structure["sites"]:
        species = site["species"]
        if len(species) != 1 or finite(species[0].get("occu", 1)) != 1:
            raise ValueError("a site is disordered, which POSCAR cannot say")
        symbol = re.sub(r"\d*[+-]$", "", str(species[0]["element"]))
        if symbol not in ELEMENTS:
            raise ValueError(f"{symbol[:20]!r} is no element")
        sites.append((symbol, _parse_vector(site["abc"])))
    if not sites:
        raise ValueError("it has no sites")
    return sites


def _parse_vector(row: Any) -> list[float]:
    numbers = [finite(number) for number in row]
    if len(numbers) != 3 or None in numbers:
        raise ValueError(f"{_short_repr(row)} are not three numbers")
    return [number for number in numbers if number is not None]


def _format_vector(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.10f}" for number in numbers)


def recipe(document: object) -> dict[str, Any] | None:
    """Convert a text-mined synthesis to a short record; return None for an invalid document.

    The paragraph and empty fields are omitted.
    """
    if not isinstance(document, Mapping):
        return None
    target = _material_name(document.get("target"))
    if not target:
        return None
    row: dict[str, Any] = {
        "target": target,
        "synthesis_type": _text(document.get("synthesis_type")),
        "reaction": _text(document.get("reaction_string")),
        "precursors": [
            name for item in _list(document.get("precursors")) if (name := _material_name(item))
        ],
        "operations": [
            step for item in _list(document.get("operations")) if (step := _operation(item))
        ],
        "doi": _text(document.get("doi")),
        "source": SOURCE,
        "licence": LICENCE,
    }
    return {key: value for key, value in row.items() if value}


def _material_name(raw: object) -> str:
    if not isinstance(raw, Mapping):
        return ""
    return _text(raw.get("material_formula")) or _text(raw.get("material_string"))


def _operation(raw: object) -> dict[str, str]:
    """Convert a step with its conditions: {"type": "Heating", "temperature": "700-900 °C"}."""
    if not isinstance(raw, Mapping):
        return {}
    conditions = raw.get("conditions")
    details: Mapping[str, Any] = conditions if isinstance(conditions, Mapping) else {}
    atmosphere = [_text(item) for item in _list(details.get("heating_atmosphere"))]
    step = {
        "type": _text(raw.get("type")).removesuffix("Operation").removesuffix("Synthesis"),
        "word": _text(raw.get("token")),
        "temperature": ", ".join(
            filter(None, map(_format_range, _list(details.get("heating_temperature"))))
        ),
        "time": ", ".join(filter(None, map(_format_range, _list(details.get("heating_time"))))),
        "atmosphere": ", ".join(filter(None, atmosphere)),
        "device": _text(details.get("mixing_device")),
        "media": _text(details.get("mixing_media")),
    }
    return {key: value for key, value in step.items() if value}


def _format_range(raw: object) -> str:
    """Format numbers with their unit, such as "700-900 °C"."""
    if not isinstance(raw, Mapping):
        return ""
    low, high = finite(raw.get("min_value")), finite(raw.get("max_value"))
    values = [number for value in _list(raw.get("values")) if (number := finite(value)) is not None]
    if values:
        text = " and ".join(f"{value:g}" for value in values[:6])
    elif low is None and high is None:
        return ""
    elif low is None or high is None or low == high:
        text = f"{low if low is not None else high:g}"
    else:
        text = f"{low:g}-{high:g}"
    return f"{text} {_text(raw.get('units'))}".strip()


def _text(raw: object) -> str:
    return " ".join(raw.split())[:300] if isinstance(raw, str) else ""


def _list(raw: object) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _short_repr(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 40 else f"{text[:40]}…"
