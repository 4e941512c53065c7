"""The search tools: one for each endpoint of the Materials Project, one for values without ids.

They keep the rules by which LLaMP's tools make free-hand arguments reliable (arXiv:2401.17244):

1. fields come as one comma-separated text; without a limit 10 rows come back, 5 from summary;
2. properties sorted by are in the rows, and all rows are sorted before the page is cut;
3. every row tells its material id and formula, whatever the fields;
4. thermo puts the lowest energy above hull first, so the first row is the ground state, and the
   functional mix is in the method;
5. a formula may be given to every endpoint (the live server wants material ids for some: there the
   back end looks them up first);
6. synthesis keeps five recipes (in the tools of the live back end);
7. what goes wrong is an observation: errors say what to change (`ragkit.agents.tools.run_tool`).

Deviation: a page that leaves rows out says how many there are, as a value that can be cited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ragkit.agents.ledger import Quantity
from ragkit.agents.materials.arguments import IDENTITY, Given, argument_types, query_of
from ragkit.agents.materials.backend import ENDPOINTS, Backend, Endpoint, Material, Query
from ragkit.agents.materials.chemistry.formulas import reduced, suggest
from ragkit.agents.materials.chemistry.properties import SearchTarget, find_property, properties_of
from ragkit.agents.materials.snapshot.backend import SnapshotBackend
from ragkit.agents.tools import Tool, ToolError, ToolResult, tool

_ABOUT: dict[SearchTarget, str] = {
    "summary": "Any property of materials; the lowest energy is the most negative.",
    "thermo": "Formation energy, energy above hull; stable first; lowest is the most negative.",
    "elasticity": "Bulk modulus k_vrh, shear modulus g_vrh, Poisson's ratio, anisotropy.",
    "magnetism": "Magnetic ordering (FM, AFM, FiM, NM) and magnetization.",
    "dielectric": "Dielectric constants e_total, e_electronic, e_ionic, refractive index n.",
    "piezoelectric": "Largest piezoelectric modulus e_ij_max.",
    "electronic_structure": "Band gap, Fermi level, direct or metal.",
    "formula_tables": (
        "Measured band gaps and other values by formula, without material ids: "
        "never for questions about polymorphs."
    ),
}
_ARGUMENTS = {
    "formula": "One or several: GaAs, TiO2.",
    "material_ids": "One or several: mp-2534, mp-149.",
    "chemsys": "Exactly these elements: Fe-O.",
    "elements": "These and any others: Fe, O. For pure iron use formula.",
    "exclude_elements": "None of these: O, F.",
    "where": "Conditions PROPERTY OP VALUE: band_gap > 1.5, is_stable = true.",
    "fields": "Properties to return, comma-separated.",
    "sort_fields": "-x puts the highest x first, x the lowest.",
    "limit": "Rows to return, 1 to 100.",
}
# Rule 4. Materials whose distance to the hull is not held follow by formation energy.
_GROUND_STATE_FIRST = ("energy_above_hull", "formation_energy_per_atom")
_COUNTED = "count over all matching rows"
_MODULI = ("k_vrh", "k_voigt", "k_reuss", "g_vrh", "g_voigt", "g_reuss")
_TWO_MIXES = (
    "values of two functional mixes, which are not recorded: the ground state is not decided by "
    "these"
)


def search_tools(backend: Backend) -> list[Tool]:
    """A search tool for each endpoint, and one for the formula tables if the back end has them."""
    tools = [_endpoint_tool(backend, endpoint) for endpoint in ENDPOINTS]
    if isinstance(backend, SnapshotBackend):
        tools.append(_table_tool(backend))
    return tools


def related(backend: Backend, quantity: Quantity) -> list[Quantity]:
    """Other values of the same composition and property: polymorphs, methods, other sources.

    Empty where there is nothing to compare with: a count, a property unknown to the back end.
    """
    if not quantity.subject:
        return []
    try:
        spec = find_property(quantity.property)
        query = Query(formulas=(quantity.subject,), fields=(spec.name,), limit=100)
        places = [endpoint for endpoint in ENDPOINTS if endpoint in spec.places]
        rows = backend.search(places[0], query).rows if places else ()
        found = [each for row in rows for each in row.quantities]
        if isinstance(backend, SnapshotBackend) and "formula_tables" in spec.places:
            found += backend.formula_values(query)[0]
    except ToolError:
        return []
    this = replace(quantity, query="", derived_from=())
    return [each for each in dict.fromkeys(found) if each != this]


def _endpoint_tool(backend: Backend, endpoint: Endpoint) -> Tool:
    page_size = 5 if endpoint == "summary" else 10

    def search(  # noqa: PLR0913 - a tool's parameters are what the model may write
        formula: str = "",
        material_ids: str = "",
        chemsys: str = "",
        elements: str = "",
        exclude_elements: str = "",
        where: Sequence[str] = (),
        fields: str = "",
        sort_fields: str = "",
        limit: int = page_size,
    ) -> ToolResult:
        given = Given(
            formula=formula,
            material_ids=material_ids,
            chemsys=chemsys,
            elements=elements,
            exclude_elements=exclude_elements,
            where=where,
            fields=fields,
            sort_fields=sort_fields,
            limit=limit,
        )
        return _search(backend, endpoint, given)

    return _documented(search, endpoint, list(_ARGUMENTS))


def _table_tool(snapshot: SnapshotBackend) -> Tool:
    def search(  # noqa: PLR0913 - a tool's parameters are what the model may write
        formula: str = "",
        chemsys: str = "",
        elements: str = "",
        exclude_elements: str = "",
        where: Sequence[str] = (),
        fields: str = "",
        sort_fields: str = "",
        limit: int = 10,
    ) -> ToolResult:
        given = Given(
            formula=formula,
            chemsys=chemsys,
            elements=elements,
            exclude_elements=exclude_elements,
            where=where,
            fields=fields,
            sort_fields=sort_fields,
            limit=limit,
        )
        return _search_tables(snapshot, given)

    return _documented(
        search, "formula_tables", [each for each in _ARGUMENTS if each != "material_ids"]
    )


def _documented(search: Any, place: SearchTarget, arguments: list[str]) -> Tool:
    """The function as a tool whose arguments know the endpoint's properties."""
    types = argument_types(place)
    search.__annotations__ = {name: types[name] for name in arguments} | {"return": ToolResult}
    lines = "\n".join(f"    {name}: {_ARGUMENTS[name]}" for name in arguments)
    search.__doc__ = f"{_ABOUT[place]}\n\nArgs:\n{lines}\n"
    made: Tool = tool(search, name=f"search_{place}")
    return made


