"""Documents of the Materials Project's API, read field by field; a bad one loses itself only.

Unknown fields are ignored and missing ones are absent. What is there and cannot be read gives a
reason, which the search reports.
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
from ragkit.agents.materials.chemistry.names import ELEMENTS
from ragkit.agents.materials.chemistry.properties import PATHS, WHOLE, Property
from ragkit.agents.tools import ToolError

SOURCE = "Materials Project"
LICENCE = "CC BY 4.0"
MATERIAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,59}")
_FLAGS = {"true": True, "false": False}
_PATH_OF = {name: path for path, name in PATHS.items()}
# Where an endpoint, or a release of the server, has another name for it.
_OTHER_PATHS: dict[str, tuple[str, ...]] = {
    "young_modulus": ("young_modulus", "youngs_modulus"),
    "ordering": ("ordering", "magnetic_ordering"),
}
_HULL = frozenset(
    "formation_energy_per_atom energy_above_hull is_stable decomposition_enthalpy "
    "equilibrium_reaction_energy_per_atom energy_per_atom".split()
)
_STRUCTURAL = frozenset(
    "space_group spacegroup_number crystal_system point_group nsites nelements volume density "
    "density_atomic".split()
)
_ELASTIC = ("k_", "g_", "universal_", "homogeneous_", "young_", "thermal_conductivity_")
_LINEAR_RESPONSE = frozenset(("e_total", "e_electronic", "e_ionic", "n", "e_ij_max"))
_MIXES = {
    "GGA_GGA+U_R2SCAN": "mixed GGA/GGA+U/r2SCAN",
    "GGA_GGA+U": "mixed GGA/GGA+U",
    "R2SCAN": "r2SCAN",
    "r2SCAN": "r2SCAN",
}


@dataclass(slots=True)
class Record:
    """What was read of a document.

    Attributes:
        material_id: "mp-2534".
        formula: As the document writes it.
        elements: In it.
        space_group: International symbol, "" if the document has none.
        quantities: By property.
        unread: Values that are there and make no sense, each with its reason.
    """

    material_id: str
    formula: str
    elements: frozenset[str]
    space_group: str
    quantities: dict[str, Quantity] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def server_fields(endpoint: Endpoint, properties: Iterable[Property]) -> str:
    """The fields to ask for, as the parameter `_fields` has them.

    >>> from ragkit.agents.materials.chemistry.properties import find_property
    >>> server_fields("elasticity", [find_property("k_vrh")])
    'bulk_modulus,formula_pretty,material_id,origins,symmetry'
    """
    names = {"material_id", "formula_pretty", "symmetry", "origins"}
    if endpoint == "thermo":
        names |= {"thermo_type", "energy_type"}
    for each in properties:
        names |= {path.partition(".")[0] for path in _paths(endpoint, each.name)}
    return ",".join(sorted(names))


def _paths(endpoint: Endpoint, name: str) -> tuple[str, ...]:
    if name == "ordering":
        return _OTHER_PATHS[name][endpoint == "electronic_structure" :][:1]
    return _OTHER_PATHS.get(name) or (_PATH_OF.get(name, name),)


def read_record(
    document: object, endpoint: Endpoint, properties: Iterable[Property], version: str
) -> Record | str:
    """The record of a document, or why it is none."""
    if not isinstance(document, Mapping):
        return f"a record of {endpoint} is a {type(document).__name__} and no object"
    material_id = document.get("material_id")
    if not isinstance(material_id, str) or not MATERIAL_ID.fullmatch(material_id):
        return f"a record of {endpoint} has no material id ({_shown(material_id)})"
    formula = document.get("formula_pretty")
    if not isinstance(formula, str):
        return f"{material_id} has no formula in {endpoint} ({_shown(formula)})"
    try:
        elements = frozenset(parse_formula(formula))
    except ToolError:
        return f"{material_id} has a formula in {endpoint} that cannot be read ({_shown(formula)})"
    symmetry = document.get("symmetry")
    symbol = symmetry.get("symbol") if isinstance(symmetry, Mapping) else None
    record = Record(material_id, formula, elements, symbol[:20] if isinstance(symbol, str) else "")
    for each in properties:
        given = _first(document, _paths(endpoint, each.name))
        if given is None:
            continue
        value = _value(given, each)
        if value is not None:
            record.quantities[each.name] = Quantity(
                value=value,
                unit=each.unit,
                property=each.name,
                subject=formula,
                subject_id=material_id,
                variant=record.space_group,
                kind="material",
                method=_method(each.name, endpoint, document),
                source=SOURCE,
                licence=LICENCE,
                version=version,
            )
        elif not (isinstance(given, float) and math.isnan(given)) and given != "NaN":
            record.unread.append(f"{material_id}: {each.name} is {_shown(given)}, no {each.kind}")
    return record


def _first(document: Mapping[str, Any], paths: Sequence[str]) -> Any:
    """What the document holds at the first of the paths that leads to something."""
    for path in paths:
        at: Any = document
        for step in path.split("."):
            at = at.get(step) if isinstance(at, Mapping) else None
        if at is not None:
            return at
    return None


def _value(given: object, spec: Property) -> Scalar | None:
    """The value as its property has it; None for what is no such value."""
    if spec.kind == "flag":
        if isinstance(given, bool):
            return given
        return _FLAGS.get(given.strip().lower()) if isinstance(given, str) else None
    if spec.kind == "text":
        plain = given.strip() if isinstance(given, str) else ""
        plain = plain.removeprefix("Ordering.")
        return plain if 0 < len(plain) <= 60 and plain.isprintable() else None
    number = finite(given)
    if number is None:
        return None
    if spec.name in WHOLE:
        return int(number) if number.is_integer() else None
    return number


def finite(given: object) -> float | None:
    """The number that a JSON number or a text stands for; None if it is none or not finite.

    >>> finite("0.5"), finite(3), finite(True), finite(float("nan"))
    (0.5, 3.0, None, None)
    """
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _method(name: str, endpoint: Endpoint, document: Mapping[str, Any]) -> str:
    """The level of theory, from the document where it says so; and the task it came from."""
    if name in _STRUCTURAL:
        return "DFT-relaxed structure"
    if name in _HULL:
        given = document.get("thermo_type")
        mix = given if isinstance(given, str) else "GGA_GGA+U_R2SCAN"
        method = f"DFT ({_MIXES.get(mix, mix[:40])})"
        kind = document.get("energy_type")
        named = endpoint == "thermo" and isinstance(kind, str) and 0 < len(kind) <= 20
        return f"{method}, this entry {kind}" if named else method
    if name.startswith(_ELASTIC):
        method = "DFT (PBE), elastic tensor"
    elif name in _LINEAR_RESPONSE:
        method = "DFPT (PBE, GGA or GGA+U)"
    else:
        method = "DFT (GGA, GGA+U or r2SCAN)"
    task = _task(endpoint, document.get("origins"))
    return f"{method}, task {task}" if task else method


def _task(endpoint: Endpoint, origins: object) -> str:
    """The calculation that the document names for its own property."""
    for origin in origins if isinstance(origins, list) else ():
        if isinstance(origin, Mapping) and origin.get("name") == endpoint:
            task = origin.get("task_id")
            return task if isinstance(task, str) and MATERIAL_ID.fullmatch(task) else ""
    return ""


def poscar(structure: object, title: str) -> str:
    """A structure of the API (pymatgen's form) as POSCAR text, atoms grouped by element.

    Raises:
        ToolError: It cannot be read, or a site is shared by several elements.
    """
    try:
        lattice, sites = _matrix(structure), _sites(structure)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ToolError(
            f"the structure of {title} cannot be read ({type(error).__name__}: {error}). "
            "Ask for another material."
        ) from None
    symbols = list(dict.fromkeys(symbol for symbol, _ in sites))
    groups = [[place for symbol, place in sites if symbol == each] for each in symbols]
    lines = [
        " ".join(title.split()),
        "1.0",
        *(_row(row) for row in lattice),
        " ".join(symbols),
        " ".join(str(len(group)) for group in groups),
        "Direct",
    ]
    for symbol, group in zip(symbols, groups, strict=True):
        lines += [f"{_row(place)} {symbol}" for place in group]
    return "\n".join(lines) + "\n"


def _matrix(structure: Any) -> list[list[float]]:
    rows = structure["lattice"]["matrix"]
    if len(rows) != 3:
        raise ValueError(f"the lattice has {len(rows)} vectors")
    return [_three(row) for row in rows]


def _sites(structure: Any) -> list[tuple[str, list[float]]]:
    sites = []
    for site in structure["sites"]:
        species = site["species"]
        if len(species) != 1 or finite(species[0].get("occu", 1)) != 1:
            raise ValueError("a site is disordered, which POSCAR cannot say")
        symbol = re.sub(r"\d*[+-]$", "", str(species[0]["element"]))
        if symbol not in ELEMENTS:
            raise ValueError(f"{symbol[:20]!r} is no element")
        sites.append((symbol, _three(site["abc"])))
    if not sites:
        raise ValueError("it has no sites")
    return sites


def _three(row: Any) -> list[float]:
    numbers = [finite(each) for each in row]
    if len(numbers) != 3 or None in numbers:
        raise ValueError(f"{_shown(row)} are not three numbers")
    return [each for each in numbers if each is not None]


def _row(numbers: Sequence[float]) -> str:
    return " ".join(f"{each:.10f}" for each in numbers)


def recipe(document: object) -> dict[str, Any] | None:
    """A text-mined synthesis, short: None for what is none.

    The paragraph and everything that is empty are left out.
    """
    if not isinstance(document, Mapping):
        return None
    target = _material(document.get("target"))
    if not target:
        return None
    row: dict[str, Any] = {
        "target": target,
        "synthesis_type": _text(document.get("synthesis_type")),
        "reaction": _text(document.get("reaction_string")),
        "precursors": [
            name for each in _list(document.get("precursors")) if (name := _material(each))
        ],
        "operations": [
            step for each in _list(document.get("operations")) if (step := _operation(each))
        ],
        "doi": _text(document.get("doi")),
        "source": SOURCE,
        "licence": LICENCE,
    }
    return {key: value for key, value in row.items() if value}


def _material(given: object) -> str:
    if not isinstance(given, Mapping):
        return ""
    return _text(given.get("material_formula")) or _text(given.get("material_string"))


def _operation(given: object) -> dict[str, str]:
    """A step with its conditions: {"type": "Heating", "temperature": "700-900 °C"}."""
    if not isinstance(given, Mapping):
        return {}
    conditions = given.get("conditions")
    at: Mapping[str, Any] = conditions if isinstance(conditions, Mapping) else {}
    atmosphere = [_text(each) for each in _list(at.get("heating_atmosphere"))]
    step = {
        "type": _text(given.get("type")).removesuffix("Operation").removesuffix("Synthesis"),
        "word": _text(given.get("token")),
        "temperature": ", ".join(filter(None, map(_range, _list(at.get("heating_temperature"))))),
        "time": ", ".join(filter(None, map(_range, _list(at.get("heating_time"))))),
        "atmosphere": ", ".join(filter(None, atmosphere)),
        "device": _text(at.get("mixing_device")),
        "media": _text(at.get("mixing_media")),
    }
    return {key: value for key, value in step.items() if value}


def _range(given: object) -> str:
    """Numbers with their unit, such as "700-900 °C"."""
    if not isinstance(given, Mapping):
        return ""
    low, high = finite(given.get("min_value")), finite(given.get("max_value"))
    values = [number for each in _list(given.get("values")) if (number := finite(each)) is not None]
    if values:
        shown = " and ".join(f"{each:g}" for each in values[:6])
    elif low is None and high is None:
        return ""
    elif low is None or high is None or low == high:
        shown = f"{low if low is not None else high:g}"
    else:
        shown = f"{low:g}-{high:g}"
    return f"{shown} {_text(given.get('units'))}".strip()


def _text(given: object) -> str:
    return " ".join(given.split())[:300] if isinstance(given, str) else ""


def _list(given: object) -> list[Any]:
    return given if isinstance(given, list) else []


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 40 else f"{text[:40]}…"
