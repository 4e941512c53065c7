"""Training of the pair model on spans and support, in batches of one task each.

Losses: for spans, the negative log of the summed probability of the accepted (start, end) pairs
(Clark and Gardner 2018, "Simple and effective multi-paragraph reading comprehension"); a passage
without an answer points at [CLS] (Devlin et al. 2019, section 4.3). For relevance, binary
cross-entropy. For support, cross-entropy over three labels; where a data set only says "not
supported", the two other labels share the probability.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragkit import models
from ragkit.digests import text_digest
from ragkit.evaluation.datasets.shapes import SupportPair
from ragkit.finetune.loop import Task, TrainOptions, TrainProgress, TrainReport, train
from ragkit.finetune.pair.examples import SpanExample
from ragkit.finetune.pair.model import PairModule
from ragkit.pair.encoding import PairTokenizer, TokenizedText, Window
from ragkit.pair.graph import table_digest
from ragkit.readers.support.evidence import short_evidence

if TYPE_CHECKING:
    import torch

TRAIN_WINDOW = 256
_LABELS = {"supported": 0, "contradicted": 1, "unknown": 2, "unsupported": 3}
_RELEVANCE_WEIGHT = 0.5
_BUCKET = 64  # batches of similar length are cut from the examples of this many


@dataclass(frozen=True, slots=True)
class Item:
    """A tokenized example.

    Attributes:
        window: The pair.
        targets: Positions (first, last) of the accepted answers; empty for no answer.
        label: Index of the support label; -1 for a question.
    """

    window: Window
    targets: tuple[tuple[int, int], ...]
    label: int


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Items of one task."""

    items: tuple[Item, ...]

    @property
    def n_tokens(self) -> int:
        """Number of tokens the model reads, with padding."""
        return len(self.items) * max(len(item.window.ids) for item in self.items)

    @property
    def n_targets(self) -> int:
        """Number of items."""
        return len(self.items)


@dataclass(frozen=True, slots=True)
class PairData:
    """Tokenized examples for training and development."""

    spans: Sequence[Item]
    support: Sequence[Item]
    dev_spans: Sequence[Item]
    dev_support: Sequence[Item]


def tokenize_spans(tokenizer: PairTokenizer, examples: Sequence[SpanExample]) -> list[Item]:
    """Tokenize questions and passages; of a long passage the window with an answer is taken."""
    firsts = tokenizer.tokenize([example.question for example in examples])
    seconds = tokenizer.tokenize([example.passage for example in examples])
    return [
        _span_item(tokenizer, example, first, second)
        for example, first, second in zip(examples, firsts, seconds, strict=True)
    ]


def _span_item(
    tokenizer: PairTokenizer, example: SpanExample, first: TokenizedText, second: TokenizedText
) -> Item:
    windows = tokenizer.windows(first, second, TRAIN_WINDOW)
    items = [Item(window, _positions(window, example.spans), -1) for window in windows]
    return max(items, key=lambda item: len(item.targets))  # the first of equals


