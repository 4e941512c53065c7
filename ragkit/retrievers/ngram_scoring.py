"""SEAL's scores: how much the n-grams that a model generates say for each row of a corpus.

Source: Bevilacqua et al. 2022 (SEAL), sections 3.2 and 3.3, with the settings of its published
searcher. Two notions of coverage live side by side: positions (a token position serves one match)
and token types (the repetition coefficient).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ngram = tuple[int, ...]
_GUARD = 1e-10


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How rows are scored; the defaults are SEAL's searcher's.

    Attributes:
        alpha: Power of an n-gram's log-odds.
        beta: How much repeated token types are discounted; 0 not at all.
        smoothing: Added to counts.
        max_frequency: Keys that occur more often are used in stage 2 only.
        n_candidates: Rows that stage 2 scores.
        n_unigrams: Unigram weights kept.
        variant: "intersective" sums over keys; "lm+fm" takes the best key's weight, "lm" the best
            key's log-probability.
    """

    alpha: float = 2.0
    beta: float = 0.8
    smoothing: float = 5.0
    max_frequency: int = 1500
    n_candidates: int = 1500
    n_unigrams: int = 5000
    variant: Literal["intersective", "lm+fm", "lm"] = "intersective"

    def __post_init__(self) -> None:
        if self.max_frequency < 0 or self.n_candidates < 1 or self.n_unigrams < 0:
            raise ValueError(
                f"max_frequency is {self.max_frequency}, n_candidates {self.n_candidates} and "
                f"n_unigrams {self.n_unigrams}; expected at least 0, 1 and 0"
            )
        if not self.alpha > 0 or not self.smoothing > 0 or not 0 <= self.beta <= 1:
            raise ValueError(
                f"alpha is {self.alpha}, smoothing {self.smoothing} and beta {self.beta}; expected "
                "alpha and smoothing above 0 and beta from 0 to 1"
            )
        if self.variant not in ("intersective", "lm+fm", "lm"):
            raise ValueError(
                f"variant is {self.variant!r}; expected 'intersective', 'lm+fm' or 'lm'"
            )


@dataclass(frozen=True, slots=True)
class Key:
    """An n-gram that stands for rows.

    Attributes:
        tokens: The n-gram.
        logprob: log P(n|q), natural.
        count: Its occurrences in live, allowed rows.
        weight: See `ngram_weight`.
    """

    tokens: Ngram
    logprob: float
    count: int
    weight: float


@dataclass(slots=True)
class Match:
    """A key in a row: where it stands, and what it adds to the row's score."""

    key: Key
    offset: int
    added: float


@dataclass(slots=True)
class RowScore:
    """A row's score and the matches it is the sum of; `unigrams` is what single tokens add."""

    row: int
    score: float
    matches: list[Match] = field(default_factory=list)
    unigrams: float = 0.0


def log_odds(logprob: float, count: int, n_tokens: int, smoothing: float = 5.0) -> float:
    """log of the odds of an n-gram given the query against its odds anywhere in the corpus.

    log [ P(n|q) (1 - P(n)) / (P(n) (1 - P(n|q))) ] with P(n) = (count + s) / (N + s), N the corpus'
    length in tokens; 1e-10 is taken from log P(n|q), so that 1 - P(n|q) is not 0.

    >>> round(log_odds(-2.0, 3, 1000), 6), round(log_odds(-6.0, 3, 1000), 6)
    (2.970723, -1.172209)
    """
    given = min(logprob, 0.0) - _GUARD
    prior = math.log((count + smoothing) / (n_tokens + smoothing))
    prior = min(prior, -_GUARD)
    return given - prior + math.log1p(-math.exp(prior)) - math.log1p(-math.exp(given))


def ngram_weight(
    logprob: float, count: int, n_tokens: int, *, smoothing: float = 5.0, alpha: float = 2.0
) -> float:
    """max(0, log-odds) ** alpha.

    >>> round(ngram_weight(-2.0, 3, 1000), 6), ngram_weight(-2.0, 200, 1000)
    (8.825193, 0.0)
    """
    return float(max(0.0, log_odds(logprob, count, n_tokens, smoothing)) ** alpha)


def repetition(ngram: Sequence[int], covered: set[int], beta: float = 0.8) -> float:
    """1 - beta + beta * (share of the n-gram's token types that are new); 1 if nothing is covered.

    >>> round(repetition((1, 2, 3), {2}), 6), round(repetition((1, 2), {1, 2}), 6)
    (0.733333, 0.2)
    """
    if not covered:
        return 1.0
    types = set(ngram)
    return 1.0 - beta + beta * len(types - covered) / len(types)


def unigram_weights(
    logprobs: NDArray[np.float32],
    counts: NDArray[np.int64],
    n_tokens: int,
    options: ScoringOptions,
) -> dict[int, float]:
    """The weights of single tokens: the clipped log-odds, not raised to alpha.

    Args:
        logprobs: float32 (vocab_size,): of the first token, given the query.
        counts: int64 (vocab_size,): occurrences of each token; those of 0 have no weight.
        n_tokens: The corpus' length.
        options: How many are kept.
    """
    given = np.minimum(logprobs.astype(np.float64), 0.0) - _GUARD
    prior = np.minimum(
        np.log((counts + options.smoothing) / (n_tokens + options.smoothing)), -_GUARD
    )
    odds = given - prior + np.log1p(-np.exp(prior)) - np.log1p(-np.exp(given))  # (vocab_size,)
    odds[(counts == 0) | ~np.isfinite(odds)] = 0.0
    best = np.argsort(-odds, kind="stable")[: options.n_unigrams]
    return {int(token): float(odds[token]) for token in best if odds[token] > 0}


