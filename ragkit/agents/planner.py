"""Who chooses the next action: a language model, or anything else with a `next` method."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from ragkit.agents.ledger import Ledger
from ragkit.agents.observations import data_lines
from ragkit.agents.render import one_line, visible
from ragkit.agents.steps import REFUSALS, Action, Observation, Step, Thought
from ragkit.agents.tools import Tool, row_schema
from ragkit.digests import text_digest
from ragkit.errors import ModelError
from ragkit.llms.memory import open_session
from ragkit.types import LLM, ChatOptions, Loss, Message, Usage

ANSWER, REFUSE = "answer", "refuse"
PromptStyle = Literal["full", "short"]
_THOUGHT_CHARS, _NOTE_CHARS = 160, 240
_DEEPEST = 12
_CONTROL_TOKEN = re.compile(
    r"<(?=[|\uff5c][^<>\n]{1,40}>|/?(?:s|bos|eos|start_of_turn|end_of_turn)>)"
    r"|\[(?=/?INST\])|<(?=</?SYS>>)"
)


@dataclass(frozen=True, slots=True)
class State:
    """All that a planner may know.

    Attributes:
        question: What is asked.
        history: Earlier questions and answers of a chat, oldest first.
        steps: What was done so far, in this run.
        ledger: What was found.
        tools: All tools of the agent.
        live: Those that can be called now: what needs ledger rows waits until there are some.
        options: How a model should generate this step.
    """

    question: str
    history: Sequence[tuple[str, str]]
    steps: Sequence[Step]
    ledger: Ledger
    tools: Sequence[Tool]
    live: Sequence[Tool]
    options: ChatOptions


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next action, or why the model's reply was none."""

    action: Action | None
    thought: str = ""
    error: str = ""
    usage: Usage = Usage()
    losses: tuple[Loss, ...] = ()


class Turns(Protocol):
    """The planner's side of one run."""

    def next(self, state: State) -> Proposal:
        """What to do now."""


@runtime_checkable
class Planner(Protocol):
    """Plans runs."""

    @property
    def name(self) -> str:
        """What traces call it."""

    def begin(self) -> Turns:
        """A new run; nothing of an earlier one is remembered."""


def final_tools(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """The schemas of the two ends of a run: `answer` (once there are rows) and `refuse`."""
    note = {"type": "string", "maxLength": _NOTE_CHARS}
    refuse = {
        "type": "object",
        "properties": {"reason": {"enum": list(REFUSALS)}, "note": note},
        "required": ["reason"],
        "additionalProperties": False,
    }
    if not len(ledger):
        return {REFUSE: refuse}
    rows = {"type": "array", "items": row_schema(list(ledger)), "minItems": 1, "maxItems": 20}
    answer = {
        "type": "object",
        "properties": {"rows": rows, "note": note},
        "required": ["rows"],
        "additionalProperties": False,
    }
    return {ANSWER: answer, REFUSE: refuse}


def action_schema(tools: Sequence[Tool], ledger: Ledger, *, thought: bool = True) -> dict[str, Any]:
    """The JSON schema of a step, made from the live tools: a thought, then one of the actions.

    OpenAI's servers want an object at the root, so the choice stands one level below it.
    """
    schemas = {tool.name: tool.parameters(ledger) for tool in tools} | final_tools(ledger)
    choices = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, arguments in schemas.items()
    ]
    parts: dict[str, Any] = {"action": {"anyOf": choices}}
    if thought:
        parts = {"thought": {"type": "string", "maxLength": _THOUGHT_CHARS}} | parts
    return {
        "type": "object",
        "properties": parts,
        "required": list(parts),
        "additionalProperties": False,
    }


def describe_tools(tools: Sequence[Tool]) -> str:
    """The tools as the prompt shows them: a signature and a sentence each.

    What an argument means is said once where several tools say the same of it.
    """
    schemas = [tool.parameters() for tool in tools]
    said = Counter(each for schema in schemas for each in _meanings(schema))
    lines = []
    for tool, schema in zip(tools, schemas, strict=True):
        lines.append(f"- {tool.name}({_signature(schema)}): {tool.description}")
        lines += [f"    {each}" for each in _meanings(schema) if said[each] == 1]
    shared = [each for each, n in said.items() if n > 1]
    if shared:
        lines += ["Arguments of several tools:", *(f"    {each}" for each in shared)]
    return "\n".join(lines)