def _search(backend: Backend, endpoint: Endpoint, given: Given) -> ToolResult:
    snapshot = backend if isinstance(backend, SnapshotBackend) else None
    query = query_of(endpoint, given, snapshot.formulas if snapshot else list)
    if endpoint == "thermo" and not query.sort_fields:
        query = replace(query, sort_fields=_GROUND_STATE_FIRST)
    if snapshot:
        _refuse_misspelt(snapshot, query)
    page = backend.search(endpoint, query)
    only_ids = not query.fields and any(each in IDENTITY for each in given.fields.split(","))
    odd = [row for row in page.rows if _cannot_be(row)]
    rows = page.rows if query.sort_fields else [*(r for r in page.rows if r not in odd), *odd]
    evidence = [
        quantity for row in rows for quantity in _shown(row, endpoint, query, only_ids=only_ids)
    ]
    evidence.append(_count(page.total, "n_materials", backend, endpoint, given))
    text = "" if page.total else _why_nothing(snapshot, endpoint, query)
    if page.dropped:
        text = (
            f"{len(page.dropped)} records could not be read: {'; '.join(page.dropped[:3])}. {text}"
        )
    if endpoint == "thermo" and _has_two_mixes(evidence):
        text = f"{_TWO_MIXES}. {text}"
    if odd:
        text = f"{', '.join(row.material_id for row in odd)}: no modulus is below 0. {text}"
    return ToolResult(evidence, text=text.strip(), total=page.total, unit="materials")


def _cannot_be(row: Material) -> bool:
    """Whether the database holds a modulus below 0, the sign of a calculation that went wrong."""
    return any(each.property in _MODULI and float(each.value) < 0 for each in row.quantities)


def _has_two_mixes(evidence: Iterable[Quantity]) -> bool:
    """Whether a material has several formation energies, and nothing says which is of what."""
    energies = Counter(
        each.subject_id
        for each in evidence
        if each.property == "formation_energy_per_atom" and "not recorded" in each.method
    )
    return any(n > 1 for n in energies.values())


def _search_tables(snapshot: SnapshotBackend, given: Given) -> ToolResult:
    query = query_of("formula_tables", given, snapshot.formulas)
    _refuse_misspelt(snapshot, query)
    values, total = snapshot.formula_values(query)
    count = _count(total, "n_values", snapshot, "formula_tables", given)
    text = "" if total else _why_nothing(snapshot, "formula_tables", query)
    return ToolResult([*values, count], text=text, total=total, unit="values")


