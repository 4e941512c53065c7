"""The planner interface, and a planner that is a language model."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from ragkit.agents.ledger import Ledger
from ragkit.agents.observations import data_lines
from ragkit.agents.render import one_line, visible
from ragkit.agents.steps import REFUSALS, Action, Observation, Step, Thought
from ragkit.agents.templates import TEMPLATES, Templates
from ragkit.agents.tools import Tool, row_schema
from ragkit.digests import text_digest
from ragkit.errors import ModelError
from ragkit.llms.session import open_session
from ragkit.types import LLM, ChatOptions, Loss, Message, Usage

ANSWER, REFUSE = "answer", "refuse"
PromptStyle = Literal["full", "short"]
_THOUGHT_CHARS, _NOTE_CHARS = 160, 240
_MAX_DEPTH = 12
_CONTROL_TOKEN = re.compile(
    r"<(?=[|\uff5c][^<>\n]{1,40}>|/?(?:s|bos|eos|start_of_turn|end_of_turn)>)"
    r"|\[(?=/?INST\])|<(?=</?SYS>>)"
)


@dataclass(frozen=True, slots=True)
class State:
    """Input of a planner for one step.

    Attributes:
        question: The user's question.
        history: Earlier questions and answers of the chat, oldest first.
        steps: Steps of this run so far.
        ledger: Ledger of this run.
        tools: All tools of the agent.
        live: Tools that can be called now; those that need ledger rows are left out while the
            ledger is empty.
        options: Generation options for this step.
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
    """The next action, or the error in the model's reply."""

    action: Action | None
    thought: str = ""
    error: str = ""
    usage: Usage = Usage()
    losses: tuple[Loss, ...] = ()


class Turns(Protocol):
    """Planner state of one run."""

    def next(self, state: State) -> Proposal:
        """Propose the next action."""


@runtime_checkable
class Planner(Protocol):
    """Chooses the actions of an agent."""

    @property
    def name(self) -> str:
        """Name in traces."""

    def begin(self) -> Turns:
        """Start a run, independent of earlier ones."""


