"""Answers that leave out a part of the question go back once, and are then refusals."""

from __future__ import annotations

import json

import pytest

from ragkit.agents.ledger import Quantity
from ragkit.agents.materials.question.coverage import left_out
from ragkit.agents.planner import Proposal
from ragkit.agents.react import ReAct
from ragkit.agents.steps import Action, Observation
from ragkit.agents.tools import tool


def value(subject, name="band_gap", number=1.0, **more):
    return Quantity(number, "eV", name, subject, more.pop("subject_id", "mp-1"), **more)


def count(number, name="n_materials"):
    return Quantity(number, "", name, method="count over all matching rows")


@pytest.mark.parametrize(
    ("question", "rows", "said"),
    [
        ("Give me the shear moduli of ZnO, CdTe and PbS.", [value("ZnO"), value("PbS")], "CdTe"),
        ("Band gaps of zinc oxide and lead sulfide?", [value("ZnO")], "PbS"),
        ("Which of LiF and NaCl has the larger density?", [value("LiF")], "NaCl"),
        ("What is the gap of WO3?", [count(0)], "number of rows"),
        ("Why is the measured gap of WO3 so large?", [count(3, "n_values")], "number of rows"),
        ("How much do the gaps of WO3 and MoO3 differ?",
         [Quantity(0, "", "difference", derived_from=("r1", "r2")), count(0)], "number of rows"),
        ("Oxides without cobalt with a gap above 2 eV?", [value("CoO"), value("ZnO")], "CoO"),
        ("Which three compounds of tin have the largest gap?", [value("SnO2")], "3 were asked for"),
        ("Show the top 4 nitrides by bulk modulus.", [value("BN"), value("GaN")], "4 were asked"),
    ],
)  # fmt: skip
def test_what_an_answer_leaves_out_is_named(question, rows, said):
    assert said in left_out(question, rows)


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("Give me the shear moduli of ZnO and PbS.", [value("PbS"), value("ZnO")]),
        ("How many tungsten oxides are held?", [count(0)]),
        ("Are there any oxides of gold?", [count(0)]),
        ("What is the gap of Ga2As2?", [value("GaAs")]),
        ("What is the gap of WO3?", [value("WO3", subject_id=None), count(1)]),
        ("By how much do the gaps of WO3 and MoO3 differ?",
         [Quantity(0.4, "eV", "difference", derived_from=("r1", "r2")), value("WO3"),
          value("MoO3")]),
        ("Which two oxides have the largest gap?", [value("BeO"), value("MgO")]),
        ("Oxides without cobalt with a gap above 2 eV?", [value("ZnO")]),
        ("Hello?", [value("ZnO")]),
        ("What does the collection say?", []),
    ],
)  # fmt: skip
def test_answers_that_cover_their_question_pass(question, rows):
    assert left_out(question, rows) == ""


@tool
def look_up(name: str) -> list[Quantity]:
    """Look up the gap of a material.

    Args:
        name: Formula.
    """
    return [value(name)]


class Scripted:
    """Plays a list of actions."""

    name = "scripted"

    def __init__(self, *actions):
        self.actions = actions

    def begin(self):
        return Turns(self.actions)


class Turns:
    def __init__(self, actions):
        self.left = list(actions)

    def next(self, state):
        action = self.left.pop(0)
        return Proposal(action(state) if callable(action) else action)


def cite_all(state):
    return Action("answer", {"rows": list(state.ledger)})


QUESTION = "Band gaps of ZnO and PbS?"


def test_an_answer_that_is_completed_after_the_hint_is_given():
    planner = Scripted(
        Action("look_up", {"name": "ZnO"}), cite_all, Action("look_up", {"name": "PbS"}), cite_all
    )
    run = ReAct(planner, [look_up], left_out=left_out).run(QUESTION)
    assert [row.subject for row in run.final.rows.values()] == ["ZnO", "PbS"]
    faults = [step.text for step in run.steps if isinstance(step, Observation) and step.error]
    assert len(faults) == 1
    assert "it says nothing of PbS" in faults[0]


def test_an_answer_that_stays_incomplete_is_a_refusal_that_says_why():
    one_more = Action("look_up", {"name": "CdS"})
    planner = Scripted(Action("look_up", {"name": "ZnO"}), cite_all, one_more, cite_all)
    run = ReAct(planner, [look_up], left_out=left_out).run(QUESTION)
    assert (run.final.refusal, run.final.exit_reason) == ("not_held", "refused")
    assert not run.final.rows
    assert "it says nothing of PbS" in run.text


@pytest.mark.parametrize(
    ("question", "rows", "said"),
    [
        ("Compare the gaps of brookite and anatase.", [value("TiO2", variant="Pbca")], "anatase"),
        ("What is the space group of the most stable Ag2S?",
         [value("Ag2S", "space_group", "P2_1/c")], "stable"),
        ("Nitrides with a bulk modulus above 200 GPa?",
         [value("BN", "density", query='{"fields": "density", "elements": "N"}')], "k vrh"),
        ("Antiferromagnetic oxides with a band gap above 1 eV?",
         [value("FeO", query='{"where": "band_gap > 1"}')], "ordering"),
    ],
)  # fmt: skip
def test_conditions_and_phases_that_an_answer_drops_are_named(question, rows, said):
    assert said in left_out(question, rows)


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("What is the gap of anatase?", [value("TiO2", variant="I4_1/amd")]),
        ("What is the gap of the most stable Ag2S?",
         [value("Ag2S", query='{"sort_fields": "energy_above_hull"}')]),
        ("Is Ag2S stable?", [value("Ag2S", "is_stable", False)]),
        ("Nitrides with a bulk modulus above 200 GPa?",
         [value("BN", "density", query='{"where": "k_vrh > 200"}')]),
        ("Which materials are similar to GaN?", [value("ZnO", "dissimilarity", 0.1)]),
    ],
)  # fmt: skip
def test_conditions_and_phases_that_an_answer_keeps_pass(question, rows):
    assert left_out(question, rows) == ""


def test_one_of_many_is_no_list():
    query = '{"tool": "search_dielectric"}'
    found = [value(name, "n", query=query) for name in ("PbS", "PbSe", "PbTe")]
    question = "List semiconductors with a refractive index above 4"
    for row in found:
        assert left_out(question, [row], found) != ""
    assert left_out("Which semiconductor has the highest n?", found[:1], found) == ""


def test_a_value_under_the_name_of_another_condition_is_not_the_condition():
    question = "materials with refractive index > 2.5 and band gap > 3 eV"
    for where, is_dropped in ((["n > 2.5", "n < 3"], True), (["n > 2.5", "band_gap > 3"], False)):
        query = json.dumps({"tool": "search_dielectric", "arguments": {"where": where}})
        fault = left_out(question, [value("LaN", "n", 2.65, query=query)])
        assert ("band gap" in fault) == is_dropped