def name_tools(tools: Sequence[Tool]) -> str:
    """The tools as a short prompt shows them: names and arguments, those with the same in one line.

    No sentence and no type: for a model that was trained on them.
    """
    groups: dict[str, list[str]] = {}
    for tool in tools:
        groups.setdefault(", ".join(tool.parameters()["properties"]), []).append(tool.name)
    return "\n".join(f"{', '.join(names)}: {given}" for given, names in groups.items())


def _signature(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {_type(each)}"
        for name, each in schema["properties"].items()
    )


def _meanings(schema: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {each['description']}"
        for name, each in schema["properties"].items()
        if each.get("description")
    ]


def _type(node: Mapping[str, Any]) -> str:
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return "|".join(json.dumps(each) for each in node["enum"])
    if node.get("type") == "array":
        return f"list of {_type(node.get('items', {}))}"
    if "anyOf" in node:
        return " or ".join(_type(each) for each in node["anyOf"])
    return str(node.get("type", "any"))


@dataclass(frozen=True, slots=True)
class LLMPlanner:
    """A language model as planner, each step generated under the grammar of the live tools.

    Args:
        llm: Local models keep what they have read between steps.
        role: Who the agent is and what it must do; the tools and the format are added.
        style: "full" explains tools and format and asks for thoughts; "short" names them only, for
            a model that was trained on these tools, and asks for actions.
        known: What `tools_digest` gave for the tools the model was trained on; empty: any will do.
        label: What traces call it; "" takes the model's name.

    Raises:
        ModelError: When a run begins with other tools.
    """

    llm: LLM
    role: str
    style: PromptStyle = "full"
    known: frozenset[str] = frozenset()
    label: str = ""

    @property
    def name(self) -> str:
        """The model's name, or the label."""
        return self.label or self.llm.name

    def begin(self) -> _LLMTurns:
        """A new conversation."""
        return _LLMTurns(self)

    def prompt(self, tools: Sequence[Tool]) -> str:
        """The system message, byte for byte."""
        return system_prompt(self.role, tools, self.style)


def system_prompt(role: str, tools: Sequence[Tool], style: PromptStyle = "full") -> str:
    """The role, the tools, and the format of a step."""
    from ragkit.prompts import load_prompt

    if style == "short":
        return load_prompt("agent_short").fill(role=role.strip(), tools=name_tools(tools))
    return load_prompt("agent").fill(role=role.strip(), tools=describe_tools(tools))


def tools_digest(system: str, tools: Sequence[Tool]) -> str:
    """What a trained model's tools are known by: the system message, and every tool's schema."""
    schemas = [[tool.name, tool.parameters()] for tool in tools]
    return text_digest(json.dumps([system, schemas], sort_keys=True))


class _LLMTurns:
    def __init__(self, planner: LLMPlanner) -> None:
        self._planner, self._llm = planner, planner.llm
        self._session = open_session(planner.llm)
        self._system: str | None = None

    def next(self, state: State) -> Proposal:
        if self._system is None:
            self._system = self._planner.prompt(state.tools)
            known, own = self._planner.known, tools_digest(self._system, state.tools)
            if known and own not in known:
                raise ModelError(
                    f"{self._llm.name} was trained with other tools than these, or they changed "
                    f"since: their digest is {own[:12]}, known are "
                    f"{', '.join(sorted(each[:12] for each in known))}. Train it again "
                    "(`ragkit train agent`), or take another planner (`--llm rules`)"
                )
        schema = action_schema(state.live, state.ledger, thought=self._planner.style == "full")
        options = replace(state.options, schema=schema)
        conversation, losses = self._fitting(state, options.max_tokens)
        reply = self._session.chat(conversation, options)
        thought, action, error = parse_action(reply.text)
        if error and reply.finish_reason == "length":
            error = f"the action was cut off after {options.max_tokens} tokens; write a shorter one"
        return Proposal(action, thought, error, reply.usage, losses)

    def _fitting(self, state: State, reserve: int) -> tuple[list[Message], tuple[Loss, ...]]:
        """The conversation; the oldest observations are left out until the window holds it."""
        n_observations = sum(isinstance(step, Observation) for step in state.steps)
        for n_hidden in range(n_observations + 1):
            conversation = self._conversation(state, n_hidden)
            fits = self._llm.count_tokens(conversation) + reserve <= self._llm.context_window
            if fits or n_hidden == n_observations:
                break
        if not n_hidden:
            return conversation, ()
        why = f"the window of {self._llm.name!r} is {self._llm.context_window} tokens"
        lost = f"the text of {n_hidden} observations"
        kept = f"{n_observations - n_hidden} observations, and the ledger"
        return conversation, (Loss("agent", state.question[:80], lost, kept, why),)

    def _conversation(self, state: State, n_hidden: int) -> list[Message]:
        assert self._system is not None
        return conversation_of(state, self._system, self._planner.style, n_hidden)


