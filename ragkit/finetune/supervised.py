"""Supervised fine-tuning on examples: targets, the loss on them, and the assembly of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ragkit.digests import file_digest, text_digest
from ragkit.finetune.loop import Task, TrainOptions, TrainProgress, TrainReport, train
from ragkit.finetune.lora import Lora, LoraOptions
from ragkit.finetune.sequences import Batch, Example, batches, causal_logits
from ragkit.llms.adapters import base_fingerprint, check_output_folder
from ragkit.types import Rows

if TYPE_CHECKING:
    import torch

    from ragkit.llms.local import LocalLLM


class Targets(Protocol):
    """A source of training examples, epoch by epoch."""

    @property
    def digest(self) -> str:
        """Digest of everything the examples depend on; it distinguishes runs."""

    def epoch(self, number: int) -> Sequence[Example]:
        """Return the examples of an epoch in order, always the same for the same epoch."""


class FixedTargets:
    """The same examples in every epoch, in a different order each time.

    Args:
        examples: At least one.
        seed: Seed of the order.
    """

    def __init__(self, examples: Sequence[Example], *, seed: int = 0) -> None:
        self._examples, self._seed = list(examples), seed

    @cached_property
    def digest(self) -> str:
        """Digest of the examples and the seed."""
        rows = [
            (
                example.prompt,
                example.targets,
                example.task,
                *([example.learned] if example.learned else []),
            )
            for example in self._examples
        ]
        return text_digest(json.dumps([self._seed, rows]))

    def epoch(self, number: int) -> list[Example]:
        """Return the examples in the order of this epoch."""
        order = np.random.default_rng([self._seed, number]).permutation(len(self._examples))
        return [self._examples[i] for i in order]


@dataclass(frozen=True, slots=True)
class SupervisedRun:
    """The parts of a supervised run that depend on the kind of model and on what is trained.

    Attributes:
        base: Fingerprint of the base model.
        module: The transformers model.
        parameters: The parameters to train, by name.
        loss: Returns the loss of a batch, summed over its target tokens.
        recipe: Entries of the run's recipe besides targets, development examples, base and dtype.
        save: Saves the result; called as `Task.save`.
    """

    base: str
    module: Any
    parameters: Mapping[str, torch.Tensor]
    loss: Callable[[Batch], torch.Tensor]
    recipe: Mapping[str, Any]
    save: Callable[[], None]


def train_supervised(
    run: SupervisedRun,
    targets: Targets,
    folder: Path,
    options: TrainOptions,
    *,
    dev: Sequence[Example] = (),
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train on examples in batches; the same call resumes a run that was stopped.

    Args:
        run: Model, parameters and loss.
        targets: The training examples.
        folder: Folder for the checkpoints.
        options: Budget and schedules.
        dev: Examples for the development loss; without them the whole budget is used.
        on_progress: Called after each step.

    Raises:
        ModelError, Locked, CollectionError: As `ragkit.finetune.loop.train`.
    """
    module, loss = run.module, run.loss
    dev_batches = list(batches(dev, options.batch_tokens))
    task = Task(
        parameters=run.parameters,
        batches=lambda epoch: batches(targets.epoch(epoch), options.batch_tokens),
        loss=loss,
        recipe={
            "targets": targets.digest,
            "dev": FixedTargets(dev).digest,
            "base": run.base,
            "numbers": str(module.dtype),
            **run.recipe,
        },
        evaluate=(lambda: mean_loss(module, loss, dev_batches)) if dev_batches else None,
        save=run.save,
    )
    module.train()
    try:
        return train(task, folder, options, on_progress=on_progress)
    finally:
        module.eval()


