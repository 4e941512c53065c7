"""The pitfalls of LLaMP's code, notebooks and issues, none of which ragkit has.

`ELSEWHERE` says which test of another file shows it; what is tested nowhere else is tested here,
with the agent that ships.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel

from ragkit.agents.definition import AgentOptions, load_agent, load_definition, system_prompts
from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.react import ReAct
from ragkit.agents.steps import Observation
from ragkit.agents.tools import Outcome, Tool, run_tool
from ragkit.testing import ScriptedLLM
from ragkit.types import Message

TESTS = Path(__file__).parent

ELSEWHERE = {
    "a prompt that promises tools which are not there": (
        "test_agents_definition.py::"
        "test_prompt_when_built_names_every_offered_tool_and_no_denied_one"
    ),
    "two field names merged by a missing comma": (
        "test_materials_tools.py::test_merged_field_names_are_refused_with_the_ones_that_were_meant"
    ),
    "a misspelt filter that is ignored": (
        "test_materials_tools.py::test_a_misspelt_argument_is_refused"
    ),
    "an executor that never sees its role": (
        "test_agents_planner.py::test_prompt_when_asked_of_the_planner_then_is_what_is_sent"
    ),
    "an assistant that hands over its executor's state": (
        "test_agents_team.py::test_assistant_when_asked_then_evidence_comes_back_and_no_state"
    ),
    "large values that overflow the context, or are cut inside": (
        "test_agents_observations.py::"
        "test_observation_when_a_field_is_long_then_it_is_named_and_never_cut"
    ),
    "elements taken for a formula": (
        "test_materials_tools.py::test_elements_are_not_exclusive_and_the_argument_says_so"
    ),
    "the bulk modulus of zinc with a typing error": (
        "test_materials_snapshot.py::test_the_bulk_modulus_of_zinc_is_not_the_mistyped_one"
    ),
    "refusals that are dropped before averaging": (
        "test_evaluation_agents.py::"
        "test_summary_when_there_are_refusals_counts_them_as_wrong_and_drops_none"
    ),
    "the smallest of negative energies": (
        "test_materials_tools.py::test_the_lowest_of_a_negative_energy_is_the_most_negative"
    ),
    "order words that no description defines": (
        "test_materials_snapshot.py::test_order_words_are_defined_where_energies_are_negative"
    ),
    "elasticity asked by a formula, without the ids (rule 5 removed)": (
        "test_materials_live.py::test_without_rule_5_an_elasticity_question_ends_as_an_observation"
    ),
}


def action(name: str, **arguments: object) -> str:
    return json.dumps({"thought": "", "action": {"name": name, "arguments": arguments}})


def shipped(team: bool = False, llm: ScriptedLLM | None = None) -> ReAct:
    return load_agent("materials", AgentOptions(llm=llm or ScriptedLLM(["{}"]), team=team))


def quantities(outcome: Outcome) -> list[Quantity]:
    assert outcome.result is not None, outcome.error
    return [each for each in outcome.result.evidence if isinstance(each, Quantity)]


def observations(conversation: Sequence[Message]) -> list[str]:
    return [each.content for each in conversation if each.content.startswith("Observation:")]


@pytest.mark.parametrize("where", ELSEWHERE.values(), ids=ELSEWHERE)
def test_pitfall_when_it_is_covered_elsewhere_then_that_test_is_there(where: str) -> None:
    file, _, name = where.partition("::")
    assert f"\ndef {name}(" in (TESTS / file).read_text("utf-8")


@pytest.mark.parametrize("team", [False, True])
def test_tool_list_when_the_agent_is_built_then_the_calculator_has_not_vanished(team: bool) -> None:
    agent = shipped(team)
    [(_, prompt)] = system_prompts(agent)
    named = re.findall(r"^- (\w+)\(", prompt, re.MULTILINE)
    assert named == [*(each.name for each in agent.offered), "answer", "refuse"]
    assert {"convert_unit", "calculate", "compare", "rank", "average"} <= {
        each.name for each in agent.offered
    }


def test_fields_when_they_are_a_list_already_then_the_dielectric_search_reads_them() -> None:
    [dielectric] = [each for each in shipped().tools if each.name == "search_dielectric"]
    found = []
    for fields in (["n", "e_total"], "n,e_total"):
        outcome = run_tool(dielectric, {"material_ids": "mp-352", "fields": fields}, Ledger())
        found.append([(each.property, each.value) for each in quantities(outcome)])
    assert found[0] == found[1]
    assert [name for name, _ in found[0]] == ["n", "e_total", "n_materials"]
    by_formula = run_tool(dielectric, {"formula": ["HfO2", "ZrO2"], "fields": ["n"]}, Ledger())
    formulas = {each.subject for each in quantities(by_formula) if each.subject_id}
    assert formulas == {"HfO2", "ZrO2"}


@pytest.mark.parametrize("team", [False, True])
def test_description_when_a_tool_ships_then_it_is_a_sentence_and_not_a_letter(team: bool) -> None:
    for each in shipped(team).tools:
        assert len(each.description.split()) >= 3, each.name
        assert each.description[0].isupper(), each.name
        assert each.description.endswith("."), each.name


def test_schema_when_a_tool_ships_then_it_is_a_class_that_makes_arguments_anew() -> None:
    tools: list[Tool] = [*shipped().tools, *shipped(team=True).tools]
    assert {"get_structure", "make_supercell", "elasticity_expert"} <= {each.name for each in tools}
    for each in tools:
        assert isinstance(each.arguments, type), each.name
        assert issubclass(each.arguments, BaseModel), each.name
        assert each.parameters()["additionalProperties"] is False, each.name


def test_roles_when_a_team_runs_then_supervisor_and_assistant_are_sent_their_own() -> None:
    prompts = load_definition("materials").prompts
    supervisor = prompts["supervisor"].splitlines()[0]
    assistant = "You are the elasticity expert of a team."
    replies = [
        action("elasticity_expert", input="What is the bulk modulus of Zn?"),
        action("search_elasticity", formula="Zn", fields="k_vrh"),
        action("answer", rows=["r1"]),
        action("answer", rows=["r1"]),
    ]
    llm = ScriptedLLM(replies)
    run = shipped(team=True, llm=llm).run("What is the bulk modulus of zinc?")
    assert run.final.exit_reason == "answered", run.text
    assert run.text.startswith("Zn (mp-79")
    assert "85.872 GPa" in run.text
    systems = [conversation[0].content for conversation in llm.conversations]
    assert [supervisor in each for each in systems] == [True, False, False, True]
    assert [assistant in each for each in systems] == [False, True, True, False]


def test_assistant_when_its_input_is_forgotten_then_it_is_told_and_the_run_goes_on() -> None:
    llm = ScriptedLLM([action("elasticity_expert"), action("refuse", reason="not_held")])
    run = shipped(team=True, llm=llm).run("What is the bulk modulus of zinc?")
    assert run.final.exit_reason == "refused"
    [told] = [each for each in run.steps if isinstance(each, Observation)]
    assert told.error
    assert told.text == "| elasticity_expert: 'input' is missing. Revise the arguments."
    assert observations(llm.conversations[1]) == [f"Observation:\n{told.text}"]