def conversation_of(
    state: State, system: str, style: PromptStyle = "full", n_hidden: int = 0
) -> list[Message]:
    """What a model is shown of a run so far.

    Args:
        state: The run.
        system: The system message.
        style: See `LLMPlanner`.
        n_hidden: How many observations, the oldest, are left out.
    """
    messages = [Message("system", system)]
    for question, answer in state.history:
        messages += [Message("user", question), Message("assistant", data_lines([answer]))]
    messages.append(Message("user", f"Question: {state.question}"))
    thought, seen = "", 0
    for step in state.steps:
        if isinstance(step, Thought):
            thought = step.text
        elif isinstance(step, Action):
            messages.append(Message("assistant", action_text(step, style, thought)))
            thought = ""
        elif isinstance(step, Observation):
            seen += 1
            text = "| (left out to save space)" if seen <= n_hidden else step.text
            messages.append(Message("user", f"Observation:\n{text}"))
    return [messages[0], *_alternating([_defused(each) for each in messages[1:]])]


def action_text(action: Action, style: PromptStyle = "full", thought: str = "") -> str:
    """The action as a model writes it."""
    said: dict[str, Any] = {"action": {"name": action.tool, "arguments": action.arguments}}
    return json.dumps(
        ({"thought": thought} | said) if style == "full" else said, ensure_ascii=False
    )


def _defused(message: Message) -> Message:
    """Its control tokens broken: servers read `<|im_end|>` in a message as the end of a turn."""
    return Message(message.role, _CONTROL_TOKEN.sub(_broken, message.content))


def _broken(match: re.Match[str]) -> str:
    return "\u2039" if match[0] == "<" else "\u27e6"


def _alternating(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of one role joined: most chat templates want the roles in turn."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            content = f"{joined[-1].content}\n{message.content}"
            joined[-1] = Message(message.role, content)
        else:
            joined.append(message)
    return joined


def parse_action(text: str) -> tuple[str, Action | None, str]:
    """(thought, action, error) of a reply; servers may wrap the JSON in prose or fences."""
    start = text.find("{")
    if start < 0:
        return "", None, _expected("the reply holds no JSON object")
    try:
        value, _ = _DECODER.raw_decode(text[start:])
    except (ValueError, RecursionError) as error:
        return "", None, _expected(f"the reply is not JSON ({str(error)[:80]})")
    action = value.get("action")
    if not isinstance(action, dict) or not isinstance(action.get("name"), str):
        return "", None, _expected("the reply names no action")
    arguments = action.get("arguments", {})
    if not isinstance(arguments, dict):
        return "", None, _expected("'arguments' is no object")
    flaw = _flaw(action)
    if flaw:
        return "", None, _expected(flaw)
    return one_line(str(value.get("thought") or "")), Action(action["name"], arguments), ""


def _flaw(action: Mapping[str, Any]) -> str:
    """What no honest action has, and what would break traces and terminals."""
    level: list[object] = [action]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                inner += [*each, *each.values()]
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str) and visible(each) != each:
                return "the action holds control characters"
        level = inner
    return f"the action is nested more than {_DEEPEST} deep" if level else ""


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _expected(what: str) -> str:
    form = '{"thought": "...", "action": {"name": "...", "arguments": {...}}}'
    return f"{what}; reply with one JSON object of the form {form}"
