"""Prompts with several targets, packed so that every prompt is read once.

Targets in generative retrieval are ten tokens long and share their prompt: as separate sequences
two thirds of the work would be reading prompts again. Here a pack is one row of tokens

    prompt 1 | target 1a | target 1b | prompt 2 | target 2a | …

in which a target sees its prompt and itself and nothing else, at the positions it would have alone.
So the loss is that of separate sequences. Packs are short, since attention looks at all pairs of
places, and the packs of a step are the rows of one pass: larger matrices are faster.
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
    """A prompt and what may continue it.

    Attributes:
        prompt: Tokens that are read; no loss is taken on them.
        targets: Tokens that are learned, each after the prompt alone; none is empty.
        task: What it teaches, for mixing and reports.
        learned: Where only parts of the targets are learned (what an agent writes, not what its
            tools return): a flag for each token of each target. Empty: all of them.
    """

    prompt: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    task: str = ""
    learned: tuple[tuple[bool, ...], ...] = ()

    def __post_init__(self) -> None:
        lengths = [len(target) for target in self.targets]
        if not self.prompt or not lengths or not all(lengths):
            raise ValueError(
                f"an example has {len(self.prompt)} tokens of prompt and targets of {lengths}; "
                "expected at least 1 each"
            )
        if self.learned and [len(flags) for flags in self.learned] != lengths:
            raise ValueError(
                f"{[len(flags) for flags in self.learned]} flags say what is learned of targets of "
                f"{lengths} tokens; expected one a token"
            )
        if self.learned and not any(map(any, self.learned)):
            raise ValueError("nothing of an example is learned; expected at least one token")

    @property
    def n_learned(self) -> int:
        """Tokens that the loss is taken on."""
        return sum(map(sum, self.learned or [(True,) * len(each) for each in self.targets]))

    @property
    def n_tokens(self) -> int:
        """Tokens the model reads for it."""
        return len(self.prompt) + sum(len(target) - 1 for target in self.targets)


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Examples in one row.

    Attributes:
        tokens: int64 (tokens,).
        positions: int64 (tokens,), each within its prompt and target.
        sees: bool (tokens, tokens): row i may look at column j.
        predicting: int64 (targets' tokens,): the place whose output is compared …
        labels: … with this token, int64 of the same length.
    """

    tokens: Rows
    positions: Rows
    sees: Mask
    predicting: Rows
    labels: Rows

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Pack:
        """Lay examples end to end."""
        tokens: list[int] = []
        positions: list[int] = []
        predicting: list[int] = []
        labels: list[int] = []
        spans: list[tuple[int, int, int, int]] = []  # of prompt and of target
        for example in examples:
            start, n_prompt = len(tokens), len(example.prompt)
            tokens += example.prompt
            positions += range(n_prompt)
            spans.append((start, start + n_prompt, start, start + n_prompt))
            for i, target in enumerate(example.targets):
                begin = len(tokens)
                tokens += target[:-1]
                positions += range(n_prompt, n_prompt + len(target) - 1)
                spans.append((start, start + n_prompt, begin, len(tokens)))
                learned = example.learned[i] if example.learned else (True,) * len(target)
                places = [start + n_prompt - 1, *range(begin, len(tokens))]
                predicting += itertools.compress(places, learned)
                labels += itertools.compress(target, learned)
        sees = np.zeros((len(tokens), len(tokens)), dtype=bool)
        for low, high, begin, end in spans:
            sees[begin:end, low:high] = True
            sees[begin:end, begin:end] = True
        sees &= np.tri(len(tokens), dtype=bool)
        arrays = [np.array(each, dtype=np.int64) for each in (tokens, positions)]
        pairs = [np.array(each, dtype=np.int64) for each in (predicting, labels)]
        return cls(arrays[0], arrays[1], sees, pairs[0], pairs[1])


@dataclass(frozen=True, slots=True)
class Batch:
    """The examples of one step."""

    examples: tuple[Example, ...]

    @property
    def packs(self) -> list[Pack]:
        """They in short rows of about equal length, for a causal model; the longest first."""
        ordered = sorted(self.examples, key=lambda each: -each.n_tokens)
        most = max(PACK_TOKENS, ordered[0].n_tokens)
        rows: list[list[Example]] = []
        used: list[int] = []
        for each in ordered:  # into the first row with room for it
            fits = (i for i, n in enumerate(used) if n + each.n_tokens <= most)
            at = next(fits, len(rows))
            if at == len(rows):
                rows.append([])
                used.append(0)
            rows[at].append(each)
            used[at] += each.n_tokens
        return [Pack.of(row) for row in rows]

    @property
    def n_tokens(self) -> int:
        """Tokens the model reads."""
        return sum(example.n_tokens for example in self.examples)

    @property
    def n_targets(self) -> int:
        """Tokens that are learned."""
        return sum(example.n_learned for example in self.examples)


