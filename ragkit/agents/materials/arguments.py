"""Parse and validate the arguments of search tools, and convert them to a query."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ragkit.agents.ledger import Scalar
from ragkit.agents.materials.backend import Condition, Operator, Query
from ragkit.agents.materials.chemistry.formulas import element_symbol, from_name, reduced, suggest
from ragkit.agents.materials.chemistry.ids import ID_PATTERN, canonical_id
from ragkit.agents.materials.chemistry.properties import (
    Property,
    SearchTarget,
    find_property,
    properties_of,
)
from ragkit.agents.tools import ToolError

IDENTITY = frozenset({"material_id", "material_ids", "formula", "formula_pretty"})
"""Names of fields that every row contains, whatever fields are requested."""

_OPERATORS: dict[str, Operator] = {
    "<": "<", "<=": "<=", "=": "=", ">=": ">=", ">": ">", "==": "=", "≤": "<=", "≥": ">=",
}  # fmt: skip
_CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|==|≤|≥|=|<|>)\s*(.+?)\s*")
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _join_list(value: object) -> object:
    """Convert a list of strings to comma-separated text."""
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return value


def _split_conditions(value: object) -> object:
    """Convert a string of conditions to a list."""
    return re.split(r"\s*(?:[;,]|\band\b)\s*", value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class SearchArguments:
    """Arguments of a search as the model writes them; "" and () are omitted arguments."""

    formula: str = ""
    material_ids: str = ""
    chemsys: str = ""
    elements: str = ""
    exclude_elements: str = ""
    where: Sequence[str] = ()
    fields: str = ""
    sort_fields: str = ""
    limit: int = 10


def argument_types(target: SearchTarget) -> dict[str, Any]:
    """Return the argument types of a search tool.

    Their patterns restrict the grammar to the properties of the target. They are not validated,
    because `build_query` raises errors with better explanations.
    """
    names = "|".join(spec.name for spec in properties_of(target))
    value = r"[A-Za-z0-9._/+-]{1,20}"
    condition = Annotated[str, _pattern(rf"^({names}) (<|<=|=|>=|>) {value}$")]
    field = f"(material_id|{names})"
    return {
        "formula": Annotated[str, BeforeValidator(_join_list)],
        "material_ids": _text_type(r"^mp-[0-9]{1,8}(,mp-[0-9]{1,8}){0,15}$"),
        "chemsys": _text_type(r"^[A-Z][a-z]?(-[A-Z][a-z]?){0,7}$"),
        "elements": _text_type(r"^[A-Z][a-z]?(,[A-Z][a-z]?){0,7}$"),
        "exclude_elements": _text_type(r"^[A-Z][a-z]?(,[A-Z][a-z]?){0,7}$"),
        "where": Annotated[list[condition], BeforeValidator(_split_conditions)],
        "fields": _text_type(rf"^{field}(,{field}){{0,7}}$"),
        "sort_fields": _text_type(rf"^-?({names})(,-?({names})){{0,2}}$"),
        "limit": Annotated[int, Field(ge=1, le=100)],
    }


def _pattern(pattern: str) -> Any:
    return Field(json_schema_extra={"pattern": pattern})


def _text_type(pattern: str) -> Any:
    return Annotated[str, BeforeValidator(_join_list), _pattern(pattern)]


def build_query(
    target: SearchTarget,
    arguments: SearchArguments,
    known_formulas: Callable[[], Sequence[str]] = list,
) -> Query:
    """Build a query, with all names validated against the search target.

    Args:
        target: Endpoint or table to search.
        arguments: Arguments as the model wrote them.
        known_formulas: Returns the formulas to suggest from; called only if a formula is invalid.

    Raises:
        ToolError: A name, formula or condition is invalid.
    """
    fields = [name for name in _split(arguments.fields) if name.lower() not in IDENTITY]
    return Query(
        material_ids=tuple(_material_id(text) for text in _split(arguments.material_ids)),
        formulas=tuple(_formula(text, known_formulas) for text in _split(arguments.formula)),
        chemsys=_chemical_system(arguments.chemsys),
        elements=tuple(element_symbol(name) for name in _split(arguments.elements, r"[,-]")),
        exclude_elements=tuple(
            element_symbol(name) for name in _split(arguments.exclude_elements, r"[,-]")
        ),
        where=tuple(_condition(text, target) for text in arguments.where),
        # LLaMP's rule 1: fields are one comma-separated string.
        fields=tuple(dict.fromkeys(find_property(name, target).name for name in fields)),
        sort_fields=tuple(_sort_key(key, target) for key in _split(arguments.sort_fields)),
        limit=arguments.limit,
    )


def _split(text: str, separator: str = ",") -> list[str]:
    return [part.strip() for part in re.split(separator, text) if part.strip()]


def _chemical_system(text: str) -> tuple[str, ...]:
    """Parse the elements of a chemical system, "Fe-O" or "Fe,O"."""
    if "-" in text and len(_split(text)) > 1:
        raise ToolError(
            f"chemsys is {text!r}; expected one system, such as Fe-O. Search for each of them."
        )
    return tuple(element_symbol(name) for name in _split(text, r"[,-]"))


def _material_id(text: str) -> str:
    if not re.fullmatch(ID_PATTERN, text.lower()):
        raise ToolError(
            f"{text!r} is no material id. Give one such as mp-2534, or search by formula."
        )
    return canonical_id(text)


def _formula(text: str, known_formulas: Callable[[], Sequence[str]]) -> str:
    """Validate a formula; names of substances are converted to formulas."""
    formula = from_name(text) or text
    try:
        reduced(formula)
    except ToolError as error:
        near = suggest(text, known_formulas())
        if not near:
            raise
        reason = str(error).split(" Did you mean ")[0].split(" Expected one ")[0]
        others = f" Also held: {', '.join(near[1:])}." if near[1:] else ""
        raise ToolError(f"{reason} Did you mean {near[0]}?{others}") from None
    return formula


def _sort_key(text: str, target: SearchTarget) -> str:
    sign = "-" if text.startswith("-") else ""
    return f"{sign}{find_property(text.removeprefix('-'), target).name}"


def _condition(text: str, target: SearchTarget) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ToolError(
            f"{text!r} is no condition. Write PROPERTY OP VALUE with one of < <= = >= >, "
            "as in band_gap > 1.5 or is_stable = true."
        )
    spec = find_property(match[1], target)
    return Condition(spec.name, _OPERATORS[match[2]], _value(spec, match[3].strip("'\"")))


def _value(spec: Property, text: str) -> Scalar:
    if spec.kind == "text":
        return text
    if spec.kind == "flag":
        if text.lower() not in _FLAGS:
            raise ToolError(
                f"{spec.name} is true or false, not {text!r}. Write {spec.name} = true."
            )
        return _FLAGS[text.lower()]
    number, _, unit = text.partition(" ")
    if unit and unit.replace(" ", "") != spec.unit:
        raise ToolError(
            f"{spec.name} is in {spec.unit or 'plain numbers'}, not {unit!r}. "
            "Convert the value and leave the unit out."
        )
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ToolError(f"{spec.name} is a number, not {text!r}. Write, say, {spec.name} > 1.5.")
    return value
