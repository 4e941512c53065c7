"""Which cases of a test run in `make test`, and which only in its tier (see CONTRIBUTING.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def smoke(cases: Iterable[Any], *kept: Any, tier: str = "faults") -> list[Any]:
    """All cases, marked with the tier but for those that are kept (default: the first)."""
    cases = list(cases)
    kept = kept or (cases[0],)
    assert all(each in cases for each in kept), kept
    mark = getattr(pytest.mark, tier)
    return [
        case
        if case in kept
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark)
        for case in cases
    ]