def _positions(window: Window, spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found = set()
    for start, end in spans:
        inside = [
            i for i, (first, last) in enumerate(window.offsets) if first < end and start < last
        ]
        if (
            inside
            and window.offsets[inside[0]][0] <= start
            and window.offsets[inside[-1]][1] >= end
        ):
            found.add((window.n_first + inside[0], window.n_first + inside[-1]))
    return tuple(sorted(found))


def tokenize_support(tokenizer: PairTokenizer, examples: Sequence[SupportPair]) -> list[Item]:
    """Tokenize statements and their short evidence; what exceeds the window is cut."""
    firsts = tokenizer.tokenize([example.statement for example in examples])
    seconds = tokenizer.tokenize(
        [short_evidence(example.statement, example.evidence) for example in examples]
    )
    return [
        Item(tokenizer.windows(first, second, TRAIN_WINDOW)[0], (), _LABELS[example.label])
        for example, first, second in zip(examples, firsts, seconds, strict=True)
    ]


def epoch_batches(
    tasks: Sequence[Sequence[Item]], batch_tokens: int, seed: int
) -> Iterator[PairBatch]:
    """Yield all items once, each batch of one task and of similar lengths, in random order."""
    draw = random.Random(seed)
    batches: list[PairBatch] = []
    for items in tasks:
        order = list(items)
        draw.shuffle(order)
        size = _BUCKET * 48
        for low in range(0, len(order), size):
            bucket = sorted(order[low : low + size], key=lambda item: len(item.window.ids))
            batches += _cut(bucket, batch_tokens)
    draw.shuffle(batches)
    yield from batches


def _cut(items: Sequence[Item], batch_tokens: int) -> Iterator[PairBatch]:
    group: list[Item] = []
    for item in items:  # ascending lengths: the new one is the longest
        if group and (len(group) + 1) * len(item.window.ids) > batch_tokens:
            yield PairBatch(tuple(group))
            group = []
        group.append(item)
    if group:
        yield PairBatch(tuple(group))


def inputs(items: Sequence[Item]) -> tuple[Any, Any, Any]:
    """Return ids, segments and mask: int64 (items, tokens) each."""
    width = max(len(item.window.ids) for item in items)
    ids = np.zeros((len(items), width), dtype=np.int64)
    segments, mask = np.zeros_like(ids), np.zeros_like(ids)
    for row, item in enumerate(items):
        n = len(item.window.ids)
        ids[row, :n] = item.window.ids
        segments[row, item.window.n_first : n] = 1
        mask[row, :n] = 1
    return ids, segments, mask


def pair_loss(module: PairModule, batch: PairBatch) -> torch.Tensor:
    """Return the loss of a batch, summed over its items."""
    import torch
    from torch.nn import functional

    arrays = [torch.from_numpy(array) for array in inputs(batch.items)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = module(*arrays)
    if batch.items[0].label >= 0:
        labels = torch.tensor([item.label for item in batch.items])
        logp = functional.log_softmax(hidden.support.float(), dim=-1)
        either = torch.logsumexp(logp[:, 1:], dim=-1, keepdim=True)
        return -torch.cat([logp, either], dim=-1).gather(1, labels[:, None]).sum()
    is_answer = torch.tensor([float(bool(item.targets)) for item in batch.items])
    relevance = functional.binary_cross_entropy_with_logits(
        hidden.relevance.float(), is_answer, reduction="sum"
    )
    allowed = _allowed(batch.items, arrays[0].shape[1])
    spans = hidden.spans.float().masked_fill(~allowed[:, :, None], -1e4)
    logp = functional.log_softmax(spans, dim=1)
    total = []
    for row, item in enumerate(batch.items):
        pairs = torch.tensor(item.targets or ((0, 0),))
        total.append(torch.logsumexp(logp[row, pairs[:, 0], 0] + logp[row, pairs[:, 1], 1], dim=0))
    return _RELEVANCE_WEIGHT * relevance - torch.stack(total).sum()


def _allowed(items: Sequence[Item], width: int) -> torch.Tensor:
    import torch

    allowed = torch.zeros((len(items), width), dtype=torch.bool)
    allowed[:, 0] = True
    for row, item in enumerate(items):
        allowed[row, item.window.n_first : len(item.window.ids) - 1] = True
    return allowed


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Settings of a training run.

    Attributes:
        train: Budget and schedules, in tokens with padding.
        base: Name of the encoder.
        start: Folder of a trained model to start from; None starts from the encoder.
        about: Entries for `ragkit.json`: data, licences.
    """

    train: TrainOptions
    base: str = "minilm"
    start: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def train_pair(
    data: PairData,
    folder: Path,
    options: PairOptions,
    *,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train the pair model; the same call resumes a run that was stopped.

    Args:
        data: Tokenized examples.
        folder: Receives `run/` (checkpoints) and `model/`.
        options: See `PairOptions`.
        on_progress: Called after each step.

    Raises:
        ModelError: The folder holds another run, or the loss is not finite.
    """
    base, how = models.resolve(options.base), options.train
    module = PairModule(base, seed=how.seed)
    if options.start is not None:
        module.load(options.start)
    tasks = [items for items in (data.spans, data.support) if items]
    dev = [
        list(epoch_batches([items], how.batch_tokens, 0))
        for items in (data.dev_spans, data.dev_support)
        if items
    ]
    about = {**options.about, "base": options.base, "table_digest": table_digest(base)}
    task = Task(
        parameters=module.parameters(),
        batches=lambda epoch: epoch_batches(tasks, how.batch_tokens, how.seed * 1000 + epoch),
        loss=lambda batch: pair_loss(module, batch),
        recipe={
            "items": [len(items) for items in tasks],
            "first": text_digest(repr([items[:50] for items in tasks])),
            "base": options.base,
            "start": str(options.start),
        },
        evaluate=(lambda: sum(_mean_loss(module, batches) for batches in dev)) if dev else None,
        save=lambda: module.save(folder / "model", about),
    )
    module.train()
    return train(task, folder / "run", how, on_progress=on_progress)


def _mean_loss(module: PairModule, batches: Sequence[PairBatch]) -> float:
    """Return the loss per item, in evaluation mode and without gradients."""
    import torch

    module.train(False)
    with torch.inference_mode():
        total = sum(float(pair_loss(module, batch)) for batch in batches)
    module.train()
    return total / sum(batch.n_targets for batch in batches)
