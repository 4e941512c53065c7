"""Training generative retrievers: what a model learns to write for a query."""

from __future__ import annotations

from ragkit.finetune.generative.recipe import (
    FixedTargets,
    GenerativeOptions,
    Targets,
    train_generative,
)
from ragkit.finetune.generative.targets import Pair, Passage, SpanTargets, TargetOptions

__all__ = [
    "FixedTargets",
    "GenerativeOptions",
    "Pair",
    "Passage",
    "SpanTargets",
    "TargetOptions",
    "Targets",
    "train_generative",
]
