"""Beam search that can only write what an index holds.

The constraint decides what may come next; the score is the model's own. Log-probabilities are those
of the unmasked softmax: renormalising over the allowed tokens would make a forced token free, and
rare prefixes with one continuation would win (SYSTEMS A2).
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ModelError
from ragkit.llms.beams import BeamModel, Beams, LogProbs


class Constraint(Protocol):
    """What may be written: `ragkit.indexes.ngram` and `ragkit.indexes.trie` are such."""

    def start(self) -> Hashable:
        """The empty prefix."""

    def advance(self, state: Any, token: int) -> Any:
        """The prefix with one token more; None if nothing continues so."""

    def successors(self, state: Any) -> NDArray[np.int64]:
        """The tokens that may follow, ascending."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that was generated, whole or a prefix of one.

    Attributes:
        tokens: Without what was forced before it.
        logprobs: Natural log, unmasked, one a token.
        state: Where the constraint is after it.
        finished: Whether it ended by an end token (the last of `tokens`).
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    state: Hashable
    finished: bool = False

    @property
    def score(self) -> float:
        """The sum of the log-probabilities."""
        return float(sum(self.logprobs))


@dataclass(frozen=True, slots=True)
class BeamOptions:
    """How to search.

    Attributes:
        width: Hypotheses kept at each step.
        max_tokens: The longest hypothesis.
        end_tokens: Tokens that finish a hypothesis, where the constraint allows them.
        prefix: Tokens the constraint begins with: neither read by the model nor generated or
            scored.
        length_power: Hypotheses are ranked by score / length ** length_power, once the search is
            over (GENRE: 1; SEAL: 0).
    """

    width: int = 10
    max_tokens: int = 10
    end_tokens: frozenset[int] = frozenset()
    prefix: tuple[int, ...] = ()
    length_power: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.max_tokens < 1:
            raise ValueError(
                f"width is {self.width} and max_tokens {self.max_tokens}; expected at least 1"
            )


def beam_search(
    model: BeamModel, prompt: str, constraint: Constraint, options: BeamOptions
) -> list[Hypothesis]:
    """Every hypothesis that was on the beam at some step, best first.

    Ties are broken by tokens. A hypothesis that nothing continues ends there; finished ones leave
    the beam and take one of its places at that step.

    Source: GENRE (De Cao et al. 2021) for the constraint on the whole prefix, SEAL (Bevilacqua et
    al. 2022) for keeping all partial hypotheses.

    Raises:
        ModelError: The model gives NaN.
    """
    if _forced(constraint, options) is None:
        return []
    return together(model.begin(prompt), [(0, beam_steps(model.name, constraint, options))])[0]


Advance = tuple[list[int], list[int]]
"""Which of a search's rows grow, and by which token each: as `Beams.advance` takes them."""

Result = TypeVar("Result")
Steps = Generator[Advance, LogProbs, Result]
"""A search that is given its rows' log-probabilities, float32 (rows, vocab_size), and says how they
grow, until it returns what it found. What it yields first says nothing."""


def together(beams: Beams, searches: Sequence[tuple[int, Steps[Result]]]) -> list[Result]:
    """Run searches side by side, their rows in one batch: a step of all costs little more than one.

    Args:
        beams: At their beginning; they are used up.
        searches: Each with the beam that it begins from, which several may share.

    Returns:
        What each search found.
    """
    found: dict[int, Result] = {}
    waiting = []
    for i, (row, search) in enumerate(searches):
        next(search)
        waiting.append((i, search, [row]))
    while waiting:
        logprobs = beams.logprobs()
        parents: list[int] = []
        tokens: list[int] = []
        going = []
        for i, search, rows in waiting:
            try:
                own_parents, own_tokens = search.send(logprobs[rows])
            except StopIteration as end:
                found[i] = end.value
                continue
            first = len(parents)
            parents += [rows[parent] for parent in own_parents]
            tokens += own_tokens
            going.append((i, search, list(range(first, len(parents)))))
        if going:
            beams.advance(parents, tokens)
        waiting = going
    return [found[i] for i in range(len(searches))]


def beam_steps(name: str, constraint: Constraint, options: BeamOptions) -> Steps[list[Hypothesis]]:
    """`beam_search` for `together`; the name is the model's, for errors."""
    state = _forced(constraint, options)
    alive = [] if state is None else [Hypothesis((), (), state)]
    kept: list[Hypothesis] = []
    request: Advance = ([], [])
    for _ in range(options.max_tokens):
        logprobs = yield request
        chosen = _best(name, logprobs, alive, constraint, options) if alive else []
        grown = [
            _grow(alive[parent], token, logp, constraint, options) for parent, token, logp in chosen
        ]
        kept += grown
        open_ = [
            (each, parent)
            for each, (parent, _, _) in zip(grown, chosen, strict=True)
            if not each.finished
        ]
        if not open_:
            break
        alive = [each for each, _ in open_]
        request = [parent for _, parent in open_], [each.tokens[-1] for each in alive]
    return sorted(kept, key=lambda each: (-_rank(each, options), each.tokens))


def _forced(constraint: Constraint, options: BeamOptions) -> Hashable | None:
    """Where the constraint is after the prefix; None if nothing begins so."""
    state: Any = constraint.start()
    for token in options.prefix:
        state = constraint.advance(state, token)
        if state is None:
            return None
    return cast(Hashable, state)


def _rank(hypothesis: Hypothesis, options: BeamOptions) -> float:
    return hypothesis.score / float(len(hypothesis.tokens) ** options.length_power)


def _best(
    name: str,
    logprobs: NDArray[np.float32],
    alive: Sequence[Hypothesis],
    constraint: Constraint,
    options: BeamOptions,
) -> list[tuple[int, int, float]]:
    """(parent, token, log-probability) of the best allowed continuations."""
    parents, tokens, logps, totals = [], [], [], []
    for parent, hypothesis in enumerate(alive):
        allowed = constraint.successors(hypothesis.state)
        values = logprobs[parent, allowed].astype(np.float64)  # (allowed,)
        if np.isnan(values).any():
            raise ModelError(f"the model {name!r} gives NaN; its weights are damaged")
        parents.append(np.full(len(allowed), parent))
        tokens.append(allowed)
        logps.append(values)
        totals.append(values + hypothesis.score)
    scores = np.concatenate(totals)
    usable = np.flatnonzero(scores > -np.inf)
    if len(usable) > options.width:
        cut = np.partition(scores[usable], -options.width)[-options.width]
        usable = usable[scores[usable] >= cut]
    every = [np.concatenate(each) for each in (parents, tokens, logps)]
    found = sorted(
        (
            (int(every[0][i]), int(every[1][i]), float(every[2][i]), float(scores[i]))
            for i in usable
        ),
        key=lambda each: (-each[3], alive[each[0]].tokens, each[1]),
    )
    return [each[:3] for each in found[: options.width]]


def _grow(
    parent: Hypothesis, token: int, logp: float, constraint: Constraint, options: BeamOptions
) -> Hypothesis:
    state = constraint.advance(parent.state, token)
    tokens, logprobs = (*parent.tokens, token), (*parent.logprobs, logp)
    return Hypothesis(tokens, logprobs, state, token in options.end_tokens)
