"""What a model may write as arguments of a search, checked and turned into a query."""

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
from ragkit.agents.materials.chemistry.properties import (
    Property,
    SearchTarget,
    find_property,
    properties_of,
)
from ragkit.agents.tools import ToolError

IDENTITY = frozenset({"material_id", "material_ids", "formula", "formula_pretty"})
"""Field names that every row tells anyway."""

_OPERATORS: dict[str, Operator] = {
    "<": "<", "<=": "<=", "=": "=", ">=": ">=", ">": ">", "==": "=", "≤": "<=", "≥": ">=",
}  # fmt: skip
_CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|==|≤|≥|=|<|>)\s*(.+?)\s*")
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MATERIAL_ID = re.compile(r"(?:mp|mvc)-\d+")


def _joined(value: object) -> object:
    """Lists are as good as comma-separated texts."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    return value


def _listed(value: object) -> object:
    """One condition is as good as a list of it."""
    return re.split(r"\s*(?:[;,]|\band\b)\s*", value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments as a model writes them; "" and () where it leaves them out."""

    formula: str = ""
    material_ids: str = ""
    chemsys: str = ""
    elements: str = ""
    exclude_elements: str = ""
    where: Sequence[str] = ()
    fields: str = ""
    sort_fields: str = ""
    limit: int = 10


def argument_types(place: SearchTarget) -> dict[str, Any]:
    """The types of the arguments; patterns let a grammar offer the endpoint's properties only.

    The patterns are not validated: what breaks one gets a better answer from `query_of`.
    """
    names = "|".join(each.name for each in properties_of(place))
    value = r"[A-Za-z0-9._/+-]{1,20}"
    condition = Annotated[str, _pattern(rf"^({names}) (<|<=|=|>=|>) {value}$")]
    shown = f"(material_id|{names})"
    return {
        "formula": Annotated[str, BeforeValidator(_joined)],
        "material_ids": _text(r"^mp-[0-9]{1,8}(,mp-[0-9]{1,8}){0,15}$"),
        "chemsys": _text(r"^[A-Z][a-z]?(-[A-Z][a-z]?){0,7}$"),
        "elements": _text(r"^[A-Z][a-z]?(,[A-Z][a-z]?){0,7}$"),
        "exclude_elements": _text(r"^[A-Z][a-z]?(,[A-Z][a-z]?){0,7}$"),
        "where": Annotated[list[condition], BeforeValidator(_listed)],
        "fields": _text(rf"^{shown}(,{shown}){{0,7}}$"),
        "sort_fields": _text(rf"^-?({names})(,-?({names})){{0,2}}$"),
        "limit": Annotated[int, Field(ge=1, le=100)],
    }


def _pattern(pattern: str) -> Any:
    return Field(json_schema_extra={"pattern": pattern})


def _text(pattern: str) -> Any:
    return Annotated[str, BeforeValidator(_joined), _pattern(pattern)]


def query_of(place: SearchTarget, given: Given, held: Callable[[], Sequence[str]] = list) -> Query:
    """The query; every name checked against the endpoint.

    Args:
        place: The endpoint.
        given: What the model wrote.
        held: The formulas to suggest from; called only when one cannot be read.

    Raises:
        ToolError: A name, formula or condition cannot be understood.
    """
    fields = [each for each in _split(given.fields) if each.lower() not in IDENTITY]
    return Query(
        material_ids=tuple(_material_id(each) for each in _split(given.material_ids)),
        formulas=tuple(_formula(each, held) for each in _split(given.formula)),
        chemsys=_system(given.chemsys),
        elements=tuple(element_symbol(each) for each in _split(given.elements, r"[,-]")),
        exclude_elements=tuple(
            element_symbol(each) for each in _split(given.exclude_elements, r"[,-]")
        ),
        where=tuple(_condition(each, place) for each in given.where),
        # LLaMP's rule 1: fields come as one comma-separated text.
        fields=tuple(dict.fromkeys(find_property(each, place).name for each in fields)),
        sort_fields=tuple(_sort_key(each, place) for each in _split(given.sort_fields)),
        limit=given.limit,
    )


def _split(text: str, separator: str = ",") -> list[str]:
    return [each.strip() for each in re.split(separator, text) if each.strip()]


def _system(text: str) -> tuple[str, ...]:
    """The elements of one system, "Fe-O" or "Fe,O"."""
    if "-" in text and len(_split(text)) > 1:
        raise ToolError(
            f"chemsys is {text!r}; expected one system, such as Fe-O. Search for each of them."
        )
    return tuple(element_symbol(each) for each in _split(text, r"[,-]"))


def _material_id(text: str) -> str:
    if not _MATERIAL_ID.fullmatch(text.lower()):
        raise ToolError(
            f"{text!r} is no material id. Give one such as mp-2534, or search by formula."
        )
    return text.lower()


def _formula(text: str, held: Callable[[], Sequence[str]]) -> str:
    """The formula; names and isotopes become plain formulas."""
    formula = from_name(text) or text
    try:
        reduced(formula)
    except ToolError as error:
        near = suggest(text, held())
        if not near:
            raise
        reason = str(error).split(" Did you mean ")[0].split(" Expected one ")[0]
        others = f" Also held: {', '.join(near[1:])}." if near[1:] else ""
        raise ToolError(f"{reason} Did you mean {near[0]}?{others}") from None
    return formula


def _sort_key(text: str, place: SearchTarget) -> str:
    sign = "-" if text.startswith("-") else ""
    return f"{sign}{find_property(text.removeprefix('-'), place).name}"


def _condition(text: str, place: SearchTarget) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ToolError(
            f"{text!r} is no condition. Write PROPERTY OP VALUE with one of < <= = >= >, "
            "as in band_gap > 1.5 or is_stable = true."
        )
    spec = find_property(found[1], place)
    return Condition(spec.name, _OPERATORS[found[2]], _value(spec, found[3].strip("'\"")))


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
