"""SEAL's scoring of rows by the n-grams that a model generates.

Source: Bevilacqua et al. 2022 (SEAL), sections 3.2 and 3.3, with the settings of its published
searcher. There are two kinds of coverage: of token positions (a position belongs to at most one
match) and of token types (used by the repetition coefficient).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ngram = tuple[int, ...]
_EPSILON = 1e-10


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """Options of row scoring; the defaults are those of SEAL's published searcher.

    Attributes:
        alpha: Exponent of an n-gram's log-odds.
        beta: Discount of repeated token types, from 0 (none) to 1.
        smoothing: Constant added to counts.
        max_frequency: Keys that occur more often are used only in stage 2.
        n_candidates: Number of rows scored in stage 2.
        n_unigrams: Number of unigram weights used.
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
                f"max_frequency is {self.max_frequency}, n_candidates is {self.n_candidates} and "
                f"n_unigrams is {self.n_unigrams}; expected at least 0, 1 and 0"
            )
        if not self.alpha > 0 or not self.smoothing > 0 or not 0 <= self.beta <= 1:
            raise ValueError(
                f"alpha is {self.alpha}, smoothing is {self.smoothing} and beta is {self.beta}; "
                "expected alpha > 0, smoothing > 0 and 0 <= beta <= 1"
            )
        if self.variant not in ("intersective", "lm+fm", "lm"):
            raise ValueError(
                f"variant is {self.variant!r}; expected 'intersective', 'lm+fm' or 'lm'"
            )


@dataclass(frozen=True, slots=True)
class Key:
    """An n-gram used to retrieve the rows that contain it.

    Attributes:
        tokens: Tokens of the n-gram.
        logprob: Natural logarithm of P(n|q).
        count: Number of occurrences in live, allowed rows.
        weight: See `ngram_weight`.
    """

    tokens: Ngram
    logprob: float
    count: int
    weight: float


@dataclass(slots=True)
class Match:
    """Occurrence of a key in a row: its token offset, and its share of the row's score."""

    key: Key
    offset: int
    added: float


@dataclass(slots=True)
class RowScore:
    """Score of a row: the sum of its matches and of `unigrams`, the share of single tokens."""

    row: int
    score: float
    matches: list[Match] = field(default_factory=list)
    unigrams: float = 0.0


def log_odds(logprob: float, count: int, n_tokens: int, smoothing: float = 5.0) -> float:
    """Return the log-odds of an n-gram given the query, relative to its odds in the corpus.

    log [ P(n|q) (1 - P(n)) / (P(n) (1 - P(n|q))) ] with P(n) = (count + s) / (N + s), where N is
    the number of tokens in the corpus; 1e-10 is subtracted from log P(n|q), so that P(n|q) < 1.

    >>> round(log_odds(-2.0, 3, 1000), 6), round(log_odds(-6.0, 3, 1000), 6)
    (2.970723, -1.172209)
    """
    conditional = min(logprob, 0.0) - _EPSILON
    prior = math.log((count + smoothing) / (n_tokens + smoothing))
    prior = min(prior, -_EPSILON)
    return conditional - prior + math.log1p(-math.exp(prior)) - math.log1p(-math.exp(conditional))


def ngram_weight(
    logprob: float, count: int, n_tokens: int, *, smoothing: float = 5.0, alpha: float = 2.0
) -> float:
    """Return max(0, log-odds) ** alpha.

    >>> round(ngram_weight(-2.0, 3, 1000), 6), ngram_weight(-2.0, 200, 1000)
    (8.825193, 0.0)
    """
    return float(max(0.0, log_odds(logprob, count, n_tokens, smoothing)) ** alpha)


