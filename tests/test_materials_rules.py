"""The planner without a language model: what it reads, and what it does about it."""

import pytest

from ragkit.agents.definition import AgentOptions, load_agent
from ragkit.agents.materials.backend import Condition
from ragkit.agents.materials.question.reading import Limit, read_question
from ragkit.agents.materials.question.unrecognized import VAGUE


@pytest.fixture(scope="module")
def agent():
    return load_agent("materials", AgentOptions(llm="rules"))


READINGS = [
    ("What is the band gap of GaAs?", {"formulas": ("GaAs",), "properties": ("band_gap",)}),
    ("band gap of gallium arsenide", {"formulas": ("GaAs",), "properties": ("band_gap",)}),
    ("What is the gap of mp-2534?", {"material_ids": ("mp-2534",), "properties": ("band_gap",)}),
    (
        "What is the bulk modulus of Fe in Mbar?",
        {"formulas": ("Fe",), "properties": ("k_vrh",), "unit": "Mbar"},
    ),
    (
        "Which oxide has the highest refractive index?",
        {"properties": ("n",), "order": "highest", "order_by": "n", "elements": ("O",)},
    ),
    (
        "How many materials containing Ti and O have a band gap above 3 eV?",
        {
            "properties": ("band_gap",), "count": True, "elements": ("Ti", "O"),
            "limits": (Limit("band_gap", ">", 3.0, "eV"),),
        },
    ),
    (
        "List compounds with a gap between 1 and 1.5 eV without oxygen",
        {
            "properties": ("band_gap",), "without": ("O",),
            "limits": (Limit("band_gap", ">=", 1.0, "eV"), Limit("band_gap", "<=", 1.5, "eV")),
        },
    ),
    (
        "Which is larger, the bulk modulus of MgO or of ZnO?",
        {"formulas": ("MgO", "ZnO"), "properties": ("k_vrh",), "compare": True},
    ),
    (
        "Which ferromagnetic material has the largest magnetization per formula unit?",
        {
            "properties": ("total_magnetization_normalized_formula_units",),
            "order": "highest", "order_by": "total_magnetization_normalized_formula_units",
            "conditions": (Condition("ordering", "=", "FM"),),
        },
    ),
    (
        "What is the piezoelectric modulus of the nitride with the highest refractive index?",
        {
            "properties": ("e_ij_max", "n"), "order": "highest", "order_by": "n",
            "elements": ("N",),
        },
    ),
    (
        "What is the formation energy of GaAS?",
        {"misspelt": ("GaAS",), "properties": ("formation_energy_per_atom",)},
    ),
    (
        "How many polymorphs of TiO2 are held?",
        {"formulas": ("TiO2",), "count": True, "polymorphs": True},
    ),
    (
        "What is the measured band gap of AgCl?",
        {"formulas": ("AgCl",), "properties": ("band_gap",), "measured": True},
    ),
    ("What is the band gap of heavy water?", {"formulas": ("H2O",), "properties": ("band_gap",)}),
    ("Who won the world cup?", {}),
    ("Wie geht es dir?", {}),
]  # fmt: skip


@pytest.mark.parametrize(("question", "expected"), READINGS, ids=[each[0] for each in READINGS])
def test_reading_when_a_question_is_plain_finds_what_it_asks(question, expected):
    reading = read_question(question)
    found = {name: getattr(reading, name) for name in reading.__slots__ if name != "unrecognized"}
    assert {name: value for name, value in found.items() if value} == expected


def values(run):
    return {(row.property, row.value) for row in run.final.rows.values()}


def test_plan_when_a_unit_is_asked_for_converts_and_names_the_origin(agent):
    run = agent.run("What is the band gap of GaAs in meV?")
    [row] = run.final.rows.values()
    assert (round(row.value, 6), row.unit, row.derived_from) == (186.1, "meV", ("r1",))
    assert "186.1 meV" in run.text


def test_plan_when_an_extreme_is_asked_for_takes_it_from_all_rows(agent):
    from ragkit.agents.materials.backend import Query
    from ragkit.agents.materials.snapshot.backend import SnapshotBackend

    run = agent.run("Which oxide has the lowest refractive index?")
    every = SnapshotBackend().search(
        "dielectric", Query(elements=("O",), fields=("n",), limit=10_000)
    )
    lowest = min(each.value for row in every.rows for each in row.quantities)
    assert every.total > 100
    assert values(run) == {("n", lowest)}
    assert f"the first of {every.total} materials" in run.text


def test_plan_when_a_count_is_asked_for_names_the_count_of_all_rows(agent):
    run = agent.run("How many polymorphs of TiO2 are held?")
    [row] = run.final.rows.values()
    assert row.property == "n_materials"
    assert row.value == 44


def test_plan_when_two_materials_are_compared_shows_both_and_the_difference(agent):
    run = agent.run("Which has the larger bulk modulus, MgO or ZnO?")
    found = [row.property for row in run.final.rows.values()]
    assert found == ["k_vrh", "k_vrh", "difference", "ratio"]


def test_plan_when_a_formula_is_misspelt_reads_what_is_meant(agent):
    run = agent.run("What is the band gap of GaAS?")
    assert {row.subject for row in run.final.rows.values()} == {"GaAs"}


