"""The training loop: batches in, parameters out, and a checkpoint whenever a minute has passed.

It knows nothing of what is trained: every recipe brings its batches and its loss. A run that was
killed goes on from its last checkpoint with the same batches, so that it ends where it would have.
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
from ragkit.finetune.allocator import kept_memory
from ragkit.finetune.checkpoints import (
    Checkpoint,
    one_writer,
    read_checkpoint,
    remove_debris,
    unusable,
    write_checkpoint,
)

if TYPE_CHECKING:
    import torch


class Sized(Protocol):
    """A batch: it knows how much it is."""

    @property
    def n_tokens(self) -> int:
        """Tokens the model reads."""

    @property
    def n_targets(self) -> int:
        """What the loss is a mean over."""


B = TypeVar("B", bound=Sized)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a run is trained; units are tokens that the model reads, so that a budget is one number.

    Attributes:
        max_tokens: The budget. May be raised when a run goes on, as may patience.
        batch_tokens: Tokens a step.
        learning_rate: AdamW's, after the warm-up.
        warmup_tokens: It rises from 0 over so many.
        decay_share: It falls to 0, linearly, over this last share of the budget.
        weight_decay: AdamW's.
        clip: The most that the gradient's norm may be.
        label_smoothing: Share of the target that is spread over the vocabulary (SEAL: 0.1).
        evaluate_tokens: The development loss is taken after each so many, and at the end.
        patience: Stop after so many evaluations without a better one.
        checkpoint_seconds: Between checkpoints; 0 writes one a step.
        seed: Of batches, initial values and dropout.
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
        """The learning rate after so many tokens.

        >>> options = TrainOptions(max_tokens=100, warmup_tokens=10, learning_rate=1.0)
        >>> [round(options.rate(n), 2) for n in (0, 5, 50, 90, 100)]
        [0.1, 0.6, 1.0, 0.5, 0.0]
        """
        rising = min(1.0, (n_tokens + 1) / (self.warmup_tokens or 1))
        left = (self.max_tokens - n_tokens) / (self.decay_share * self.max_tokens or 1)
        return self.learning_rate * min(rising, max(0.0, min(1.0, left)))


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """How far a run is.

    Attributes:
        tokens: Read so far.
        max_tokens: The budget.
        loss: Mean of the last steps, nats a target token.
        dev_loss: At the last evaluation; None before the first.
    """

    tokens: int
    max_tokens: int
    loss: float
    dev_loss: float | None


@dataclass(slots=True)
class State:
    """The counters of a run."""

    step: int = 0
    tokens: int = 0
    epoch: int = 0
    batch: int = 0  # of the epoch
    loss: float = math.nan  # smoothed
    seconds: float = 0.0
    next_evaluation: int = 0
    best: float | None = None
    worse: int = 0  # evaluations since the best
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    stopped: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> State:
        """The counters that were written.

        Raises:
            TypeError, ValueError, OverflowError: They are none.
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
    """What a run did.

    Attributes:
        steps: Optimiser steps.
        tokens: Read by the model.
        seconds: Of training, all processes of the run together.
        loss: Of the last steps.
        evaluations: (tokens, development loss).
        best: The least of them.
        stopped: Why it ended: "budget" or "patience".
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
    """What is trained.

    Attributes:
        parameters: Those that change, by name.
        batches: The batches of an epoch, the same whenever they are asked for.
        loss: Of a batch: the sum over its targets.
        recipe: What decides the result besides the options, for a digest that a run is known by.
        evaluate: The development loss; None trains to the end of the budget.
        keep: Called when the development loss is the best so far, and without one at the end.
    """

    parameters: Mapping[str, torch.Tensor]
    batches: Callable[[int], Iterable[B]]
    loss: Callable[[B], torch.Tensor]
    recipe: Mapping[str, Any]
    evaluate: Callable[[], float] | None = None
    keep: Callable[[], None] | None = None


def train(
    task: Task[B],
    folder: Path,
    options: TrainOptions,
    *,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train until the budget is used or the development loss no longer falls.

    The same call goes on where an earlier process stopped.

    Args:
        task: What is trained.
        folder: For checkpoints; of this run alone.
        options: How.
        on_progress: Called after each step.

    Raises:
        ModelError: The folder holds another run, or the loss is no number.
        Locked: Another process trains there.
        CollectionError: A checkpoint cannot be written; the one before is whole.
    """
    import torch

    run = _Run(task, folder, options)
    with (
        one_writer(folder),
        kept_memory() as give_back,
        torch.random.fork_rng(devices=run.cuda),
    ):
        torch.manual_seed(options.seed)
        return _train(run, on_progress, give_back)


