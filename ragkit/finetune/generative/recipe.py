"""Training a generative retriever: targets, the loop, and weights that `load_beam_model` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.durable import replaced
from ragkit.errors import ModelError
from ragkit.finetune.checkpoints import system_errors
from ragkit.finetune.loop import Task, TrainOptions, TrainProgress, TrainReport, train
from ragkit.finetune.lora import Lora, LoraOptions
from ragkit.finetune.sequences import Batch, Example, batches, seq2seq_logits, target_labels
from ragkit.finetune.soft_prompts import PromptStyle, SoftPrompts, check_style, save_vectors
from ragkit.finetune.supervised import FixedTargets, Targets, causal_loss, cross_entropy, mean_loss
from ragkit.llms.adapters import base_fingerprint, check_place, write_about
from ragkit.llms.beams import ADAPTER_TASK, CausalBeams, Seq2SeqBeams
from ragkit.llms.soft_prompts import count_vectors

if TYPE_CHECKING:
    import torch


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
    check_style(model.prompts, options.prompts)
    check_place(folder / ("model" if options.lora is None else "adapter"))
    module, soft = model.module, None
    if count_vectors(model.prompts):
        embedding = module.get_input_embeddings()
        soft = SoftPrompts(model.prompts, embedding, seed=options.train.seed)
    loss = _loss_of(model, options.train.label_smoothing, soft)
    keep, parameters = _trained(model, folder, options, soft)
    held = list(batches(dev, options.train.batch_tokens))
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
        evaluate=(lambda: mean_loss(module, loss, held)) if held else None,
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
    module = model.module

    def vectors() -> torch.Tensor | None:
        return None if soft is None else soft.vectors()

    def seq2seq_loss(batch: Batch) -> torch.Tensor:
        logits = seq2seq_logits(module, batch.examples, vectors())
        return cross_entropy(logits, target_labels(batch.examples), smoothing)

    if isinstance(model, Seq2SeqBeams):
        return seq2seq_loss
    return causal_loss(module, smoothing, vectors)