def repetition(ngram: Sequence[int], covered: set[int], beta: float = 0.8) -> float:
    """Return 1 - beta + beta * (share of new token types in the n-gram); 1 if none is covered.

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
    """Return the weights of single tokens: positive log-odds, without the exponent alpha.

    Args:
        logprobs: float32 (vocab_size,): log-probabilities of the first token, given the query.
        counts: int64 (vocab_size,): occurrences of each token; tokens that do not occur have no
            weight.
        n_tokens: Number of tokens in the corpus.
        options: Smoothing and number of weights.
    """
    conditional = np.minimum(logprobs.astype(np.float64), 0.0) - _EPSILON
    prior = np.minimum(
        np.log((counts + options.smoothing) / (n_tokens + options.smoothing)), -_EPSILON
    )
    odds = conditional - prior + np.log1p(-np.exp(prior)) - np.log1p(-np.exp(conditional))
    odds[(counts == 0) | ~np.isfinite(odds)] = 0.0
    best = np.argsort(-odds, kind="stable")[: options.n_unigrams]
    return {int(token): float(odds[token]) for token in best if odds[token] > 0}


def candidates(
    keys: Sequence[Key],
    occurrences: Mapping[Ngram, tuple[NDArray[np.int64], NDArray[np.int64]]],
    options: ScoringOptions,
) -> list[int]:
    """Select rows for stage 2, best first, ties by row; rows with the score of the last are kept.

    Stage 1 uses rare keys, best first. An occurrence counts if none of its token positions belongs
    to a better key and if the key has not yet counted in this row. The score of a row is the sum of
    its keys' weights with the repetition coefficient.

    Args:
        keys: Keys of the query.
        occurrences: Rows and offsets of the occurrences of each rare key.
        options: See `ScoringOptions`.
    """
    taken: set[tuple[int, int]] = set()
    row_keys: dict[int, list[Key]] = {}
    rare = [key for key in keys if key.count <= options.max_frequency]
    for key in sorted(rare, key=lambda key: (-_rank_value(key, options), key.tokens)):
        rows, offsets = occurrences[key.tokens]
        counted: set[int] = set()
        for row, offset in zip(rows.tolist(), offsets.tolist(), strict=True):
            span = [(row, offset + i) for i in range(len(key.tokens))]
            if row in counted or not taken.isdisjoint(span):
                continue
            taken.update(span)
            counted.add(row)
            row_keys.setdefault(row, []).append(key)
    scores = {row: _stage1_score(row_keys[row], options) for row in row_keys}
    cut = sorted(scores.values(), reverse=True)[: options.n_candidates][-1:]
    selected = [row for row, score in scores.items() if score >= cut[0]]  # ties included
    return sorted(selected, key=lambda row: (-scores[row], row))


def _rank_value(key: Key, options: ScoringOptions) -> float:
    """Return the value by which keys are ranked."""
    return key.logprob if options.variant == "lm" else key.weight


def _stage1_score(keys: Sequence[Key], options: ScoringOptions) -> float:
    if options.variant != "intersective":
        return max(_rank_value(key, options) for key in keys)
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
    """Score a row by all keys that occur in it, best match first (stage 2).

    A match is skipped if one of its positions is covered. A repeated occurrence of a key adds
    nothing, but covers its positions. Token types at positions that remain free add their unigram
    weight once. All contributions are multiplied by the repetition coefficient.

    Args:
        row: Row number.
        tokens: Tokens of the row.
        keys: Keys by n-gram, with positive weights.
        unigrams: Weights of single tokens that are not keys.
        options: See `ScoringOptions`.
    """
    tokens = [int(token) for token in tokens]
    matches = _occurrences(tokens, keys)
    if options.variant != "intersective":
        return _best_match(row, matches, options)
    matches.sort(key=lambda match: (-match[0].weight, match[0].tokens, match[1]))
    scored, covered, free = RowScore(row, 0.0), set[int](), [True] * len(tokens)
    counted: set[Ngram] = set()
    for key, start in matches:
        span = range(start, start + len(key.tokens))
        if not all(free[i] for i in span):
            continue
        for i in span:
            free[i] = False
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
    """Return all occurrences of keys with their token offsets."""
    lengths: dict[int, set[int]] = {}  # key lengths by first token
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
    remaining = sorted({token for token, is_free in zip(tokens, free, strict=True) if is_free})
    return sum(
        repetition((token,), covered, options.beta) * unigrams[token]
        for token in remaining
        if token in unigrams
    )


def _best_match(row: int, matches: Sequence[tuple[Key, int]], options: ScoringOptions) -> RowScore:
    if not matches:
        return RowScore(row, -math.inf if options.variant == "lm" else 0.0)
    key, start = min(
        matches,
        key=lambda match: (-_rank_value(match[0], options), match[0].tokens, match[1]),
    )
    value = _rank_value(key, options)
    return RowScore(row, value, [Match(key, start, value)])