def _train(
    run: _Run[B],
    on_progress: Callable[[TrainProgress], None] | None,
    give_back: Callable[[], object],
) -> TrainReport:
    run.resume()
    options = run.options
    state, began = run.state, time.monotonic() - run.state.seconds
    saved = time.monotonic()
    while not state.stopped:
        for batch in run.batches():
            run.step(batch)
            state.seconds = time.monotonic() - began
            if on_progress is not None:
                last = state.evaluations[-1][1] if state.evaluations else None
                on_progress(TrainProgress(state.tokens, options.max_tokens, state.loss, last))
            run.maybe_evaluate()
            if state.stopped or time.monotonic() - saved >= options.checkpoint_seconds:
                run.save()
                give_back()
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
        devices = {each.device for each in self._parameters.values()}
        self.cuda = sorted(each.index for each in devices if each.type == "cuda")
        self.state = State(next_evaluation=options.evaluate_tokens)

    def batches(self) -> Iterator[B]:
        """What is left of the epoch; then the next one begins."""
        state, n = self.state, 0
        for batch in self._task.batches(state.epoch):
            if n >= state.batch:
                state.batch += 1
                yield batch
            n += 1
        if n == 0:
            raise ValueError("an epoch holds no batch; expected at least one example")
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
        """Say what to do where torch finds none."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            raise ModelError(
                f"the memory is full at step {self.state.step}, with {self.options.batch_tokens} "
                "tokens a step; begin another run with a smaller batch_tokens or rank, or free "
                "some: the last checkpoint is whole, and the same command goes on from it"
            ) from error

    def _check(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise ModelError(
                f"the {what} is {value} at step {self.state.step}; lower learning_rate, or look "
                "for damaged weights"
            )

    def maybe_evaluate(self) -> None:
        """Take the development loss where it is due, and at the end."""
        state, task = self.state, self._task
        if task.evaluate is None:
            if state.stopped and task.keep is not None:
                task.keep()
            return
        if not state.stopped and state.tokens < state.next_evaluation:
            return
        state.next_evaluation = state.tokens + self.options.evaluate_tokens
        loss = task.evaluate()
        self._check("development loss", loss)
        state.evaluations.append((state.tokens, loss))
        if state.best is None or loss < state.best:
            state.best, state.worse = loss, 0
            if task.keep is not None:
                task.keep()
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
        known = {"recipe": self._recipe(), "state": asdict(self.state)}
        write_checkpoint(self._folder, self.state.step, known, self._parameters, moments)

    def resume(self) -> None:
        found = read_checkpoint(self._folder)
        if found is None:
            return
        if found.state.get("recipe") != self._recipe():
            raise ModelError(
                f"{str(self._folder)!r} holds a run with other settings or data; go on with the "
                "same ones, remove it to begin anew, or give this run another folder"
            )
        here = {name: parameter.shape for name, parameter in self._parameters.items()}
        if {name: tensor.shape for name, tensor in found.parameters.items()} != here:
            raise ModelError(
                f"{str(self._folder)!r} holds the parameters of another model; take that one, or "
                "give this run another folder"
            )
        try:
            self.state = State.of(found.state["state"])
            moments = self._moments(found)
            self._torch.set_rng_state(found.optimizer["random"])
            for index in self.cuda:
                if f"random:{index}" in found.optimizer:  # not where the run was on the CPU before
                    self._torch.cuda.set_rng_state(found.optimizer[f"random:{index}"], index)
        except (TypeError, ValueError, KeyError, OverflowError, RuntimeError) as error:
            raise unusable(found.path, error) from error
        with self._torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(found.parameters[name])
                if moments[name]:
                    self._optimizer.state[parameter].update(moments[name])
        if self.state.stopped != "budget" or self.state.tokens < self.options.max_tokens:
            # The budget and patience may have been raised since.
            self.state.stopped = "patience" if self.state.worse >= self.options.patience else ""
        remove_debris(self._folder)  # of a process that was killed

    def _moments(self, found: Checkpoint) -> dict[str, dict[str, torch.Tensor]]:
        """What AdamW remembers of each parameter; nothing of one that had no gradient yet."""
        moments: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self._parameters}
        for key, value in found.optimizer.items():
            moment, _, name = key.partition(":")
            if moment == "random":
                continue
            parameter = self._parameters[name]
            single = moment == "step"  # stays on the CPU, where AdamW keeps it
            if value.shape != (() if single else parameter.shape):
                raise ValueError(f"{key} has the shape {tuple(value.shape)}")
            if single and not value >= 0:
                raise ValueError(f"{key} is {value.item()}")
            moments[name][moment] = value if single else value.to(parameter.device)
        if any(each and set(each) != _MOMENTS for each in moments.values()):
            raise ValueError("a moment is missing")
        return moments

    def _recipe(self) -> str:
        """A digest of what may not change within a run."""
        fixed = {k: v for k, v in asdict(self.options).items() if k not in _MAY_CHANGE}
        return text_digest(json.dumps([fixed, dict(self._task.recipe)], sort_keys=True))


_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # of AdamW
_MAY_CHANGE = (
    "max_tokens", "warmup_tokens", "evaluate_tokens", "checkpoint_seconds", "patience",
)  # fmt: skip
