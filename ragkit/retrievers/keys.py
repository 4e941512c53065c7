"""Generation of keys: n-grams of the corpus that a language model generates for a query.

Source: Bevilacqua et al. 2022 (SEAL). Deviations: a key found by beam search is scored with its
log-probability in the search, which equals the result of teacher forcing, and all keys except
titles are scored with one prompt (SEAL scores body keys with the plain query).
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
    run_searches,
)
from ragkit.retrievers.ngram_scoring import Key, Ngram, ScoringOptions, ngram_weight
from ragkit.retrievers.rows import RowFormat, prompt_for, truncate_query
from ragkit.types import TokenIndex

Scored = list[tuple[Ngram, float]]
_MAX_COUNT = 10_000_000  # more frequent keys carry no information
_SCORE_BATCH = 64  # n-grams scored at once: each of their prefixes needs a copy of the prompt


@dataclass(frozen=True, slots=True)
class NgramOptions:
    """Options of key generation and scoring.

    Attributes:
        width: Number of beams for body n-grams (SEAL: 15).
        max_tokens: Maximum length of a body n-gram; its prefixes are keys as well.
        title_width: Number of beams for titles; 0 for no titles.
        title_tokens: Maximum length of a title (SEAL: 15); longer ones are found by their n-grams.
        query_words: Maximum number of words in n-grams of the query used as keys; 0 for none.
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
    """Keys generated for a query.

    Attributes:
        keys: Keys by n-gram, all with positive weights.
        first: Log-probabilities of the first token, float32 (vocab_size,).
    """

    keys: dict[Ngram, Key]
    first: LogProbs


def generate_keys(
    model: BeamModel, rows: RowFormat, index: TokenIndex, query: str, unit: str,
    options: NgramOptions,
) -> Keys:  # fmt: skip
    """Generate the keys of a query over an index, with log-probabilities of the first token.

    Raises:
        ModelError: The model returns NaN.
        ValueError: The prompt and its continuation do not fit into the model's window.
    """
    body = _ExcludeTokens(index, frozenset((*rows.opening, *rows.delimiter)))
    beam_options = BeamOptions(width=options.width, max_tokens=options.max_tokens)
    query = truncate_query(model, [unit, "title"] if options.title_width else [unit], query)
    candidates = query_ngrams(rows, query, options.query_words)
    ngrams = [ngram for ngram in candidates if index.find(ngram) is not None]
    prompt = prompt_for(unit, query, model.prompts)
    prompts: list[str] = []
    searches: list[tuple[int, Steps[Scored]]] = [
        (0, _body_steps(beam_steps(model.name, body, beam_options)))
    ]
    if options.title_width:
        prompts.append(prompt_for("title", query, model.prompts))
        searches.append((1, _title_steps(model.name, rows, index, options)))
    searches.append((0, score_steps(ngrams[:_SCORE_BATCH])))
    beams = model.begin(prompt, *prompts)
    first: LogProbs = beams.logprobs()[0].copy()
    results = run_searches(beams, searches)
    for i in range(_SCORE_BATCH, len(ngrams), _SCORE_BATCH):
        batch = ngrams[i : i + _SCORE_BATCH]
        results += run_searches(model.begin(prompt), [(0, score_steps(batch))])
    scored: dict[Ngram, float] = {}
    for pairs in results:
        for key, logprob in pairs:
            scored.setdefault(key, logprob)
    for token in _best_unigrams(first, len(scored), body):
        scored.setdefault((token,), float(first[token]))
    if np.isnan(first).any() or any(math.isnan(logprob) for logprob in scored.values()):
        raise ModelError(f"the model {model.name!r} returns NaN; its weights are damaged")
    return Keys(dict(_weighted(scored, index, options.scoring)), first)


def _weighted(
    scored: dict[Ngram, float], index: TokenIndex, options: ScoringOptions
) -> Iterator[tuple[Ngram, Key]]:
    for ngram, logprob in scored.items():
        state = index.find(ngram)
        count = 0 if state is None else index.count(state)
        if not 0 < count <= _MAX_COUNT or logprob == -np.inf:
            continue
        weight = ngram_weight(
            logprob, count, index.n_tokens, smoothing=options.smoothing, alpha=options.alpha
        )
        if weight > 0:
            yield ngram, Key(ngram, logprob, count, weight)


