"""Tools: typed, documented functions that a model may call.

The schema is derived from the signature and the docstring, so prompt, grammar and code cannot drift
apart. Mistakes of the model raise `ToolError`, which becomes an observation, and the run continues.
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
"""Parameter type for a ledger row id; the grammar offers the ids in the ledger."""

_MAX_ENUMERATED_ROWS = 200


def row_schema(rows: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of a row id: an enum, or a pattern if there are too many rows."""
    if 0 < len(rows) <= _MAX_ENUMERATED_ROWS:
        return {"enum": list(rows)}
    return {"type": "string", "pattern": "^r[1-9][0-9]{0,4}$"}


class ToolError(RagkitError):
    """Failed tool call. The message tells the model what to change."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """Return value of a tool.

    Attributes:
        evidence: Values and quotations for the ledger, shown with their row ids.
        text: Further information for the model, in a sentence.
        rows: Records that are shown but cannot be cited.
        total: Number of matches, if `evidence` or `rows` is one page of them.
        unit: Noun for what `total` counts: "materials", "passages".
        usage: Tokens used by the tool's own model.
        steps: Steps of an assistant behind the tool, for the trace.
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
    """Function with a name, a description and validated arguments.

    Attributes:
        name: Name of the tool.
        description: First paragraph of the docstring.
        call: The function.
        arguments: Pydantic model of the parameters; unknown arguments are forbidden.
        permission: "allow" runs without asking, "ask" requires approval, "deny" hides the tool.
        timeout_s: Time limit in seconds.
        wants_ledger: True if the function has a `ledger` parameter, which the model does not see.
        direct: True if the text goes to the user instead of the model (a structure file).
        sends: True if arguments leave this machine; an argument copied from tool output then
            requires approval.
        schema: Pydantic's JSON schema of the arguments, cached because building it takes
            milliseconds.
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
        """Return the JSON schema of the arguments, with row ids limited to those of the ledger."""
        schema = _simplify_schema(self.schema, list(ledger or ()))
        if ledger is not None and not len(ledger):
            for name in {*schema["properties"]} - {*schema.get("required", ())}:
                if _names_rows(self.schema["properties"][name]):
                    del schema["properties"][name]
        return schema

    @property
    def names_rows(self) -> bool:
        """True if a required parameter is a row id; such a tool is useless with an empty ledger."""
        required = [self.schema["properties"][name] for name in self.schema.get("required", ())]
        return any(map(_names_rows, required))

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Validate and convert arguments; drop optional arguments that are null.

        Raises:
            ToolError: An argument is unknown, missing or of the wrong type.
        """
        fields = self.arguments.model_fields
        required = {name for name, field in fields.items() if field.is_required()}
        present = {n: value for n, value in arguments.items() if value is not None or n in required}
        try:
            checked = self.arguments.model_validate(present)
        except ValidationError as error:
            raise ToolError(_argument_error(self, error)) from None
        return {name: getattr(checked, name) for name in checked.model_fields_set}


@overload
def tool(
    function: Callable[..., object],
    *,
    name: str = ...,
    timeout_s: float = ...,
    sends: bool = ...,
) -> Tool:
    """Build a tool from a function."""


@overload
def tool(
    *,
    name: str = ...,
    permission: Permission = ...,
    timeout_s: float = ...,
    direct: bool = ...,
    sends: bool = ...,
) -> Callable[[Callable[..., object]], Tool]:
    """Return a decorator that builds a tool."""


def tool(
    function: Callable[..., object] | None = None,
    *,
    name: str = "",
    permission: Permission = "allow",
    timeout_s: float = 20.0,
    direct: bool = False,
    sends: bool = False,
) -> Any:
    """Build a tool from a function: `@tool`, `@tool(permission="ask")` or `tool(function)`.

    The first paragraph of the docstring becomes the tool's description; the entries under `Args:`
    become the descriptions of its parameters. A parameter named `ledger` is passed by the agent
    loop and hidden from the model.

    Args:
        function: Function to wrap; None returns a decorator.
        name: Name of the tool; "" uses the function's name.
        permission: "allow", "ask" or "deny".
        timeout_s: Time limit in seconds.
        direct: Send the text to the user instead of the model.
        sends: The function sends its arguments to another machine.

    Raises:
        TypeError: The docstring is missing; a parameter cannot be passed by name, has no type
            annotation or a type without a JSON schema; the function is asynchronous; or the name is
            invalid.

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
    new_tool = _build_tool(function, name or getattr(function, "__name__", "tool"))
    return replace(new_tool, permission=permission, timeout_s=timeout_s, direct=direct, sends=sends)


def _build_tool(function: Callable[..., object], name: str) -> Tool:
    doc = inspect.getdoc(function)
    if not doc:
        raise TypeError(f"the tool {name!r} has no docstring; expected a description for the model")
    if not re.fullmatch(r"[\w-]{1,64}", name):
        raise TypeError(f"the tool name is {name!r}; expected up to 64 letters, digits, _ and -")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"the tool {name!r} is asynchronous; expected a synchronous function")
    signature = inspect.signature(function)
    try:
        new_tool = Tool(
            name=name,
            description=" ".join(doc.split("\n\n")[0].split()),
            call=function,
            arguments=create_model(
                f"{name}_arguments",
                __config__=ConfigDict(extra="forbid", allow_inf_nan=False),
                **_parameter_fields(function, name, signature, _argument_docs(doc)),
            ),
            wants_ledger="ledger" in signature.parameters,
        )
        new_tool.parameters()
    except (NameError, PydanticUserError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise TypeError(f"the tool {name!r} has a type without a JSON schema: {reason}") from error
    return new_tool


def _parameter_fields(
    function: Callable[..., object],
    name: str,
    signature: inspect.Signature,
    descriptions: dict[str, str],
) -> dict[str, Any]:
    """Return pydantic field definitions (type and field) by parameter name."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        label = f"parameter {parameter.name!r} of the tool {name!r}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{label} cannot be passed by name; expected a keyword parameter")
        if parameter.name == "ledger":
            continue
        if parameter.name not in hints:
            raise TypeError(f"{label} has no type annotation")
        if parameter.name.startswith("_") or hasattr(BaseModel, parameter.name):
            raise TypeError(f"{label} has a name that pydantic reserves; rename it")
        default = ... if parameter.default is parameter.empty else parameter.default
        field = Field(default, description=descriptions.get(parameter.name))
        fields[parameter.name] = (hints[parameter.name], field)
    return fields