def batches(examples: Iterable[Example], batch_tokens: int) -> Iterator[Batch]:
    """Batches of at most so many tokens, in the examples' order.

    An example that is longer on its own is left out, with a `Loss`.
    """
    usable = (each for each in examples if _fits(each, batch_tokens))
    for group in _groups(usable, batch_tokens):
        yield Batch(tuple(group))


def _fits(example: Example, batch_tokens: int) -> bool:
    if example.n_tokens > batch_tokens:
        what = f"an example of {example.n_tokens} tokens, at most {batch_tokens} fit a batch"
        report(Loss("training", what, "1", "0", "raise batch_tokens, or shorten it"))
    return example.n_tokens <= batch_tokens


def _groups(examples: Iterable[Example], max_tokens: int) -> Iterator[list[Example]]:
    """Consecutive examples of at most so many tokens; a longer one is alone."""
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
    """What a causal model predicts at each pack's `predicting`: float32 (targets' tokens, vocab).

    Args:
        model: A transformers model whose attention takes a mask that is added ("eager", "sdpa").
        packs: Of prompts and targets; one or more.
        vectors: float (vectors, width) that prompts hold as the tokens vocab_size + j.

    Raises:
        ModelError: A prompt holds a vector that is not there.
    """
    import torch

    device, width = model.device, max(len(pack.tokens) for pack in packs)
    tokens = np.zeros((len(packs), width), dtype=np.int64)
    positions = np.zeros_like(tokens)
    sees = np.zeros((len(packs), 1, width, width), dtype=bool)
    sees[..., range(width), range(width)] = True  # padding sees itself: no row is empty
    for i, pack in enumerate(packs):
        n = len(pack.tokens)
        tokens[i, :n], positions[i, :n], sees[i, 0, :n, :n] = pack.tokens, pack.positions, pack.sees
    flat = np.concatenate([i * width + pack.predicting for i, pack in enumerate(packs)])
    # a prompt's end predicts many targets
    unique, inverse = torch.from_numpy(flat).to(device).unique(return_inverse=True)
    hidden = ~torch.from_numpy(sees).to(device)
    mask = torch.zeros(hidden.shape, dtype=model.dtype, device=device)
    mask.masked_fill_(hidden, torch.finfo(model.dtype).min)

    def only_predicting(_: Any, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        return inputs[0].flatten(0, 1)[unique][None]  # (1, places, width)

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
    """What an encoder-decoder model predicts for each token of each target; all are learned.

    float32 (targets' tokens, vocab_size), in the order of `target_labels`. For `vectors` see
    `causal_logits`.

    Raises:
        ModelError: A prompt holds a vector that is not there.
    """
    import torch

    device = model.device
    start, pad = model.config.decoder_start_token_id, model.config.pad_token_id or 0
    of_prompt = [i for i, each in enumerate(examples) for _ in each.targets]
    targets = [target for each in examples for target in each.targets]
    inputs = [(start, *target[:-1]) for target in targets]
    prompts, reads = _padded([each.prompt for each in examples], pad)
    decoded, present = _padded(inputs, pad)
    mask = torch.from_numpy(reads).to(device)
    encoder = model.get_encoder()
    read = model_inputs(encoder, torch.from_numpy(prompts).to(device), vectors)
    encoded = encoder(**read, attention_mask=mask)
    rows = torch.tensor(of_prompt, device=device)
    output = model(
        encoder_outputs=type(encoded)(last_hidden_state=encoded.last_hidden_state[rows]),
        attention_mask=mask[rows],
        decoder_input_ids=torch.from_numpy(decoded).to(device),
        use_cache=False,
    )
    return output.logits[torch.from_numpy(present.astype(bool)).to(device)].float()


def target_labels(examples: Sequence[Example]) -> Rows:
    """int64 (targets' tokens,): every target's tokens, one target after the other."""
    tokens = [token for each in examples for target in each.targets for token in target]
    return np.array(tokens, dtype=np.int64)


def _padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Rows, NDArray[np.int64]]:
    """int64 (rows, longest) each: the tokens, and 1 where they are no padding."""
    width = max(map(len, rows))
    tokens = np.full((len(rows), width), pad, dtype=np.int64)
    present = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
        present[i, : len(row)] = 1
    return tokens, present
