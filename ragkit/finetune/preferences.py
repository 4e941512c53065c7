"""Learning from pairs: what should have been written rather than what the model wrote.

Source: iTool's step-level preference pairs (SYSTEMS B3), with the reference-free loss of ULLME's
code (SYSTEMS A11): -log sigmoid(beta (l(chosen) - l(rejected))), l a sum of log-probabilities.
Deviations: pairs are sampled, not searched for with MCTS; the log-likelihood of what is chosen is
added, as iTool's term for supervised learning, so that both do not fall together.
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
from ragkit.finetune.supervised import AdapterOptions, prepare
from ragkit.llms.adapters import base_fingerprint, check_place

if TYPE_CHECKING:
    import torch

    from ragkit.llms.local import LocalLLM


@dataclass(frozen=True, slots=True)
class Preference:
    """Two replies to one prompt.

    Attributes:
        prompt: Tokens.
        chosen: Tokens of the right reply.
        rejected: Tokens of a wrong one.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prompt or not self.chosen or not self.rejected:
            raise ValueError("a preference has an empty part; expected tokens in all three")
        if self.chosen == self.rejected:
            raise ValueError("a preference has twice the same reply; expected two")

    @property
    def example(self) -> Example:
        """Both replies behind one prompt."""
        return Example(self.prompt, (self.chosen, self.rejected))


@dataclass(frozen=True, slots=True)
class PreferenceBatch:
    """The pairs of one step."""

    pairs: tuple[Preference, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens the model reads."""
        return sum(pair.example.n_tokens for pair in self.pairs)

    @property
    def n_targets(self) -> int:
        """Pairs."""
        return len(self.pairs)


@dataclass(frozen=True, slots=True)
class PreferenceOptions:
    """How pairs are learned.

    Attributes:
        adapter: Budget, rates, seed; the size of the adapter that is gone on with.
        beta: How much a difference of log-likelihoods counts.
        supervised: Weight of the chosen replies' negative log-likelihood, a mean over tokens.
    """

    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    beta: float = 0.1
    supervised: float = 0.2

    def __post_init__(self) -> None:
        if not self.beta > 0 or not self.supervised >= 0:
            raise ValueError(
                f"beta is {self.beta} and supervised {self.supervised}; expected more than 0, and "
                "0 or more"
            )


def preference_loss(
    module: Any, options: PreferenceOptions
) -> Callable[[PreferenceBatch], torch.Tensor]:
    """The loss of a batch, a sum over its pairs; sets the model's attention for it.

    Args:
        module: A causal model of transformers.
        options: See `PreferenceOptions`.
    """
    import torch

    autocast = prepare(module)

    def loss(batch: PreferenceBatch) -> torch.Tensor:
        packs = [Pack.of([pair.example]) for pair in batch.pairs]
        with autocast():
            logits = causal_logits(module, packs)
        labels = torch.from_numpy(np.concatenate([pack.labels for pack in packs])).to(logits.device)
        logps = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]  # (tokens,)
        lengths = [len(each) for pair in batch.pairs for each in (pair.chosen, pair.rejected)]
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
    """Go on with an adapter, on pairs; the same call goes on after a stop.

    Args:
        llm: The base; its layers are wrapped.
        pairs: At least one.
        folder: Gets `run/` and `adapter/`.
        options: See `PreferenceOptions`.
        start: The adapter to go on with.
        on_progress: Called after each step.

    Raises:
        ModelError: The folder holds another run or other things, the adapter does not fit, or the
            loss is no number.
        MissingExtra: peft is not installed.
    """
    check_place(folder / "adapter")
    how = options.adapter
    seed = how.train.seed
    adapter = Lora(llm.model, how.lora, seed=seed)
    adapter.load(start)
    base = base_fingerprint(llm.name)
    about = {**how.about, "base": llm.name, "base_fingerprint": base}

    def batches(epoch: int) -> Iterator[PreferenceBatch]:
        order = np.random.default_rng([seed, epoch]).permutation(len(pairs))
        return _batches([pairs[i] for i in order], how.train.batch_tokens)

    task = Task(
        parameters=adapter.parameters(),
        batches=batches,
        loss=preference_loss(llm.model, options),
        recipe={
            "pairs": text_digest(repr(list(pairs))),
            "base": base,
            "start": file_digest(start / "adapter_model.safetensors"),
            "loss": [options.beta, options.supervised],
            "lora": asdict(how.lora),
        },
        keep=lambda: adapter.save(folder / "adapter", about),
    )
    llm.model.train()
    try:
        return train(task, folder / "run", how.train, on_progress=on_progress)
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
