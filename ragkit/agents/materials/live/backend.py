"""Back end for the Materials Project's live database; needs a key and a network."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from ragkit.agents.materials.backend import Endpoint, Page, Query, material_order
from ragkit.agents.materials.chemistry.formulas import reduced
from ragkit.agents.materials.chemistry.ids import canonical_id
from ragkit.agents.materials.chemistry.properties import find_property, properties_of
from ragkit.agents.materials.live import parse as live_parse
from ragkit.agents.materials.live.filters import Clause, endpoint_of
from ragkit.agents.materials.live.http import ENDPOINT, RateLimiter, RequestLimits, Service
from ragkit.agents.materials.live.pages import Pages
from ragkit.agents.materials.live.search import Search, checked_id, normalized
from ragkit.agents.tools import ToolError

_MAX_RECIPES_PER_REQUEST = 10  # limit of the server


class LiveMaterialsProject:
    """Materials data from the live API; implements `backend.Backend`.

    A search fetches all matching records before it sorts, counts and truncates them, so minima and
    counts are exact. Fetched records are cached in the object: create a new object for a new
    version of the database.

    Args:
        api_key: Key of the Materials Project; None uses MP_API_KEY.
        endpoint: Address of the server: https, or http on this machine.
        cache: Folder for an on-disk cache of fetched pages; None caches in memory only.
        thermo_type: Convex hull that the energies of thermo refer to.
        limits: Limits of requests and searches.
        rate_limiter: Limits the rate of requests and waits between attempts.

    Raises:
        ToolError: The key is missing, or RAGKIT_OFFLINE is set and the server is not local.
        ValueError: The endpoint is not secure enough for a key.

    >>> from ragkit.testing.materials_project import MaterialsProjectServer
    >>> with MaterialsProjectServer() as server:
    ...     live = LiveMaterialsProject(server.key, endpoint=server.url)
    ...     page = live.search("elasticity", Query(formulas=("GaAs",), fields=("k_vrh",)))
    >>> page.rows[0].material_id, page.rows[0].quantities[0].unit
    ('mp-2534', 'GPa')
    """

    # Filters that an endpoint accepts besides material ids; others are resolved through summary.
    takes: ClassVar[Mapping[Endpoint, frozenset[str]]] = {
        "summary": frozenset({"formulas", "chemsys", "elements", "exclude_elements"}),
        "electronic_structure": frozenset({"formulas", "chemsys", "elements", "exclude_elements"}),
        "thermo": frozenset({"formulas", "chemsys"}),
        "elasticity": frozenset(),
        "magnetism": frozenset(),
        "dielectric": frozenset(),
        "piezoelectric": frozenset(),
    }

    def __init__(
        self,
        api_key: str | None = None,
        *,
        endpoint: str = ENDPOINT,
        cache: str | Path | None = None,
        thermo_type: Literal["GGA_GGA+U_R2SCAN", "GGA_GGA+U", "r2SCAN"] = "GGA_GGA+U_R2SCAN",
        limits: RequestLimits = RequestLimits(),  # noqa: B008 - frozen
        rate_limiter: RateLimiter | None = None,
    ) -> None:
        self.name: Literal["snapshot", "live"] = "live"
        self.version = ""  # set by `connect`
        self._thermo_type = thermo_type
        self._service = Service(api_key, endpoint, limits, rate_limiter or RateLimiter())
        self._pages = Pages(self._service, limits, Path(cache) if cache is not None else None)
        self._connected = False

    def __repr__(self) -> str:
        return f"LiveMaterialsProject(endpoint={self._service.url!r}, version={self.version!r})"

    def close(self) -> None:
        """Close the connections to the server."""
        self._service.close()

    def connect(self) -> None:
        """Fetch the version of the database, as the first search does automatically.

        The key is not checked.

        Raises:
            ToolError: The server cannot be reached or does not return a version.
        """
        if self._connected:
            return
        answer = self._service.get("heartbeat", {})
        release, version = answer.get("version"), answer.get("db_version")
        if not isinstance(version, str):
            raise ToolError(
                f"{self._service.host} answers, but names no database version, so its values could "
                "not be told from those of another day. Check the endpoint's address."
            )
        self._service.release = release if isinstance(release, str) else ""
        self.version = self._pages.version = version
        self._connected = True

    def search(self, endpoint: Endpoint, query: Query) -> Page:
        """Return the materials that match and have at least one of the fields.

        Without `sort_fields`, thermo is sorted by energy above hull, the others by material id.

        Raises:
            ToolError: A field, property or value is invalid; too many records match; or the server
                fails (the next call resumes at the failed page).
        """
        shown = tuple(find_property(name, endpoint) for name in query.fields)
        shown = tuple(dict.fromkeys(shown or properties_of(endpoint)))
        clauses = [Clause.of(condition) for condition in query.where]
        sort_fields = query.sort_fields or (("energy_above_hull",) if endpoint == "thermo" else ())
        keys = [
            (find_property(name.removeprefix("-")), name.startswith("-")) for name in sort_fields
        ]
        for key, _ in keys:
            endpoint_of(key)
        normalized_query = normalized(query)
        self.connect()
        search = Search(
            self._pages, normalized_query, clauses, takes=self.takes, thermo_type=self._thermo_type
        )
        return search.page(endpoint, shown, keys)

    def structure(self, material_id: str) -> str | None:
        """Return the crystal structure as POSCAR text, or None if it is not available.

        Raises:
            ToolError: The id is invalid, the structure is disordered, or the server fails.
        """
        self.connect()
        params = {
            "material_ids": checked_id(material_id),
            "_fields": "formula_pretty,material_id,structure",
        }
        for document in self._pages.records("materials/summary/", params):
            if isinstance(document, Mapping) and document.get("structure"):
                formula = str(document.get("formula_pretty", ""))[:60]
                title = f"{formula} {material_id}, Materials Project {self.version}, CC BY 4.0"
                return live_parse.poscar(document["structure"], title)
        return None

    def syntheses(
        self, formula: str, keywords: Sequence[str], limit: int = 5
    ) -> list[Mapping[str, Any]]:
        """Return the first `limit` text-mined recipes for a target, without their paragraphs.

        Raises:
            ToolError: The formula is invalid, or the server fails.
        """
        self.connect()
        params = {"target_formula": reduced(formula)}
        words = [word.replace(",", " ").strip() for word in keywords]
        if any(words):
            params["keywords"] = ",".join(filter(None, words))
        if limit < 1:
            return []
        size = min(limit, _MAX_RECIPES_PER_REQUEST)
        documents = self._pages.records("materials/synthesis/", params, page_size=size, first=limit)
        return [row for document in documents if (row := live_parse.recipe(document)) is not None]

    def similar(self, material_id: str, limit: int) -> list[tuple[str, str, float]]:
        """Return (material id, formula, dissimilarity in %) of similar structures, nearest first.

        They come from the server's precomputed list; if it is empty, from a search with the
        material's structural fingerprint.

        Raises:
            ToolError: The id is invalid, or the server fails.
        """
        if limit < 1:
            return []
        self.connect()
        own_id = checked_id(material_id)
        params = {"material_ids": own_id, "_fields": "feature_vector,material_id,sim"}
        neighbours: dict[str, tuple[str, str, float]] = {}
        for document in self._pages.records("materials/similarity/", params):
            if not isinstance(document, Mapping):
                continue
            entries = document.get("sim") or self._matches(document.get("feature_vector"), limit)
            for entry in entries if isinstance(entries, list) else ():
                row = _neighbour(entry)
                if row is not None and row[0] != own_id:
                    neighbours.setdefault(row[0], row)
        ranked = sorted(neighbours.values(), key=lambda row: (row[2], material_order(row[0])))
        return ranked[:limit]

    def _matches(self, vector: object, limit: int) -> list[Any]:
        """Search by fingerprint; the server expects the unit vector and the norm separately."""
        components = vector if isinstance(vector, list) else []
        numbers = [
            number
            for component in components
            if (number := live_parse.finite(component)) is not None
        ]
        norm = math.hypot(*numbers)
        if not norm or len(numbers) != len(components):
            return []
        packed = struct.pack(f"<{len(numbers)}d", *(number / norm for number in numbers))
        params = {
            "feature_vector_hex": zlib.compress(packed).hex(),
            "feature_vector_norm": repr(norm),
        }
        size = min(limit + 1, 1000)  # the material itself is among them
        return self._pages.records(
            "materials/similarity/match/", params, page_size=size, first=limit + 1
        )


def _neighbour(entry: object) -> tuple[str, str, float] | None:
    """Parse a list entry (with "dissimilarity") or a match (with "score") to a row of `similar`."""
    if not isinstance(entry, Mapping):
        return None
    name = entry.get("task_id") or entry.get("material_id")
    formula = entry.get("formula") or entry.get("formula_pretty")
    distance = live_parse.finite(entry.get("dissimilarity"))
    score = live_parse.finite(entry.get("score"))
    if distance is None and score is not None:
        distance = 100 * (1 - score)
    if not isinstance(name, str) or not live_parse.MATERIAL_ID.fullmatch(name):
        return None
    if not isinstance(formula, str) or distance is None:
        return None
    return canonical_id(name), formula[:60], distance
