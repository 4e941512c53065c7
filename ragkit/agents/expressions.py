"""Expressions over named values, numbers and units, such as "(r1 + r2) / 2" or "r1 - 0.5 eV".

Read by recursive descent and computed with pint; nothing is executed as code. Length, nesting,
exponents and the size of numbers are bounded.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ragkit.agents.tools import ToolError
from ragkit.agents.units import angle_power, quantity, spell

_MAX_LENGTH = 200
_MAX_DEPTH = 20
_MAX_EXPONENT = 10
_MAX_BITS = 256
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3}(?![\w.]))?"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|([^\W\d]\w*|[%°]\w*)|(\*\*|[-+*/^(),]))")
_ROW = re.compile(r"r[1-9][0-9]{0,4}")
_FUNCTIONS = ("sqrt", "abs", "min", "max")
_LIKE = (operator.add, operator.sub, operator.lt, operator.gt)


@dataclass(frozen=True, slots=True)
class Result:
    """What an expression comes to.

    Attributes:
        value: An integer where only integers were added, subtracted and multiplied.
        unit: As the ledger writes it.
        rows: The rows named, in order, each once.
        constants: The numbers written in the expression, as written.
    """

    value: int | float
    unit: str
    rows: tuple[str, ...]
    constants: tuple[str, ...]


def evaluate(text: str, lookup: Callable[[str], tuple[int | float, str]]) -> Result:
    """The value of an expression.

    Args:
        text: At most 200 characters. A unit belongs to the number before it and takes what
            follows as far as it is a unit: "r1 / 3 eV/atom" divides by 3 eV/atom.
        lookup: The value and unit of a row; raises ToolError for one that has none.

    Raises:
        ToolError: The expression cannot be read or computed; says what to change.

    >>> evaluate("(r1 + 500 meV) / 2", {"r1": (1.5, "eV")}.__getitem__)
    Result(value=1.0, unit='eV', rows=('r1',), constants=('500', '2'))
    """
    evaluation = _Evaluation(text, lookup)
    result = evaluation.result()
    try:
        if not angle_power(result.units):  # pint would turn degrees into plain numbers
            result = result.to("") if result.dimensionless else result.to_reduced_units()
    except ArithmeticError as error:
        raise ToolError(f"{text!r} is too large. Use smaller numbers.") from error
    return Result(
        _checked(result.magnitude, text),
        spell(result.units),
        tuple(dict.fromkeys(evaluation.rows)),
        tuple(evaluation.constants),
    )


def _checked(value: Any, expression: str) -> int | float:
    """The magnitude as a plain number.

    Raises:
        ToolError: It is complex, infinite or too long.
    """
    if isinstance(value, complex):
        raise ToolError(f"{expression!r} takes a root of a negative number. Use abs first.")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite or (isinstance(value, int) and value.bit_length() > _MAX_BITS):
        raise ToolError(f"{expression!r} is too large. Use smaller numbers or exponents.")
    return int(value) if isinstance(value, int) else float(value)


@dataclass(slots=True)
class _Evaluation:
    """One pass over the tokens: a method for each level of precedence."""

    text: str
    lookup: Callable[[str], tuple[int | float, str]]
    rows: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    _tokens: list[tuple[str, str]] = field(default_factory=list)
    _at: int = 0
    _depth: int = 0

    def result(self) -> Any:
        """The value as a pint quantity.

        Raises:
            ToolError: The expression cannot be read or computed.
        """
        self._tokens = list(self._split())
        value = self._sum()
        if self._at < len(self._tokens):
            raise self._wrong(f"{self._tokens[self._at][1]!r} is not expected there")
        return value

    def _split(self) -> Iterator[tuple[str, str]]:
        if len(self.text) > _MAX_LENGTH:
            raise ToolError(f"the expression is longer than {_MAX_LENGTH} characters. Split it.")
        at, text = 0, self.text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._wrong(f"{text[at:].strip()[:1]!r} cannot be read")
            at, number, name, sign = found.end(), *found.groups()
            kind = "number" if number else "name" if name else "sign"
            if name and _ROW.fullmatch(name):
                kind = "row"
            yield kind, "**" if sign == "^" else number or name or sign

    def _wrong(self, what: str) -> ToolError:
        shown = self.text if len(self.text) <= 80 else f"{self.text[:80]}…"
        return ToolError(f"{shown!r}: {what}. Write like (r1 + r2) / 2 or r1 - 0.5 eV.")

    def _peek(self, ahead: int = 0) -> tuple[str, str]:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else ("end", "")

    def _take(self, *signs: str) -> str:
        kind, text = self._peek()
        if kind == "sign" and text in signs:
            self._at += 1
            return text
        return ""

    def _sum(self) -> Any:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong(f"it is nested deeper than {_MAX_DEPTH}")
        value = self._product()
        while sign := self._take("+", "-"):
            value = self._apply(
                operator.add if sign == "+" else operator.sub, value, self._product()
            )
        self._depth -= 1
        return value

    def _product(self) -> Any:
        value = self._signed()
        while sign := self._take("*", "/"):
            right = self._signed()
            value = self._apply(operator.mul if sign == "*" else operator.truediv, value, right)
        return value

    def _signed(self) -> Any:
        negative = False
        while sign := self._take("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return self._apply(operator.neg, value) if negative else value

    def _power(self) -> Any:
        base = self._operand()
        if not self._take("**"):
            return base
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong(f"it is nested deeper than {_MAX_DEPTH}")
        exponent = self._signed()
        self._depth -= 1
        if not exponent.dimensionless:
            raise self._wrong(f"an exponent has no unit, this one has {spell(exponent.units)}")
        power = exponent.to("").magnitude
        if abs(power) > _MAX_EXPONENT:
            raise self._wrong(f"the exponent {power:g} is larger than {_MAX_EXPONENT}")
        return self._apply(operator.pow, base, power)

    def _operand(self) -> Any:
        kind, text = self._peek()
        self._at += 1
        if kind == "row":
            self.rows.append(text)
            return quantity(*self.lookup(text))
        if kind == "number":
            self.constants.append(text)
            value = int(text) if text.isdigit() else float(text)
            return quantity(_checked(value, self.text), self._unit())
        if kind == "name" and self._peek() == ("sign", "("):
            return self._call(text)
        if (kind, text) == ("sign", "("):
            value = self._sum()
            if not self._take(")"):
                raise self._wrong("a ) is missing")
            return value
        if kind == "name":
            raise self._wrong(f"{text!r} is no row and no number; a unit follows a number (1 eV)")
        raise self._wrong(f"{text!r} is not expected there" if text else "it ends too early")

    def _unit(self) -> str:
        """The unit after a number, "" if there is none."""
        if self._peek()[0] != "name":
            return ""
        text = self._unit_part()
        while self._peek() in (("sign", "*"), ("sign", "/")) and self._peek(1)[0] == "name":
            if self._peek(2) == ("sign", "("):
                break
            sign = self._take("*", "/")
            text += sign + self._unit_part()
        return text

    def _unit_part(self) -> str:
        text = self._peek()[1]
        self._at += 1
        if self._peek() == ("sign", "**"):
            minus = self._peek(1) == ("sign", "-")
            kind, power = self._peek(2 if minus else 1)
            if kind == "number":
                self._at += 3 if minus else 2
                text += f"**{'-' * minus}{power}"
        return text

    def _call(self, name: str) -> Any:
        if name not in _FUNCTIONS:
            raise self._wrong(f"there is no function {name!r}; known: {', '.join(_FUNCTIONS)}")
        self._take("(")
        values = [self._sum()]
        while self._take(","):
            values.append(self._sum())
        if not self._take(")"):
            raise self._wrong("a ) is missing")
        if name in ("sqrt", "abs"):
            if len(values) != 1:
                raise self._wrong(f"{name} takes one value")
            return self._apply(abs if name == "abs" else _root, values[0])
        best = values[0]
        for value in values[1:]:
            if self._apply(operator.lt if name == "min" else operator.gt, value, best):
                best = value
        return best

    def _apply(self, function: Callable[..., Any], *values: Any) -> Any:
        import pint

        if function in _LIKE and angle_power(values[0].units) != angle_power(values[1].units):
            raise self._wrong("an angle and a plain number do not go together")
        try:
            result = function(*values)
        except ZeroDivisionError as error:
            raise self._wrong("it divides by zero; leave that row out") from error
        except pint.DimensionalityError as error:
            units = " and ".join(spell(v.units) or "a plain number" for v in values)
            raise self._wrong(f"{units} do not go together; convert or use like units") from error
        except pint.PintError as error:
            raise self._wrong("temperatures in degC do not add; convert to K first") from error
        except OverflowError as error:
            raise self._wrong("it is too large; use smaller numbers") from error
        if not isinstance(result, bool):
            _checked(getattr(result, "magnitude", result), self.text)
        return result


def _root(value: Any) -> Any:
    return value**0.5
