"""How many examples a property is shown: few in `make test`, all that it asks for in the tiers.

`RAGKIT_HYPOTHESIS=full` asks for all. The few are the same at every run, so that `make test` is red
only for what has changed.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

FEW = 15
_PATIENT: dict[str, Any] = {  # the machine may be busy
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}

_PROFILE = os.environ.get("RAGKIT_HYPOTHESIS", "fast")


def load() -> None:
    """Make the profile the default, of properties that ask for no number of examples too."""
    settings.register_profile("fast", max_examples=FEW, derandomize=True, database=None, **_PATIENT)
    settings.register_profile("full", **_PATIENT)
    settings.load_profile(_PROFILE)


def examples(n: int, *, few: int = FEW, **others: Any) -> settings:
    """Settings of a property that is shown `n` examples, or `few` in `make test`."""
    return settings(max_examples=n if _PROFILE == "full" else min(n, few), **others)
