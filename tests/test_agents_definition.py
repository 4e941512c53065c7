"""Agent definitions: what ships, what is refused, what a trace records."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ragkit.agents.auto import AutoPlanner
from ragkit.agents.definition import (
    AgentOptions,
    agent_names,
    describe,
    load_agent,
    load_definition,
    system_prompts,
)
from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.materials.toolkit import RelatedValues
from ragkit.agents.planner import LLMPlanner
from ragkit.agents.tools import run_tool
from ragkit.agents.trained import trained_planner
from ragkit.errors import ModelError, RagkitError
from ragkit.testing import ScriptedLLM
from ragkit.types import Message

ROOT = Path(__file__).parents[1]


def scripted(**options):
    return AgentOptions(llm=ScriptedLLM(["{}"]), **options)


def test_names_when_listed_are_those_of_the_folder():
    assert {path.stem for path in (ROOT / "agents").glob("*.toml")} <= set(agent_names())


def test_definitions_when_loaded_have_every_prompt_they_need():
    materials = load_definition("materials")
    assert set(materials.prompts) == {"agent", "supervisor", "assistant", "short"}
    assert set(load_definition("library").prompts) == {"agent"}


def test_load_agent_when_materials_answers_the_question_of_the_readme():
    run = load_agent("materials").run("What is the band gap of GaAs?")
    first = run.final.rows["r1"]
    assert (first.value, first.unit, first.subject_id) == (0.18610000000000015, "eV", "mp-2534")
    assert "DFT" in first.method
    assert "Materials Project" in first.source
    assert first.licence == "CC BY 4.0"
    assert "0.186 eV" in run.text
    assert "mp-2534" in run.text


FREE = "Could I learn from you how wide the electronic gap of gallium arsenide happens to be?"


@pytest.mark.models
def test_planner_when_the_rules_cannot_read_a_question_is_the_trained_one():
    agent = load_agent("materials")
    assert agent.resolve_planner().name == "auto"
    assert agent.run("What is the band gap of GaAs?").usage.prompt_tokens == 0  # the rules
    assert agent.run(FREE).usage.prompt_tokens > 0
    unclear = agent.run("What is the band gap?")  # read to its last word: the refusal stands
    assert (unclear.final.refusal, unclear.usage.prompt_tokens) == ("unclear", 0)
    [(_, prompt)] = system_prompts(agent)
    [(_, trained)] = system_prompts(load_agent("materials", AgentOptions("trained")))
    assert prompt == trained


def test_planner_when_the_adapter_knows_other_tools_leaves_it_at_the_rules_and_says_why():
    one_less = {"permissions": {"compare": "deny"}}
    run = load_agent("materials", AgentOptions(**one_less)).run(FREE)
    assert run.final.refusal == "unclear"
    assert [each.why for each in run.losses] == ["its adapter was trained with other tools"]
    with pytest.raises(ModelError, match=r"is unavailable: .* with other tools"):
        load_agent("materials", AgentOptions("trained", **one_less))


def test_planner_when_a_model_is_found_is_loaded_once_and_takes_the_whole_run():
    found = []

    def find():
        found.append(1)
        return LLMPlanner(ScriptedLLM(['{"action": {"name": "refuse", "arguments": {"reason": '
                                       '"off_topic"}}}']), "You answer.", "short")  # fmt: skip

    rules = load_agent("materials", AgentOptions("rules"))
    agent = replace(rules, planner=AutoPlanner(rules.resolve_planner(), find, "You answer."))
    assert "0.186 eV" in agent.run("What is the band gap of GaAs?").text
    assert not found
    for _ in range(2):
        assert agent.run(FREE).final.refusal == "off_topic"
    before = [("What is the band gap of GaAs?", "0.186 eV")]
    back = "Is the formation energy of it somehow larger than that of the other one?"
    assert agent.run(back).final.refusal == "unclear"  # nothing was said before
    assert agent.run(back, history=before).final.refusal == "off_topic"
    assert agent.run("And its volume?", history=before).final.refusal == "off_topic"
    assert found == [1]


def test_planner_when_the_rules_find_an_empty_group_is_the_model_and_begins_anew():
    refused = '{"action": {"name": "refuse", "arguments": {"reason": "off_topic"}}}'
    llm = ScriptedLLM([refused] * 2)
    model = LLMPlanner(llm, "You answer.", "short")
    rules = load_agent("materials", AgentOptions("rules"))
    agent = replace(
        rules, planner=AutoPlanner(rules.resolve_planner(), lambda: model, "You answer.")
    )
    assert agent.run("What is the band gap of Fe7U3Xe2?").final.refusal == "not_held"
    assert not llm.conversations  # what is named is not misread
    for question in (
        "Which of the materials containing Fe, U and Xe has the highest band gap?",
        "Which argon compound has the highest band gap?",  # to the rules it is argon itself
    ):
        llm.conversations.clear()
        assert rules.run(question).final.refusal == "not_held"
        assert agent.run(question).final.refusal == "off_topic"
        [[_, asked]] = llm.conversations
        assert asked == Message("user", f"Question: {question}")


def test_planner_when_its_adapter_is_for_another_base_says_so(tmp_path):
    shipped = load_definition("materials")
    adapter = tmp_path / "materials" / "adapter"
    shutil.copytree(shipped.folder / "materials" / "adapter", adapter)
    about = json.loads((adapter / "ragkit.json").read_text())
    (adapter / "ragkit.json").write_text(json.dumps(about | {"base_fingerprint": "0" * 32}))
    moved = shipped.model_copy(update={"folder": tmp_path})
    with pytest.raises(ModelError, match="'smollm2' has other weights"):
        trained_planner(moved)


def test_prompt_when_built_names_every_offered_tool_and_no_denied_one():
    agent = load_agent("materials", scripted(permissions={"search_thermo": "deny"}))
    [(_, prompt)] = system_prompts(agent)
    for tool in agent.offered:
        assert f"- {tool.name}(" in prompt
        assert f": {tool.description}" in prompt
        assert len(tool.description) > 10
    assert "search_thermo" not in prompt
    assert "search_thermo" not in str([tool.name for tool in agent.offered])


def test_team_when_loaded_gives_each_assistant_its_tools_and_the_supervisor_none_of_them():
    agent = load_agent("materials", scripted(team=True))
    names = [tool.name for tool in agent.tools]
    assert "elasticity_expert" in names
    assert "search_elasticity" not in names
    assert "calculate" in names
    for tool in agent.tools:
        if tool.name.endswith("_expert"):
            assert tool.parameters()["required"] == ["input"]


def test_team_when_compared_with_the_flat_agent_has_shorter_prompts():
    [(_, flat)] = system_prompts(load_agent("materials", scripted()))
    [(_, supervisor)] = system_prompts(load_agent("materials", scripted(team=True)))
    assert len(supervisor) < len(flat)


def test_assistants_when_defined_name_tools_that_exist():
    tools = {tool.name for tool in load_agent("materials", scripted()).tools}
    for assistant in load_definition("materials").assistants.values():
        assert set(assistant.tools) <= tools


def test_describe_when_two_agents_differ_differs():
    one = describe(load_agent("materials", scripted()))
    other = describe(load_agent("materials", scripted(permissions={"compare": "ask"})))
    assert one == describe(load_agent("materials", scripted()))
    assert one != other


def test_load_definition_when_there_is_none_names_those_there_are():
    with pytest.raises(RagkitError, match="library, materials"):
        load_definition("nobody")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 3", "about"),
        ("name = 'x'\nabout = 'y'\ntoolkits = ['shell']", "toolkits"),
        ("name = ", "is invalid"),
        ("name = 'x'\nabout = 'y'\ntoolkits = ['calculator']\nextra = 1", "extra"),
    ],
)
def test_load_definition_when_the_file_is_wrong_says_where(tmp_path, text, said):
    (tmp_path / "own.toml").write_text(text)
    (tmp_path / "own.md").write_text("## agent\nYou calculate.\n")
    with pytest.raises(RagkitError, match=said):
        load_definition(tmp_path / "own.toml")


def test_load_definition_when_the_prompt_is_missing_says_so(tmp_path):
    (tmp_path / "own.toml").write_text("name = 'x'\nabout = 'y'\ntoolkits = ['calculator']")
    with pytest.raises(RagkitError, match=r"own\.md"):
        load_definition(tmp_path / "own.toml")


def test_load_agent_when_an_option_makes_no_sense_refuses():
    with pytest.raises(ValueError, match="no tool nothing"):
        load_agent("materials", AgentOptions("rules", permissions={"nothing": "deny"}))
    with pytest.raises(ValueError, match="cannot run a team"):
        load_agent("materials", AgentOptions("rules", team=True))
    with pytest.raises(ValueError, match="needs a collection"):
        load_agent("library", scripted())
    with pytest.raises(RagkitError, match="unknown limits max_stepz"):
        load_agent("materials", AgentOptions("rules", limits={"max_stepz": 3}))
    with pytest.raises(ValueError, match="max_steps is 0"):
        load_agent("materials", AgentOptions("rules", limits={"max_steps": 0}))


def test_load_agent_when_it_reads_a_database_can_select_from_the_listed_tables_only(tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "sales.db") as database:
        database.execute("CREATE TABLE orders (item TEXT, price REAL)")
        database.execute("CREATE TABLE secrets (word TEXT)")
        database.execute("INSERT INTO orders VALUES ('lamp', 12.5)")
    (tmp_path / "sales.toml").write_text(
        "name = 'sales'\nabout = 'y'\ntoolkits = ['sql']\n"
        "database = 'sales.db'\ntables = ['orders']\n"
    )
    (tmp_path / "sales.md").write_text("## agent\nYou answer from tables.\n")
    agent = load_agent(tmp_path / "sales.toml", scripted())
    [table] = agent.tools
    assert run_tool(table, {"sql": "SELECT item FROM orders"}, Ledger()).result.rows == [
        {"item": "lamp"}
    ]
    assert "secrets" in run_tool(table, {"sql": "SELECT word FROM secrets"}, Ledger()).error
    (tmp_path / "sales.toml").write_text("name = 'sales'\nabout = 'y'\ntoolkits = ['sql']\n")
    with pytest.raises(RagkitError, match="no `database`"):
        load_agent(tmp_path / "sales.toml", scripted())


def test_related_when_the_back_end_is_live_then_asks_it_nothing():
    unasked = SimpleNamespace(name="live", version="1")  # has no `search`
    assert RelatedValues(unasked)(Quantity(0.19, "eV", "band_gap", "GaAs")) == []
