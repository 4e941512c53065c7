"""Wordings of the questions that a planner is trained on, read from `wordings.toml`.

They are other phrasings than the benchmark's, with more names of each property, and some
carelessness. The names that the benchmark has for properties are learned, too; its phrasings are
not. The materials of figure 3 of the LLaMP paper (Chiang et al. 2024) are held out, as it is a
benchmark of its own.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from ragkit.agents.materials.chemistry.formulas import reduced
from ragkit.evaluation.materials.words import MEASURED, WORDINGS, Wording, Words


def _read() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("wordings.toml").read_text("utf-8")
    return tomllib.loads(text)


def _tuples(table: dict[str, list[str]]) -> dict[Any, tuple[str, ...]]:
    return {key: tuple(values) for key, values in table.items()}


def _named(wordings: dict[str, Wording], more: dict[str, list[str]]) -> dict[str, Wording]:
    """Add names to the benchmark's, which lose superlatives.

    "The lowest largest modulus" asks for nothing.
    """
    return {
        name: Wording(
            wording.tool,
            (
                *(phrase for phrase in wording.phrases if not phrase.startswith("largest")),
                *more[name],
            ),
            wording.units,
            wording.material_only,
        )
        for name, wording in wordings.items()
    }


_TABLE = _read()
_EXTREMES = {
    True: tuple(_TABLE["extremes"]["highest"]),
    False: tuple(_TABLE["extremes"]["lowest"]),
}

TRAINING = Words(
    phrasings=_tuples(_TABLE["phrasings"]),
    properties=_named(WORDINGS, _TABLE["names"]),
    measured=_named(MEASURED, _TABLE["measured_names"]),
    classes=tuple(_TABLE["classes"]),
    conditions=_tuples(_TABLE["conditions"]),
    fillers=_TABLE["fillers"],
    counting=tuple(_TABLE["counting"]),
    openers=tuple(_TABLE["openers"]),
    asides=tuple(_TABLE["asides"]),
    highest=0.45,
    extremes={"extremum": _EXTREMES, "polymorph": _EXTREMES},
    held_out=frozenset(reduced(formula) for formula in _TABLE["held_out"]),
    requests=_TABLE["requests"],
    holds_out=True,
    spoken=0.25,
    noise=0.25,
)
"""For training and its development split."""

MORE_TABLES = {
    "k_vrh": Wording("elasticity", TRAINING.properties["k_vrh"].phrases, material_only=False),
    "g_vrh": Wording("elasticity", tuple(_TABLE["table_names"]["g_vrh"]), material_only=False),
    "n": Wording("dielectric", TRAINING.properties["n"].phrases, material_only=False),
    "band_gap": Wording(
        "electronic_structure", TRAINING.properties["band_gap"].phrases[:6], material_only=False
    ),
}
"""Properties that many formulas have in a table and not as materials."""

SINGULAR = tuple(_TABLE["singular"])
SINGULAR_HOPS = tuple(_TABLE["singular_hops"])
BETWEEN = tuple(_TABLE["between"])
VAGUE = tuple(_TABLE["vague"])
UNKNOWN = tuple(_TABLE["unknown"])
