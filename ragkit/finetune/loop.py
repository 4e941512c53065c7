"""Training loop: batches in, parameters out, and a checkpoint every minute.

The loop does not depend on the model or the task: every recipe brings its batches and its loss. A
killed run resumes from its last checkpoint with the same batches, and ends with the same result.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ragkit.digests import text_digest
from ragkit.errors import ModelError
from ragkit.finetune.checkpoints import (
    Checkpoint,
    read_checkpoint,
    remove_stale_checkpoints,
    run_lock,
    unreadable_checkpoint,
    write_checkpoint,
)

if TYPE_CHECKING:
    import torch


class Sized(Protocol):
    """A batch that knows its size."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens the model reads."""

    @property
    def n_targets(self) -> int:
        """Number of targets that the loss is averaged over."""


B = TypeVar("B", bound=Sized)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Budget, learning rate schedule and evaluation schedule of a run, in tokens the model reads.

    Attributes:
        max_tokens: The budget. It may be raised when a run is resumed, as may `patience`.
        batch_tokens: Largest number of tokens per step.
        learning_rate: AdamW's learning rate after the warm-up.
        warmup_tokens: Number of tokens over which the rate rises from 0.
        decay_share: Last share of the budget over which the rate falls linearly to 0.
        weight_decay: AdamW's weight decay.
        clip: Largest norm of the gradient.
        label_smoothing: Share of the target that is spread over the vocabulary (SEAL: 0.1).
        evaluate_tokens: Number of tokens between two development losses; one more is taken at the
            end.
        patience: Number of evaluations without improvement after which training stops.
        checkpoint_seconds: Time between two checkpoints; 0 writes one at every step.
        seed: Seed of batches, initial values and dropout.
    """

    max_tokens: int = 2_000_000
    batch_tokens: int = 1024
    learning_rate: float = 5e-4
    warmup_tokens: int = 20_000
    decay_share: float = 0.2
    weight_decay: float = 0.0
    clip: float = 1.0
    label_smoothing: float = 0.0
    evaluate_tokens: int = 100_000
    patience: int = 5
    checkpoint_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_tokens", "evaluate_tokens", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("warmup_tokens", "weight_decay", "checkpoint_seconds", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0")
        if not self.clip > 0 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"clip is {self.clip} and label_smoothing {self.label_smoothing}; expected a norm "
                "above 0 and a share from 0 to below 1"
            )
        if not 0 < self.learning_rate < math.inf or not 0 <= self.decay_share <= 1:
            raise ValueError(
                f"learning_rate is {self.learning_rate} and decay_share {self.decay_share}; "
                "expected a rate above 0 and a share from 0 to 1"
            )

    def rate(self, n_tokens: int) -> float:
        """Return the learning rate after `n_tokens` tokens.

        >>> options = TrainOptions(max_tokens=100, warmup_tokens=10, learning_rate=1.0)
        >>> [round(options.rate(n), 2) for n in (0, 5, 50, 90, 100)]
        [0.1, 0.6, 1.0, 0.5, 0.0]
        """
        warmup = min(1.0, (n_tokens + 1) / (self.warmup_tokens or 1))
        decay = (self.max_tokens - n_tokens) / (self.decay_share * self.max_tokens or 1)
        return self.learning_rate * min(warmup, max(0.0, min(1.0, decay)))


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Progress of a run.

    Attributes:
        tokens: Number of tokens read so far.
        max_tokens: The budget.
        loss: Moving average over the last steps, in nats per target token.
        dev_loss: Loss at the last evaluation; None before the first.
    """

    tokens: int
    max_tokens: int
    loss: float
    dev_loss: float | None


@dataclass(slots=True)
class State:
    """Counters of a run."""

    step: int = 0
    tokens: int = 0
    epoch: int = 0
    batch: int = 0  # within the epoch
    loss: float = math.nan  # moving average
    seconds: float = 0.0
    next_evaluation: int = 0
    best: float | None = None
    worse: int = 0  # number of evaluations since the best
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    stopped: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> State:
        """Create the state from the values in a checkpoint.

        Raises:
            TypeError, ValueError, OverflowError: The values are not those of a state.
        """
        state = cls(**values)
        for name in ("step", "tokens", "epoch", "batch", "next_evaluation", "worse"):
            setattr(state, name, int(getattr(state, name)))
        state.loss, state.seconds = float(state.loss), float(state.seconds)
        state.best = None if state.best is None else float(state.best)
        state.evaluations = [(int(tokens), float(loss)) for tokens, loss in state.evaluations]
        state.stopped = str(state.stopped)
        return state


