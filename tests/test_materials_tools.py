"""The search tools as a model uses them: LLaMP's rules, its pitfalls, and finding nothing."""

import json
import re

import pytest

from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.materials.backend import ENDPOINTS, Page
from ragkit.agents.materials.chemistry.properties import properties_of
from ragkit.agents.materials.snapshot.backend import SnapshotBackend
from ragkit.agents.materials.tools import related, search_tools
from ragkit.agents.tools import run_tool


@pytest.fixture(scope="module")
def snapshot():
    return SnapshotBackend()


@pytest.fixture(scope="module")
def tools(snapshot):
    return {tool.name.removeprefix("search_"): tool for tool in search_tools(snapshot)}


@pytest.fixture
def search(tools):
    """A function that calls a tool and gives its result."""

    def call(endpoint, **arguments):
        outcome = run_tool(tools[endpoint], arguments, Ledger())
        assert not outcome.error, outcome.error
        return outcome.result

    return call


@pytest.fixture
def refusal(tools):
    """A function that calls a tool and gives its error."""

    def call(endpoint, **arguments):
        outcome = run_tool(tools[endpoint], arguments, Ledger())
        assert outcome.error
        return outcome.error

    return call


def shown(result, *properties):
    return [
        (each.subject_id, each.property, each.value)
        for each in result.evidence
        if not properties or each.property in properties
    ]


def count(result):
    (row,) = [each for each in result.evidence if each.property.startswith("n_")
              and each.method == "count over all matching rows"]  # fmt: skip
    return row


class LiveDouble:
    """A back end that is not the snapshot: it has no formula tables and nothing to explain with."""

    name = "live"
    version = "2026.1"

    def search(self, endpoint, query):
        return Page((), 0, ("mp-1: no formula",))


def test_there_is_a_tool_for_each_endpoint_and_one_for_the_tables(tools):
    assert list(tools) == [*ENDPOINTS, "formula_tables"]
    assert "without material ids: never for questions about polymorphs" in (
        tools["formula_tables"].description
    )
    assert "material_ids" not in tools["formula_tables"].parameters()["properties"]


def test_a_back_end_without_tables_has_no_tool_for_them():
    live = {tool.name: tool for tool in search_tools(LiveDouble())}
    assert "search_formula_tables" not in live
    result = run_tool(live["search_summary"], {"formula": "GaAs"}, Ledger()).result
    assert result.text.startswith("1 records could not be read: mp-1: no formula.")
    assert count(result).value == 0


def test_descriptions_are_short_enough_for_a_small_model(tools):
    for tool in tools.values():
        assert len(tool.description.split()) <= 20
        schema = tool.parameters()
        for argument in schema["properties"].values():
            assert len(argument["description"].split()) <= 12


def test_the_grammar_offers_the_properties_of_the_endpoint_only(tools):
    for endpoint, tool in tools.items():
        properties = tool.parameters()["properties"]
        names = {each.name for each in properties_of(endpoint)}
        for text in (properties["where"]["items"]["pattern"], properties["sort_fields"]["pattern"]):
            assert set(re.findall(r"[a-z_]{4,}|\bn\b", text)) - {"material_id"} <= names
        fields = re.compile(properties["fields"]["pattern"])
        assert fields.search(",".join(sorted(names)[:3]))
        assert not fields.search("band_gapformation_energy_per_atom")
    condition = re.compile(tools["summary"].parameters()["properties"]["where"]["items"]["pattern"])
    assert condition.search("band_gap >= 1.5")
    assert condition.search("ordering = FM")
    assert not condition.search("band_gap ! 1.5")


# Rule 1.
@pytest.mark.parametrize("fields", ["band_gap, space_group", ["band_gap", "space_group"]])
def test_fields_may_be_a_text_or_a_list(search, fields):
    result = search("summary", material_ids="mp-2534", fields=fields)
    assert shown(result, "band_gap", "space_group") == [
        ("mp-2534", "band_gap", 0.18610000000000015),
        ("mp-2534", "space_group", "F-43m"),
    ]


def test_ten_rows_come_back_and_five_from_summary_and_the_total_is_told(search):
    for endpoint, n_rows in (("summary", 5), ("dielectric", 10)):
        result = search(endpoint, elements="O", fields="n")
        materials = {each.subject_id for each in result.evidence if each.subject_id}
        assert len(materials) == n_rows
        assert result.total == count(result).value > n_rows
        assert result.unit == "materials"