def _argument_docs(doc: str) -> dict[str, str]:
    """Parse the parameter descriptions under `Args:` of a Google-style docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _simplify_schema(schema: Mapping[str, Any], rows: list[str]) -> dict[str, Any]:
    """Remove titles, defaults and nulls from a schema, and insert the available row ids."""
    definitions = schema.get("$defs", {})

    def simple(node: Any) -> Any:
        if isinstance(node, list):
            return [simple(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return simple(definitions[node["$ref"].rsplit("/", 1)[1]] | _without_key(node, "$ref"))
        if "anyOf" in node:
            choices = [option for option in node["anyOf"] if option != {"type": "null"}]
            if len(choices) == 1:
                return simple(choices[0] | _without_key(node, "anyOf"))
            node = node | {"anyOf": choices}
        if node.get("ledger_row"):
            row_ids = row_schema(rows) if rows else {"type": "string", "maxLength": 6}
            return row_ids | {key: node[key] for key in ("description",) if key in node}
        simplified = {
            key: {name: simple(item) for name, item in value.items()}
            if key == "properties"
            else simple(value)
            for key, value in node.items()
            if key not in ("title", "default", "$defs", "ledger_row")
        }
        return simplified

    simplified_schema: dict[str, Any] = simple(schema)
    return (
        {"type": "object", "properties": {}} | simplified_schema | {"additionalProperties": False}
    )


def _names_rows(node: Mapping[str, Any]) -> bool:
    return '"ledger_row": true' in json.dumps(node)


def _without_key(node: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name not in (key, "default")}


def _argument_error(tool: Tool, error: ValidationError) -> str:
    known_arguments = list(tool.arguments.model_fields)
    parts = []
    for detail in error.errors():
        location = ".".join(str(step) for step in detail["loc"]) or "the arguments"
        if detail["type"] == "extra_forbidden":
            parts.append(f"{location!r} is no argument of it (known: {', '.join(known_arguments)})")
        elif detail["type"] == "missing":
            parts.append(f"{location!r} is missing")
        else:
            message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
            parts.append(f"{location!r} is {_short_repr(detail['input'])}: {message}")
    return f"{tool.name}: {'; '.join(parts)}. Revise the arguments."


def _short_repr(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


@dataclass(slots=True)
class Outcome:
    """Outcome of a tool call: a result, or an error message for the model."""

    result: ToolResult | None = None
    error: str = ""

    @property
    def usage(self) -> Usage:
        """Tokens used by the tool's own model."""
        return self.result.usage if self.result else Usage()


def run_tool(tool: Tool, arguments: Mapping[str, Any], ledger: Ledger) -> Outcome:
    """Validate the arguments and call the tool with its time limit.

    All exceptions except KeyboardInterrupt are returned as errors, since a tool may fail in any way
    and the model can work around it. A tool that exceeds its time limit keeps running in its
    thread, and its result is discarded.
    """
    try:
        checked = tool.check(arguments)
    except ToolError as error:
        return Outcome(error=str(error))
    working_ledger = ledger.copy()  # discards rows that a tool adds after its time limit
    if tool.wants_ledger:
        checked["ledger"] = working_ledger
    outcomes: list[object] = []

    def work() -> None:
        try:
            outcomes.append(_as_result(tool.call(**checked), tool.name))
        except BaseException as error:  # noqa: BLE001 - passed to the calling thread below
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
        ledger.merge(working_ledger, working_ledger)
        return Outcome(result=value)
    if isinstance(value, RagkitError):
        return Outcome(error=f"{tool.name}: {str(value).removeprefix(f'{tool.name}: ')}")
    return Outcome(
        error=f"{tool.name} failed ({reason_of(value)}). "
        "Revise the arguments, or ask for fewer rows with a limit."
    )


def reason_of(error: object) -> str:
    """Format an exception as type and message on one line, even if its `__str__` fails."""
    try:
        detail = " ".join(str(error).split())[:300]
    except Exception:  # noqa: BLE001 - `__str__` is tool code as well
        detail = "without a reason"
    return f"{type(error).__name__}: {detail}"


def _as_result(value: object, name: str) -> ToolResult:
    """Convert a return value to a result: evidence and numbers, mappings as rows, else text."""
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
