"""A supervisor and assistants: questions go down as text, evidence comes up as rows."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.planner import LLMPlanner
from ragkit.agents.react import ReAct
from ragkit.agents.steps import Action, Final, Observation, RunLimits
from ragkit.agents.team import Assistant, as_tool, team_tools
from ragkit.agents.tools import RowId, Tool, ToolResult, run_tool, tool
from ragkit.testing import ScriptedLLM
from ragkit.types import ChatOptions, Reply, Usage


@tool
def gap(formula: str) -> Quantity:
    """The band gap of a formula."""
    return Quantity(len(formula) / 10, "eV", "band_gap", formula, f"mp-{len(formula)}")


@tool
def bulk(formula: str) -> Quantity:
    """The bulk modulus of a formula."""
    return Quantity(10.0 * len(formula), "GPa", "k_vrh", formula, f"mp-{len(formula)}")


@tool
def double(row: RowId, ledger: Ledger) -> Quantity:
    """Twice a row."""
    held = ledger[row]
    assert isinstance(held, Quantity)
    assert isinstance(held.value, float)
    return Quantity(2 * held.value, held.unit, "twice", held.subject, derived_from=(row,))


def act(name: str, **arguments: object) -> str:
    return json.dumps({"thought": "", "action": {"name": name, "arguments": arguments}})


def assistant(name: str, *replies: str, tools: tuple[Tool, ...] = (gap, double)) -> Assistant:
    return Assistant(
        name, f"Knows the {name} of materials.", ReAct(ScriptedLLM(list(replies)), tools)
    )


def asked(one: Assistant, ledger: Ledger | None = None) -> ToolResult:
    ledger = Ledger() if ledger is None else ledger
    outcome = run_tool(as_tool(one), {"input": "The gap of GaAs?"}, ledger)
    assert outcome.result is not None, outcome.error
    return outcome.result


GAPS = assistant("gaps", act("gap", formula="GaAs"), act("answer", rows=["r1"]))


def test_assistant_when_made_a_tool_then_has_one_string_argument():
    made = as_tool(GAPS)
    assert (made.name, made.description) == ("gaps", "Knows the gaps of materials.")
    assert made.parameters() == {
        "type": "object",
        "properties": {
            "input": {"type": "string", "description": "The complete question, with all context."}
        },
        "required": ["input"],
        "additionalProperties": False,
    }
    assert made.wants_ledger
    assert made.timeout_s == 1.5 * 120 + 5


def test_assistant_when_asked_then_evidence_comes_back_and_no_state():
    ledger = Ledger()
    result = asked(afresh(GAPS), ledger)
    (row,) = result.evidence
    assert (row.value, row.subject, row.query) == (
        *(0.4, "GaAs"),
        '{"arguments": {"formula": "GaAs"}, "tool": "gap"}',
    )
    assert (result.text, result.rows) == ("", ())
    assert dict(ledger.rows) == {"r1": row}
    assert [step.kind for step in result.steps] == ["action", "observation", "action", "final"]
    assert result.usage.completion_tokens > 5


def test_assistant_when_it_computed_then_the_sources_come_too_and_nothing_else():
    one = assistant(
        "gaps",
        *(act("gap", formula="Si"), act("gap", formula="GaAs"), act("double", row="r2")),
        act("answer", rows=["r3"]),
    )
    ledger = Ledger()
    assert [each.property for each in asked(one, ledger).evidence] == ["twice"]
    assert list(ledger) == ["r3", "r2"]
    assert ledger["r3"].derived_from == ("r2",)


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([act("refuse", reason="unclear")], "No answer: the question does not say enough."),
        (
            ["nonsense"],
            "No answer: the run ended (model_error) before anything was found. Split the request "
            "into several smaller ones, or ask for fewer rows.",
        ),
    ],
)
def test_assistant_when_it_finds_nothing_then_text_comes_back(replies, said):
    result = asked(assistant("gaps", *replies))
    assert (list(result.evidence), result.text) == ([], said)


def test_assistant_when_it_is_stopped_then_what_it_found_comes_back():
    one = Assistant(
        "gaps",
        "Knows.",
        ReAct(ScriptedLLM([act("gap", formula="Si")]), [gap], limits=RunLimits(max_steps=1)),
    )
    assert [each.subject for each in asked(one).evidence] == ["Si"]


def test_assistant_when_its_model_fails_then_it_is_an_error_for_the_supervisor():
    one = Assistant("gaps", "Knows.", ReAct(ScriptedLLM({"no such words": "x"}), [gap]))
    outcome = run_tool(as_tool(one), {"input": "Gap?"}, Ledger())
    assert outcome.error.startswith("gaps failed (KeyError: ")
    empty = run_tool(as_tool(afresh(GAPS)), {"input": " "}, Ledger())
    assert empty.error.startswith("gaps failed (ValueError: the question is empty")


def test_team_when_it_answers_then_ids_are_shared_and_usage_adds_up():
    bulks = assistant(
        "bulks", act("bulk", formula="GaAs"), act("answer", rows=["r2"]), tools=(bulk,)
    )
    again = assistant("again", act("gap", formula="GaAs"), act("answer", rows=["r1"]))
    boss = ReAct(
        ScriptedLLM(
            [
                act("gaps", input="The gap of GaAs?"),
                act("bulks", input="The bulk modulus of GaAs?"),
                act("again", input="The gap of GaAs, once more?"),
                act("double", row="r2"),
                act("answer", rows=["r1", "r2", "r3"]),
            ]
        ),
        team_tools([afresh(GAPS), bulks, again], [double]),
    )
    run = boss.run("Gap and bulk modulus of GaAs?")
    assert run.final.exit_reason == "answered", run
    assert [(row_id, row.property) for row_id, row in run.ledger.items()] == [
        *(("r1", "band_gap"), ("r2", "k_vrh")),
        ("r3", "twice"),
    ]
    assert run.text == (
        "GaAs (mp-4): band gap 0.4 eV\nGaAs (mp-4): k vrh 40 GPa\nGaAs: twice 80 GPa"
    )
    seen = [step for step in run.steps if isinstance(step, Observation)]
    assert [step.rows for step in seen] == [("r1",), ("r2",), ("r1",), ("r3",)]
    assert [step.kind for step in seen[0].inner] == ["action", "observation", "action", "final"]
    assert isinstance(seen[0].inner[0], Action)
    assert isinstance(seen[0].inner[-1], Final)
    own = sum(len(act_text.split(" ")) for act_text in boss.planner.replies)
    inner = sum(
        len(reply.split(" "))
        for each in (GAPS, bulks, again)
        for reply in each.agent.planner.replies
    )
    assert run.usage.completion_tokens == own + inner
    assert isinstance(run.usage, Usage)


def afresh(one: Assistant) -> Assistant:
    """The same with its replies to come: a scripted model goes on where it was."""
    assert isinstance(one.agent.planner, ScriptedLLM)
    return assistant(one.name, *one.agent.planner.replies)


def test_team_when_two_assistants_start_from_nothing_then_no_id_means_two_things():
    first = assistant("first", act("gap", formula="Si"), act("answer", rows=["r1"]))
    second = assistant("second", act("gap", formula="GaAs"), act("answer", rows=["r2"]))
    replies = [act("first", input="a"), act("second", input="b"), act("answer", rows=["r1", "r2"])]
    run = ReAct(ScriptedLLM(replies), team_tools([first, second])).run("Both gaps?")
    assert [(key, row.subject) for key, row in run.final.rows.items()] == [
        ("r1", "Si"),
        ("r2", "GaAs"),
    ]


def test_team_when_an_assistant_is_late_then_what_it_finds_goes_nowhere():
    release, done = threading.Event(), threading.Event()

    class Late(ScriptedLLM):
        def chat(self, conversations: Any, options: ChatOptions = ChatOptions()) -> list[Reply]:
            release.wait(10)
            return super().chat(conversations, options)

    def related(_: Quantity) -> list[Quantity]:
        done.set()  # the last thing a run does
        return []

    llm = Late([act("gap", formula="Si"), act("answer", rows=["r1"])])
    one = Assistant("late", "Knows.", ReAct(llm, [gap], related=related))
    ledger = Ledger()
    outcome = run_tool(replace(as_tool(one), timeout_s=0.05), {"input": "Gap?"}, ledger)
    assert outcome.error.startswith("late did not answer within 0.05 s")
    release.set()
    assert done.wait(10)
    for thread in threading.enumerate():
        if thread.name == "tool late":
            thread.join(10)
    assert len(ledger) == 0


def test_materials_team_when_prompted_then_each_prompt_is_shorter_than_the_flat_one():
    definition = pytest.importorskip("ragkit.agents.definition")
    pytest.importorskip("ragkit.agents.materials.toolkit")
    pytest.importorskip("ragkit.agents.calculator")
    llm = ScriptedLLM(["x"])
    flat = definition.load_agent("materials", definition.AgentOptions(llm=llm))
    team = definition.load_agent("materials", definition.AgentOptions(llm=llm, team=True))
    definitions = definition.load_definition("materials").assistants

    def length(agent: ReAct) -> int:
        planner = agent.resolve_planner()
        assert isinstance(planner, LLMPlanner)
        return len(planner.prompt(agent.offered))

    assert length(team) < length(flat)
    names = {each.name for each in team.offered}
    assert {*definitions} <= names
    held = {name for each in definitions.values() for name in each.tools}
    assert not held & names