def test_a_page_is_never_cut_in_silence(search):
    few = search("dielectric", where=["n > 3"], limit=1)
    many = search("dielectric", where=["n > 3"], limit=100)
    assert few.total == many.total == 185
    assert count(few) == count(many)


# Rule 2.
def test_what_is_sorted_by_is_shown_and_sorted_before_the_cut(search):
    result = search("dielectric", fields="n", sort_fields="-e_total", limit=1)
    assert shown(result, "n", "e_total") == [
        ("mp-10667", "n", 16.03), ("mp-10667", "e_total", 277.78),
    ]  # fmt: skip


# Rule 3.
def test_every_row_tells_its_id_and_formula(search):
    for endpoint in ENDPOINTS:
        for each in search(endpoint, limit=3).evidence[:-1]:
            assert each.subject_id
            assert each.subject
    result = search("summary", chemsys="Fe-O", fields="material_id,formula_pretty")
    assert shown(result, "material_id") == [
        (name, "material_id", name) for name in ("mp-19306", "mp-19770", "mp-24972")
    ]


# Rule 4.
def test_thermo_puts_the_ground_state_first_and_names_the_functionals(search):
    result = search("thermo", formula="FePO4")
    first = result.evidence[0]
    assert (first.subject_id, first.property, first.value) == (
        "mp-753395", "energy_above_hull", 0.0,
    )  # fmt: skip
    carbon_dioxide = search("thermo", formula="CO2", limit=100)
    assert {each.method for each in carbon_dioxide.evidence[:-1]} == {
        "DFT (mixed GGA/GGA+U)",
        "DFT (mixed GGA/GGA+U/r2SCAN)",
        "DFT (r2SCAN)",
    }


def test_thermo_says_where_the_functional_mixes_of_its_values_are_not_recorded(search):
    said = (
        "values of two functional mixes, which are not recorded: the ground state is not decided "
        "by these."
    )
    assert search("thermo", formula="TiO2").text == said
    assert search("thermo", formula="TiO2", fields="formation_energy_per_atom").text == said
    assert search("thermo", formula="CO2", limit=100).text == ""
    assert search("summary", formula="TiO2").text == ""


def test_a_modulus_below_0_comes_last_and_is_told(search):
    result = search("elasticity", formula="Co", fields="k_vrh")
    assert [each.value for each in result.evidence[:2]] == [200.587, -1127.579]
    assert result.text == "mp-54: no modulus is below 0."
    ordered = search("elasticity", formula="Co", fields="k_vrh", sort_fields="k_vrh")
    assert ordered.evidence[0].value == -1127.579
    assert search("elasticity", formula="Ni", fields="k_vrh").text == ""


def test_one_system_may_be_written_in_two_ways(search):
    same = [search("summary", chemsys=each).total for each in ("Fe-O", "Fe, O", ["Fe", "O"])]
    assert same[0] > 0
    assert set(same) == {same[0]}


# Rule 5.
@pytest.mark.parametrize(
    ("endpoint", "formula"),
    [
        ("elasticity", "Zn"),
        ("dielectric", "Rb2Te"),
        ("piezoelectric", "AgI"),
        ("magnetism", "La2Sb"),
    ],
)
def test_every_endpoint_takes_a_formula(search, endpoint, formula):
    assert search(endpoint, formula=formula).total >= 1


# Rule 7, and the pitfalls.
def test_merged_field_names_are_refused_with_the_ones_that_were_meant(refusal):
    error = refusal("elasticity", fields="k_vrhg_vrh")
    assert "no property 'k_vrhg_vrh' of elasticity; near are k_vrh, g_vrh" in error
    assert "Use one of: k_vrh, k_voigt, k_reuss, g_vrh" in error
    assert "no property" in refusal("elasticity", fields="bulk_modulusshear_modulus")
    assert "no property" in refusal("elasticity", fields=["k_vrh g_vrh"])


def test_a_misspelt_argument_is_refused(refusal):
    error = refusal("summary", formual="GaAs")
    assert "'formual' is no argument of it (known: formula, material_ids" in error


