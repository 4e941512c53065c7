"""The live back end against a loopback server with the real API's shapes, and its failures."""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.materials.backend import ENDPOINTS, Backend, Condition, Endpoint, Query
from ragkit.agents.materials.chemistry.formulas import parse_formula
from ragkit.agents.materials.chemistry.ids import canonical_id, letter_id
from ragkit.agents.materials.chemistry.properties import properties_of
from ragkit.agents.materials.live.backend import LiveMaterialsProject
from ragkit.agents.materials.live.http import RateLimiter, RequestLimits
from ragkit.agents.materials.live.parse import Record, finite, poscar, read_record, recipe
from ragkit.agents.materials.question.reading import read_question
from ragkit.agents.tools import ToolError, run_tool, tool
from ragkit.testing.materials_project import Fault, MaterialsProjectServer
from ragkit.testing.materials_records import N_GENERATED

N_MATERIALS = N_GENERATED + 16
ALL = Query(fields=("band_gap",), limit=3)


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def rate_limiter(self, requests_per_s: float = 1000.0) -> RateLimiter:
        return RateLimiter(requests_per_s, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def server() -> Iterator[MaterialsProjectServer]:
    with MaterialsProjectServer() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(server: MaterialsProjectServer, clock: Clock) -> Iterator[LiveMaterialsProject]:
    backend = connect(server, clock)
    yield backend
    backend.close()


def connect(
    server: MaterialsProjectServer,
    clock: Clock,
    kind: type[LiveMaterialsProject] = LiveMaterialsProject,
    **options: Any,
) -> LiveMaterialsProject:
    options = {"limits": RequestLimits(page_size=100)} | options
    return kind(server.key, endpoint=server.url, rate_limiter=clock.rate_limiter(), **options)


def ids(backend: Backend, endpoint: Endpoint, query: Query) -> list[str]:
    return [row.material_id for row in backend.search(endpoint, query).rows]


def routes(server: MaterialsProjectServer) -> list[str]:
    return [each.route.removeprefix("/materials/") for each in server.seen]


def change(server: MaterialsProjectServer, route: str, name: str, **values: Any) -> None:
    next(each for each in server.documents[route] if each["material_id"] == name).update(values)


# What is found, and with what provenance.


def test_search_by_formula_gives_quantities_with_everything_to_check_them(
    live: LiveMaterialsProject,
) -> None:
    backend: Backend = live
    page = backend.search("summary", Query(formulas=("Ga2As2",), fields=("band_gap",)))
    assert [row.material_id for row in page.rows] == ["mp-2534", "mp-8883", "mp-10048"]
    assert (page.total, page.dropped, backend.version) == (3, (), "2025.09.25")
    assert page.rows[0].quantities == (
        Quantity(
            value=0.1861,
            unit="eV",
            property="band_gap",
            subject="GaAs",
            subject_id="mp-2534",
            variant="F-43m",
            kind="material",
            method="DFT (GGA, GGA+U or r2SCAN)",
            source="Materials Project",
            licence="CC BY 4.0",
            version="2025.09.25",
        ),
    )


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_search_of_every_endpoint_by_id_reads_each_property_it_serves(
    live: LiveMaterialsProject, endpoint: Endpoint
) -> None:
    name = "mp-7000" if endpoint == "piezoelectric" else "mp-2534"
    (row,) = live.search(endpoint, Query(material_ids=(name,))).rows
    read = {each.property for each in row.quantities}
    missing = {"summary": {"e_ij_max"}}.get(endpoint, set())
    assert read == {each.name for each in properties_of(endpoint)} - missing


def test_search_asks_for_the_key_and_the_fields_it_needs_only(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    live.search("summary", Query(formulas=("GaAs",), fields=("k_vrh", "space_group")))
    (seen,) = server.seen
    assert seen.key == server.key
    assert dict(seen.params) == {
        "_fields": "bulk_modulus,formula_pretty,material_id,origins,symmetry",
        "_limit": "100",
        "formula": "AsGa",
    }


def test_thermo_comes_by_hull_distance_and_names_its_functionals(
    live: LiveMaterialsProject, server: MaterialsProjectServer, clock: Clock
) -> None:
    query = Query(formulas=("SiO2",), fields=("formation_energy_per_atom",))
    page = live.search("thermo", query)
    assert [row.material_id for row in page.rows] == ["mp-7000", "mp-6930", "mp-6947"]
    first, hull = page.rows[0].quantities
    assert (first.value, first.method) == (
        -3.2735,
        "DFT (mixed GGA/GGA+U/r2SCAN), this entry GGA",
    )
    assert (hull.property, hull.value) == ("energy_above_hull", 0.0)
    other = connect(server, clock, thermo_type="GGA_GGA+U")
    value = other.search("thermo", query).rows[0].quantities[0]
    assert (value.value, value.method) == (-3.2635, "DFT (mixed GGA/GGA+U), this entry GGA")


def test_values_of_an_endpoint_of_their_own_name_their_calculation(
    live: LiveMaterialsProject,
) -> None:
    (row,) = live.search("elasticity", Query(material_ids=("mp-149",), fields=("k_vrh",))).rows
    assert row.quantities[0].method == "DFT (PBE), elastic tensor, task mp-1149"


# Rule 5: endpoints that take no formula.


@pytest.mark.parametrize("endpoint", ["elasticity", "magnetism", "dielectric", "piezoelectric"])
def test_formula_becomes_ids_where_the_endpoint_takes_none(
    live: LiveMaterialsProject, server: MaterialsProjectServer, endpoint: Endpoint
) -> None:
    formula = "BaTiO3" if endpoint == "piezoelectric" else "GaAs"
    assert ids(live, endpoint, Query(formulas=(formula,)))[0] in ("mp-2534", "mp-5020")
    assert routes(server) == ["summary/", f"{endpoint}/"]
    assert server.seen[0].params["formula"] == ("BaO3Ti" if formula == "BaTiO3" else "AsGa")
    assert "formula" not in server.seen[1].params


class WithoutRule5(LiveMaterialsProject):
    """Sends the formula to every endpoint."""

    takes: ClassVar[Mapping[Endpoint, frozenset[str]]] = dict.fromkeys(
        ENDPOINTS, frozenset({"formulas", "chemsys", "elements", "exclude_elements"})
    )


def test_without_rule_5_an_elasticity_question_ends_as_an_observation(
    server: MaterialsProjectServer, clock: Clock
) -> None:
    backend = connect(server, clock, WithoutRule5)

    @tool
    def bulk_modulus(formula: str) -> list[Quantity]:
        """The bulk modulus of a material.

        Args:
            formula: Of the material.
        """
        page = backend.search("elasticity", Query(formulas=(formula,), fields=("k_vrh",)))
        return [quantity for row in page.rows for quantity in row.quantities]

    outcome = run_tool(bulk_modulus, {"formula": "GaAs"}, Ledger())
    assert outcome.result is None
    assert outcome.error == (
        "bulk_modulus: 127.0.0.1 did not accept the request to /materials/elasticity/ (400: "
        "Request contains query parameters which cannot be used: formula). Revise the arguments."
    )


# Filters, order, counts.


def test_sort_is_over_all_pages_and_the_total_counts_all(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    page = live.search("summary", Query(fields=("band_gap",), sort_fields=("-band_gap",), limit=3))
    everything = sorted(
        (-each["band_gap"], each["material_id"]) for each in server.documents["summary"]
    )
    assert [row.material_id for row in page.rows] == [name for _, name in everything[:3]]
    assert page.total == N_MATERIALS
    assert [each.params.get("_skip", "0") for each in server.seen] == ["0", "100", "200", "300"]


def test_rows_without_the_sort_property_come_last_and_ties_go_by_number(
    live: LiveMaterialsProject,
) -> None:
    query = Query(chemsys=("As", "Ga"), fields=("band_gap",))
    for key in ("k_vrh", "-k_vrh"):
        page = live.search("summary", Query(**_with(query, sort_fields=(key,))))
        assert page.rows[-1].material_id == "mp-10048"
    assert ids(live, "summary", Query(**_with(query, sort_fields=("ordering",)))) == [
        "mp-2534",
        "mp-8883",
        "mp-10048",
    ]


def _with(query: Query, **values: Any) -> dict[str, Any]:
    names = ("chemsys", "fields", "sort_fields", "limit")
    return {name: getattr(query, name) for name in names} | values


def test_sort_keys_of_the_row_and_of_another_endpoint_are_shown(live: LiveMaterialsProject) -> None:
    page = live.search(
        "elasticity",
        Query(formulas=("TiO2",), fields=("k_vrh",), sort_fields=("energy_above_hull",)),
    )
    shown = [(row.material_id, [each.property for each in row.quantities]) for row in page.rows]
    names = ["k_vrh", "energy_above_hull"]
    assert shown == [("mp-390", names), ("mp-1840", names), ("mp-2657", names)]


def test_conditions_on_another_endpoint_restrict_the_ids(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    query = Query(
        elements=("oxygen", "Ti"),
        exclude_elements=("Ba",),
        where=(Condition("band_gap", ">", 1.8),),
        fields=("k_vrh",),
    )
    assert ids(live, "elasticity", query) == ["mp-390", "mp-1840"]
    first, second = server.seen
    assert first.params["elements"] == "O,Ti"
    assert first.params["exclude_elements"] == "Ba"
    assert first.params["band_gap_min"] == "1.8"
    assert first.params["has_props"] == "elasticity"
    assert second.params["material_ids"] == "mp-390,mp-1840"


def test_thermo_with_elements_asks_summary_first(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    assert ids(live, "thermo", Query(elements=("Fe",)))[0] in ("mp-13", "mp-19770", "mp-19306")
    assert routes(server) == ["summary/", "thermo/"]


@pytest.mark.parametrize(
    ("condition", "params", "names"),
    [
        (Condition("band_gap", "<", 0.1402), {"band_gap_max": "0.1402"}, ["mp-10048"]),
        (Condition("band_gap", "=", 0.1861), None, ["mp-2534"]),
        (Condition("nsites", "<", 3), {"nsites_max": "3"}, ["mp-2534"]),
        (Condition("is_metal", "=", True), {"is_metal": "true"}, ["mp-10048"]),
        (Condition("ordering", "=", "nm"), {"ordering": "NM"}, ["mp-2534", "mp-8883", "mp-10048"]),
        (Condition("space_group", "=", "P63mc"), {"spacegroup_number": "186"}, ["mp-8883"]),
        (Condition("crystal_system", "=", "cubic"), {"crystal_system": "Cubic"}, ["mp-2534"]),
        (Condition("point_group", "=", "mmm"), {}, ["mp-10048"]),
    ],
)
def test_conditions_go_to_the_server_where_it_can_and_hold_exactly(
    live: LiveMaterialsProject,
    server: MaterialsProjectServer,
    condition: Condition,
    params: Mapping[str, str] | None,
    names: list[str],
) -> None:
    query = Query(formulas=("GaAs",), where=(condition,), fields=("band_gap", "nsites"))
    assert ids(live, "summary", query) == names
    sent = {
        name: value
        for name, value in server.seen[0].params.items()
        if not name.startswith("_") and name != "formula"
    }
    if params is not None:
        assert sent == params
    else:
        assert [float(value) for value in sent.values()] == pytest.approx([0.1861, 0.1861])


def test_several_bounds_of_one_property_keep_the_tightest(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    conditions = (
        Condition("universal_anisotropy", ">=", 0.1),
        Condition("universal_anisotropy", ">", 0.3),
        Condition("universal_anisotropy", "<=", 2.0),
    )
    query = Query(material_ids=("mp-149",), where=conditions, fields=("k_vrh",))
    assert ids(live, "elasticity", query) == ["mp-149"]
    sent = server.seen[0].params
    assert (sent["elastic_anisotropy_min"], sent["elastic_anisotropy_max"]) == ("0.3", "2.0")


def test_many_ids_go_in_requests_of_bounded_length(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    names = tuple(f"mp-{900_000 + number}" for number in range(N_GENERATED)) + tuple(
        f"mp-{number}" for number in range(2_000_000, 2_002_000)
    )
    page = live.search("summary", Query(material_ids=names, fields=("band_gap",), limit=1))
    assert page.total == N_GENERATED
    assert len(server.seen) > 5
    assert max(each.length for each in server.seen) < 4000


def test_more_records_than_are_fetched_is_an_error_with_the_number(
    server: MaterialsProjectServer, clock: Clock
) -> None:
    backend = connect(server, clock, limits=RequestLimits(page_size=100, max_records=300))
    with pytest.raises(ToolError, match=f"{N_MATERIALS} records match and at most 300 are"):
        backend.search("summary", ALL)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query(fields=("colour",)), "there is no property 'colour' of elasticity"),
        (Query(fields=("band_gap",)), "is no property of elasticity"),
        (Query(where=(Condition("yield_strength", ">", 1.0),)), "formula tables"),
        (Query(where=(Condition("band_gap", ">", "wide"),)), "makes no sense"),
        (Query(sort_fields=("-yield_strength",)), "formula tables"),
        (Query(material_ids=("mp-1,mp-2",)), "is no material id"),
        (Query(formulas=("GaAS!",)), "no chemical formula"),
        (Query(elements=("Xx",)), "no chemical element"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_any_request(
    live: LiveMaterialsProject, server: MaterialsProjectServer, query: Query, said: str
) -> None:
    with pytest.raises(ToolError, match=said):
        live.search("elasticity", query)
    assert server.seen == []


def test_nothing_found_is_an_empty_page(live: LiveMaterialsProject) -> None:
    page = live.search("elasticity", Query(formulas=("UO2",)))
    assert (page.rows, page.total) == ((), 0)


# Paging that goes on where it stopped.


@pytest.mark.parametrize("kind", ["error", "reset", "truncated"])
def test_failure_at_page_3_costs_that_page_only(
    live: LiveMaterialsProject, server: MaterialsProjectServer, kind: Any
) -> None:
    server.faults.append(Fault(kind, after=2, times=3))
    with pytest.raises(ToolError, match=f"200 of {N_MATERIALS} records are here already"):
        live.search("summary", ALL)
    assert len(server.seen) == 5  # two pages, then three tries of the third
    server.seen.clear()
    assert live.search("summary", ALL).total == N_MATERIALS
    assert [each.params["_skip"] for each in server.seen] == ["200", "300"]
    server.seen.clear()
    assert live.search("summary", ALL).total == N_MATERIALS
    assert server.seen == []


def test_pages_on_disk_serve_a_later_run_of_the_same_database(
    server: MaterialsProjectServer, clock: Clock, tmp_path: Path
) -> None:
    server.faults.append(Fault("error", after=2, times=3))
    with pytest.raises(ToolError):
        connect(server, clock, cache=tmp_path).search("summary", ALL)
    server.seen.clear()
    page = connect(server, clock, cache=tmp_path).search("summary", ALL)
    assert [each.params["_skip"] for each in server.seen] == ["200", "300"]
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [path.name for path in files] == [f"{skip:07d}.json" for skip in (0, 100, 200, 300)]
    assert not any(server.key in path.read_text() for path in files)
    server.seen.clear()
    assert connect(server, clock, cache=tmp_path).search("summary", ALL) == page
    assert server.seen == []
    server.version = "2026.01.01"
    assert connect(server, clock, cache=tmp_path).search("summary", ALL).total == N_MATERIALS
    assert len(server.seen) == 4


@pytest.mark.parametrize("damage", ["", "[]", '{"format": 1}', "\xff", '{"format": 9}'])
def test_damaged_pages_on_disk_are_fetched_again(
    server: MaterialsProjectServer, clock: Clock, tmp_path: Path, damage: str
) -> None:
    page = connect(server, clock, cache=tmp_path).search("summary", ALL)
    (path,) = tmp_path.rglob("0000100.json")
    path.write_bytes(damage.encode("latin-1"))
    server.seen.clear()
    assert connect(server, clock, cache=tmp_path).search("summary", ALL) == page
    assert [each.params["_skip"] for each in server.seen] == ["100"]


def test_a_folder_that_cannot_be_written_costs_the_cache_only(
    server: MaterialsProjectServer,
    clock: Clock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    backend = connect(server, clock, cache=blocked)
    assert backend.search("summary", ALL).total == N_MATERIALS
    assert "cached in memory only" in caplog.text


class Stingy(MaterialsProjectServer):
    """Gives 70 records a page, whatever is asked for."""

    def answer(self, route: str, params: Mapping[str, str]) -> dict[str, Any]:
        return super().answer(route, {**params, "_limit": "70"})


def test_pages_shorter_than_asked_for_are_still_read_to_the_end(clock: Clock) -> None:
    with Stingy() as server:
        assert connect(server, clock).search("summary", ALL).total == N_MATERIALS
    assert len(server.seen) == 6


def test_a_database_that_changes_while_it_is_read_is_read_anew(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    server.faults.append(Fault("error", after=1, times=3))
    with pytest.raises(ToolError):
        live.search("summary", ALL)
    del server.documents["summary"][-1]
    with pytest.raises(ToolError, match=f"changed from {N_MATERIALS} to {N_MATERIALS - 1} records"):
        live.search("summary", ALL)
    assert live.search("summary", ALL).total == N_MATERIALS - 1


def test_threads_that_ask_the_same_fetch_each_page_once(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    totals: list[int] = []
    threads = [
        threading.Thread(target=lambda: totals.append(live.search("summary", ALL).total))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [N_MATERIALS] * 8
    assert len(server.seen) == 4


# Retries and rate limit.


def test_busy_server_is_asked_again_after_the_time_it_names(
    live: LiveMaterialsProject, server: MaterialsProjectServer, clock: Clock
) -> None:
    server.faults.append(Fault("busy", times=2, text="4"))
    assert live.search("summary", Query(formulas=("GaAs",))).total == 3
    assert clock.waits == [4.0, 4.0]


def test_busy_server_that_names_a_date_is_asked_again_then(
    live: LiveMaterialsProject, server: MaterialsProjectServer, clock: Clock
) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=9)
    server.faults.append(Fault("busy", text=moment.strftime("%a, %d %b %Y %H:%M:%S GMT")))
    assert live.search("summary", Query(formulas=("GaAs",))).total == 3
    assert 4 <= clock.waits[0] <= 9


def test_busy_server_that_asks_to_wait_too_long_is_an_error_in_words(
    live: LiveMaterialsProject, server: MaterialsProjectServer, clock: Clock
) -> None:
    server.faults.append(Fault("busy", text="3600"))
    with pytest.raises(ToolError, match=r"asked once: .*\(429\).* asks to wait 3600 s"):
        live.search("summary", Query(formulas=("GaAs",)))
    assert clock.waits == []


def test_failing_server_is_tried_three_times_with_growing_waits(
    live: LiveMaterialsProject, server: MaterialsProjectServer, clock: Clock
) -> None:
    server.faults.append(Fault("error", times=9, text="boom"))
    with pytest.raises(ToolError, match=r"was asked 3 times: it failed \(500\): boom"):
        live.search("summary", Query(formulas=("GaAs",)))
    assert (len(server.seen), clock.waits) == (3, [0.5, 1.0])


def test_pace_keeps_to_its_rate(clock: Clock) -> None:
    limiter = clock.rate_limiter(5)
    for _ in range(25):
        limiter.wait()
    assert clock.now == pytest.approx(4.0)
    clock.now += 100
    for _ in range(5):
        limiter.wait()
    assert clock.now == pytest.approx(104.0)


# Key, address, network.


def test_given_key_beats_the_environment(
    server: MaterialsProjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MP_API_KEY", "of the environment")
    live = LiveMaterialsProject(server.key, endpoint=server.url)
    assert live.search("summary", Query(formulas=("GaAs",))).total == 3
    monkeypatch.setenv("MP_API_KEY", server.key)
    live = LiveMaterialsProject(endpoint=server.url)
    assert live.search("summary", Query(formulas=("GaAs",))).total == 3


@pytest.mark.parametrize("key", [None, "", "  "])
def test_missing_key_says_where_to_get_one(
    server: MaterialsProjectServer, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv("MP_API_KEY", raising=False)
    with pytest.raises(ToolError, match="no key for the Materials Project"):
        LiveMaterialsProject(key, endpoint=server.url)


def test_key_with_a_line_break_is_refused_without_showing_it(
    server: MaterialsProjectServer,
) -> None:
    with pytest.raises(ToolError, match="characters that no key has") as raised:
        LiveMaterialsProject("secret\nkey", endpoint=server.url)
    assert "secret" not in str(raised.value)


def test_wrong_key_is_refused_in_words_and_shown_nowhere(
    server: MaterialsProjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    live = LiveMaterialsProject("WRONGKEYWRONGKEY", endpoint=server.url)
    with pytest.raises(ToolError, match=r"the key was refused by 127\.0\.0\.1 \(401") as raised:
        live.search("summary", Query(formulas=("GaAs",)))
    shown = [*traceback.format_exception(raised.value), repr(live), caplog.text]
    assert "WRONGKEY" not in "".join(shown)


def test_key_that_the_server_repeats_is_cut_out_of_its_words(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    server.faults.append(Fault("error", times=3, text=f"bad key {server.key}"))
    with pytest.raises(ToolError, match=r"bad key \[key\]") as raised:
        live.search("summary", Query(formulas=("GaAs",)))
    assert server.key not in str(raised.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://api.materialsproject.org",
        "api.materialsproject.org",
        "ftp://127.0.0.1",
        "https://user:word@api.materialsproject.org",
        "https://api.materialsproject.org/?a=b",
        "https://",
        "http://127.0.0.1.example.org",
    ],
)
def test_address_that_no_key_may_go_to_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="the endpoint must"):
        LiveMaterialsProject("key", endpoint=endpoint)


def test_offline_refuses_the_real_server_and_allows_this_machine(
    server: MaterialsProjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAGKIT_OFFLINE", raising=False)
    before = LiveMaterialsProject("key")
    monkeypatch.setenv("RAGKIT_OFFLINE", "1")
    for call in (lambda: LiveMaterialsProject("key"), lambda: before.search("summary", ALL)):
        with pytest.raises(ToolError, match="RAGKIT_OFFLINE is set, so api"):
            call()
    live = LiveMaterialsProject(server.key, endpoint=server.url)
    assert live.search("summary", Query(formulas=("GaAs",))).total == 3


def test_redirect_to_another_server_is_not_followed(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    with MaterialsProjectServer() as other:
        server.faults.append(Fault("redirect", text=f"{other.url}/materials/summary/"))
        with pytest.raises(ToolError, match="redirects to another server"):
            live.search("summary", Query(formulas=("GaAs",)))
        assert other.seen == []


def test_redirect_on_the_same_server_is_followed_and_circles_end(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    target = "/materials/summary/?formula=GaAs&_fields=material_id,formula_pretty,band_gap"
    server.faults.append(Fault("redirect", text=target))
    assert live.search("summary", Query(formulas=("GaAs",))).total == 3
    server.faults.append(Fault("redirect", times=9, text=target))
    with pytest.raises(ToolError, match="redirects in circles"):
        live.search("summary", Query(formulas=("SiO2",)))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("html", r"not JSON \(502 Bad Gateway cloudflare\)"),
        ("garbage", "not JSON"),
        ("no_route", r"\(release 0\.86\.4\) has no route /materials/summary/ \(404: Not Found\)"),
        ("hang", "did not answer within 0.3 s"),
        ("drip", "did not answer within 0.3 s"),
        ("huge", "answered with more than 500,000 bytes"),
    ],
)
def test_answers_that_are_none_are_errors_in_words(
    server: MaterialsProjectServer, clock: Clock, kind: Any, said: str
) -> None:
    live = connect(server, clock, limits=RequestLimits(timeout_s=0.3, max_bytes=500_000))
    server.faults.append(Fault(kind))
    with pytest.raises(ToolError, match=said):
        live.search("summary", Query(formulas=("GaAs",)))
    assert len(server.seen) == 1


class Odd(MaterialsProjectServer):
    """Answers every search with the same object."""

    def __init__(self, odd: dict[str, Any]) -> None:
        super().__init__()
        self.odd = odd

    def answer(self, route: str, params: Mapping[str, str]) -> dict[str, Any]:
        return super().answer(route, params) if route == "/heartbeat" else self.odd


@pytest.mark.parametrize("odd", [{"data": {}}, {"meta": {}}, {"data": None}, {"detail": "x"}])
def test_answers_without_records_are_errors_in_words(clock: Clock, odd: dict[str, Any]) -> None:
    with Odd(odd) as server, pytest.raises(ToolError, match="without a list of records"):
        connect(server, clock).search("summary", Query(formulas=("GaAs",)))


def test_answers_that_count_no_records_are_read_until_a_short_page(clock: Clock) -> None:
    row = {"material_id": "mp-1", "formula_pretty": "GaAs", "band_gap": 1.0}
    with Odd({"data": [row], "meta": {"total_doc": "many"}}) as server:
        assert ids(connect(server, clock), "summary", ALL) == ["mp-1"]
    assert len(server.seen) == 1


def test_server_that_names_no_database_version_is_refused(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    server.version = None  # type: ignore[assignment]
    with pytest.raises(ToolError, match="names no database version"):
        live.search("summary", Query(formulas=("GaAs",)))


# Documents that are not as they should be.


class Unfiltered(MaterialsProjectServer):
    """Ignores filters."""

    def answer(self, route: str, params: Mapping[str, str]) -> dict[str, Any]:
        kept = {name: value for name, value in params.items() if name.startswith("_")}
        return super().answer(route, kept)


def test_a_server_that_ignores_filters_changes_nothing(
    live: LiveMaterialsProject, clock: Clock
) -> None:
    query = Query(
        formulas=("TiO2", "SiO2"),
        where=(Condition("band_gap", ">", 2.0),),
        fields=("k_vrh",),
        sort_fields=("energy_above_hull",),
    )
    with Unfiltered() as server:
        other = connect(server, clock)
        assert other.search("elasticity", query) == live.search("elasticity", query)
        hulls = Query(material_ids=("mp-149", "mp-13"), fields=("formation_energy_per_atom",))
        assert other.search("thermo", hulls) == live.search("thermo", hulls)


def test_bad_documents_are_dropped_with_their_reasons_and_the_others_stay(clock: Clock) -> None:
    server = Unfiltered()
    held = server.documents["summary"]
    held[1:1] = ["a text", {"formula_pretty": "GaAs"}, None]
    held += [
        {"material_id": "mp-1", "formula_pretty": "Ga?", "band_gap": 1.0},
        {"material_id": "mp-2", "band_gap": 1.0},
        {"material_id": "mp-3", "formula_pretty": "GaAs", "band_gap": {"value": 1}},
        {"material_id": "mp-4", "formula_pretty": "GaAs", "band_gap": "0.25", "new": 1},
        {"material_id": "mp-5", "formula_pretty": "GaAs", "band_gap": float("nan")},
        {"material_id": "mp-6", "formula_pretty": "GaAs", "band_gap": None, "symmetry": 3},
        {"material_id": "mp-2534", "formula_pretty": "GaAs", "band_gap": 0.5},
    ]
    with server:
        query = Query(formulas=("GaAs",), fields=("band_gap",))
        page = connect(server, clock).search("summary", query)
    values = {row.material_id: row.quantities[0].value for row in page.rows}
    assert values == {"mp-4": 0.25, "mp-2534": 0.1861, "mp-8883": 0.1402, "mp-10048": 0.0}
    assert page.total == 4
    assert page.dropped == (
        "a record of summary is a str and no object",
        "a record of summary has no material id (None)",
        "a record of summary is a NoneType and no object",
        "mp-1 has a formula in summary that cannot be read ('Ga?')",
        "mp-2 has no formula in summary (None)",
        "mp-3: band_gap is {'value': 1}, no number",
        "mp-2534 came twice from summary, another may be missing",
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_NAMES = sorted({each.name for endpoint in ENDPOINTS for each in properties_of(endpoint)})


@given(
    document=st.dictionaries(
        st.sampled_from(
            [*_NAMES, "bulk_modulus", "symmetry", "origins", "thermo_type", "energy_type"]
        ),
        _JSON,
    ),
    endpoint=st.sampled_from(ENDPOINTS),
)
def test_any_document_is_read_or_refused_and_never_fails(
    document: dict[str, Any], endpoint: Endpoint
) -> None:
    named = {"material_id": "mp-1", "formula_pretty": "GaAs"}
    record = read_record(document | named, endpoint, properties_of(endpoint), "1")
    assert isinstance(record, Record)
    for quantity in record.quantities.values():
        assert isinstance(quantity.value, float | int | str)
        json.dumps(quantity.value, allow_nan=False)
    assert isinstance(read_record(document, endpoint, properties_of(endpoint), "1"), str)


@given(_JSON)
def test_any_json_is_a_recipe_or_none(document: Any) -> None:
    recipe(document)
    recipe({"target": {"material_formula": "GaAs"}, "operations": [document], "doi": document})


@given(_JSON)
def test_any_json_is_a_structure_or_refused(document: Any) -> None:
    for structure in (document, {"lattice": {"matrix": document}, "sites": document}):
        with pytest.raises(ToolError, match="cannot be read"):
            poscar(structure, "x")


def test_finite_reads_numbers_only() -> None:
    given_values = ["1e-3", " 2 ", "0x1", "", "inf", "NaN", True, None, [1], 10**400]
    assert [finite(each) for each in given_values] == [0.001, 2.0, *[None] * 8]


# Structures, recipes, neighbours.


def test_structure_is_poscar_text_with_its_origin(live: LiveMaterialsProject) -> None:
    assert live.structure("mp-2534") == (
        "GaAs mp-2534, Materials Project 2025.09.25, CC BY 4.0\n"
        "1.0\n"
        "3.0264330000 0.0000000000 0.0000000000\n"
        "0.0000000000 3.0264330000 0.0000000000\n"
        "0.0000000000 0.0000000000 3.0264330000\n"
        "Ga As\n"
        "1 1\n"
        "Direct\n"
        "0.0000000000 0.0000000000 0.0000000000 Ga\n"
        "0.5000000000 0.5000000000 0.5000000000 As\n"
    )


def test_structure_that_is_not_held_is_none(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    change(server, "summary", "mp-149", structure=None)
    assert live.structure("mp-149") is None
    assert live.structure("mp-1") is None


def test_structure_groups_sites_by_element_and_refuses_disorder() -> None:
    def site(symbol: str, at: float, occupancy: float = 1) -> dict[str, Any]:
        return {"species": [{"element": symbol, "occu": occupancy}], "abc": [at, at, at]}

    lattice = {"matrix": [[4, 0, 0], [0, 4, 0], [0, 0, "4.0"]]}
    sites = [site("O2-", 0.1), site("Ti", 0.2), site("O", 0.3)]
    lines = poscar({"lattice": lattice, "sites": sites}, "TiO2").splitlines()
    assert lines[5:7] == ["O Ti", "2 1"]
    assert [line[:3] + line[-2:] for line in lines[8:]] == ["0.1 O", "0.3 O", "0.2Ti"]
    with pytest.raises(ToolError, match="a site is disordered"):
        poscar({"lattice": lattice, "sites": [site("O", 0.1, 0.5)]}, "TiO2")


def test_syntheses_gives_the_first_recipes_without_their_paragraphs(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    rows = live.syntheses("FePO4Li", ["ball milling"])
    assert len(rows) == 5
    assert rows[1] == {
        "target": "LiFePO4",
        "synthesis_type": "solid-state",
        "reaction": "Li2CO3 + FeC2O4 + NH4H2PO4 == LiFePO4",
        "precursors": ["Li2CO3", "FeC2O4", "NH4H2PO4"],
        "operations": [
            {"type": "Mixing", "word": "milled", "device": "ball mill"},
            {
                "type": "Heating",
                "word": "heated",
                "temperature": "620-720 °C",
                "time": "5 h",
                "atmosphere": "argon",
            },
        ],
        "doi": "10.0000/example.2",
        "source": "Materials Project",
        "licence": "CC BY 4.0",
    }
    assert dict(server.seen[0].params) == {
        "target_formula": "FeLiO4P",
        "keywords": "ball milling",
        "_limit": "5",
    }
    assert len(live.syntheses("BaTiO3", [], limit=50)) == 6
    assert live.syntheses("GaAs", [], limit=50) == []
    assert live.syntheses("BaTiO3", [], limit=0) == []
    with pytest.raises(ToolError, match="characters long and 6,000 are allowed"):
        live.syntheses("BaTiO3", ["very long " * 700])


def test_similar_reads_the_list_or_asks_by_fingerprint(
    live: LiveMaterialsProject, server: MaterialsProjectServer
) -> None:
    assert live.similar("mp-2534", 5) == [("mp-8883", "GaAs", 0.5), ("mp-149", "Si", 1.5)]
    assert live.similar("mp-2534", 1) == [("mp-8883", "GaAs", 0.5)]
    assert live.similar("mp-13", 5) == []
    server.seen.clear()
    near = live.similar("mp-8883", 5)
    assert routes(server) == ["similarity/", "similarity/match/"]
    assert [row[:2] for row in near] == [("mp-2534", "GaAs"), ("mp-10048", "GaAs")]
    assert [row[2] for row in near] == pytest.approx([20.0, 40.0])
    with pytest.raises(ToolError, match="no material id"):
        live.similar("../heartbeat", 5)


@given(st.integers(0, 26**8 - 1))
def test_ids_in_letters_and_in_digits_are_the_same(number: int):
    plain = f"mp-{number}"
    letters = letter_id(plain)
    assert len(letters) == 11
    assert canonical_id(letters) == canonical_id(letters.upper()) == canonical_id(plain) == plain


@pytest.mark.parametrize("release", ["0.86.4", "0.87.0", "0.101.2"])
@pytest.mark.parametrize("asked", ["mp-2534", "mp-aaaaadtm", "MP-AAAAADTM"])
def test_look_up_by_id_finds_the_material_in_either_spelling(
    release: str, asked: str, clock: Clock
):
    with MaterialsProjectServer(release=release) as server:
        live = connect(server, clock)
        page = live.search("elasticity", Query(material_ids=(asked,), fields=("k_vrh",)))
        assert [row.material_id for row in page.rows] == ["mp-2534"]
        assert page.rows[0].quantities[0].subject_id == "mp-2534"
        assert live.structure(asked) is not None
        assert {row[0] for row in live.similar(asked, 3)}.isdisjoint({"mp-2534", asked})
        joined = Query(formulas=("GaAs",), where=(Condition("energy_above_hull", "=", 0.0),))
        assert [row.material_id for row in live.search("elasticity", joined).rows] == ["mp-2534"]
        legacy = ["id_format" in request.params for request in server.seen]
        live.close()
    assert set(legacy) == {release != "0.86.4"}


def test_server_that_sends_letters_although_numbers_were_asked_for(clock: Clock):
    with MaterialsProjectServer(release="0.87.0") as server:
        for document in server.documents["summary"]:
            document["material_id"] = letter_id(document["material_id"])
        live = connect(server, clock)
        page = live.search("summary", Query(formulas=("GaAs",), fields=("band_gap",)))
        live.close()
    assert [row.material_id for row in page.rows] == ["mp-2534", "mp-8883", "mp-10048"]


def test_long_lists_of_elements_are_sent_in_part_and_checked_here(
    live: LiveMaterialsProject, server: MaterialsProjectServer
):
    rare = "La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Sc Y Th U Np Pu Am Zn Cd In".split()
    query = Query(elements=("S",), exclude_elements=tuple(rare), fields=("band_gap",), limit=100)
    page = live.search("summary", query)
    assert page.total > 0
    for row in page.rows:
        assert "S" in parse_formula(row.formula)
        assert set(parse_formula(row.formula)).isdisjoint(rare)
    assert all(len(r.params.get("exclude_elements", "")) <= 60 for r in server.seen)


def test_question_with_an_id_in_letters_is_read():
    parsed = read_question("What is the band gap of mp-aaaaadtm?")
    assert parsed.material_ids == ("mp-aaaaadtm",)
