"""Preference training: raise the likelihood of the right reply over the one the model wrote.

Source: step-level preference pairs of iTool (Zeng et al. 2025), with the reference-free preference
loss in the code of ULLME (Man et al. 2024): -log sigmoid(beta (l(chosen) - l(rejected))), where l
is a sum of log-probabilities. Deviations: pairs are sampled instead of searched for with MCTS; the
log-likelihood of the chosen reply is added, as iTool's supervised term, so that the likelihoods of
both replies do not fall together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragkit.digests import file_digest, text_digest
from ragkit.finetune.loop import Task, TrainProgress, TrainReport, train
from ragkit.finetune.lora import Lora
from ragkit.finetune.sequences import Example, Pack, causal_logits
from ragkit.finetune.supervised import AdapterOptions, base_info, prepare_module
from ragkit.llms.adapters import check_output_folder

if TYPE_CHECKING:
    import torch

    from ragkit.llms.local import LocalLLM


@dataclass(frozen=True, slots=True)
class Preference:
    """Two replies to one prompt.

    Attributes:
        prompt: Tokens of the prompt.
        chosen: Tokens of the right reply.
        rejected: Tokens of a wrong reply.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prompt or not self.chosen or not self.rejected:
            raise ValueError(
                "a preference has an empty prompt or reply; expected tokens in all three parts"
            )
        if self.chosen == self.rejected:
            raise ValueError(
                "both replies of a preference are the same; expected two different ones"
            )

    @property
    def example(self) -> Example:
        """Both replies as targets of one prompt."""
        return Example(self.prompt, (self.chosen, self.rejected))


@dataclass(frozen=True, slots=True)
class PreferenceBatch:
    """The pairs of one step."""

    pairs: tuple[Preference, ...]

    @property
    def n_tokens(self) -> int:
        """Number of tokens the model reads."""
        return sum(pair.example.n_tokens for pair in self.pairs)

    @property
    def n_targets(self) -> int:
        """Number of pairs."""
        return len(self.pairs)


@dataclass(frozen=True, slots=True)
class PreferenceOptions:
    """Settings for preference training.

    Attributes:
        adapter: Budget, schedules, seed, and the size of the adapter to start from.
        beta: Weight of the difference of the log-likelihoods.
        supervised: Weight of the chosen reply's negative log-likelihood, averaged over its tokens.
    """

    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    beta: float = 0.1
    supervised: float = 0.2

    def __post_init__(self) -> None:
        if not self.beta > 0 or not self.supervised >= 0:
            raise ValueError(
                f"beta is {self.beta} and supervised is {self.supervised}; expected beta above 0 "
                "and supervised at least 0"
            )


def preference_loss(
    module: Any, options: PreferenceOptions
) -> Callable[[PreferenceBatch], torch.Tensor]:
    """Return the loss function for preferences, and set the model's attention for packs.

    The loss of a batch is summed over its pairs.

    Args:
        module: A causal model of transformers.
        options: See `PreferenceOptions`.
    """
    import torch

    autocast = prepare_module(module)

    def loss(batch: PreferenceBatch) -> torch.Tensor:
        packs = [Pack.of([pair.example]) for pair in batch.pairs]
        with autocast():
            logits = causal_logits(module, packs)
        labels = torch.from_numpy(np.concatenate([pack.labels for pack in packs])).to(logits.device)
        logps = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]  # (tokens,)
        lengths = [len(reply) for pair in batch.pairs for reply in (pair.chosen, pair.rejected)]
        sums = torch.stack([part.sum() for part in logps.split(lengths)])  # chosen, rejected, …
        chosen, rejected = sums[0::2], sums[1::2]
        n_chosen = torch.tensor(lengths[0::2], device=logits.device)
        margin = torch.nn.functional.logsigmoid(options.beta * (chosen - rejected))
        return (-margin - options.supervised * chosen / n_chosen).sum()

    return loss


def train_preferences(
    llm: LocalLLM,
    pairs: Sequence[Preference],
    folder: Path,
    options: PreferenceOptions,
    *,
    start: Path,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train an existing adapter on preference pairs; the same call resumes a run that was stopped.

    Args:
        llm: The base model; its layers are wrapped.
        pairs: At least one.
        folder: Receives `run/` and `adapter/`.
        options: See `PreferenceOptions`.
        start: Folder of the adapter to start from.
        on_progress: Called after each step.

    Raises:
        ModelError: The folder holds another run or other files, the adapter does not fit, or the
            loss is not finite.
        MissingExtra: peft is not installed.
    """
    check_output_folder(folder / "adapter")
    settings = options.adapter
    seed = settings.train.seed
    adapter = Lora(llm.model, settings.lora, seed=seed)
    adapter.load(start)
    about = {**settings.about, **base_info(llm.name)}

    def batches(epoch: int) -> Iterator[PreferenceBatch]:
        order = np.random.default_rng([seed, epoch]).permutation(len(pairs))
        return _batches([pairs[i] for i in order], settings.train.batch_tokens)

    task = Task(
        parameters=adapter.parameters(),
        batches=batches,
        loss=preference_loss(llm.model, options),
        recipe={
            "pairs": text_digest(repr(list(pairs))),
            "base": about["base_fingerprint"],
            "start": file_digest(start / "adapter_model.safetensors"),
            "loss": [options.beta, options.supervised],
            "lora": asdict(settings.lora),
        },
        save=lambda: adapter.save(folder / "adapter", about),
    )
    llm.model.train()
    try:
        return train(task, folder / "run", settings.train, on_progress=on_progress)
    finally:
        llm.model.eval()


def _batches(pairs: Sequence[Preference], batch_tokens: int) -> Iterator[PreferenceBatch]:
    group: list[Preference] = []
    used = 0
    for pair in pairs:
        n = pair.example.n_tokens
        if group and used + n > batch_tokens:
            yield PreferenceBatch(tuple(group))
            group, used = [], 0
        group.append(pair)
        used += n
    if group:
        yield PreferenceBatch(tuple(group))
