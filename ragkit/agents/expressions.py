"""Evaluate expressions over rows, numbers and units, such as "(r1 + r2) / 2" or "r1 - 0.5 eV".

A recursive-descent parser computes with pint quantities; nothing is executed as code. Length,
nesting depth, exponents and the size of numbers are bounded. Python's `ast` is not used, because a
unit binds to the number before it ("r1 / 3 eV/atom"), and because error messages, which models were
trained on, name the unexpected token.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ragkit.agents.tools import ToolError
from ragkit.agents.units import angle_power, format_unit, quantity

_MAX_LENGTH = 200
_MAX_DEPTH = 20
_MAX_EXPONENT = 10
_MAX_BITS = 256
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3}(?![\w.]))?"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|([^\W\d]\w*|[%°]\w*)|(\*\*|[-+*/^(),]))")
_ROW = re.compile(r"r[1-9][0-9]{0,4}")
_FUNCTIONS = ("sqrt", "abs", "min", "max")
_SAME_UNIT_OPERATIONS = (operator.add, operator.sub, operator.lt, operator.gt)


@dataclass(frozen=True, slots=True)
class Result:
    """Value of an expression.

    Attributes:
        value: Magnitude; an integer if only integers were added, subtracted and multiplied.
        unit: Unit in the ledger's spelling.
        rows: Distinct ids of the rows used, in order of appearance.
        constants: Numeric literals of the expression, as written.
    """

    value: int | float
    unit: str
    rows: tuple[str, ...]
    constants: tuple[str, ...]


def evaluate(text: str, lookup: Callable[[str], tuple[int | float, str]]) -> Result:
    """Evaluate an expression.

    Args:
        text: Expression of at most 200 characters. A unit binds to the number before it and extends
            as far as the text parses as a unit: "r1 / 3 eV/atom" divides by 3 eV/atom.
        lookup: Returns the value and unit of a row, or raises ToolError.

    Raises:
        ToolError: The expression cannot be parsed or computed. The message says what to change.

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
        _plain_number(result.magnitude, text),
        format_unit(result.units),
        tuple(dict.fromkeys(evaluation.rows)),
        tuple(evaluation.constants),
    )


