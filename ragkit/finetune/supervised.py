"""Learning from examples: what an epoch is, the loss on it, and an adapter trained on it."""

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
from ragkit.llms.adapters import base_fingerprint, check_place
from ragkit.types import Rows

if TYPE_CHECKING:
    import torch

    from ragkit.llms.local import LocalLLM


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
        plain = [
            (each.prompt, each.targets, each.task, *([each.learned] if each.learned else []))
            for each in self._examples
        ]
        return text_digest(json.dumps([self._seed, plain]))

    def epoch(self, number: int) -> list[Example]:
        """The examples, shuffled."""
        order = np.random.default_rng([self._seed, number]).permutation(len(self._examples))
        return [self._examples[i] for i in order]


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """How an adapter is trained.

    Attributes:
        train: Budget, rates and seed.
        lora: Its size.
        about: For `ragkit.json`: task, data, licences.
        start: An adapter of the same size to go on with; None begins anew.
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
    """Train an adapter for a causal model; the same call goes on after a stop.

    Args:
        llm: Its layers are wrapped: load it again to use what was trained.
        targets: What is learned.
        folder: Gets `run/` (checkpoints) and `adapter/`.
        options: See `AdapterOptions`.
        dev: What the development loss is taken on; without, the whole budget is used.
        on_progress: Called after each step.

    Raises:
        ModelError: The folder holds another run or other things, the adapter to go on with does not
            fit, or the loss is no number.
        MissingExtra: peft is not installed.
    """
    check_place(folder / "adapter")
    module = llm.model
    loss = causal_loss(module, options.train.label_smoothing)
    adapter = Lora(module, options.lora, seed=options.train.seed)
    begun = {}
    if options.start is not None:
        adapter.load(options.start)
        begun = {"start": file_digest(options.start / "adapter_model.safetensors")}
    held = list(batches(dev, options.train.batch_tokens))
    base = base_fingerprint(llm.name)
    about = {**options.about, "base": llm.name, "base_fingerprint": base}
    task = Task(
        parameters=adapter.parameters(),
        batches=lambda epoch: batches(targets.epoch(epoch), options.train.batch_tokens),
        loss=loss,
        recipe={
            "targets": targets.digest,
            "dev": FixedTargets(dev).digest,
            "base": base,
            "numbers": str(module.dtype),
            "lora": asdict(options.lora),
            **begun,
        },
        evaluate=(lambda: mean_loss(module, loss, held)) if held else None,
        keep=lambda: adapter.save(folder / "adapter", about),
    )
    module.train()
    try:
        return train(task, folder / "run", options.train, on_progress=on_progress)
    finally:
        module.eval()


def causal_loss(
    module: Any, smoothing: float = 0.0, vectors: Callable[[], torch.Tensor | None] = lambda: None
) -> Callable[[Batch], torch.Tensor]:
    """The loss of a batch, a sum over its targets' tokens; sets the model's attention for it.

    Args:
        module: A causal model of transformers.
        smoothing: See `TrainOptions.label_smoothing`.
        vectors: Gives the trained prompts' vectors, see `causal_logits`.
    """
    autocast = prepare(module)

    def loss(batch: Batch) -> torch.Tensor:
        packs = batch.packs
        labels = np.concatenate([pack.labels for pack in packs])
        with autocast():
            logits = causal_logits(module, packs, vectors())
        return cross_entropy(logits, labels, smoothing)

    return loss


def prepare(module: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Set a model's attention for packs; what is returned makes the context its passes run in.

    On the CPU the fused attention is half as fast as plain products where a mask is given. Where a
    model is in bf16 the adapter's products are, too; its numbers stay float32.
    """
    import torch

    kind = module.device.type
    module.set_attn_implementation("eager" if kind == "cpu" else "sdpa")
    half = module.dtype == torch.bfloat16
    return lambda: torch.autocast(kind, dtype=torch.bfloat16, enabled=half)


def cross_entropy(logits: torch.Tensor, labels: Rows, smoothing: float = 0.0) -> torch.Tensor:
    """The sum over labels of their negative log-probability.

    Args:
        logits: float32 (labels, vocab_size).
        labels: int64 (labels,).
        smoothing: Share of the target that is spread over the vocabulary.
    """
    import torch

    there = torch.from_numpy(labels).to(logits.device)
    return torch.nn.functional.cross_entropy(
        logits, there, reduction="sum", label_smoothing=smoothing
    )


def mean_loss(module: Any, loss: Callable[[Batch], torch.Tensor], held: Sequence[Batch]) -> float:
    """The loss a token of batches that are not learned from."""
    import torch

    module.eval()
    with torch.inference_mode():
        total = sum(float(loss(batch)) for batch in held)
    module.train()
    return total / max(1, sum(batch.n_targets for batch in held))
