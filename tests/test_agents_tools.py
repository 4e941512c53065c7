"""Tools: what a signature becomes, what a model may get wrong, and what a tool may do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from ragkit.agents.ledger import Ledger, Quantity, Quote
from ragkit.agents.tools import RowId, Tool, ToolError, ToolResult, run_tool, tool
from ragkit.errors import RagkitError
from ragkit.types import Citation, Usage

GAP = Quantity(0.186, "eV", "band_gap", "GaAs", "mp-2534", "F-43m", "DFT", "MP")


class Cell(BaseModel):
    """A cell."""

    a: float
    angles: list[float] = [90.0]


class Tree(BaseModel):
    """A tree has no finite schema."""

    left: Tree | None = None


@tool(permission="ask", timeout_s=3.0, sends=True)
def search(  # noqa: D417 - some arguments are not described
    formula: str,
    *,
    limit: Annotated[int, Field(ge=1, le=100)] = 10,
    ordering: Literal["FM", "NM"] | None = None,
    elements: list[Annotated[str, Field(pattern="^[A-Z][a-z]?$")]] | None = None,
    cell: Cell | None = None,
    low: float | None = None,
    either: int | str | None = None,
    stable: bool = True,
) -> str:
    """Materials of a formula,
    best first.

    More about it that the model does not need.

    Args:
        formula: As written,
            on two lines.
        limit: How many.
        unknown: Not a parameter.

    Raises:
        ToolError: Never.
    """
    return f"{formula} {limit} {ordering} {elements} {cell} {low} {either} {stable}"


def held(n_rows: int = 2) -> Ledger:
    ledger = Ledger()
    ledger.add([Quantity(n, property="n") for n in range(n_rows)], "count", {})
    return ledger


def test_tool_when_made_then_signature_and_docstring_are_its_schema():
    assert (search.name, search.permission, search.timeout_s, search.sends) == (
        *("search", "ask", 3.0),
        True,
    )
    assert search.description == "Materials of a formula, best first."
    assert search.parameters() == {
        "type": "object",
        "properties": {
            "formula": {"type": "string", "description": "As written, on two lines."},
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "description": "How many."},
            "ordering": {"type": "string", "enum": ["FM", "NM"]},
            "elements": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[A-Z][a-z]?$"},
            },
            "cell": {
                "type": "object",
                "description": "A cell.",
                "properties": {
                    "a": {"type": "number"},
                    "angles": {"type": "array", "items": {"type": "number"}},
                },
                "required": ["a"],
            },
            "low": {"type": "number"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "stable": {"type": "boolean"},
        },
        "required": ["formula"],
        "additionalProperties": False,
    }


def test_tool_when_parameters_are_named_as_schema_words_then_they_are_kept():
    @tool
    def book(title: str, default: int, description: str = "") -> None:
        """A book."""

    assert book.parameters()["properties"] == {
        "title": {"type": "string"},
        "default": {"type": "integer"},
        "description": {"type": "string"},
    }
    assert book.parameters()["required"] == ["title", "default"]


def test_tool_when_it_names_rows_then_the_schema_offers_those_of_the_ledger():
    @tool
    def compare(row: RowId, others: list[RowId] = []) -> None:  # noqa: B006, D417
        """Compare.

        Args:
            row: The first.
        """

    assert compare.names_rows
    assert not search.names_rows
    assert compare.parameters(held())["properties"] == {
        "row": {"enum": ["r1", "r2"], "description": "The first."},
        "others": {"type": "array", "items": {"enum": ["r1", "r2"]}},
    }
    assert list(compare.parameters(Ledger())["properties"]) == ["row"]
    assert list(compare.parameters()["properties"]) == ["row", "others"]
    many = compare.parameters(held(5000))["properties"]["row"]
    assert many == {
        "type": "string",
        "pattern": "^r[1-9][0-9]{0,4}$",
        "description": "The first.",
    }


def test_tool_when_only_optional_parameters_name_rows_then_it_needs_none():
    @tool
    def perhaps(row: RowId | None = None) -> None:
        """Perhaps."""

    assert not perhaps.names_rows
    assert perhaps.check({"row": "r7"}) == {"row": "r7"}


@pytest.mark.parametrize("row", ["r0", "r01", "R1", "r1 ", "r123456", "1", 1, "r1\n", ""])
def test_check_when_a_row_id_is_malformed_then_says_so(row):
    @tool
    def show(row: RowId) -> None:
        """Show."""

    with pytest.raises(ToolError, match=r"^show: 'row' is"):
        show.check({"row": row})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "search: 'formula' is missing. Revise the arguments."),
        (
            {"formula": "Fe", "formual": "Fe"},
            "search: 'formual' is no argument of it (known: formula, limit, ordering, elements, "
            "cell, low, either, stable). Revise the arguments.",
        ),
        (
            {"formula": "Fe", "limit": 0},
            "search: 'limit' is 0: should be greater than or equal to 1. Revise the arguments.",
        ),
        (
            {"formula": 5},
            "search: 'formula' is 5: should be a valid string. Revise the arguments.",
        ),
        (
            {"formula": None},
            "search: 'formula' is None: should be a valid string. Revise the arguments.",
        ),
        (
            {"formula": "Fe", "elements": ["Fe", "x" * 99]},
            f"search: 'elements.1' is '{'x' * 59}…: String should match pattern "
            "'^[A-Z][a-z]?$'. Revise the arguments.",
        ),
    ],
)
def test_check_when_arguments_are_wrong_then_tells_the_model_what_to_change(arguments, message):
    with pytest.raises(ToolError) as raised:
        search.check(arguments)
    assert str(raised.value) == message


def test_check_when_several_are_wrong_then_names_them_all():
    with pytest.raises(ToolError, match=r"'formula' is missing; 'low' is 'wide'.*; 'x' is no"):
        search.check({"low": "wide", "x": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "NaN", "-Infinity"])
def test_check_when_a_number_is_not_finite_then_refuses_it(value):
    with pytest.raises(ToolError, match=r"'low' is .*finite number"):
        search.check({"formula": "Fe", "low": value})


def test_check_when_arguments_are_right_then_converts_them_and_leaves_out_what_is_null():
    checked = search.check(
        {"formula": "Fe", "limit": "3", "low": 1, "cell": {"a": 2}, "either": None}
    )
    assert checked == {"formula": "Fe", "limit": 3, "low": 1.0, "cell": Cell(a=2.0)}


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from([*search.arguments.model_fields, "other"]) | st.text(max_size=5), NESTED
    )
)
def test_check_when_arguments_are_anything_then_they_pass_or_a_tool_error_says_why(arguments):
    try:
        assert set(search.check(arguments)) <= set(search.arguments.model_fields)
    except ToolError as error:
        said = str(error)
    else:
        said = "search: nothing. Revise the arguments."
    assert said.startswith("search: ")
    assert said.endswith(". Revise the arguments.")


def positional(x: int, /) -> None:
    """Positional."""


def starred(*numbers: int) -> None:
    """Starred."""


def keywords(**numbers: int) -> None:
    """Keywords."""


def untyped(x) -> None:
    """Untyped."""


def hidden(_x: int) -> None:
    """Hidden."""


def taken(model_config: str) -> None:
    """Taken."""


def shadowing(copy: str) -> None:
    """Shadowing."""


def opaque(ledger_of: Ledger) -> None:
    """Opaque."""


def endless(tree: Tree) -> None:
    """Endless."""


def function_of(call: Callable[[int], int]) -> None:
    """A function."""


async def later(x: int) -> None:
    """Later."""


def undocumented(x: int) -> None:
    pass


def unresolved(x: Nowhere) -> None:  # noqa: F821
    """Unresolved."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (positional, "'x' of the tool 'positional' cannot be passed by name"),
        (starred, "'numbers' of the tool 'starred' cannot be passed by name"),
        (keywords, "'numbers' of the tool 'keywords' cannot be passed by name"),
        (untyped, "'x' of the tool 'untyped' has no type annotation"),
        (hidden, "'_x' of the tool 'hidden' has a name that pydantic reserves"),
        (taken, "'model_config' of the tool 'taken' has a name that pydantic reserves"),
        (shadowing, "'copy' of the tool 'shadowing' has a name that pydantic reserves"),
        (opaque, "'opaque' has a type without a JSON schema"),
        (endless, "'endless' has a type without a JSON schema"),
        (function_of, "'function_of' has a type without a JSON schema"),
        (unresolved, "'unresolved' has a type without a JSON schema.*Nowhere"),
        (later, "'later' is asynchronous"),
        (undocumented, "'undocumented' has no docstring"),
    ],
)
def test_tool_when_a_function_cannot_be_one_then_raises_when_defined(function, message):
    with pytest.raises(TypeError, match=message):
        tool(function)


