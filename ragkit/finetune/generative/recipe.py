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
from ragkit.durable import replaced
from ragkit.errors import ModelError
from ragkit.finetune.checkpoints import system_errors
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
from ragkit.finetune.soft_prompts import PromptStyle, SoftPrompts, check_style, save_vectors
from ragkit.llms.adapters import base_fingerprint, check_place, write_about
from ragkit.llms.beams import ADAPTER_TASK, CausalBeams, Seq2SeqBeams
from ragkit.llms.soft_prompts import count_vectors

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
class GenerativeOptions:
    """How a generative retriever is trained.

    Attributes:
        train: Budget, rates and seed.
        lora: The adapter's size; None trains all weights.
        about: Written into `ragkit.json` of the result: data, licences, what it is for.
        prompts: How the model is asked; for others than "discrete" call
            `ragkit.finetune.soft_prompts.set_prompts` before examples are made.
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    lora: LoraOptions | None = field(default_factory=LoraOptions)
    about: Mapping[str, Any] = field(default_factory=dict)
    prompts: PromptStyle = "discrete"


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
        ValueError: The model is asked otherwise than `options.prompts` says.
        ModelError: The folder holds another run or other things, or the loss is no number.
        MissingExtra: peft is not installed.
    """
    import torch

    check_style(model.prompts, options.prompts)
    check_place(folder / ("model" if options.lora is None else "adapter"))
    module, soft = model.module, None
    if count_vectors(model.prompts):
        embedding = module.get_input_embeddings()
        soft = SoftPrompts(model.prompts, embedding, seed=options.train.seed)
    loss = _loss_of(model, options.train.label_smoothing, soft)
    keep, parameters = _trained(model, folder, options, soft)
    held = list(batches(dev, options.train.batch_tokens))

    def evaluate() -> float:
        module.eval()
        with torch.inference_mode():
            total = sum(float(loss(batch)) for batch in held)
        module.train()
        return total / max(1, sum(batch.n_targets for batch in held))

    recipe = {
        "targets": targets.digest,
        "dev": FixedTargets(dev).digest,
        "base": base_fingerprint(model.name),
        "numbers": str(module.dtype),
        "prompts": dict(model.prompts),
        "lora": _lora(options),
    }
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
    model: CausalBeams | Seq2SeqBeams,
    folder: Path,
    options: GenerativeOptions,
    soft: SoftPrompts | None,
) -> tuple[Callable[[], None], dict[str, torch.Tensor]]:
    """How the result is written, and what is trained."""
    module = model.module
    about = {
        **options.about,
        "task": ADAPTER_TASK,
        "base": model.name,
        "base_fingerprint": base_fingerprint(model.name),
        "prompt_style": options.prompts,
        "prompts": dict(model.prompts),
    }
    prompts = {} if soft is None else soft.parameters()
    if options.lora is not None:
        adapter = Lora(module, options.lora, seed=options.train.seed)

        def keep_adapter() -> None:
            adapter.save(folder / "adapter", about, None if soft is None else soft.vectors())

        return keep_adapter, {**adapter.parameters(), **prompts}

    def keep() -> None:
        with replaced(folder / "model") as temporary:
            with system_errors(temporary):
                module.save_pretrained(temporary)
            model.tokenizer.save_pretrained(temporary)
            if soft is not None:
                save_vectors(temporary, soft.vectors())
            write_about(temporary, about)

    if str(module.dtype) != "torch.float32":
        raise ModelError(
            f"all weights of {model.name!r} are to be trained in {module.dtype}, which rounds "
            "small steps away; load it in float32, or train an adapter"
        )
    return keep, {**dict(module.named_parameters()), **prompts}


def _loss_of(
    model: CausalBeams | Seq2SeqBeams, smoothing: float, soft: SoftPrompts | None
) -> Callable[[Batch], torch.Tensor]:
    import torch

    module = model.module

    def cross_entropy(logits: torch.Tensor, labels: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            logits,
            torch.from_numpy(labels).to(logits.device),
            reduction="sum",
            label_smoothing=smoothing,
        )

    def vectors() -> torch.Tensor | None:
        return None if soft is None else soft.vectors()

    def seq2seq_loss(batch: Batch) -> torch.Tensor:
        logits = seq2seq_logits(module, batch.examples, vectors())
        return cross_entropy(logits, target_labels(batch.examples))

    def causal_loss(batch: Batch) -> torch.Tensor:
        packs = batch.packs
        labels = np.concatenate([pack.labels for pack in packs])
        # In bf16 the adapter's own products, too: its numbers stay float32.
        half = module.dtype == torch.bfloat16
        with torch.autocast(module.device.type, dtype=torch.bfloat16, enabled=half):
            logits = causal_logits(module, packs, vectors())
        return cross_entropy(logits, labels)

    if isinstance(model, Seq2SeqBeams):
        return seq2seq_loss
    # On the CPU the fused attention is half as fast as plain products where a mask is given.
    module.set_attn_implementation("eager" if module.device.type == "cpu" else "sdpa")
    return causal_loss