def _body_steps(steps: Steps[list[Hypothesis]]) -> Steps[Scored]:
    """Run a beam search; return its n-grams with their log-probabilities."""
    hypotheses = yield from steps
    return [(hypothesis.tokens, hypothesis.score) for hypothesis in hypotheses]


def _title_steps(
    name: str, rows: RowFormat, index: TokenIndex, options: NgramOptions
) -> Steps[Scored]:
    """Search for complete titles, including the opening and the delimiter."""
    beam_options = BeamOptions(
        width=options.title_width,
        max_tokens=options.title_tokens,
        end_tokens=frozenset(rows.delimiter),
        prefix=rows.opening,
    )
    hypotheses = yield from beam_steps(name, index, beam_options)
    return [
        ((*rows.opening, *hypothesis.tokens), hypothesis.score)
        for hypothesis in hypotheses
        if hypothesis.finished
    ]


def query_ngrams(rows: RowFormat, query: str, max_words: int) -> list[Ngram]:
    """Return the n-grams of up to `max_words` words of the query, in lower and upper case initials.

    Source: SEAL. Deduplicated, ordered by length and position.
    """
    words = query.split()
    ngrams: dict[Ngram, None] = {}
    for n in range(1, max_words + 1):
        for i in range(len(words) - n + 1):
            initials = [(w[:1].lower() + w[1:], w[:1].upper() + w[1:]) for w in words[i : i + n]]
            for variant in itertools.product(*initials):
                tokens = rows.text(" ".join(variant))
                if tokens:
                    ngrams.setdefault(tokens)
    return list(ngrams)


def score_ngrams(beams: Beams, ngrams: Sequence[Ngram]) -> list[float]:
    """Return the log-probability of each n-gram after one prompt; shared prefixes are read once.

    Args:
        beams: A single empty beam; it is consumed.
        ngrams: Non-empty n-grams.
    """
    return [logprob for _, logprob in run_searches(beams, [(0, score_steps(ngrams))])[0]]


def score_steps(ngrams: Sequence[Ngram]) -> Steps[Scored]:
    """Score n-grams as `score_ngrams` does, in steps for `run_searches`."""
    scores = dict.fromkeys(ngrams, 0.0)
    rows: dict[Ngram, int] = {(): 0}  # row of the beams, by the tokens it has read
    request: Advance = ([], [])
    for depth in range(max(map(len, ngrams), default=0)):
        logprobs = yield request
        for ngram in scores:
            if len(ngram) > depth:
                scores[ngram] += float(logprobs[rows[ngram[:depth]], ngram[depth]])
        nodes = list(
            dict.fromkeys(ngram[: depth + 1] for ngram in scores if len(ngram) > depth + 1)
        )
        request = [rows[node[:-1]] for node in nodes], [node[-1] for node in nodes]
        rows = {node: i for i, node in enumerate(nodes)}
    if not ngrams:
        yield request  # a search makes at least one request
    return [(ngram, scores[ngram]) for ngram in ngrams]


def _best_unigrams(first: LogProbs, n: int, body: Constraint) -> list[int]:
    """Return the n most probable first tokens that occur in the corpus, which SEAL adds as keys."""
    tokens = body.successors(body.start())
    order = np.argsort(-first[tokens], kind="stable")[:n]
    return [int(token) for token in tokens[order]]


class _ExcludeTokens:
    """View of an index that excludes some tokens from the successors."""

    def __init__(self, index: TokenIndex, tokens: frozenset[int]) -> None:
        self._index, self._tokens = index, np.array(sorted(tokens), dtype=np.int64)

    def start(self) -> Any:
        return self._index.start()

    def advance(self, state: Any, token: int) -> Any:
        return self._index.advance(state, token)

    def successors(self, state: Any) -> NDArray[np.int64]:
        tokens = self._index.successors(state)
        return tokens[~np.isin(tokens, self._tokens)]