@pytest.mark.parametrize("name", ["two words", "a\nb", "naïve!", "x" * 65, "<lambda>"])
def test_tool_when_the_name_is_none_then_raises_when_defined(name):
    with pytest.raises(TypeError, match="the tool name is"):
        tool(undocumented_but_for_this, name=name)


def undocumented_but_for_this(x: int) -> int:
    """Something."""
    return x


def called(function: Any, ledger: Ledger | None = None, **options: Any) -> Any:
    ledger = Ledger() if ledger is None else ledger
    return run_tool(tool(function, **options), {}, ledger)


@dataclass
class Odd:
    """Something no tool should return."""

    def __repr__(self) -> str:
        raise ValueError("no words for it")

    __str__ = __repr__


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words for it")


QUOTE = Quote("Warm.", (Citation("d", "c", 0, 5, "Warm.", "0" * 32),))
RETURNED: list[tuple[Any, ToolResult]] = [
    ("text", ToolResult(text="text")),
    (None, ToolResult(text="done, nothing returned")),
    (5, ToolResult([Quantity(5, property="give", method="returned by give")])),
    (True, ToolResult([Quantity(True, property="give", method="returned by give")])),
    ([1, "a", None], ToolResult(text='[1, "a", null]')),
    ([], ToolResult(evidence=[])),
    ({"a": 1}, ToolResult(rows=[{"a": 1}])),
    (({"a": 1}, {"b": 2}), ToolResult(rows=[{"a": 1}, {"b": 2}])),
    (GAP, ToolResult(evidence=[GAP])),
    ([GAP, QUOTE], ToolResult(evidence=[GAP, QUOTE])),
    (ToolResult(text="x", usage=Usage(1, 2)), ToolResult(text="x", usage=Usage(1, 2))),
    (b"\xff", ToolResult(text="\"b'\\\\xff'\"")),
]


