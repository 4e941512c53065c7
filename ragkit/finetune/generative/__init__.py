"""Training generative retrievers: what a model learns to write for a query."""

from __future__ import annotations

from ragkit.finetune.generative.corpusbrain import (
    CorpusBrainTargets,
    Page,
    PretrainOptions,
    pretraining_pairs,
)
from ragkit.finetune.generative.recipe import GenerativeOptions, train_generative
from ragkit.finetune.generative.targets import Pair, Passage, SpanTargets, TargetOptions
from ragkit.finetune.generative.ugr import MixedTargets
from ragkit.finetune.supervised import FixedTargets, Targets

__all__ = [
    "CorpusBrainTargets",
    "FixedTargets",
    "GenerativeOptions",
    "MixedTargets",
    "Page",
    "Pair",
    "Passage",
    "PretrainOptions",
    "SpanTargets",
    "TargetOptions",
    "Targets",
    "pretraining_pairs",
    "train_generative",
]
