"""A score that is either a number or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Score:
    """Either a finite value, or None with the cause.

    Code that averages scores has to handle those without a value; they cannot be lost by accident.

    Raises:
        ValueError: The value is NaN or infinite; or there are both a value and a cause, or neither.

    >>> print(Score(0.5))
    0.5
    >>> print(Score(None, "nothing was cited"))
    none: nothing was cited
    """

    value: float | None
    cause: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.cause == ""):
            raise ValueError(
                f"value is {self.value!r} and cause is {self.cause!r}; "
                "expected a value, or None with a cause"
            )
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(
                f"value is {self.value}; expected a finite number, or None with a cause"
            )

    def __str__(self) -> str:
        return f"none: {self.cause}" if self.value is None else str(self.value)