@pytest.mark.parametrize(("value", "result"), RETURNED, ids=repr)
def test_run_when_a_tool_returns_anything_then_it_is_a_result(value, result):
    def give() -> Any:
        """Give it."""
        return value

    outcome = called(give)
    assert (outcome.result, outcome.error, outcome.usage) == (result, "", result.usage)


def circular() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (circular(), "ValueError: Circular reference detected"),
        ([Odd()], "ValueError: no words for it"),
        ([{(1, 2): 3}, 4], "TypeError: keys must be str"),
    ],
    ids=["circular", "odd", "keys"],
)
def test_run_when_what_is_returned_cannot_be_written_then_it_is_an_error(value, reason):
    def give() -> Any:
        """Give it."""
        return value

    outcome = called(give)
    assert outcome.result is None
    assert outcome.error.startswith(f"give failed ({reason}")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ToolError("give: no such formula"), "give: no such formula"),
        (RagkitError("the store is gone"), "give: the store is gone"),
        (
            ValueError("too\n many"),
            "give failed (ValueError: too many). Revise the arguments, or ask for fewer rows with "
            "a limit.",
        ),
        (KeyboardInterrupt(), "give failed (KeyboardInterrupt: ). Revise"),
        (SystemExit(3), "give failed (SystemExit: 3). Revise"),
        (GeneratorExit(), "give failed (GeneratorExit: ). Revise"),
        (MemoryError("x" * 10_000), f"give failed (MemoryError: {'x' * 300}). Revise"),
        (Unspeakable(), "give failed (Unspeakable: without a reason). Revise"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_run_when_a_tool_raises_anything_then_it_is_an_error_for_the_model(error, said):
    def give() -> None:
        """Give it."""
        raise error

    outcome = called(give)
    assert outcome.result is None
    assert outcome.error.startswith(said)


def test_run_when_the_stack_overflows_then_it_is_an_error():
    def deep() -> int:
        """Deep."""
        return deep() + 1

    assert called(deep).error.startswith("deep failed (RecursionError: maximum recursion depth")


def test_run_when_a_tool_hangs_then_it_is_left_behind_and_what_it_adds_goes_nowhere():
    release, done = threading.Event(), threading.Event()

    def hang(ledger: Ledger) -> str:
        """Hang."""
        release.wait(10)
        ledger.add([GAP], "hang", {})
        done.set()
        return "late"

    ledger = held()
    started = time.monotonic()
    outcome = called(hang, ledger, timeout_s=0.05)
    assert time.monotonic() - started < 5
    assert outcome.result is None
    assert outcome.error == (
        "hang did not answer within 0.05 s. Ask for less (a smaller limit, a narrower filter), or "
        "use another tool."
    )
    release.set()
    assert done.wait(10)
    assert list(ledger) == ["r1", "r2"]
    assert ledger.add([Quantity(9, property="n")], "count", {}) == ["r4"]  # r3 was given away


def test_run_when_a_tool_wants_the_ledger_then_it_gets_it_and_what_it_adds_stays():
    def average(ledger: Ledger) -> Quantity:
        """The average."""
        ledger.add([GAP], "inner", {})
        values = [each.value for each in ledger.rows.values() if isinstance(each, Quantity)]
        return Quantity(sum(values), property="n", derived_from=("r1", "r2"))

    ledger = held()
    made = tool(average)
    assert made.wants_ledger
    assert made.parameters()["properties"] == {}
    outcome = run_tool(made, {}, ledger)
    assert outcome.result.evidence == [Quantity(1.186, property="n", derived_from=("r1", "r2"))]
    assert list(ledger) == ["r1", "r2", "r3"]
    refused = run_tool(made, {"ledger": {}}, ledger)
    assert refused.error.startswith("average: 'ledger' is no argument of it")


def test_run_when_the_arguments_are_wrong_then_the_tool_is_not_called():
    calls: list[int] = []

    @tool
    def count(n: int) -> int:
        """Count."""
        calls.append(n)
        return n

    assert run_tool(count, {"n": "many"}, Ledger()).error.startswith("count: 'n' is 'many'")
    counted = Quantity(2, property="count", method="returned by count")
    assert run_tool(count, {"n": 2}, Ledger()).result == ToolResult([counted])
    assert calls == [2]


def test_tool_when_its_schema_was_used_then_it_is_as_before():
    before = json.dumps(search.schema)
    search.parameters()["properties"].clear()
    assert json.dumps(search.schema) == before
    assert replace(search, sends=True).schema == search.schema


def test_tool_when_made_then_cannot_be_changed():
    assert isinstance(search, Tool)
    with pytest.raises(AttributeError):
        search.permission = "allow"
