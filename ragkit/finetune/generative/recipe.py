"""Training of generative retrievers: adapters, or whole weights that `load_beam_model` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.durable import replace_folder
from ragkit.errors import ModelError
from ragkit.finetune.checkpoints import as_os_errors
from ragkit.finetune.loop import TrainOptions, TrainProgress, TrainReport
from ragkit.finetune.lora import Lora, LoraOptions
from ragkit.finetune.sequences import Batch, Example, seq2seq_logits, target_labels
from ragkit.finetune.soft_prompts import PromptStyle, SoftPrompts, check_style, save_vectors
from ragkit.finetune.supervised import (
    SupervisedRun,
    Targets,
    base_info,
    causal_loss,
    cross_entropy,
    train_supervised,
)
from ragkit.llms.adapters import check_output_folder, write_metadata
from ragkit.llms.beams import ADAPTER_TASK, CausalBeams, Seq2SeqBeams
from ragkit.llms.soft_prompts import count_vectors

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class GenerativeOptions:
    """Settings for training a generative retriever.

    Attributes:
        train: Budget, schedules and seed.
        lora: Size of the adapter; None trains all weights.
        about: Entries for `ragkit.json` of the result: data, licences, purpose.
        prompts: Style of the model's prompts; for others than "discrete" call
            `ragkit.finetune.soft_prompts.set_prompts` before making the examples.
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
    """Train a model to write identifiers; the same call resumes a run that was stopped.

    The objective is maximum likelihood of each target after its prompt.

    Args:
        model: Its layers are changed or wrapped: load it again to search with the result.
        targets: The training examples.
        folder: Receives `run/` (checkpoints) and `adapter/` or, without LoRA, `model/`.
        options: See `GenerativeOptions`.
        dev: Examples for the development loss; without them the whole budget is used.
        on_progress: Called after each step.

    Raises:
        ValueError: The model's prompts are not in the style of `options.prompts`.
        ModelError: The folder holds another run or other files, or the loss is not finite.
        MissingExtra: peft is not installed.
    """
    check_style(model.prompts, options.prompts)
    check_output_folder(folder / ("model" if options.lora is None else "adapter"))
    soft = None
    if count_vectors(model.prompts):
        embedding = model.module.get_input_embeddings()
        soft = SoftPrompts(model.prompts, embedding, seed=options.train.seed)
    loss = _loss_function(model, options.train.label_smoothing, soft)
    about = {
        **options.about,
        "task": ADAPTER_TASK,
        **base_info(model.name),
        "prompt_style": options.prompts,
        "prompts": dict(model.prompts),
    }
    save, parameters = _result(model, folder, about, options, soft)
    run = SupervisedRun(
        base=about["base_fingerprint"],
        module=model.module,
        parameters=parameters,
        loss=loss,
        recipe={
            "prompts": dict(model.prompts),
            "lora": None if options.lora is None else asdict(options.lora),
        },
        save=save,
    )
    return train_supervised(
        run, targets, folder / "run", options.train, dev=dev, on_progress=on_progress
    )


def _result(
    model: CausalBeams | Seq2SeqBeams,
    folder: Path,
    about: Mapping[str, Any],
    options: GenerativeOptions,
    soft: SoftPrompts | None,
) -> tuple[Callable[[], None], dict[str, torch.Tensor]]:
    """Return the function that saves the result, and the parameters to train."""
    module = model.module
    prompts = {} if soft is None else soft.parameters()
    if options.lora is not None:
        adapter = Lora(module, options.lora, seed=options.train.seed)

        def save_adapter() -> None:
            adapter.save(folder / "adapter", about, None if soft is None else soft.vectors())

        return save_adapter, {**adapter.parameters(), **prompts}

    def save_model() -> None:
        with replace_folder(folder / "model") as temporary:
            with as_os_errors(temporary):
                module.save_pretrained(temporary)
            model.tokenizer.save_pretrained(temporary)
            if soft is not None:
                save_vectors(temporary, soft.vectors())
            write_metadata(temporary, about)

    if str(module.dtype) != "torch.float32":
        raise ModelError(
            f"all weights of {model.name!r} are to be trained in {module.dtype}, which rounds "
            "small steps away; load it in float32, or train an adapter"
        )
    return save_model, {**dict(module.named_parameters()), **prompts}


def _loss_function(
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