@dataclass(frozen=True, slots=True)
class TrainReport:
    """Result of a run.

    Attributes:
        steps: Number of optimizer steps.
        tokens: Number of tokens the model read.
        seconds: Time spent training, summed over all processes of the run.
        loss: Moving average over the last steps.
        evaluations: Pairs of (tokens, development loss).
        best: The smallest development loss.
        stopped: Why the run ended: "budget" or "patience".
    """

    steps: int
    tokens: int
    seconds: float
    loss: float
    evaluations: tuple[tuple[int, float], ...]
    best: float | None
    stopped: str


@dataclass(frozen=True, slots=True)
class Task(Generic[B]):
    """Everything the loop needs to know about a training task.

    Attributes:
        parameters: The parameters to train, by name.
        batches: Returns the batches of an epoch, always the same for the same epoch.
        loss: Returns the loss of a batch, summed over its targets.
        recipe: Everything besides the options that decides the result; its digest identifies a run.
        evaluate: Returns the development loss; None trains to the end of the budget.
        save: Saves the result. Called whenever the development loss is the best so far, or at the
            end if there is no development loss.
    """

    parameters: Mapping[str, torch.Tensor]
    batches: Callable[[int], Iterable[B]]
    loss: Callable[[B], torch.Tensor]
    recipe: Mapping[str, Any]
    evaluate: Callable[[], float] | None = None
    save: Callable[[], None] | None = None