def _shown(
    row: Material, endpoint: Endpoint, query: Query, *, only_ids: bool
) -> Iterable[Quantity]:
    """The quantities of a row that were asked for; the main ones where no field was named."""
    if only_ids and row.quantities:
        origin = row.quantities[0]
        return [replace(origin, property="material_id", value=row.material_id, unit="", method="")]
    descending = {each.removeprefix("-"): each.startswith("-") for each in query.sort_fields}
    asked = {*query.fields, *descending}
    if not query.fields:
        asked |= {each.name for each in properties_of(endpoint) if endpoint in each.main}
        asked |= {condition.property for condition in query.where}
    kept = [each for each in row.quantities if each.property in asked] or list(row.quantities)
    # Of several values of a sort key the one that placed the row comes first.
    for name in descending:
        places = [index for index, each in enumerate(kept) if each.property == name]
        ordered = sorted(
            (kept[index] for index in places), key=_magnitude, reverse=descending[name]
        )
        for index, each in zip(places, ordered, strict=True):
            kept[index] = each
    return kept


def _magnitude(quantity: Quantity) -> tuple[float, str]:
    value = quantity.value
    return (0.0, value) if isinstance(value, str) else (float(value), "")


def _count(total: int, name: str, backend: Backend, place: SearchTarget, given: Given) -> Quantity:
    """How many match, with what they match: counts of different searches are different rows."""
    parts = [
        f"{key} {value if isinstance(value, str) else '; '.join(value)}"
        for key in ("formula", "material_ids", "chemsys", "elements", "exclude_elements", "where")
        if (value := getattr(given, key))
    ]
    parts += [f"with {given.fields}"] if given.fields else []
    return Quantity(
        value=total,
        property=name,
        method=_COUNTED,
        source=f"{place}: {', '.join(parts) or 'everything'}",
        licence="CC BY 4.0",
        version=backend.version,
    )


def _refuse_misspelt(snapshot: SnapshotBackend, query: Query) -> None:
    """A formula that is held in another spelling of upper and lower case only: SIC for SiC."""
    for formula in query.formulas:
        if not snapshot.held(formula):
            known = snapshot.formulas()
            same = [each for each in known if each.lower() == formula.lower()]
            if same:
                raise ToolError(f"nothing is held for formula {formula}. Did you mean {same[0]}?")


def _why_nothing(snapshot: SnapshotBackend | None, place: SearchTarget, query: Query) -> str:
    """What is held instead, where nothing matches."""
    if snapshot is None:
        return "Nothing matches. Loosen the conditions."
    reasons = [_why_not(snapshot, formula, place, query) for formula in query.formulas]
    for material_id in query.material_ids:
        everything = Query(material_ids=(material_id,), limit=1)
        rows = snapshot.search("summary", everything).rows
        if not rows:
            reasons.append(f"{material_id} is not held.")
        else:
            names = sorted({each.property for each in rows[0].quantities} - {"nelements"})
            reasons.append(f"{material_id} ({rows[0].formula}) does not match; of it are held: "
                           f"{', '.join(names)}.")  # fmt: skip
    return " ".join(reasons) or "No material meets all conditions. Loosen them."


def _why_not(snapshot: SnapshotBackend, formula: str, place: SearchTarget, query: Query) -> str:
    held = snapshot.held(formula)
    if not held:
        near = [each for each in suggest(formula, snapshot.formulas()) if reduced(each)]
        hint = f" Near are {', '.join(near)}." if near else ""
        return f"Nothing is held for {formula}.{hint}"
    here = {each.name for each in properties_of(place)}
    wanted = set(query.fields or here)
    mine, other = held.properties, held.table_properties
    if place == "formula_tables":
        mine, other = other, mine
    elsewhere = "an endpoint's search" if place == "formula_tables" else "search_formula_tables"
    if wanted & set(mine):
        ids = f" ({', '.join(held.material_ids[:5])})" if place != "formula_tables" else ""
        return f"{formula} is held{ids}, but no row of it meets all conditions."
    found = sorted(wanted & set(other))
    if found:
        return f"{formula} has no {', '.join(found)} here; {elsewhere} has it."
    listed = ", ".join(sorted({*mine, *other} - {"nelements"}))
    return f"{formula} is held without {', '.join(sorted(query.fields)) or place} (held: {listed})."