def _plain_number(value: Any, expression: str) -> int | float:
    """Convert a magnitude to a Python number.

    Raises:
        ToolError: The magnitude is complex, infinite or has too many digits.
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
    """Recursive-descent evaluator with one method for each level of precedence."""

    text: str
    lookup: Callable[[str], tuple[int | float, str]]
    rows: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    _tokens: list[tuple[str, str]] = field(default_factory=list)
    _next: int = 0
    _depth: int = 0

    def result(self) -> Any:
        """Evaluate the expression to a pint quantity.

        Raises:
            ToolError: The expression cannot be parsed or computed.
        """
        self._tokens = list(self._tokenize())
        value = self._sum()
        if self._next < len(self._tokens):
            raise self._error(f"{self._tokens[self._next][1]!r} is not expected there")
        return value

    def _tokenize(self) -> Iterator[tuple[str, str]]:
        if len(self.text) > _MAX_LENGTH:
            raise ToolError(f"the expression is longer than {_MAX_LENGTH} characters. Split it.")
        offset, text = 0, self.text.rstrip()
        while offset < len(text):
            match = _TOKEN.match(text, offset)
            if match is None:
                raise self._error(f"{text[offset:].strip()[:1]!r} cannot be read")
            offset, number, name, sign = match.end(), *match.groups()
            kind = "number" if number else "name" if name else "sign"
            if name and _ROW.fullmatch(name):
                kind = "row"
            yield kind, "**" if sign == "^" else number or name or sign

    def _error(self, problem: str) -> ToolError:
        excerpt = self.text if len(self.text) <= 80 else f"{self.text[:80]}…"
        return ToolError(f"{excerpt!r}: {problem}. Write like (r1 + r2) / 2 or r1 - 0.5 eV.")

    def _peek(self, offset: int = 0) -> tuple[str, str]:
        index = self._next + offset
        return self._tokens[index] if index < len(self._tokens) else ("end", "")

    def _accept(self, *signs: str) -> str:
        kind, text = self._peek()
        if kind == "sign" and text in signs:
            self._next += 1
            return text
        return ""

    def _sum(self) -> Any:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"it is nested deeper than {_MAX_DEPTH}")
        value = self._product()
        while sign := self._accept("+", "-"):
            value = self._apply(
                operator.add if sign == "+" else operator.sub, value, self._product()
            )
        self._depth -= 1
        return value

    def _product(self) -> Any:
        value = self._signed()
        while sign := self._accept("*", "/"):
            right = self._signed()
            value = self._apply(operator.mul if sign == "*" else operator.truediv, value, right)
        return value

    def _signed(self) -> Any:
        negative = False
        while sign := self._accept("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return self._apply(operator.neg, value) if negative else value

    def _power(self) -> Any:
        base = self._operand()
        if not self._accept("**"):
            return base
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"it is nested deeper than {_MAX_DEPTH}")
        exponent = self._signed()
        self._depth -= 1
        if not exponent.dimensionless:
            raise self._error(
                f"an exponent has no unit, this one has {format_unit(exponent.units)}"
            )
        power = exponent.to("").magnitude
        if abs(power) > _MAX_EXPONENT:
            raise self._error(f"the exponent {power:g} is larger than {_MAX_EXPONENT}")
        return self._apply(operator.pow, base, power)

    def _operand(self) -> Any:
        kind, text = self._peek()
        self._next += 1
        if kind == "row":
            self.rows.append(text)
            return quantity(*self.lookup(text))
        if kind == "number":
            self.constants.append(text)
            value = int(text) if text.isdigit() else float(text)
            return quantity(_plain_number(value, self.text), self._unit())
        if kind == "name" and self._peek() == ("sign", "("):
            return self._call(text)
        if (kind, text) == ("sign", "("):
            value = self._sum()
            if not self._accept(")"):
                raise self._error("a ) is missing")
            return value
        if kind == "name":
            raise self._error(f"{text!r} is no row and no number; a unit follows a number (1 eV)")
        raise self._error(f"{text!r} is not expected there" if text else "it ends too early")

    def _unit(self) -> str:
        """Consume the unit after a number; return "" without one."""
        if self._peek()[0] != "name":
            return ""
        text = self._unit_part()
        while self._peek() in (("sign", "*"), ("sign", "/")) and self._peek(1)[0] == "name":
            if self._peek(2) == ("sign", "("):
                break
            sign = self._accept("*", "/")
            text += sign + self._unit_part()
        return text

    def _unit_part(self) -> str:
        text = self._peek()[1]
        self._next += 1
        if self._peek() == ("sign", "**"):
            minus = self._peek(1) == ("sign", "-")
            kind, power = self._peek(2 if minus else 1)
            if kind == "number":
                self._next += 3 if minus else 2
                text += f"**{'-' * minus}{power}"
        return text

    def _call(self, name: str) -> Any:
        if name not in _FUNCTIONS:
            raise self._error(f"there is no function {name!r}; known: {', '.join(_FUNCTIONS)}")
        self._accept("(")
        values = [self._sum()]
        while self._accept(","):
            values.append(self._sum())
        if not self._accept(")"):
            raise self._error("a ) is missing")
        if name in ("sqrt", "abs"):
            if len(values) != 1:
                raise self._error(f"{name} takes one value")
            return self._apply(abs if name == "abs" else _square_root, values[0])
        best = values[0]
        for value in values[1:]:
            if self._apply(operator.lt if name == "min" else operator.gt, value, best):
                best = value
        return best

    def _apply(self, function: Callable[..., Any], *values: Any) -> Any:
        import pint

        if function in _SAME_UNIT_OPERATIONS and angle_power(values[0].units) != angle_power(
            values[1].units
        ):
            raise self._error("an angle and a plain number do not go together")
        try:
            result = function(*values)
        except ZeroDivisionError as error:
            raise self._error("it divides by zero; leave that row out") from error
        except pint.DimensionalityError as error:
            units = " and ".join(format_unit(v.units) or "a plain number" for v in values)
            raise self._error(f"{units} do not go together; convert or use like units") from error
        except pint.PintError as error:
            raise self._error("temperatures in degC do not add; convert to K first") from error
        except OverflowError as error:
            raise self._error("it is too large; use smaller numbers") from error
        if not isinstance(result, bool):
            _plain_number(getattr(result, "magnitude", result), self.text)
        return result


def _square_root(value: Any) -> Any:
    return value**0.5
