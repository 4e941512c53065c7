"""Search tools: one for each endpoint of the Materials Project, one for values without ids.

They implement the rules by which LLaMP's tools make generated arguments reliable (Chiang et al.
2024, arXiv:2401.17244):

1. fields are one comma-separated string; the default limit is 10 rows, 5 for summary;
2. rows contain the properties they are sorted by, and sorting precedes truncation to a page;
3. every row has its material id and formula, whatever fields are requested;
4. thermo sorts by energy above hull, so that the first row is the ground state, and reports the
   functional mix in the method;
5. every endpoint accepts a formula (if the live server requires material ids, the back end looks
   them up first);
6. synthesis returns at most five recipes (live back end only);
7. errors become observations that say what to change (`ragkit.agents.tools.run_tool`).

Deviation: a truncated page reports the number of matches as a value that can be cited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ragkit.agents.ledger import Quantity
from ragkit.agents.materials.arguments import IDENTITY, SearchArguments, argument_types, build_query
from ragkit.agents.materials.backend import ENDPOINTS, Backend, Endpoint, Material, Query
from ragkit.agents.materials.chemistry.formulas import reduced, suggest
from ragkit.agents.materials.chemistry.properties import SearchTarget, find_property, properties_of
from ragkit.agents.materials.snapshot.backend import SnapshotBackend
from ragkit.agents.tools import Tool, ToolError, ToolResult, tool

_DESCRIPTIONS: dict[SearchTarget, str] = {
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
_ARGUMENT_DESCRIPTIONS = {
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
# Rule 4. Materials without an energy above hull follow, sorted by formation energy.
_GROUND_STATE_FIRST = ("energy_above_hull", "formation_energy_per_atom")
_COUNT_METHOD = "count over all matching rows"
_MODULI = ("k_vrh", "k_voigt", "k_reuss", "g_vrh", "g_voigt", "g_reuss")
_TWO_MIXES_NOTE = (
    "values of two functional mixes, which are not recorded: the ground state is not decided by "
    "these"
)


def search_tools(backend: Backend) -> list[Tool]:
    """Return a search tool for each endpoint, and one for the formula tables of a snapshot."""
    tools = [_endpoint_tool(backend, endpoint) for endpoint in ENDPOINTS]
    if isinstance(backend, SnapshotBackend):
        tools.append(_table_tool(backend))
    return tools


def related(backend: Backend, quantity: Quantity) -> list[Quantity]:
    """Return other values of the same composition and property (polymorphs, methods, sources).

    The list is empty for counts and for properties that the back end does not have.
    """
    if not quantity.subject:
        return []
    try:
        spec = find_property(quantity.property)
        query = Query(formulas=(quantity.subject,), fields=(spec.name,), limit=100)
        endpoints = [endpoint for endpoint in ENDPOINTS if endpoint in spec.places]
        rows = backend.search(endpoints[0], query).rows if endpoints else ()
        values = [value for row in rows for value in row.quantities]
        if isinstance(backend, SnapshotBackend) and "formula_tables" in spec.places:
            values += backend.formula_values(query)[0]
    except ToolError:
        return []
    own = replace(quantity, query="", derived_from=())
    return [value for value in dict.fromkeys(values) if value != own]


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
        arguments = SearchArguments(
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
        return _search(backend, endpoint, arguments)

    return _search_tool(search, endpoint, list(_ARGUMENT_DESCRIPTIONS))


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
        arguments = SearchArguments(
            formula=formula,
            chemsys=chemsys,
            elements=elements,
            exclude_elements=exclude_elements,
            where=where,
            fields=fields,
            sort_fields=sort_fields,
            limit=limit,
        )
        return _search_tables(snapshot, arguments)

    return _search_tool(
        search,
        "formula_tables",
        [name for name in _ARGUMENT_DESCRIPTIONS if name != "material_ids"],
    )


def _search_tool(search: Any, target: SearchTarget, arguments: list[str]) -> Tool:
    """Build a search tool, with argument types and descriptions for the target."""
    types = argument_types(target)
    search.__annotations__ = {name: types[name] for name in arguments} | {"return": ToolResult}
    lines = "\n".join(f"    {name}: {_ARGUMENT_DESCRIPTIONS[name]}" for name in arguments)
    search.__doc__ = f"{_DESCRIPTIONS[target]}\n\nArgs:\n{lines}\n"
    search_tool: Tool = tool(search, name=f"search_{target}")
    return search_tool


def _search(backend: Backend, endpoint: Endpoint, arguments: SearchArguments) -> ToolResult:
    snapshot = backend if isinstance(backend, SnapshotBackend) else None
    query = build_query(endpoint, arguments, snapshot.formulas if snapshot else list)
    if endpoint == "thermo" and not query.sort_fields:
        query = replace(query, sort_fields=_GROUND_STATE_FIRST)
    if snapshot:
        _check_case(snapshot, query)
    page = backend.search(endpoint, query)
    only_ids = not query.fields and any(name in IDENTITY for name in arguments.fields.split(","))
    invalid = [row for row in page.rows if _has_negative_modulus(row)]
    rows = (
        page.rows if query.sort_fields else [*(r for r in page.rows if r not in invalid), *invalid]
    )
    evidence = [
        quantity
        for row in rows
        for quantity in _selected_quantities(row, endpoint, query, only_ids=only_ids)
    ]
    evidence.append(_match_count(page.total, "n_materials", backend, endpoint, arguments))
    text = "" if page.total else _explain_no_match(snapshot, endpoint, query)
    if page.dropped:
        text = (
            f"{len(page.dropped)} records could not be read: {'; '.join(page.dropped[:3])}. {text}"
        )
    if endpoint == "thermo" and _has_two_mixes(evidence):
        text = f"{_TWO_MIXES_NOTE}. {text}"
    if invalid:
        text = f"{', '.join(row.material_id for row in invalid)}: no modulus is below 0. {text}"
    return ToolResult(evidence, text=text.strip(), total=page.total, unit="materials")


def _has_negative_modulus(row: Material) -> bool:
    """Return True for a negative modulus, which indicates a failed calculation."""
    return any(
        quantity.property in _MODULI and float(quantity.value) < 0 for quantity in row.quantities
    )


def _has_two_mixes(evidence: Iterable[Quantity]) -> bool:
    """Return True if a material has several formation energies of unrecorded functional mixes."""
    energies = Counter(
        quantity.subject_id
        for quantity in evidence
        if quantity.property == "formation_energy_per_atom" and "not recorded" in quantity.method
    )
    return any(n > 1 for n in energies.values())


def _search_tables(snapshot: SnapshotBackend, arguments: SearchArguments) -> ToolResult:
    query = build_query("formula_tables", arguments, snapshot.formulas)
    _check_case(snapshot, query)
    values, total = snapshot.formula_values(query)
    count = _match_count(total, "n_values", snapshot, "formula_tables", arguments)
    text = "" if total else _explain_no_match(snapshot, "formula_tables", query)
    return ToolResult([*values, count], text=text, total=total, unit="values")


def _selected_quantities(
    row: Material, endpoint: Endpoint, query: Query, *, only_ids: bool
) -> Iterable[Quantity]:
    """Return the requested quantities of a row; the endpoint's main ones if no field is named."""
    if only_ids and row.quantities:
        template = row.quantities[0]
        return [
            replace(template, property="material_id", value=row.material_id, unit="", method="")
        ]
    descending = {key.removeprefix("-"): key.startswith("-") for key in query.sort_fields}
    wanted = {*query.fields, *descending}
    if not query.fields:
        wanted |= {spec.name for spec in properties_of(endpoint) if endpoint in spec.main}
        wanted |= {condition.property for condition in query.where}
    selected = [quantity for quantity in row.quantities if quantity.property in wanted] or list(
        row.quantities
    )
    # Of several values of a sort key, the one that determined the row's position comes first.
    for name in descending:
        positions = [index for index, quantity in enumerate(selected) if quantity.property == name]
        ordered = sorted(
            (selected[index] for index in positions), key=_sort_key, reverse=descending[name]
        )
        for index, quantity in zip(positions, ordered, strict=True):
            selected[index] = quantity
    return selected