def train(
    task: Task[B],
    folder: Path,
    options: TrainOptions,
    *,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train until the budget is used up or the development loss stops falling.

    If an earlier process was stopped, the same call resumes its run.

    Args:
        task: What is trained.
        folder: Folder for the checkpoints of this run alone.
        options: Budget and schedules.
        on_progress: Called after each step.

    Raises:
        ModelError: The folder holds another run, or the loss is not finite.
        Locked: Another process is training in this folder.
        CollectionError: A checkpoint cannot be written; the one before stays intact.
    """
    import torch

    run = _Run(task, folder, options)
    with run_lock(folder), torch.random.fork_rng(devices=run.cuda):
        torch.manual_seed(options.seed)
        return _train(run, on_progress)


def _train(run: _Run[B], on_progress: Callable[[TrainProgress], None] | None) -> TrainReport:
    run.resume()
    options = run.options
    state, start = run.state, time.monotonic() - run.state.seconds
    saved = time.monotonic()
    while not state.stopped:
        for batch in run.batches():
            run.step(batch)
            state.seconds = time.monotonic() - start
            if on_progress is not None:
                last = state.evaluations[-1][1] if state.evaluations else None
                on_progress(TrainProgress(state.tokens, options.max_tokens, state.loss, last))
            run.maybe_evaluate()
            if state.stopped or time.monotonic() - saved >= options.checkpoint_seconds:
                run.save()
                saved = time.monotonic()
            if state.stopped:
                break
    return TrainReport(
        state.step, state.tokens, state.seconds, state.loss,
        tuple((tokens, loss) for tokens, loss in state.evaluations), state.best, state.stopped,
    )  # fmt: skip


class _Run(Generic[B]):
    """A run in progress."""

    def __init__(self, task: Task[B], folder: Path, options: TrainOptions) -> None:
        import torch

        self._torch: Any = torch
        self._task, self._folder, self.options = task, folder, options
        self._parameters = dict(task.parameters)
        if not self._parameters:
            raise ValueError("there are no parameters to train; expected at least one")
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        devices = {parameter.device for parameter in self._parameters.values()}
        self.cuda = sorted(device.index for device in devices if device.type == "cuda")
        self.state = State(next_evaluation=options.evaluate_tokens)

    def batches(self) -> Iterator[B]:
        """Yield the remaining batches of the epoch, then advance to the next epoch."""
        state, index = self.state, 0
        for batch in self._task.batches(state.epoch):
            if index >= state.batch:
                state.batch += 1
                yield batch
            index += 1
        if index == 0:
            raise ValueError("an epoch has no batches; expected at least one example")
        state.epoch, state.batch = state.epoch + 1, 0

    def step(self, batch: B) -> None:
        state, options = self.state, self.options
        for group in self._optimizer.param_groups:
            group["lr"] = options.rate(state.tokens)
        self._optimizer.zero_grad(set_to_none=True)
        with self._enough_memory():
            loss = self._task.loss(batch) / max(1, batch.n_targets)
            value = loss.item()
            self._check("loss", value)
            loss.backward()
        parameters = list(self._parameters.values())
        norm = self._torch.nn.utils.clip_grad_norm_(parameters, options.clip).item()
        self._check("norm of the gradient", norm)
        self._optimizer.step()
        state.step += 1
        state.tokens += batch.n_tokens
        state.loss = value if math.isnan(state.loss) else 0.98 * state.loss + 0.02 * value
        if state.tokens >= options.max_tokens:
            state.stopped = "budget"

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        """Turn an out-of-memory error of torch into a ModelError with a remedy."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            raise ModelError(
                f"out of memory at step {self.state.step}, with {self.options.batch_tokens} tokens "
                "per step; start another run with a smaller batch_tokens or rank, or free memory "
                "and repeat the command: it resumes from the last checkpoint"
            ) from error

    def _check(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise ModelError(
                f"the {what} is {value} at step {self.state.step}; lower learning_rate, or check "
                "the model for damaged weights"
            )

    def maybe_evaluate(self) -> None:
        """Compute the development loss if it is due, and always at the end."""
        state, task = self.state, self._task
        if task.evaluate is None:
            if state.stopped and task.save is not None:
                task.save()
            return
        if not state.stopped and state.tokens < state.next_evaluation:
            return
        state.next_evaluation = state.tokens + self.options.evaluate_tokens
        loss = task.evaluate()
        self._check("development loss", loss)
        state.evaluations.append((state.tokens, loss))
        if state.best is None or loss < state.best:
            state.best, state.worse = loss, 0
            if task.save is not None:
                task.save()
            return
        state.worse += 1
        if state.worse >= self.options.patience:
            state.stopped = state.stopped or "patience"

    def save(self) -> None:
        moments: dict[str, torch.Tensor] = {"random": self._torch.get_rng_state()}
        for index in self.cuda:
            moments[f"random:{index}"] = self._torch.cuda.get_rng_state(index)
        for name, parameter in self._parameters.items():
            for key, value in self._optimizer.state[parameter].items():
                moments[f"{key}:{name}"] = self._torch.as_tensor(value)
        state = {"recipe": self._recipe(), "state": asdict(self.state)}
        write_checkpoint(self._folder, self.state.step, state, self._parameters, moments)

    def resume(self) -> None:
        checkpoint = read_checkpoint(self._folder)
        if checkpoint is None:
            return
        if checkpoint.state.get("recipe") != self._recipe():
            raise ModelError(
                f"{str(self._folder)!r} holds a run with other settings or data; resume it with "
                "the same ones, remove it to start again, or use another folder for this run"
            )
        shapes = {name: parameter.shape for name, parameter in self._parameters.items()}
        if {name: tensor.shape for name, tensor in checkpoint.parameters.items()} != shapes:
            raise ModelError(
                f"{str(self._folder)!r} holds the parameters of another model; train that one, or "
                "use another folder for this run"
            )
        try:
            self.state = State.of(checkpoint.state["state"])
            moments = self._moments(checkpoint)
            self._torch.set_rng_state(checkpoint.optimizer["random"])
            for index in self.cuda:
                if f"random:{index}" in checkpoint.optimizer:  # missing if the run began on the CPU
                    self._torch.cuda.set_rng_state(checkpoint.optimizer[f"random:{index}"], index)
        except (TypeError, ValueError, KeyError, OverflowError, RuntimeError) as error:
            raise unreadable_checkpoint(checkpoint.path, error) from error
        with self._torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(checkpoint.parameters[name])
                if moments[name]:
                    self._optimizer.state[parameter].update(moments[name])
        if self.state.stopped != "budget" or self.state.tokens < self.options.max_tokens:
            # The budget and patience may have been raised since the checkpoint.
            self.state.stopped = "patience" if self.state.worse >= self.options.patience else ""
        remove_stale_checkpoints(self._folder)  # left by a killed process

    def _moments(self, checkpoint: Checkpoint) -> dict[str, dict[str, torch.Tensor]]:
        """Return AdamW's state of each parameter; it is empty for one that had no gradient yet."""
        moments: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self._parameters}
        for key, value in checkpoint.optimizer.items():
            moment, _, name = key.partition(":")
            if moment == "random":
                continue
            parameter = self._parameters[name]
            single = moment == "step"  # AdamW keeps it on the CPU
            if value.shape != (() if single else parameter.shape):
                raise ValueError(f"{key} has the shape {tuple(value.shape)}")
            if single and not value >= 0:
                raise ValueError(f"{key} is {value.item()}")
            moments[name][moment] = value if single else value.to(parameter.device)
        if any(state and set(state) != _ADAMW_STATE for state in moments.values()):
            raise ValueError("part of the optimizer state of a parameter is missing")
        return moments

    def _recipe(self) -> str:
        """Return a digest of everything that must not change within a run."""
        fixed = {k: v for k, v in asdict(self.options).items() if k not in _CHANGEABLE}
        return text_digest(json.dumps([fixed, dict(self._task.recipe)], sort_keys=True))


_ADAMW_STATE = {"step", "exp_avg", "exp_avg_sq"}
_CHANGEABLE = (
    "max_tokens", "warmup_tokens", "evaluate_tokens", "checkpoint_seconds", "patience",
)  # fmt: skip
