"""Training a generative retriever: targets, the loop, and weights that `load_beam_model` takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ragkit.digests import text_digest
from ragkit.errors import ModelError
from ragkit.finetune.loop import Task, TrainOptions, TrainProgress, TrainReport, train
from ragkit.finetune.lora import Lora, LoraOptions
from ragkit.finetune.sequences import (
    Batch,
    Example,
    batches,
    causal_logits,
    seq2seq_logits,
    target_labels,
)
from ragkit.llms.adapters import base_fingerprint
from ragkit.llms.beams import ADAPTER_TASK, CausalBeams, Seq2SeqBeams

if TYPE_CHECKING:
    import torch


class Targets(Protocol):
    """What is learned, epoch by epoch."""

    @property
    def digest(self) -> str:
        """Of everything the examples depend on, for telling runs apart."""

    def epoch(self, number: int) -> Sequence[Example]:
        """The examples of an epoch in their order, the same whenever they are asked for."""


class FixedTargets:
    """The same examples in every epoch, in another order.

    Args:
        examples: At least one.
        seed: Of the order.
    """

    def __init__(self, examples: Sequence[Example], *, seed: int = 0) -> None:
        self._examples, self._seed = list(examples), seed

    @cached_property
    def digest(self) -> str:
        """Of the examples."""
        return text_digest(json.dumps([asdict(each) for each in self._examples]))

    def epoch(self, number: int) -> list[Example]:
        """The examples, shuffled."""
        order = np.random.default_rng([self._seed, number]).permutation(len(self._examples))
        return [self._examples[i] for i in order]


@dataclass(frozen=True, slots=True)
class GenerativeOptions:
    """How a generative retriever is trained.

    Attributes:
        train: Budget, rates and seed.
        lora: The adapter's size; None trains all weights.
        about: Written into `ragkit.json` of the adapter: data, licences, what it is for.
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    lora: LoraOptions | None = field(default_factory=LoraOptions)
    about: Mapping[str, Any] = field(default_factory=dict)


def train_generative(
    model: CausalBeams | Seq2SeqBeams,
    targets: Targets,
    folder: Path,
    options: GenerativeOptions,
    *,
    dev: Sequence[Example] = (),
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train a model to write identifiers; the same call goes on after a stop.

    Maximum likelihood of each target after its prompt, over the targets' tokens.

    Args:
        model: Its layers are changed or wrapped: load it again to search with what was trained.
        targets: What is learned.
        folder: Gets `run/` (checkpoints) and `adapter/` or, without LoRA, `model/`.
        options: See `GenerativeOptions`.
        dev: What the development loss is taken on; without, the whole budget is used.
        on_progress: Called after each step.

    Raises:
        ModelError: The folder holds another run, or the loss is no number.
        MissingExtra: peft is not installed.
    """
    import torch

    module, loss = model.module, _loss_of(model, options.train.label_smoothing)
    keep, parameters = _trained(model, folder, options)
    held = list(batches(dev, options.train.batch_tokens))

    def evaluate() -> float:
        module.eval()
        with torch.inference_mode():
            total = sum(float(loss(batch)) for batch in held)
        module.train()
        return total / max(1, sum(batch.n_targets for batch in held))

    recipe = {"targets": targets.digest, "base": model.identity, "lora": _lora(options)}
    module.train()
    task = Task(
        parameters=parameters,
        batches=lambda epoch: batches(targets.epoch(epoch), options.train.batch_tokens),
        loss=loss,
        recipe=recipe,
        evaluate=evaluate if held else None,
        keep=keep,
    )
    try:
        return train(task, folder / "run", options.train, on_progress=on_progress)
    finally:
        module.eval()


def _lora(options: GenerativeOptions) -> dict[str, Any] | None:
    return None if options.lora is None else asdict(options.lora)


def _trained(
    model: CausalBeams | Seq2SeqBeams, folder: Path, options: GenerativeOptions
) -> tuple[Callable[[], None], dict[str, torch.Tensor]]:
    """How the result is written, and what is trained."""
    module = model.module
    if options.lora is not None:
        adapter = Lora(module, options.lora, seed=options.train.seed)
        about = {
            **options.about,
            "task": ADAPTER_TASK,
            "base": model.name,
            "base_fingerprint": base_fingerprint(model.name),
        }
        return lambda: adapter.save(folder / "adapter", about), adapter.parameters()

    def keep() -> None:
        module.save_pretrained(folder / "model")
        model.tokenizer.save_pretrained(folder / "model")

    if str(module.dtype) != "torch.float32":
        raise ModelError(
            f"all weights of {model.name!r} are to be trained in {module.dtype}, which rounds "
            "small steps away; load it in float32, or train an adapter"
        )
    return keep, dict(module.named_parameters())


def _loss_of(
    model: CausalBeams | Seq2SeqBeams, smoothing: float
) -> Callable[[Batch], torch.Tensor]:
    import torch

    module = model.module

    def pack_loss(logits: torch.Tensor, labels: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            logits,
            torch.from_numpy(labels).to(logits.device),
            reduction="sum",
            label_smoothing=smoothing,
        )

    if isinstance(model, Seq2SeqBeams):
        return lambda batch: pack_loss(
            seq2seq_logits(module, batch.examples), target_labels(batch.examples)
        )
    # A mask of pairs is for attention that takes one.
    module.set_attn_implementation("sdpa")
    return lambda batch: torch.stack(
        [pack_loss(causal_logits(module, pack), pack.labels) for pack in batch.packs]
    ).sum()
