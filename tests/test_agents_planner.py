"""The model's side: the prompt comes from the tools, the grammar from the live ones."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.planner import (
    LLMPlanner,
    State,
    action_schema,
    describe_tools,
    final_tools,
    parse_action,
    system_prompt,
    tools_digest,
)
from ragkit.agents.react import ReAct
from ragkit.agents.steps import Action, Observation, Thought
from ragkit.agents.templates import TEMPLATES, Templates
from ragkit.agents.tools import RowId, Tool, tool
from ragkit.errors import ModelError
from ragkit.testing import ScriptedLLM
from ragkit.types import ChatOptions, Message, Reply, Usage


@tool
def search(formula: str, ordering: Literal["FM", "NM"] | None = None, limit: int = 5) -> None:
    """Magnetic ordering of a formula.

    And more, for people who read code.

    Args:
        formula: Such as GaAs.
        ordering: Only these.
        limit: How many.
    """


@tool
def gaps(formula: str, elements: list[str] | None = None, either: int | str = 0) -> None:
    """Band gaps of a formula.

    Args:
        formula: Such as GaAs.
        elements: These and others.
        either: One or the other.
    """


@tool
def convert(row: RowId, unit: Literal["eV"]) -> None:
    """A row in another unit.

    Args:
        row: Which row.
        unit: Which unit.
    """


TOOLS = [search, gaps, convert]


def ledger_of(n_rows: int) -> Ledger:
    ledger = Ledger()
    ledger.add([Quantity(n, property="n") for n in range(n_rows)], "count", {})
    return ledger


def test_tools_when_described_then_signature_sentence_and_arguments_are_said_once():
    assert describe_tools(TOOLS) == (
        '- search(formula: string, ordering?: "FM"|"NM", limit?: integer): Magnetic ordering of a '
        "formula.\n"
        "    ordering: Only these.\n"
        "    limit: How many.\n"
        "- gaps(formula: string, elements?: list of string, either?: integer or string): Band gaps "
        "of a formula.\n"
        "    elements: These and others.\n"
        "    either: One or the other.\n"
        '- convert(row: string, unit: "eV"): A row in another unit.\n'
        "    row: Which row.\n"
        "    unit: Which unit.\n"
        "Arguments of several tools:\n"
        "    formula: Such as GaAs."
    )


@pytest.mark.parametrize("held", [[], [search], [convert, gaps], TOOLS], ids=len)
def test_prompt_when_made_then_names_the_tools_offered_and_no_other(held):
    prompt = system_prompt("You are a test.", held)
    assert prompt.startswith("You are a test.\n")
    named = re.findall(r"^- ([\w-]+)\(", prompt, re.MULTILINE)
    assert named == [*(each.name for each in held), "answer", "refuse"]
    for each in TOOLS:
        assert (f"{each.name}(" in prompt) == (each in held)
        assert (each.description in prompt) == (each in held)
    assert "$" not in prompt


def test_prompt_when_asked_of_the_planner_then_is_what_is_sent():
    llm = ScriptedLLM(['{"action": {"name": "refuse", "arguments": {"reason": "unclear"}}}'])
    agent = ReAct(llm, TOOLS, role="You test.", permissions={"gaps": "deny"})
    agent.run("Why?")
    planner = agent.resolve_planner()
    assert isinstance(planner, LLMPlanner)
    assert llm.conversations == [
        (Message("system", planner.prompt([search, convert])), Message("user", "Question: Why?"))
    ]


def test_ends_when_the_ledger_is_empty_then_there_is_no_answer():
    assert list(final_tools(Ledger())) == ["refuse"]
    assert list(final_tools(ledger_of(1))) == ["answer", "refuse"]
    assert final_tools(ledger_of(2))["answer"]["properties"]["rows"] == {
        "type": "array",
        "items": {"enum": ["r1", "r2"]},
        "minItems": 1,
        "maxItems": 20,
    }


def test_schema_when_made_then_is_one_object_of_a_thought_and_an_action():
    schema = action_schema([search, convert], ledger_of(2))
    assert {**schema, "properties": list(schema["properties"])} == {
        "type": "object",
        "properties": ["thought", "action"],
        "required": ["thought", "action"],
        "additionalProperties": False,
    }
    choices = schema["properties"]["action"]["anyOf"]
    assert [each["properties"]["name"]["const"] for each in choices] == [
        *("search", "convert", "answer"),
        "refuse",
    ]
    assert choices[1]["properties"]["arguments"]["properties"]["row"]["enum"] == ["r1", "r2"]
    for each in (schema, *choices, *(each["properties"]["arguments"] for each in choices)):
        assert each["additionalProperties"] is False


def test_schema_when_the_ledger_is_long_then_stays_small():
    assert len(json.dumps(action_schema(TOOLS, ledger_of(5000)))) < 10_000


@pytest.mark.parametrize(
    ("text", "thought", "action"),
    [
        ('{"thought": "t", "action": {"name": "a", "arguments": {"x": 1}}}', "t", {"x": 1}),
        ('```json\n{"thought": "t", "action": {"name": "a", "arguments": {}}}\n```', "t", {}),
        ('Sure! {"action": {"name": "a"}} Is that all?', "", {}),
        ('{"action": {"name": "a", "arguments": {"x": "}{"}}, "thought": 5}', "5", {"x": "}{"}),
        ('{"thought": null, "action": {"name": "a", "arguments": {}}}', "", {}),
        ('{"thought": "two\\nlines", "action": {"name": "a", "arguments": {}}}', "two lines", {}),
    ],
)
def test_reply_when_it_holds_an_action_then_is_read(text, thought, action):
    assert parse_action(text) == (thought, Action("a", action), "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the reply holds no JSON object"),
        ("[1, 2]", "the reply holds no JSON object"),
        ('{"action": ', "the reply is not JSON"),
        ("{" * 10_000, "the reply is not JSON"),
        ('{"a": ' * 5_000 + "1" + "}" * 5_000, "the reply is not JSON"),
        ("{}", "the reply names no action"),
        ('{"action": "search"}', "the reply names no action"),
        ('{"action": {"name": 5}}', "the reply names no action"),
        ('{"action": {"name": "a", "arguments": [1]}}', "'arguments' is no object"),
        ('{"action": {"name": "a", "arguments": null}}', "'arguments' is no object"),
        ('{"action": {"name": "a", "arguments": {"x": NaN}}}', "the reply is not JSON"),
        ('{"action": {"name": "a", "arguments": {"x": 1e999}}}', "the reply is not JSON"),
        ('{"action": {"name": "a", "arguments": {"x": "\\ud83d"}}}', "control characters"),
        ('{"action": {"name": "a", "arguments": {"x\\u001b": 1}}}', "control characters"),
        (
            '{"action": {"name": "a", "arguments": {"x": ' + "[" * 30 + "]" * 30 + "}}}",
            "nested more than 12 deep",
        ),
        ('{"action": {"name": "a", "arguments": {"x": ' + "9" * 5000 + "}}}", "not JSON"),
    ],
)
def test_reply_when_it_is_no_action_then_says_why_and_what_is_expected(text, reason):
    thought, action, error = parse_action(text)
    assert (thought, action) == ("", None)
    assert reason in error
    assert error.endswith(
        'reply with one JSON object of the form {"thought": "...", "action": {"name": "...", '
        '"arguments": {...}}}'
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5) | st.sampled_from(["action", "name"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.text() | JSON.map(json.dumps) | st.builds(lambda value: json.dumps({"action": value}), JSON)
)
def test_reply_when_it_is_anything_then_is_an_action_or_an_error(text):
    thought, action, error = parse_action(text)
    assert (action is None) == bool(error)
    assert "\n" not in thought
    if action is not None:
        json.dumps([action.tool, action.arguments], ensure_ascii=False, allow_nan=False).encode()


def state(*steps: Any, options: ChatOptions = ChatOptions(50)) -> State:
    return State("Why?", [], steps, ledger_of(1), TOOLS, [search], options)


class Recorder(ScriptedLLM):
    """Keeps the options too."""

    def __init__(self, *replies: str, reason: Literal["stop", "length"] = "stop") -> None:
        super().__init__(list(replies))
        self.reason: Literal["stop", "length"] = reason
        self.options: list[ChatOptions] = []

    def chat(self, conversations: Any, options: ChatOptions = ChatOptions()) -> list[Reply]:
        self.options.append(options)
        return [Reply(each.text, self.reason, Usage(1, 2)) for each in super().chat(conversations)]


def test_turns_when_asked_then_the_schema_is_that_of_the_live_tools():
    llm = Recorder('{"thought": "t", "action": {"name": "search", "arguments": {}}}')
    proposal = LLMPlanner(llm, "Role.").begin().next(state())
    assert proposal.action == Action("search", {})
    assert (proposal.thought, proposal.error, proposal.usage) == ("t", "", Usage(1, 2))
    assert llm.options == [ChatOptions(50, schema=action_schema([search], ledger_of(1)))]


def test_turns_when_a_reply_was_cut_then_says_so():
    llm = Recorder('{"thought": "a long', reason="length")
    proposal = LLMPlanner(llm, "Role.").begin().next(state())
    assert proposal.error == "the action was cut off after 50 tokens; write a shorter one"


def test_turns_when_steps_were_done_then_roles_alternate_and_say_what_happened():
    llm = Recorder("{}")
    steps = [
        Thought("Ü."),
        Action("search", {"formula": "Ga₂"}),
        Observation("search", "| r1: a"),
        Observation("", "| no JSON", error=True),
        Action("gaps", {}),
        Observation("gaps", "| b"),
    ]
    LLMPlanner(llm, "Role.").begin().next(state(*steps))
    said = '{"thought": "Ü.", "action": {"name": "search", "arguments": {"formula": "Ga₂"}}}'
    assert llm.conversations[0][1:] == (
        Message("user", "Question: Why?"),
        Message("assistant", said),
        Message("user", "Observation:\n| r1: a\nObservation:\n| no JSON"),
        Message("assistant", '{"thought": "", "action": {"name": "gaps", "arguments": {}}}'),
        Message("user", "Observation:\n| b"),
    )


def test_turns_when_even_the_question_is_too_long_then_asks_all_the_same():
    llm = Recorder("{}")
    llm.context_window = 10
    proposal = LLMPlanner(llm, "Role.").begin().next(state(Observation("", "| a")))
    assert [loss.lost for loss in proposal.losses] == ["the text of 1 observations"]
    assert len(llm.conversations) == 1


def test_description_when_of_a_tool_then_is_a_sentence():
    assert all(isinstance(each, Tool) and len(each.description) > 10 for each in TOOLS)
    assert search.description == "Magnetic ordering of a formula."


# --- what a trained planner depends on ----------------------------------------------------------


def variants_of_search() -> dict[str, Tool]:
    """`search` with one change of its structure each."""

    def renamed(name: str, ordering: Literal["FM", "NM"] | None = None, limit: int = 5) -> None:
        """Say it otherwise."""

    def retyped(formula: str, ordering: Literal["FM", "NM"] | None = None, limit: str = "") -> None:
        """Say it otherwise."""

    def widened(
        formula: str, ordering: Literal["FM", "NM", "AFM"] | None = None, limit: int = 5
    ) -> None:
        """Say it otherwise."""

    def required(formula: str, limit: int, ordering: Literal["FM", "NM"] | None = None) -> None:
        """Say it otherwise."""

    changed = (renamed, retyped, widened, required)
    tools = {function.__name__: tool(function, name="search") for function in changed}
    return tools | {"another name": replace(search, name="find")}


def test_tools_digest_when_wording_or_order_changes_stays():
    def search(formula: str, ordering: Literal["FM", "NM"] | None = None, limit: int = 9) -> None:
        """Find something.

        Args:
            formula: In other words.
            ordering: Or none.
            limit: At most.
        """

    assert tools_digest([tool(search), convert, gaps]) == tools_digest(TOOLS)


def test_tools_digest_when_the_structure_changes_differs():
    digests = {name: tools_digest([tool]) for name, tool in variants_of_search().items()}
    assert len({tools_digest([search]), *digests.values()}) == len(digests) + 1, digests


def test_planner_when_trained_uses_its_own_prompt_and_templates_verbatim():
    templates = replace(TEMPLATES, question="Q: {question}", quantity="{id} {property}={value}")
    llm = ScriptedLLM(['{"action": {"name": "n", "arguments": {}}}'] * 9)

    @tool
    def n() -> Quantity:
        """Count."""
        return Quantity(3, property="n")

    planner = LLMPlanner(
        llm, "Other words.", "short", {tools_digest([n]): "As trained."}, templates
    )
    ReAct(planner, [n], templates=templates).run("How many?")
    first, second = llm.conversations[0], llm.conversations[1]
    assert [message.content for message in first] == ["As trained.", "Q: How many?"]
    assert second[-1].content == "Observation:\n| r1 n=3"
    with pytest.raises(ModelError, match="trained with other tools"):
        planner.prompt([search])


@pytest.mark.parametrize("change", [{"question": 3}, {"extra": ""}, {"question": None}])
def test_templates_when_an_adapter_stores_others_are_refused(change):
    assert Templates.from_json(asdict(TEMPLATES)) == TEMPLATES
    with pytest.raises(ModelError, match="expected a string for each of"):
        Templates.from_json(asdict(TEMPLATES) | change)