def test_a_field_of_another_endpoint_is_refused_with_where_it_is(refusal):
    error = refusal("piezoelectric", fields="refractive index")
    assert "'n' is served by summary, dielectric, formula_tables" in error
    assert "Use one of: e_ij_max." in error


def test_elements_are_not_exclusive_and_the_argument_says_so(search, tools):
    by_elements = search("summary", elements="Fe", limit=100)
    by_formula = search("summary", formula="Fe", limit=100)
    assert by_elements.total == 117
    assert by_formula.total == 4
    about = tools["summary"].parameters()["properties"]["elements"]["description"]
    assert "For pure iron use formula" in about


def test_the_lowest_of_a_negative_energy_is_the_most_negative(search, tools):
    assert "lowest is the most negative" in tools["thermo"].description
    result = search("formula_tables", formula="Ag2O3", fields="formation_energy_per_atom")
    assert [each.value for each in result.evidence[:-1]] == [-0.352642995166665]
    for sign, pick in (("", min), ("-", max)):
        result = search(
            "thermo", formula="TiO2", sort_fields=f"{sign}formation_energy_per_atom", limit=100
        )
        energies = [each.value for each in result.evidence if each.unit == "eV/atom"]
        assert result.evidence[0].value == pick(energies)


def test_the_bulk_modulus_of_zinc_is_the_measured_column_not_the_typing_error(search):
    assert shown(search("elasticity", formula="Zn", fields="bulk modulus"), "k_vrh") == [
        ("mp-79", "k_vrh", 85.872)
    ]


@pytest.mark.parametrize("formula", ["GaAs", "Ga2As2", "gallium arsenide", ["GaAs"], " GaAs , "])
def test_a_formula_may_be_written_in_many_ways(search, formula):
    result = search("summary", formula=formula, fields="band_gap")
    assert shown(result, "band_gap") == [("mp-2534", "band_gap", 0.18610000000000015)]


@pytest.mark.parametrize(
    "where",
    [["band_gap > 4", "is_stable = true"], "band_gap>4; is_stable=true",
     "band_gap > 4 eV and is_stable == yes", ["bandgap ≥ 4", "stable = True"]],
)  # fmt: skip
def test_conditions_may_be_written_in_many_ways(search, where):
    result = search("summary", where=where)
    assert result.total == search("summary", where=["band_gap > 4", "is_stable = true"]).total


def test_texts_and_flags_are_compared_for_what_they_are(search):
    assert search("magnetism", where=["ordering = FM"]).total == 208
    assert search("magnetism", where=["ordering = fm"]).total == 208
    same = [search("dielectric", fields="n", limit=1).total,
            search("summary", where=["space_group = Fm-3m"]).total,
            search("summary", where=["spacegroup_number = 225"]).total]  # fmt: skip
    assert same[1] == same[2] < same[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formula": "GaAS"}, "'A' is no element. Did you mean GaAs? Also held: "),
        ({"formula": "SIC"}, "nothing is held for formula SIC. Did you mean SiC?"),
        ({"material_ids": "2534"}, "'2534' is no material id. Give one such as mp-2534"),
        ({"elements": "Xx"}, "'Xx' is no chemical element"),
        ({"where": ["band_gap"]}, "'band_gap' is no condition. Write PROPERTY OP VALUE"),
        ({"where": ["band_gap > wide"]}, "band_gap is a number, not 'wide'"),
        ({"where": ["band_gap > nan"]}, "band_gap is a number, not 'nan'"),
        ({"where": ["band_gap < inf"]}, "band_gap is a number, not 'inf'"),
        ({"where": ["band_gap > -Infinity"]}, "band_gap is a number, not '-Infinity'"),
        ({"where": ["band_gap < 1e999"]}, "band_gap is a number, not '1e999'"),
        ({"chemsys": "Fe-O,Ti-O"}, "chemsys is 'Fe-O,Ti-O'; expected one system, such as Fe-O"),
        ({"chemsys": ["Fe-O", "Ti-O"]}, "chemsys is 'Fe-O,Ti-O'; expected one system"),
        ({"where": ["band_gap > 1 GPa"]}, "band_gap is in eV, not 'GPa'"),
        ({"where": ["is_stable = maybe"]}, "is_stable is true or false, not 'maybe'"),
        ({"where": ["ordering > FM"]}, "ordering can only be equal to a text"),
        ({"where": ["hardness > 1"]}, "there is no property 'hardness' of summary"),
        ({"sort_fields": "-hardness"}, "there is no property 'hardness' of summary"),
        ({"limit": 0}, "'limit' is 0: should be greater than or equal to 1"),
        ({"limit": 101}, "'limit' is 101: should be less than or equal to 100"),
    ],
)
def test_what_cannot_be_understood_says_what_to_change(refusal, arguments, message):
    assert message in refusal("summary", **arguments)