def candidates(
    keys: Sequence[Key],
    places: Mapping[Ngram, tuple[NDArray[np.int64], NDArray[np.int64]]],
    options: ScoringOptions,
) -> list[int]:
    """Stage 1: the rows worth a closer look, best first, ties by row; none is cut among ties.

    Rare keys, the best first; an occurrence counts if none of its token positions serves a better
    key and the key has not counted in this row yet. Then each row's keys, in order, with the
    repetition coefficient.

    Args:
        keys: With their weights.
        places: Of each rare key, rows and offsets of its occurrences.
        options: See `ScoringOptions`.
    """
    taken: set[tuple[int, int]] = set()
    of_row: dict[int, list[Key]] = {}
    rare = [key for key in keys if key.count <= options.max_frequency]
    for key in sorted(rare, key=lambda key: (-_value(key, options), key.tokens)):
        rows, offsets = places[key.tokens]
        counted: set[int] = set()
        for row, offset in zip(rows.tolist(), offsets.tolist(), strict=True):
            span = [(row, offset + i) for i in range(len(key.tokens))]
            if row in counted or not taken.isdisjoint(span):
                continue
            taken.update(span)
            counted.add(row)
            of_row.setdefault(row, []).append(key)
    scores = {row: _summed(found, options) for row, found in of_row.items()}
    cut = sorted(scores.values(), reverse=True)[: options.n_candidates][-1:]
    kept = [row for row, score in scores.items() if score >= cut[0]]  # all that tie at the cut
    return sorted(kept, key=lambda row: (-scores[row], row))


def _value(key: Key, options: ScoringOptions) -> float:
    """What keys are ordered by."""
    return key.logprob if options.variant == "lm" else key.weight


def _summed(keys: Sequence[Key], options: ScoringOptions) -> float:
    if options.variant != "intersective":
        return max(_value(key, options) for key in keys)
    covered: set[int] = set()
    total = 0.0
    for key in keys:
        total += repetition(key.tokens, covered, options.beta) * key.weight
        covered |= set(key.tokens)
    return total


def score_row(
    row: int,
    tokens: Sequence[int] | NDArray[np.int64],
    keys: Mapping[Ngram, Key],
    unigrams: Mapping[int, float],
    options: ScoringOptions,
) -> RowScore:
    """Stage 2: a row's score by all keys that occur in it, the best match first.

    A match is skipped if one of its positions is taken; a repeated occurrence of a key that has
    counted adds nothing but takes its positions; every position left free adds its token type's
    unigram weight once. All but repeats are multiplied by the repetition coefficient.

    Args:
        row: Its number.
        tokens: Its tokens, a list or an array.
        keys: By n-gram, with weights above 0.
        unigrams: Weights of single tokens; those that are keys have none.
        options: See `ScoringOptions`.
    """
    tokens = [int(token) for token in tokens]
    found = _occurrences(tokens, keys)
    if options.variant != "intersective":
        return _best_match(row, found, options)
    found.sort(key=lambda each: (-each[0].weight, each[0].tokens, each[1]))
    scored, covered, free = RowScore(row, 0.0), set[int](), [True] * len(tokens)
    counted: set[Ngram] = set()
    for key, start in found:
        span = range(start, start + len(key.tokens))
        if not all(free[at] for at in span):
            continue
        for at in span:
            free[at] = False
        if key.tokens in counted:
            continue
        counted.add(key.tokens)
        added = repetition(key.tokens, covered, options.beta) * key.weight
        covered |= set(key.tokens)
        scored.matches.append(Match(key, start, added))
    scored.unigrams = _free_unigrams(tokens, free, covered, unigrams, options)
    scored.score = sum(match.added for match in scored.matches) + scored.unigrams
    return scored


def _occurrences(tokens: Sequence[int], keys: Mapping[Ngram, Key]) -> list[tuple[Key, int]]:
    """Every occurrence of every key, and where it begins."""
    lengths: dict[int, set[int]] = {}  # of the keys that begin with a token
    for ngram in keys:
        lengths.setdefault(ngram[0], set()).add(len(ngram))
    return [
        (keys[ngram], start)
        for start, token in enumerate(tokens)
        if token in lengths
        for n in lengths[token]
        if (ngram := tuple(tokens[start : start + n])) in keys and len(ngram) == n
    ]


def _free_unigrams(
    tokens: Sequence[int],
    free: Sequence[bool],
    covered: set[int],
    unigrams: Mapping[int, float],
    options: ScoringOptions,
) -> float:
    left = sorted({token for token, is_free in zip(tokens, free, strict=True) if is_free})
    return sum(
        repetition((token,), covered, options.beta) * unigrams[token]
        for token in left
        if token in unigrams
    )


def _best_match(row: int, found: Sequence[tuple[Key, int]], options: ScoringOptions) -> RowScore:
    if not found:
        return RowScore(row, -math.inf if options.variant == "lm" else 0.0)
    key, start = min(found, key=lambda each: (-_value(each[0], options), each[0].tokens, each[1]))
    value = _value(key, options)
    return RowScore(row, value, [Match(key, start, value)])
