"""Training: one loop, its checkpoints and adapters, and the recipes that use them."""

from __future__ import annotations

from ragkit.finetune.loop import Task, TrainOptions, TrainProgress, TrainReport, train
from ragkit.finetune.lora import Lora, LoraOptions
from ragkit.finetune.sequences import Example

__all__ = [
    "Example",
    "Lora",
    "LoraOptions",
    "Task",
    "TrainOptions",
    "TrainProgress",
    "TrainReport",
    "train",
]