def _sort_key(quantity: Quantity) -> tuple[float, str]:
    value = quantity.value
    return (0.0, value) if isinstance(value, str) else (float(value), "")


def _match_count(
    total: int, name: str, backend: Backend, target: SearchTarget, arguments: SearchArguments
) -> Quantity:
    """Return the number of matches; its source names the filters, so that counts stay distinct."""
    parts = [
        f"{key} {value if isinstance(value, str) else '; '.join(value)}"
        for key in ("formula", "material_ids", "chemsys", "elements", "exclude_elements", "where")
        if (value := getattr(arguments, key))
    ]
    parts += [f"with {arguments.fields}"] if arguments.fields else []
    return Quantity(
        value=total,
        property=name,
        method=_COUNT_METHOD,
        source=f"{target}: {', '.join(parts) or 'everything'}",
        licence="CC BY 4.0",
        version=backend.version,
    )


def _check_case(snapshot: SnapshotBackend, query: Query) -> None:
    """Raise ToolError if an unknown formula differs from a known one only by case: SIC for SiC."""
    for formula in query.formulas:
        if not snapshot.holdings(formula):
            known = snapshot.formulas()
            matches = [
                known_formula for known_formula in known if known_formula.lower() == formula.lower()
            ]
            if matches:
                raise ToolError(
                    f"nothing is held for formula {formula}. Did you mean {matches[0]}?"
                )