@pytest.mark.parametrize(
    ("endpoint", "arguments", "text"),
    [
        ("summary", {"formula": "OgTs"}, "Nothing is held for OgTs."),
        ("summary", {"formula": "Fe2O4"}, "Nothing is held for Fe2O4. Near are Fe"),
        ("elasticity", {"formula": "GaAs"}, "GaAs has no g_vrh, k_vrh here; search_formula_tables"),
        ("summary", {"formula": "GaAs", "where": ["band_gap > 5"]},
         "GaAs is held (mp-2534, mp-8883"),
        ("magnetism", {"formula": "AgI"}, "AgI is held without magnetism (held: band_gap"),
        ("summary", {"material_ids": "mp-99999999"}, "mp-99999999 is not held."),
        ("piezoelectric", {"material_ids": "mp-79"},
         "mp-79 (Zn) does not match; of it are held: homogeneous_poisson, k_reuss"),
        ("summary", {"where": ["band_gap > 1000"]}, "No material meets all conditions."),
        ("formula_tables", {"formula": "La2Sb", "fields": "band_gap"},
         "La2Sb is held without band_gap"),
        ("formula_tables", {"formula": "Og"}, "Nothing is held for Og."),
    ],
)  # fmt: skip
def test_nothing_is_a_count_of_zero_with_a_reason(search, endpoint, arguments, text):
    result = search(endpoint, **arguments)
    assert text in result.text
    assert result.total == 0
    assert [each.value for each in result.evidence] == [0]


def test_counts_of_different_searches_are_different_rows_of_the_ledger(search):
    ledger = Ledger()
    for arguments in ({"elements": "O"}, {"elements": "O", "where": ["band_gap > 1000"]}):
        ledger.add([count(search("summary", **arguments))], "search_summary", arguments)
    ledger.add([count(search("summary", where=["n > 1000"]))], "search_summary", {})
    assert len(ledger) == 3


def test_the_tables_give_values_without_ids_and_their_number(search):
    result = search("formula_tables", where=["band_gap > 6"], sort_fields="-band_gap", limit=2)
    assert [(each.subject, each.value, each.method) for each in result.evidence[:2]] == [
        ("LiF", 11.7, "experiment"), ("MgF2", 11.1, "experiment"),
    ]  # fmt: skip
    assert all(each.subject_id is None for each in result.evidence)
    assert (count(result).property, count(result).value, result.unit) == ("n_values", 42, "values")


def test_related_are_other_polymorphs_methods_and_sources(snapshot, search):
    (titania, _) = search("summary", formula="TiO2", fields="band_gap").evidence
    assert [(each.value, each.method) for each in related(snapshot, titania)] == [
        (3.3, "experiment")
    ]
    (carbide, *_) = search("summary", formula="SiC", fields="band_gap").evidence
    others = related(snapshot, carbide)
    assert carbide not in others
    assert {each.property for each in others} == {"band_gap"}
    assert len({each.source for each in others}) == 2
    (first, *_) = search("piezoelectric", formula="BaTiO3").evidence
    assert [each.subject_id for each in related(snapshot, first)] == [
        "mp-5777", "mp-5986", "mp-12992",
    ]  # fmt: skip


def test_related_of_what_has_no_relatives_is_empty(snapshot):
    assert related(snapshot, Quantity(3, property="n_materials")) == []
    assert related(snapshot, Quantity(3, property="hardness", subject="GaAs")) == []
    assert related(snapshot, Quantity(3, property="band_gap", subject="no formula")) == []


def test_schemas_are_plain_json(tools):
    for tool in tools.values():
        assert json.loads(json.dumps(tool.parameters())) == tool.parameters()
