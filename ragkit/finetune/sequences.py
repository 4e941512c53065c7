"""Prompts with several targets, packed so that every prompt is read once.

Targets in generative retrieval are ten tokens long and share their prompt: as separate sequences,
two thirds of the work would be reading prompts again. Here a pack is one row of tokens

    prompt 1 | target 1a | target 1b | prompt 2 | target 2a | …

in which a target attends to its prompt and itself only, at the positions it would have alone. So
the loss is that of separate sequences. Packs are short, since attention is quadratic in their
length, and the packs of a step are the rows of one pass: larger matrices are faster.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ragkit.llms.soft_prompts import model_inputs
from ragkit.losses import report
from ragkit.types import Loss, Mask, Rows

if TYPE_CHECKING:
    import torch


PACK_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and its targets.

    Attributes:
        prompt: Tokens that are read; no loss is taken on them.
        targets: Token sequences to learn, each as a continuation of the prompt alone; none is
            empty.
        task: Name of the task, for mixing and reports.
        learned: If only parts of the targets are learned (what an agent writes, not what its tools
            return): a flag for each token of each target. Empty if all tokens are learned.
    """

    prompt: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    task: str = ""
    learned: tuple[tuple[bool, ...], ...] = ()

    def __post_init__(self) -> None:
        lengths = [len(target) for target in self.targets]
        if not self.prompt or not lengths or not all(lengths):
            raise ValueError(
                f"an example has a prompt of {len(self.prompt)} tokens and targets of {lengths}; "
                "expected at least 1 token each"
            )
        if self.learned and [len(flags) for flags in self.learned] != lengths:
            raise ValueError(
                f"there are {[len(flags) for flags in self.learned]} flags for targets of "
                f"{lengths} tokens; expected one flag per token"
            )
        if self.learned and not any(map(any, self.learned)):
            raise ValueError("no token of an example is learned; expected at least one")

    @property
    def n_learned(self) -> int:
        """Number of tokens that the loss is taken on."""
        return sum(map(sum, self.learned or [(True,) * len(target) for target in self.targets]))

    @property
    def n_tokens(self) -> int:
        """Number of tokens the model reads."""
        return len(self.prompt) + sum(len(target) - 1 for target in self.targets)


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Several examples in one row.

    Attributes:
        tokens: int64 (tokens,).
        positions: int64 (tokens,): position of each token within its prompt and target.
        mask: bool (tokens, tokens): True if token i may attend to token j.
        predicting: int64 (target tokens,): positions whose output predicts a target token.
        labels: int64 (target tokens,): the target tokens.
    """

    tokens: Rows
    positions: Rows
    mask: Mask
    predicting: Rows
    labels: Rows

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Pack:
        """Concatenate examples into one row."""
        tokens: list[int] = []
        positions: list[int] = []
        predicting: list[int] = []
        labels: list[int] = []
        spans: list[tuple[int, int, int, int]] = []  # of the prompt and of the target
        for example in examples:
            start, n_prompt = len(tokens), len(example.prompt)
            tokens += example.prompt
            positions += range(n_prompt)
            spans.append((start, start + n_prompt, start, start + n_prompt))
            for i, target in enumerate(example.targets):
                first = len(tokens)
                tokens += target[:-1]
                positions += range(n_prompt, n_prompt + len(target) - 1)
                spans.append((start, start + n_prompt, first, len(tokens)))
                learned = example.learned[i] if example.learned else (True,) * len(target)
                outputs = [start + n_prompt - 1, *range(first, len(tokens))]
                predicting += itertools.compress(outputs, learned)
                labels += itertools.compress(target, learned)
        mask = np.zeros((len(tokens), len(tokens)), dtype=bool)
        for low, high, first, end in spans:
            mask[first:end, low:high] = True
            mask[first:end, first:end] = True
        mask &= np.tri(len(tokens), dtype=bool)
        arrays = [
            np.array(values, dtype=np.int64) for values in (tokens, positions, predicting, labels)
        ]
        return cls(arrays[0], arrays[1], mask, arrays[2], arrays[3])


@dataclass(frozen=True, slots=True)
class Batch:
    """The examples of one step."""

    examples: tuple[Example, ...]

    @property
    def packs(self) -> list[Pack]:
        """The examples in short rows of about equal length, for a causal model."""
        ordered = sorted(self.examples, key=lambda example: -example.n_tokens)
        limit = max(PACK_TOKENS, ordered[0].n_tokens)
        rows: list[list[Example]] = []
        used: list[int] = []
        for example in ordered:  # first fit decreasing
            fitting = (i for i, n in enumerate(used) if n + example.n_tokens <= limit)
            index = next(fitting, len(rows))
            if index == len(rows):
                rows.append([])
                used.append(0)
            rows[index].append(example)
            used[index] += example.n_tokens
        return [Pack.of(row) for row in rows]

    @property
    def n_tokens(self) -> int:
        """Number of tokens the model reads."""
        return sum(example.n_tokens for example in self.examples)

    @property
    def n_targets(self) -> int:
        """Number of tokens that are learned."""
        return sum(example.n_learned for example in self.examples)


def batches(examples: Iterable[Example], batch_tokens: int) -> Iterator[Batch]:
    """Group examples into batches of at most `batch_tokens` tokens, keeping their order.

    An example that is longer than that is dropped, with a `Loss`.
    """
    usable = (example for example in examples if _fits(example, batch_tokens))
    for group in _groups(usable, batch_tokens):
        yield Batch(tuple(group))


def _fits(example: Example, batch_tokens: int) -> bool:
    if example.n_tokens > batch_tokens:
        what = f"an example of {example.n_tokens} tokens; a batch takes at most {batch_tokens}"
        report(Loss("training", what, "1", "0", "raise batch_tokens, or shorten it"))
    return example.n_tokens <= batch_tokens


def _groups(examples: Iterable[Example], max_tokens: int) -> Iterator[list[Example]]:
    """Yield consecutive examples of at most `max_tokens` tokens; a longer one is alone."""
    group: list[Example] = []
    used = 0
    for example in examples:
        if group and used + example.n_tokens > max_tokens:
            yield group
            group, used = [], 0
        group.append(example)
        used += example.n_tokens
    if group:
        yield group


def causal_logits(
    model: Any, packs: Sequence[Pack], vectors: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the logits at each pack's `predicting` positions: float32 (target tokens, vocab_size).

    Args:
        model: A transformers model whose attention takes an additive mask ("eager", "sdpa").
        packs: At least one.
        vectors: float (vectors, width): embeddings of the prompt tokens vocab_size + j.

    Raises:
        ModelError: A prompt contains a vector that does not exist.
    """
    import torch

    device, width = model.device, max(len(pack.tokens) for pack in packs)
    tokens = np.zeros((len(packs), width), dtype=np.int64)
    positions = np.zeros_like(tokens)
    visible = np.zeros((len(packs), 1, width, width), dtype=bool)
    visible[..., range(width), range(width)] = True  # padding attends to itself: no row is empty
    for i, pack in enumerate(packs):
        n = len(pack.tokens)
        tokens[i, :n], positions[i, :n], visible[i, 0, :n, :n] = (
            pack.tokens,
            pack.positions,
            pack.mask,
        )
    flat = np.concatenate([i * width + pack.predicting for i, pack in enumerate(packs)])
    # the end of a prompt predicts the first token of many targets
    unique, inverse = torch.from_numpy(flat).to(device).unique(return_inverse=True)
    masked = ~torch.from_numpy(visible).to(device)
    mask = torch.zeros(masked.shape, dtype=model.dtype, device=device)
    mask.masked_fill_(masked, torch.finfo(model.dtype).min)

    def only_predicting(_: Any, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        return inputs[0].flatten(0, 1)[unique][None]  # (1, positions, width)

    hook = model.get_output_embeddings().register_forward_pre_hook(only_predicting)
    try:
        output = model(
            **model_inputs(model, torch.from_numpy(tokens).to(device), vectors),
            position_ids=torch.from_numpy(positions).to(device),
            attention_mask=mask,
            use_cache=False,
        )
    finally:
        hook.remove()
    return output.logits[0].float()[inverse]


def seq2seq_logits(
    model: Any, examples: Sequence[Example], vectors: torch.Tensor | None = None
) -> torch.Tensor:
    """Return an encoder-decoder model's logits for each target token; all tokens are learned.

    float32 (target tokens, vocab_size), in the order of `target_labels`. For `vectors` see
    `causal_logits`.

    Raises:
        ModelError: A prompt contains a vector that does not exist.
    """
    import torch

    device = model.device
    start, pad = model.config.decoder_start_token_id, model.config.pad_token_id or 0
    prompt_of = [i for i, example in enumerate(examples) for _ in example.targets]
    targets = [target for example in examples for target in example.targets]
    inputs = [(start, *target[:-1]) for target in targets]
    prompts, reads = _padded([example.prompt for example in examples], pad)
    decoded, present = _padded(inputs, pad)
    mask = torch.from_numpy(reads).to(device)
    encoder = model.get_encoder()
    read = model_inputs(encoder, torch.from_numpy(prompts).to(device), vectors)
    encoded = encoder(**read, attention_mask=mask)
    rows = torch.tensor(prompt_of, device=device)
    output = model(
        encoder_outputs=type(encoded)(last_hidden_state=encoded.last_hidden_state[rows]),
        attention_mask=mask[rows],
        decoder_input_ids=torch.from_numpy(decoded).to(device),
        use_cache=False,
    )
    return output.logits[torch.from_numpy(present.astype(bool)).to(device)].float()


def target_labels(examples: Sequence[Example]) -> Rows:
    """Return the tokens of all targets, one after the other: int64 (target tokens,)."""
    tokens = [token for example in examples for target in example.targets for token in target]
    return np.array(tokens, dtype=np.int64)


def _padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Rows, NDArray[np.int64]]:
    """Pad rows to equal length; return tokens and attention mask, int64 (rows, longest) each."""
    width = max(map(len, rows))
    tokens = np.full((len(rows), width), pad, dtype=np.int64)
    present = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
        present[i, : len(row)] = 1
    return tokens, present