def test_plan_when_two_hops_are_needed_takes_both(agent):
    question = "What is the space group of the nitride with the highest refractive index?"
    run = agent.run(question)
    assert [row.property for row in run.final.rows.values()] == ["space_group", "n"]
    assert len({row.subject_id for row in run.final.rows.values()}) == 1


def test_plan_when_a_structure_is_asked_for_gives_the_file_and_its_facts(agent):
    run = agent.run("Give me the POSCAR of mp-830")
    [file] = [step.file for step in run.steps if step.kind == "observation" and step.file]
    assert file.splitlines()[0] == "GaN mp-830"
    assert ("space_group", "F-43m") in values(run)


def test_plan_when_an_element_is_asked_for_looks_it_up(agent):
    run = agent.run("What is the melting point of iron?")
    [row] = run.final.rows.values()
    assert (row.property, row.unit, round(row.value)) == ("melting_point", "K", 1811)


NOT_UNDERSTOOD = [
    "How many materials containing Fe are not ferromagnetic?",
    "Which materials containing Ti have a gap above 3 eV but are not oxides?",
    "How many materials have a gap below 1 eV and contain no oxygen?",
    "How many materials contain neither Ti nor O?",
    "How many materials contain exactly Ti and O?",
    "How many materials contain Ti or O?",
    "How many unstable materials with Ti are there?",
    "How many oxides have a band gap of 0?",
    "How many binary oxides have a band gap above 5 eV?",
    "How many atoms are in the cell of GaAs?",
    "Which oxide has the second highest refractive index?",
    "What is the average band gap of oxides?",
    "What is the volume per atom of TiTc?",
    "What is the HSE band gap of GaAs?",
    "What is the band gap of GaAs at 300 K?",
    "What is the band gap of GaAs in Hartree trees?",
]


@pytest.mark.parametrize("question", NOT_UNDERSTOOD)
def test_plan_when_a_word_is_not_understood_refuses_and_names_it(agent, question):
    run = agent.run(question)
    assert run.final.refusal == "unclear"
    assert "These words were not understood" in run.text


def test_plan_when_a_name_is_not_the_formula_suggested_does_not_take_it(agent):
    assert agent.run("bulk modulus of steel").final.refusal == "not_held"


def test_plan_when_a_name_means_one_polymorph_takes_no_other(agent):
    for row in agent.run("What is the band gap of calcite?").final.rows.values():
        assert row.variant == "R-3c"


def test_plan_when_a_polymorph_is_asked_for_takes_no_value_without_an_id(agent):
    for question in ("What is the bulk modulus of diamond?", "band gap of cubic boron nitride"):
        assert all(row.subject_id for row in agent.run(question).final.rows.values())


def test_plan_when_a_flag_is_not_held_does_not_count_it_as_none(agent):
    run = agent.run("How many stable polymorphs of TiO2 are there?")
    assert run.final.refusal == "not_held"


def test_plan_when_only_a_calculated_value_is_held_says_so(agent):
    run = agent.run("What is the experimental band gap of GaAs?")
    assert "No measured value is held: these are calculated." in run.text


def test_plan_when_a_unit_does_not_fit_says_so(agent):
    assert "It cannot be given in GPa." in agent.run("What is the band gap of GaAs in GPa?").text


def test_plan_when_a_ratio_is_asked_for_divides_in_the_order_of_the_question(agent):
    run = agent.run("What is the ratio of the band gap of GaAs to that of Si?")
    first, second, ratio = run.final.rows.values()
    assert (first.subject, second.subject) == ("GaAs", "Si")
    assert ratio.value == pytest.approx(first.value / second.value)


def test_plan_when_the_data_cannot_be_reached_does_not_say_that_nothing_is_held(monkeypatch):
    from ragkit.agents.materials.live.backend import LiveMaterialsProject
    from ragkit.agents.materials.question.rules import MaterialsRulePlanner
    from ragkit.agents.materials.tools import search_tools
    from ragkit.agents.react import ReAct

    closed = LiveMaterialsProject("x" * 32, endpoint="http://127.0.0.1:9/")
    run = ReAct(MaterialsRulePlanner(), search_tools(closed)).run("What is the band gap of GaAs?")
    assert run.final.refusal == "unavailable"


@pytest.mark.parametrize(
    ("question", "refusal"),
    [
        ("What is the band gap of Fe7U3Xe2?", "not_held"),
        ("What is the band gap?", "unclear"),
        ("What is GaAs?", "unclear"),
        ("Who won the world cup?", "off_topic"),
        ("?", "off_topic"),
    ],
)
def test_plan_when_there_is_no_answer_says_why(agent, question, refusal):
    assert agent.run(question).final.refusal == refusal


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("What is the modulus of GaAs?", "which modulus: bulk modulus, shear modulus or piezo"),
        ("Tell me the energy of LiF", "which energy: formation energy, total energy or energy"),
        ("What is the fracture modulus of GaAs?", "not understood: fracture"),
    ],
)
def test_plan_when_a_word_names_several_properties_says_which(agent, question, said):
    run = agent.run(question)
    assert run.final.refusal == "unclear"
    assert said in run.text


def test_words_that_name_several_properties_do_name_them():
    """What is offered instead of them is understood."""
    for meant in VAGUE.values():
        found = [read_question(f"the {each} of GaAs").properties for each in meant]
        assert all(found), meant
        assert len(set(found)) == len(meant), meant
