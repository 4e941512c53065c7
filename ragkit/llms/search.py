"""Beam search constrained to the token sequences of an index.

The constraint decides which tokens may follow; the score is the model's. Log-probabilities come
from the unmasked softmax: renormalising over the allowed tokens would make a forced token free, and
rare prefixes with a single continuation would win (De Cao et al. 2021, GENRE).
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
    """The set of token sequences that may be generated, such as an n-gram index or a trie."""

    def start(self) -> Hashable:
        """Return the state of the empty prefix."""

    def advance(self, state: Any, token: int) -> Any:
        """Return the state after one more token, or None if the token is not allowed."""

    def successors(self, state: Any) -> NDArray[np.int64]:
        """Return the allowed next tokens, ascending."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A generated token sequence, finished or partial.

    Attributes:
        tokens: Generated tokens, without the prefix of the options.
        logprobs: Natural-log probability of each token, from the unmasked softmax.
        state: State of the constraint after the tokens.
        finished: True if the last token is an end token.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    state: Hashable
    finished: bool = False

    @property
    def score(self) -> float:
        """Sum of the log-probabilities."""
        return float(sum(self.logprobs))


@dataclass(frozen=True, slots=True)
class BeamOptions:
    """Options of `beam_search`.

    Attributes:
        width: Number of beams.
        max_tokens: Maximum length of a hypothesis.
        end_tokens: Tokens that finish a hypothesis, where the constraint allows them.
        prefix: Tokens by which the constraint is advanced before the search; the model neither
            reads nor scores them.
        length_power: Length penalty of the final ranking by score / length ** length_power
            (GENRE: 1; SEAL: 0).
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
    """Search for the best hypotheses, and return all that were on the beam at any step, best first.

    Ties are broken by tokens. A hypothesis without an allowed continuation ends; a finished one
    occupies a beam at its last step and then leaves the beam.

    Source: De Cao et al. 2021 (GENRE) for constraining the whole prefix; Bevilacqua et al. 2022
    (SEAL) for returning all partial hypotheses.

    Raises:
        ModelError: The model gives NaN.
    """
    if _state_after_prefix(constraint, options) is None:
        return []
    return run_searches(model.begin(prompt), [(0, beam_steps(model.name, constraint, options))])[0]


Advance = tuple[list[int], list[int]]
"""Parent rows and next tokens of a search step; see `Beams.advance`."""

Result = TypeVar("Result")
Steps = Generator[Advance, LogProbs, Result]
"""A search as a coroutine: it receives the log-probabilities of its rows, float32 (rows,
vocab_size), yields its next step, and returns its result. The first value it yields is ignored."""


def run_searches(beams: Beams, searches: Sequence[tuple[int, Steps[Result]]]) -> list[Result]:
    """Run searches in one batch, where a step of all costs little more than a step of one.

    Args:
        beams: Beams before their first step; consumed by the searches.
        searches: Pairs of the beam to start from, which several may share, and the search.

    Returns:
        The result of each search, in order.
    """
    results: dict[int, Result] = {}
    active = []
    for i, (row, search) in enumerate(searches):
        next(search)
        active.append((i, search, [row]))
    while active:
        logprobs = beams.logprobs()
        parents: list[int] = []
        tokens: list[int] = []
        still_active = []
        for i, search, rows in active:
            try:
                search_parents, search_tokens = search.send(logprobs[rows])
            except StopIteration as end:
                results[i] = end.value
                continue
            first = len(parents)
            parents += [rows[parent] for parent in search_parents]
            tokens += search_tokens
            still_active.append((i, search, list(range(first, len(parents)))))
        if still_active:
            beams.advance(parents, tokens)
        active = still_active
    return [results[i] for i in range(len(searches))]


def beam_steps(name: str, constraint: Constraint, options: BeamOptions) -> Steps[list[Hypothesis]]:
    """Run `beam_search` as a coroutine for `run_searches`.

    Args:
        name: The model's name, for error messages.
        constraint: See `beam_search`.
        options: See `beam_search`.
    """
    state = _state_after_prefix(constraint, options)
    alive = [] if state is None else [Hypothesis((), (), state)]
    hypotheses: list[Hypothesis] = []
    step: Advance = ([], [])
    for _ in range(options.max_tokens):
        logprobs = yield step
        best = _best(name, logprobs, alive, constraint, options) if alive else []
        extended = [
            _extend(alive[parent], token, logp, constraint, options) for parent, token, logp in best
        ]
        hypotheses += extended
        unfinished = [
            (hypothesis, parent)
            for hypothesis, (parent, _, _) in zip(extended, best, strict=True)
            if not hypothesis.finished
        ]
        if not unfinished:
            break
        alive = [hypothesis for hypothesis, _ in unfinished]
        step = [parent for _, parent in unfinished], [hyp.tokens[-1] for hyp in alive]
    return sorted(hypotheses, key=lambda hyp: (-_ranking_score(hyp, options), hyp.tokens))


def _state_after_prefix(constraint: Constraint, options: BeamOptions) -> Hashable | None:
    """Return the constraint's state after the prefix, or None if it does not allow the prefix."""
    state: Any = constraint.start()
    for token in options.prefix:
        state = constraint.advance(state, token)
        if state is None:
            return None
    return cast(Hashable, state)


def _ranking_score(hypothesis: Hypothesis, options: BeamOptions) -> float:
    return hypothesis.score / float(len(hypothesis.tokens) ** options.length_power)


def _best(
    name: str,
    logprobs: NDArray[np.float32],
    alive: Sequence[Hypothesis],
    constraint: Constraint,
    options: BeamOptions,
) -> list[tuple[int, int, float]]:
    """Return (parent, token, log-probability) of the best allowed continuations."""
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
    parent_of, token_of, logp_of = (np.concatenate(part) for part in (parents, tokens, logps))
    candidates = [
        (int(parent_of[i]), int(token_of[i]), float(logp_of[i]), float(scores[i])) for i in usable
    ]
    # Highest score first; ties by the tokens of the parent, then by the new token.
    candidates.sort(key=lambda c: (-c[3], alive[c[0]].tokens, c[1]))
    return [(parent, token, logp) for parent, token, logp, _ in candidates[: options.width]]


def _extend(
    parent: Hypothesis, token: int, logp: float, constraint: Constraint, options: BeamOptions
) -> Hypothesis:
    state = constraint.advance(parent.state, token)
    tokens, logprobs = (*parent.tokens, token), (*parent.logprobs, logp)
    return Hypothesis(tokens, logprobs, state, token in options.end_tokens)
