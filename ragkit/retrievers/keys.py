"""The n-grams that a model writes for a query: SEAL's keys.

Source: Bevilacqua et al. 2022 (SEAL). Ours differs where it says so: a key that beam search wrote
keeps the log-probability it was written with, which is what teacher forcing would give, and all
keys but titles are scored under one prompt (SEAL scores body keys under the plain query).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ModelError
from ragkit.llms.beams import BeamModel, Beams, LogProbs
from ragkit.llms.search import (
    Advance,
    BeamOptions,
    Constraint,
    Hypothesis,
    Steps,
    beam_steps,
    together,
)
from ragkit.retrievers.ngram_scoring import Key, Ngram, ScoringOptions, ngram_weight
from ragkit.retrievers.rows import RowFormat, fitted_query, prompt_for
from ragkit.types import TokenIndex

Scored = list[tuple[Ngram, float]]
_IGNORED = 10_000_000  # occurrences: such a key says nothing
_AT_ONCE = 64  # n-grams scored side by side: each prefix of them holds a copy of the prompt


@dataclass(frozen=True, slots=True)
class NgramOptions:
    """How keys are made and rows scored.

    Attributes:
        width: Beams of body n-grams (SEAL: 15).
        max_tokens: Of a body n-gram; its shorter beginnings are keys too.
        title_width: Beams of titles; 0 for no titles.
        title_tokens: The longest title (SEAL: 15); longer ones are found by their n-grams.
        query_words: N-grams of up to so many of the query's words are keys; 0 for none.
        scoring: See `ScoringOptions`.
    """

    width: int = 10
    max_tokens: int = 10
    title_width: int = 5
    title_tokens: int = 15
    query_words: int = 3
    scoring: ScoringOptions = field(default_factory=ScoringOptions)


@dataclass(frozen=True, slots=True)
class Keys:
    """What a model wrote for a query.

    Attributes:
        keys: By n-gram, all with weights above 0.
        first: float32 (vocab_size,): log-probabilities of the first token.
    """

    keys: dict[Ngram, Key]
    first: LogProbs


def keys_of(
    model: BeamModel, rows: RowFormat, index: TokenIndex, query: str, unit: str,
    options: NgramOptions,
) -> Keys:  # fmt: skip
    """The keys of a query over an index, and the first token's log-probabilities.

    Raises:
        ModelError: The model gives NaN.
        ValueError: The prompt and what follows it do not fit into the model's window.
    """
    body = _Without(index, frozenset((*rows.opening, *rows.delimiter)))
    how = BeamOptions(width=options.width, max_tokens=options.max_tokens)
    query = fitted_query(model, [unit, "title"] if options.title_width else [unit], query)
    asked = query_ngrams(rows, query, options.query_words)
    there = [ngram for ngram in asked if index.find(ngram) is not None]
    prompt = prompt_for(unit, query, model.prompts)
    prompts: list[str] = []
    searches: list[tuple[int, Steps[Scored]]] = [(0, _written(beam_steps(model.name, body, how)))]
    if options.title_width:
        prompts.append(prompt_for("title", query, model.prompts))
        searches.append((1, _titles(model.name, rows, index, options)))
    searches.append((0, score_steps(there[:_AT_ONCE])))
    beams = model.begin(prompt, *prompts)
    first: LogProbs = beams.logprobs()[0].copy()
    found = together(beams, searches)
    for some in (there[i : i + _AT_ONCE] for i in range(_AT_ONCE, len(there), _AT_ONCE)):
        found += together(model.begin(prompt), [(0, score_steps(some))])
    scored: dict[Ngram, float] = {}
    for pairs in found:
        for key, logprob in pairs:
            scored.setdefault(key, logprob)
    for token in _best_unigrams(first, len(scored), body):
        scored.setdefault((token,), float(first[token]))
    if np.isnan(first).any() or any(math.isnan(logprob) for logprob in scored.values()):
        raise ModelError(f"the model {model.name!r} gives NaN; its weights are damaged")
    return Keys(dict(_weighted(scored, index, options.scoring)), first)


def _weighted(
    scored: dict[Ngram, float], index: TokenIndex, options: ScoringOptions
) -> Iterator[tuple[Ngram, Key]]:
    for ngram, logprob in scored.items():
        state = index.find(ngram)
        count = 0 if state is None else index.count(state)
        if not 0 < count <= _IGNORED or logprob == -np.inf:
            continue
        weight = ngram_weight(
            logprob, count, index.n_tokens, smoothing=options.smoothing, alpha=options.alpha
        )
        if weight > 0:
            yield ngram, Key(ngram, logprob, count, weight)


def _written(steps: Steps[list[Hypothesis]]) -> Steps[Scored]:
    """What a search wrote, with its log-probabilities."""
    found = yield from steps
    return [(each.tokens, each.score) for each in found]


def _titles(name: str, rows: RowFormat, index: TokenIndex, options: NgramOptions) -> Steps[Scored]:
    """Whole titles, each with the tokens before and behind it."""
    how = BeamOptions(
        width=options.title_width,
        max_tokens=options.title_tokens,
        end_tokens=frozenset(rows.delimiter),
        prefix=rows.opening,
    )
    found = yield from beam_steps(name, index, how)
    return [((*rows.opening, *each.tokens), each.score) for each in found if each.finished]


def query_ngrams(rows: RowFormat, query: str, most: int) -> list[Ngram]:
    """Every n-gram of up to so many of the query's words, their initials in all cases.

    Source: SEAL. Deduplicated, in the order they stand.
    """
    words = query.split()
    found: dict[Ngram, None] = {}
    for n in range(1, most + 1):
        for at in range(len(words) - n + 1):
            initials = [(w[:1].lower() + w[1:], w[:1].upper() + w[1:]) for w in words[at : at + n]]
            for variant in itertools.product(*initials):
                tokens = rows.text(" ".join(variant))
                if tokens:
                    found.setdefault(tokens)
    return list(found)


def score_ngrams(beams: Beams, ngrams: Sequence[Ngram]) -> list[float]:
    """The log-probability of each n-gram after one prompt; shared beginnings are read once.

    Args:
        beams: A single empty beam; it is used up.
        ngrams: None is empty.
    """
    return [logprob for _, logprob in together(beams, [(0, score_steps(ngrams))])[0]]


def score_steps(ngrams: Sequence[Ngram]) -> Steps[Scored]:
    """`score_ngrams` for `together`: each n-gram with its log-probability."""
    scores = dict.fromkeys(ngrams, 0.0)
    rows: dict[Ngram, int] = {(): 0}  # of the beams, by what each has read
    request: Advance = ([], [])
    for depth in range(max(map(len, ngrams), default=0)):
        logprobs = yield request
        for ngram in scores:
            if len(ngram) > depth:
                scores[ngram] += float(logprobs[rows[ngram[:depth]], ngram[depth]])
        nodes = list(dict.fromkeys(g[: depth + 1] for g in scores if len(g) > depth + 1))
        request = [rows[node[:-1]] for node in nodes], [node[-1] for node in nodes]
        rows = {node: i for i, node in enumerate(nodes)}
    if not ngrams:
        yield request  # a search is asked at least once
    return [(ngram, scores[ngram]) for ngram in ngrams]


def _best_unigrams(first: LogProbs, n: int, body: Constraint) -> list[int]:
    """The n most probable first tokens among those of the corpus, as SEAL adds them to the keys."""
    tokens = body.successors(body.start())
    order = np.argsort(-first[tokens], kind="stable")[:n]
    return [int(token) for token in tokens[order]]


class _Without:
    """An index in which some tokens never follow."""

    def __init__(self, index: TokenIndex, tokens: frozenset[int]) -> None:
        self._index, self._tokens = index, np.array(sorted(tokens), dtype=np.int64)

    def start(self) -> Any:
        return self._index.start()

    def advance(self, state: Any, token: int) -> Any:
        return self._index.advance(state, token)

    def successors(self, state: Any) -> NDArray[np.int64]:
        found = self._index.successors(state)
        return found[~np.isin(found, self._tokens)]