def _explain_no_match(snapshot: SnapshotBackend | None, target: SearchTarget, query: Query) -> str:
    """Explain an empty result by the data that is available instead."""
    if snapshot is None:
        return "Nothing matches. Loosen the conditions."
    reasons = [_explain_formula(snapshot, formula, target, query) for formula in query.formulas]
    for material_id in query.material_ids:
        everything = Query(material_ids=(material_id,), limit=1)
        rows = snapshot.search("summary", everything).rows
        if not rows:
            reasons.append(f"{material_id} is not held.")
        else:
            names = sorted({quantity.property for quantity in rows[0].quantities} - {"nelements"})
            reasons.append(f"{material_id} ({rows[0].formula}) does not match; of it are held: "
                           f"{', '.join(names)}.")  # fmt: skip
    return " ".join(reasons) or "No material meets all conditions. Loosen them."


def _explain_formula(
    snapshot: SnapshotBackend, formula: str, target: SearchTarget, query: Query
) -> str:
    holdings = snapshot.holdings(formula)
    if not holdings:
        near = [known for known in suggest(formula, snapshot.formulas()) if reduced(known)]
        hint = f" Near are {', '.join(near)}." if near else ""
        return f"Nothing is held for {formula}.{hint}"
    available = {spec.name for spec in properties_of(target)}
    wanted = set(query.fields or available)
    here, elsewhere = holdings.properties, holdings.table_properties
    if target == "formula_tables":
        here, elsewhere = elsewhere, here
    other_tool = "an endpoint's search" if target == "formula_tables" else "search_formula_tables"
    if wanted & set(here):
        ids = f" ({', '.join(holdings.material_ids[:5])})" if target != "formula_tables" else ""
        return f"{formula} is held{ids}, but no row of it meets all conditions."
    there = sorted(wanted & set(elsewhere))
    if there:
        return f"{formula} has no {', '.join(there)} here; {other_tool} has it."
    listed = ", ".join(sorted({*here, *elsewhere} - {"nelements"}))
    return (
        f"{formula} is held without {', '.join(sorted(query.fields)) or target} (held: {listed})."
    )