def base_info(base: str) -> dict[str, str]:
    """Return the entries of `ragkit.json` that name the base model and its fingerprint."""
    return {"base": base, "base_fingerprint": base_fingerprint(base)}


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """Settings for training an adapter.

    Attributes:
        train: Budget, schedules and seed.
        lora: Size of the adapter.
        about: Entries for `ragkit.json`: task, data, licences.
        start: Folder of an adapter of the same size to start from; None starts from scratch.
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)
    about: Mapping[str, Any] = field(default_factory=dict)
    start: Path | None = None


def train_adapter(
    llm: LocalLLM,
    targets: Targets,
    folder: Path,
    options: AdapterOptions,
    *,
    dev: Sequence[Example] = (),
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train an adapter for a causal model; the same call resumes a run that was stopped.

    Args:
        llm: The base model. Its layers are wrapped: load it again to use the trained adapter.
        targets: The training examples.
        folder: Receives `run/` (checkpoints) and `adapter/`.
        options: See `AdapterOptions`.
        dev: Examples for the development loss; without them the whole budget is used.
        on_progress: Called after each step.

    Raises:
        ModelError: The folder holds another run or other files, the adapter to start from does not
            fit, or the loss is not finite.
        MissingExtra: peft is not installed.
    """
    check_output_folder(folder / "adapter")
    loss = causal_loss(llm.model, options.train.label_smoothing)
    adapter = Lora(llm.model, options.lora, seed=options.train.seed)
    recipe: dict[str, Any] = {"lora": asdict(options.lora)}
    if options.start is not None:
        adapter.load(options.start)
        recipe["start"] = file_digest(options.start / "adapter_model.safetensors")
    about = {**options.about, **base_info(llm.name)}
    run = SupervisedRun(
        base=about["base_fingerprint"],
        module=llm.model,
        parameters=adapter.parameters(),
        loss=loss,
        recipe=recipe,
        save=lambda: adapter.save(folder / "adapter", about),
    )
    return train_supervised(
        run, targets, folder / "run", options.train, dev=dev, on_progress=on_progress
    )


def causal_loss(
    module: Any, smoothing: float = 0.0, vectors: Callable[[], torch.Tensor | None] = lambda: None
) -> Callable[[Batch], torch.Tensor]:
    """Return the loss function of a causal model, and set the model's attention for packs.

    The loss of a batch is the cross-entropy summed over its target tokens.

    Args:
        module: A causal model of transformers.
        smoothing: See `TrainOptions.label_smoothing`.
        vectors: Returns the vectors of trained prompts, see `causal_logits`.
    """
    autocast = prepare_module(module)

    def loss(batch: Batch) -> torch.Tensor:
        packs = batch.packs
        labels = np.concatenate([pack.labels for pack in packs])
        with autocast():
            logits = causal_logits(module, packs, vectors())
        return cross_entropy(logits, labels, smoothing)

    return loss


def prepare_module(module: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Set a model's attention for packs; return a function that makes its autocast context.

    On the CPU fused attention with a mask is half as fast as plain matrix products. If a model is
    in bf16, so are the products of its adapter; the adapter's parameters stay float32.
    """
    import torch

    device = module.device.type
    module.set_attn_implementation("eager" if device == "cpu" else "sdpa")
    is_bf16 = module.dtype == torch.bfloat16
    return lambda: torch.autocast(device, dtype=torch.bfloat16, enabled=is_bf16)


def cross_entropy(logits: torch.Tensor, labels: Rows, smoothing: float = 0.0) -> torch.Tensor:
    """Return the sum of the labels' negative log-probabilities.

    Args:
        logits: float32 (labels, vocab_size).
        labels: int64 (labels,).
        smoothing: Share of the target that is spread over the vocabulary.
    """
    import torch

    target = torch.from_numpy(labels).to(logits.device)
    return torch.nn.functional.cross_entropy(
        logits, target, reduction="sum", label_smoothing=smoothing
    )


def mean_loss(
    module: Any, loss: Callable[[Batch], torch.Tensor], dev_batches: Sequence[Batch]
) -> float:
    """Return the loss per target token over batches, in evaluation mode and without gradients."""
    import torch

    module.eval()
    with torch.inference_mode():
        total = sum(float(loss(batch)) for batch in dev_batches)
    module.train()
    return total / max(1, sum(batch.n_targets for batch in dev_batches))