def final_tools(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Return the schemas of the final actions: `refuse`, and `answer` if the ledger has rows."""
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
    """Build the JSON schema of a step: an optional thought, then one of the possible actions.

    OpenAI's servers require an object at the root, so the choice is nested one level below.
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
    properties: dict[str, Any] = {"action": {"anyOf": choices}}
    if thought:
        properties = {"thought": {"type": "string", "maxLength": _THOUGHT_CHARS}} | properties
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def describe_tools(tools: Sequence[Tool]) -> str:
    """Format tools for a full prompt: signature, description and argument descriptions.

    Argument descriptions shared by several tools are listed once, at the end.
    """
    schemas = [tool.parameters() for tool in tools]
    counts = Counter(line for schema in schemas for line in _argument_lines(schema))
    lines = []
    for tool, schema in zip(tools, schemas, strict=True):
        lines.append(f"- {tool.name}({_signature(schema)}): {tool.description}")
        lines += [f"    {line}" for line in _argument_lines(schema) if counts[line] == 1]
    shared = [line for line, n in counts.items() if n > 1]
    if shared:
        lines += ["Arguments of several tools:", *(f"    {line}" for line in shared)]
    return "\n".join(lines)


def name_tools(tools: Sequence[Tool]) -> str:
    """Format tools for a short prompt: names and arguments, without descriptions and types.

    Tools with the same arguments share a line. For models that were trained on these tools.
    """
    groups: dict[str, list[str]] = {}
    for tool in tools:
        groups.setdefault(", ".join(tool.parameters()["properties"]), []).append(tool.name)
    return "\n".join(f"{', '.join(names)}: {arguments}" for arguments, names in groups.items())


def _signature(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {_type_text(parameter)}"
        for name, parameter in schema["properties"].items()
    )


def _argument_lines(schema: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {parameter['description']}"
        for name, parameter in schema["properties"].items()
        if parameter.get("description")
    ]


def _type_text(node: Mapping[str, Any]) -> str:
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return "|".join(json.dumps(option) for option in node["enum"])
    if node.get("type") == "array":
        return f"list of {_type_text(node.get('items', {}))}"
    if "anyOf" in node:
        return " or ".join(_type_text(option) for option in node["anyOf"])
    return str(node.get("type", "any"))


@dataclass(frozen=True, slots=True)
class LLMPlanner:
    """Planner that generates each step with a language model, constrained by the tools' grammar.

    Args:
        llm: The language model. Local models reuse their key-value cache between steps.
        role: Role and instructions of the agent; tools and format are appended to it.
        style: "full" explains tools and format and asks for thoughts; "short" only names the tools
            and asks for actions, for a model that was trained on them.
        prompts: System messages that the model was trained with, by `tools_digest` of their tools;
            empty builds a system message for any tools.
        templates: Templates of questions and observations.
        label: Name in traces; "" uses the model's name.

    Raises:
        ModelError: A run starts with tools that `prompts` does not contain.
    """

    llm: LLM
    role: str
    style: PromptStyle = "full"
    prompts: Mapping[str, str] = field(default_factory=dict)
    templates: Templates = TEMPLATES
    label: str = ""

    @property
    def name(self) -> str:
        """Name in traces: the label, or the model's name."""
        return self.label or self.llm.name

    def begin(self) -> _LLMTurns:
        """Start a conversation."""
        return _LLMTurns(self)

    def prompt(self, tools: Sequence[Tool]) -> str:
        """Return the system message, byte for byte.

        Raises:
            ModelError: The model was trained with other tools.
        """
        if not self.prompts:
            return system_prompt(self.role, tools, self.style)
        digest = tools_digest(tools)
        if digest not in self.prompts:
            raise ModelError(
                f"{self.llm.name} was trained with other tools: the digest of these tools is "
                f"{digest[:12]}, expected {', '.join(sorted(key[:12] for key in self.prompts))}. "
                "Train it again (`ragkit train agent`) or use another planner (`--llm rules`)"
            )
        return self.prompts[digest]


def system_prompt(role: str, tools: Sequence[Tool], style: PromptStyle = "full") -> str:
    """Build the system message from the role, the tools and the format of a step."""
    from ragkit.prompts import load_prompt

    if style == "short":
        return load_prompt("agent_short").fill(role=role.strip(), tools=name_tools(tools))
    return load_prompt("agent").fill(role=role.strip(), tools=describe_tools(tools))


def tools_digest(tools: Sequence[Tool]) -> str:
    """Return a digest of the tools' structure.

    It covers names, arguments, their types and enums, and which are required: what the grammar of
    actions depends on. Descriptions, limits and the order of the tools do not count.
    """
    structures = {tool.name: _structure(tool.parameters()) for tool in tools}
    return text_digest(json.dumps(structures, sort_keys=True))


def _structure(node: Any) -> Any:
    """Reduce a JSON schema to types, enums and required properties."""
    if isinstance(node, list):
        return [_structure(item) for item in node]
    if not isinstance(node, dict):
        return node
    structure = {
        key: sorted(value) if key == "required" else _structure(value)
        for key, value in node.items()
        if key in ("type", "enum", "const", "anyOf", "items", "required")
    }
    if "properties" in node:
        structure["properties"] = {k: _structure(v) for k, v in node["properties"].items()}
    return structure


class _LLMTurns:
    def __init__(self, planner: LLMPlanner) -> None:
        self._planner, self._llm = planner, planner.llm
        self._session = open_session(planner.llm)
        self._system: str | None = None

    def next(self, state: State) -> Proposal:
        if self._system is None:
            self._system = self._planner.prompt(state.tools)
        schema = action_schema(state.live, state.ledger, thought=self._planner.style == "full")
        options = replace(state.options, schema=schema)
        conversation, losses = self._fitting(state, options.max_tokens)
        reply = self._session.chat(conversation, options)
        thought, action, error = parse_action(reply.text)
        if error and reply.finish_reason == "length":
            error = f"the action was cut off after {options.max_tokens} tokens; write a shorter one"
        return Proposal(action, thought, error, reply.usage, losses)

    def _fitting(self, state: State, reserve: int) -> tuple[list[Message], tuple[Loss, ...]]:
        """Build the conversation; hide the oldest observations until it fits the context window."""
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
        remaining = f"{n_observations - n_hidden} observations, and the ledger"
        return conversation, (Loss("agent", state.question[:80], lost, remaining, why),)

    def _conversation(self, state: State, n_hidden: int) -> list[Message]:
        assert self._system is not None
        planner = self._planner
        return conversation_of(state, self._system, planner.style, n_hidden, planner.templates)


def conversation_of(
    state: State,
    system: str,
    style: PromptStyle = "full",
    n_hidden: int = 0,
    templates: Templates = TEMPLATES,
) -> list[Message]:
    """Render a run so far as the conversation that a model continues.

    Args:
        state: The run.
        system: The system message.
        style: See `LLMPlanner`.
        n_hidden: Number of oldest observations whose text is left out.
        templates: Templates of questions and observations.
    """
    messages = [Message("system", system)]
    for question, answer in state.history:
        messages += [Message("user", question), Message("assistant", data_lines([answer]))]
    messages.append(Message("user", templates.question.format(question=state.question)))
    thought, n_seen = "", 0
    for step in state.steps:
        if isinstance(step, Thought):
            thought = step.text
        elif isinstance(step, Action):
            messages.append(Message("assistant", action_text(step, style, thought)))
            thought = ""
        elif isinstance(step, Observation):
            n_seen += 1
            text = templates.hidden if n_seen <= n_hidden else step.text
            messages.append(Message("user", templates.observation.format(text=text)))
    return [
        messages[0],
        *_merge_roles([_without_control_tokens(message) for message in messages[1:]]),
    ]


def action_text(action: Action, style: PromptStyle = "full", thought: str = "") -> str:
    """Serialize an action in the format that the model generates."""
    step: dict[str, Any] = {"action": {"name": action.tool, "arguments": action.arguments}}
    return json.dumps(
        ({"thought": thought} | step) if style == "full" else step, ensure_ascii=False
    )


def _without_control_tokens(message: Message) -> Message:
    """Break control tokens: servers read `<|im_end|>` in a message as the end of a turn."""
    return Message(message.role, _CONTROL_TOKEN.sub(_replace_bracket, message.content))


def _replace_bracket(match: re.Match[str]) -> str:
    return "\u2039" if match[0] == "<" else "\u27e6"


def _merge_roles(messages: Sequence[Message]) -> list[Message]:
    """Join adjacent messages of one role, since most chat templates require alternating roles."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            content = f"{joined[-1].content}\n{message.content}"
            joined[-1] = Message(message.role, content)
        else:
            joined.append(message)
    return joined


def parse_action(text: str) -> tuple[str, Action | None, str]:
    """Parse a reply into (thought, action, error); the JSON may be wrapped in prose or fences."""
    start = text.find("{")
    if start < 0:
        return "", None, _format_error("the reply holds no JSON object")
    try:
        value, _ = _DECODER.raw_decode(text[start:])
    except (ValueError, RecursionError) as error:
        return "", None, _format_error(f"the reply is not JSON ({str(error)[:80]})")
    action = value.get("action")
    if not isinstance(action, dict) or not isinstance(action.get("name"), str):
        return "", None, _format_error("the reply names no action")
    arguments = action.get("arguments", {})
    if not isinstance(arguments, dict):
        return "", None, _format_error("'arguments' is no object")
    flaw = _find_flaw(action)
    if flaw:
        return "", None, _format_error(flaw)
    return one_line(str(value.get("thought") or "")), Action(action["name"], arguments), ""


def _find_flaw(action: Mapping[str, Any]) -> str:
    """Return an error for control characters or excessive nesting in an action, or ""."""
    level: list[object] = [action]
    for _ in range(_MAX_DEPTH):
        children: list[object] = []
        for item in level:
            if isinstance(item, Mapping):
                children += [*item, *item.values()]
            elif isinstance(item, list):
                children += item
            elif isinstance(item, str) and visible(item) != item:
                return "the action holds control characters"
        level = children
    return f"the action is nested more than {_MAX_DEPTH} deep" if level else ""


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


_DECODER = json.JSONDecoder(parse_float=_parse_finite, parse_constant=_parse_finite)


def _format_error(what: str) -> str:
    form = '{"thought": "...", "action": {"name": "...", "arguments": {...}}}'
    return f"{what}; reply with one JSON object of the form {form}"
