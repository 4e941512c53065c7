"""Tools: typed, documented functions that a model may call.

The schema comes from the signature and the docstring, so prompt, grammar and code cannot drift
apart. What the model gets wrong raises `ToolError` and becomes an observation; the loop goes on.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from ragkit.agents.ledger import Evidence, Ledger, Quantity
from ragkit.errors import RagkitError
from ragkit.types import Usage

Permission = Literal["allow", "ask", "deny"]

RowId = Annotated[str, Field(pattern=r"^r[1-9][0-9]{0,4}$", json_schema_extra={"ledger_row": True})]
"""A parameter that names a row of the ledger; the grammar offers the rows that are there."""

_ROWS_LISTED = 200


def row_schema(rows: Sequence[str]) -> dict[str, Any]:
    """One of these rows; where there are very many, any row id: a grammar must stay small."""
    if 0 < len(rows) <= _ROWS_LISTED:
        return {"enum": list(rows)}
    return {"type": "string", "pattern": "^r[1-9][0-9]{0,4}$"}


class ToolError(RagkitError):
    """A call that cannot be carried out. The message tells the model what to change."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gives back.

    Attributes:
        evidence: Goes to the ledger; shown with its row ids.
        text: Anything else the model should know, in a sentence.
        rows: Other records, field by field; shown and not citable.
        total: How many rows there are in all, where `evidence` or `rows` holds a page of them.
        unit: What `total` counts: "materials", "passages".
        usage: Tokens of the tool's own model, if it has one.
        steps: What an agent behind the tool did, for the trace.
    """

    evidence: Sequence[Evidence] = ()
    text: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    total: int | None = None
    unit: str = "rows"
    usage: Usage = Usage()
    steps: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with a name, a description and a checked signature.

    Attributes:
        name: What the model calls it.
        description: The first paragraph of the docstring.
        call: The function.
        arguments: A pydantic model of its parameters; unknown ones are forbidden.
        permission: What may happen without a person: "allow", "ask" or "deny".
        timeout_s: How long it may take.
        wants_ledger: Whether the function has a `ledger` parameter, which the model does not see.
        direct: Whether its text goes to the person as it is, not to the model (a structure file).
        sends: Whether its arguments leave this machine: then none may be copied out of tool text
            without a person's consent.
        schema: Of the arguments, as pydantic writes it; made once, since it takes milliseconds.
    """

    name: str
    description: str
    call: Callable[..., object]
    arguments: type[BaseModel]
    permission: Permission = "allow"
    timeout_s: float = 20.0
    wants_ledger: bool = False
    direct: bool = False
    sends: bool = False
    schema: Mapping[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", self.arguments.model_json_schema())

    def parameters(self, ledger: Ledger | None = None) -> dict[str, Any]:
        """The JSON schema of the arguments; row ids are limited to those of the ledger."""
        schema = _simplified(self.schema, list(ledger or ()))
        if ledger is not None and not len(ledger):
            for name in {*schema["properties"]} - {*schema.get("required", ())}:
                if _names_rows(self.schema["properties"][name]):
                    del schema["properties"][name]
        return schema

    @property
    def names_rows(self) -> bool:
        """Whether a required parameter names ledger rows: useless while there are none."""
        required = [self.schema["properties"][name] for name in self.schema.get("required", ())]
        return any(map(_names_rows, required))

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, converted to their types; optional ones that are null are absent.

        Raises:
            ToolError: An argument is unknown, missing or of the wrong type.
        """
        fields = self.arguments.model_fields
        required = {name for name, field in fields.items() if field.is_required()}
        given = {n: value for n, value in arguments.items() if value is not None or n in required}
        try:
            checked = self.arguments.model_validate(given)
        except ValidationError as error:
            raise ToolError(_explain(self, error)) from None
        return {name: getattr(checked, name) for name in checked.model_fields_set}


@overload
def tool(
    function: Callable[..., object],
    *,
    name: str = ...,
    timeout_s: float = ...,
    sends: bool = ...,
) -> Tool:
    """Make a tool of a function."""


@overload
def tool(
    *,
    name: str = ...,
    permission: Permission = ...,
    timeout_s: float = ...,
    direct: bool = ...,
    sends: bool = ...,
) -> Callable[[Callable[..., object]], Tool]:
    """Make a decorator."""


def tool(
    function: Callable[..., object] | None = None,
    *,
    name: str = "",
    permission: Permission = "allow",
    timeout_s: float = 20.0,
    direct: bool = False,
    sends: bool = False,
) -> Any:
    """Make a tool of a function: `@tool`, `@tool(permission="ask")` or `tool(function)`.

    The description is the docstring's first paragraph, each parameter's description its line under
    `Args:`. A parameter named `ledger` is passed by the loop and hidden from the model.

    Raises:
        TypeError: The docstring is missing, or a parameter cannot be passed by name, has no type or
            one that has no JSON schema; the function is asynchronous; the name is no name.

    >>> @tool
    ... def double(x: float) -> float:
    ...     \"\"\"Twice a number.
    ...
    ...     Args:
    ...         x: The number.
    ...     \"\"\"
    ...     return 2 * x
    >>> double.name, double.description
    ('double', 'Twice a number.')
    """
    if function is None:
        return functools.partial(
            tool, name=name, permission=permission, timeout_s=timeout_s, direct=direct, sends=sends
        )
    made = _make(function, name or getattr(function, "__name__", "tool"))
    return replace(made, permission=permission, timeout_s=timeout_s, direct=direct, sends=sends)


def _make(function: Callable[..., object], name: str) -> Tool:
    doc = inspect.getdoc(function)
    if not doc:
        raise TypeError(f"the tool {name!r} has no docstring; the model sees its first paragraph")
    if not re.fullmatch(r"[\w-]{1,64}", name):
        raise TypeError(f"the tool's name is {name!r}; expected up to 64 letters, digits, _ and -")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"the tool {name!r} is asynchronous; expected a function that returns")
    signature = inspect.signature(function)
    try:
        made = Tool(
            name=name,
            description=" ".join(doc.split("\n\n")[0].split()),
            call=function,
            arguments=create_model(
                f"{name}_arguments",
                __config__=ConfigDict(extra="forbid", allow_inf_nan=False),
                **_fields(function, name, signature, _argument_docs(doc)),
            ),
            wants_ledger="ledger" in signature.parameters,
        )
        made.parameters()
    except (NameError, PydanticUserError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise TypeError(f"the tool {name!r} has a type without a JSON schema: {reason}") from error
    return made


def _fields(
    function: Callable[..., object], name: str, signature: inspect.Signature, about: dict[str, str]
) -> dict[str, Any]:
    """The parameters as pydantic wants them: type and field by name."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        what = f"parameter {parameter.name!r} of the tool {name!r}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{what} cannot be passed by name; expected one of its own")
        if parameter.name == "ledger":
            continue
        if parameter.name not in hints:
            raise TypeError(f"{what} has no type")
        if parameter.name.startswith("_") or hasattr(BaseModel, parameter.name):
            raise TypeError(f"{what} has a name that pydantic keeps for itself; take another")
        default = ... if parameter.default is parameter.empty else parameter.default
        field = Field(default, description=about.get(parameter.name))
        fields[parameter.name] = (hints[parameter.name], field)
    return fields


def _argument_docs(doc: str) -> dict[str, str]:
    """The lines under `Args:` of a Google-style docstring, by parameter."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    if section is None:
        return {}
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _simplified(schema: Mapping[str, Any], rows: list[str]) -> dict[str, Any]:
    """The schema without titles, defaults and nulls, and with the rows that can be named."""
    definitions = schema.get("$defs", {})

    def simple(node: Any) -> Any:
        if isinstance(node, list):
            return [simple(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return simple(definitions[node["$ref"].rsplit("/", 1)[1]] | _rest(node, "$ref"))
        if "anyOf" in node:
            choices = [each for each in node["anyOf"] if each != {"type": "null"}]
            if len(choices) == 1:
                return simple(choices[0] | _rest(node, "anyOf"))
            node = node | {"anyOf": choices}
        if node.get("ledger_row"):
            named = row_schema(rows) if rows else {"type": "string", "maxLength": 6}
            return named | {key: node[key] for key in ("description",) if key in node}
        kept = {
            key: {name: simple(each) for name, each in value.items()}
            if key == "properties"
            else simple(value)
            for key, value in node.items()
            if key not in ("title", "default", "$defs", "ledger_row")
        }
        return kept

    whole: dict[str, Any] = simple(schema)
    return {"type": "object", "properties": {}} | whole | {"additionalProperties": False}


def _names_rows(node: Mapping[str, Any]) -> bool:
    return '"ledger_row": true' in json.dumps(node)


def _rest(node: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name not in (key, "default")}


def _explain(tool: Tool, error: ValidationError) -> str:
    known = list(tool.arguments.model_fields)
    parts = []
    for each in error.errors():
        where = ".".join(str(step) for step in each["loc"]) or "the arguments"
        if each["type"] == "extra_forbidden":
            parts.append(f"{where!r} is no argument of it (known: {', '.join(known)})")
        elif each["type"] == "missing":
            parts.append(f"{where!r} is missing")
        else:
            message = each["msg"].removeprefix("Value error, ").removeprefix("Input ")
            parts.append(f"{where!r} is {_shown(each['input'])}: {message}")
    return f"{tool.name}: {'; '.join(parts)}. Revise the arguments."


def _shown(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


@dataclass(slots=True)
class Outcome:
    """What became of a call: a result, or an error the model can act on."""

    result: ToolResult | None = None
    error: str = ""

    @property
    def usage(self) -> Usage:
        """The tokens the tool's own model used."""
        return self.result.usage if self.result else Usage()


def run_tool(tool: Tool, arguments: Mapping[str, Any], ledger: Ledger) -> Outcome:
    """Check the arguments and call the tool within its time.

    Whatever goes wrong comes back as an error, except for KeyboardInterrupt: a tool is code that
    may fail in any way, and its failure is something for the model to work around. A tool that
    does not return is left behind in its thread, and what it returns later is thrown away.
    """
    try:
        checked = tool.check(arguments)
    except ToolError as error:
        return Outcome(error=str(error))
    own = ledger.copy()  # what a tool adds after its time goes nowhere
    if tool.wants_ledger:
        checked["ledger"] = own
    outcomes: list[object] = []

    def work() -> None:
        try:
            outcomes.append(_as_result(tool.call(**checked), tool.name))
        except BaseException as error:  # noqa: BLE001 - handed over to the loop's thread below
            outcomes.append(error)

    thread = threading.Thread(target=work, daemon=True, name=f"tool {tool.name}")
    thread.start()
    thread.join(tool.timeout_s)
    if not outcomes:
        return Outcome(
            error=f"{tool.name} did not answer within {tool.timeout_s:g} s. "
            "Ask for less (a smaller limit, a narrower filter), or use another tool."
        )
    value = outcomes[0]
    if isinstance(value, ToolResult):
        ledger.merge(own, own)
        return Outcome(result=value)
    if isinstance(value, RagkitError):
        return Outcome(error=f"{tool.name}: {str(value).removeprefix(f'{tool.name}: ')}")
    return Outcome(
        error=f"{tool.name} failed ({reason_of(value)}). "
        "Revise the arguments, or ask for fewer rows with a limit."
    )


def reason_of(error: object) -> str:
    """The exception's type and text on one line, also where the text itself cannot be had."""
    try:
        detail = " ".join(str(error).split())[:300]
    except Exception:  # noqa: BLE001 - an exception's own text is a tool's code too
        detail = "without a reason"
    return f"{type(error).__name__}: {detail}"


def _as_result(value: object, name: str) -> ToolResult:
    """Any return value as a result: texts, mappings as rows, evidence and numbers as evidence."""
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, bool | int | float):
        return ToolResult([Quantity(value, property=name, method=f"returned by {name}")])
    items: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if all(isinstance(item, Evidence) for item in items):
        return ToolResult(evidence=items)
    if all(isinstance(item, Mapping) for item in items):
        return ToolResult(rows=items)
    if value is None:
        return ToolResult(text="done, nothing returned")
    return ToolResult(text=value if isinstance(value, str) else json.dumps(value, default=str))
