"""Training sets for generative retrieval, made from passages and, if available, queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ragkit.digests import text_digest
from ragkit.finetune.generative.spans import Words, keyword_query, span, span_starts, split_words
from ragkit.finetune.generative.ugr import Attention, Context, attention_spans
from ragkit.finetune.sequences import Example
from ragkit.llms.beams import BeamModel
from ragkit.llms.soft_prompts import PROMPTS
from ragkit.retrievers.rows import Ngram, RowFormat, prompt_for

SpanChoice = Literal["query", "attention", "random", "first"]
"""By similarity to the query (SEAL), by a BERT's attention (UGR), at random, from the start."""

_CACHE_SIZE = 1 << 14  # number of queries whose attention is cached


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage to be found."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the index of the passage that answers it."""

    query: str
    passage: int


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Contents of an epoch.

    Attributes:
        n_spans: Number of spans of a pair's passage; each is a target.
        n_tokens: Length of a span, the same as in decoding.
        passage_share: Share of all passages that are trained on without a query in each epoch.
        n_passage_spans: Number of spans of each of these passages.
        temperature: Temperature for drawing spans; see `span_starts` and `attention_spans`.
            Attention weights are small: at 1 spans are drawn almost uniformly, at 0.001 to 0.01
            attention decides.
        choice: How spans are chosen.
        encoder: Encoder whose attention is used, for `ragkit.models.resolve`.
        unit: Kind of the passages, for the prompt: "passage", "document", "sentence", "entity".
    """

    n_spans: int = 3
    n_tokens: int = 10
    passage_share: float = 0.5
    n_passage_spans: int = 2
    temperature: float = 1.0
    choice: SpanChoice = "query"
    encoder: str = "minilm"
    unit: str = "passage"

    def __post_init__(self) -> None:
        for name, least in (("n_spans", 0), ("n_passage_spans", 0), ("n_tokens", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if not 0 <= self.passage_share <= 1 or not self.temperature > 0:
            raise ValueError(
                f"passage_share is {self.passage_share} and temperature is {self.temperature}; "
                "expected a share from 0 to 1 and a temperature above 0"
            )
        if self.choice not in get_args(SpanChoice) or self.unit not in PROMPTS:
            raise ValueError(
                f"choice is {self.choice!r} and unit is {self.unit!r}; expected one of "
                f"{', '.join(get_args(SpanChoice))}, and one of {', '.join(PROMPTS)}"
            )


class SpanTargets:
    """SEAL's examples: spans and titles of passages, for real queries and for made-up ones.

    Args:
        model: Its tokenizer is used.
        passages: The corpus.
        pairs: Queries and their passages; may be empty.
        options: See `TargetOptions`.
        seed: Seed of everything drawn.

    Raises:
        ValueError: The passage of a pair does not exist.
    """

    def __init__(
        self,
        model: BeamModel,
        passages: Sequence[Passage],
        pairs: Sequence[Pair],
        options: TargetOptions,
        *,
        seed: int = 0,
    ) -> None:
        self._model, self._format = model, RowFormat(model)
        self.passages, self._pairs = list(passages), list(pairs)
        self._options, self._seed = options, seed
        self._token_cache: dict[int, tuple[Ngram, Words]] = {}
        self._contexts: dict[int, Context] = {}
        self._importance = lru_cache(maxsize=_CACHE_SIZE)(self._importance_of)
        for pair in self._pairs:
            if not 0 <= pair.passage < len(self.passages):
                raise ValueError(
                    f"the query {pair.query!r} has passage {pair.passage}; expected an index of "
                    f"the {len(self.passages)} passages, from 0"
                )

    @cached_property
    def digest(self) -> str:
        """Digest of passages, pairs, options, seed and tokenizer."""
        passages = [(passage.title, passage.text) for passage in self.passages]
        pairs = [(pair.query, pair.passage) for pair in self._pairs]
        settings = (asdict(self._options), self._seed, self._model.fingerprint)
        return text_digest(json.dumps([passages, pairs, settings]))

    def epoch(self, number: int) -> list[Example]:
        """Return the examples of an epoch, in training order."""
        random = np.random.default_rng([self._seed, number])
        examples: list[Example] = []
        for pair in self._pairs:
            examples += self._examples(pair.query, pair.passage, self._options.n_spans, random)
        share = len(self.passages) * self._options.passage_share
        n_passages = max(round(share), 1 if share else 0)  # at least one, even of a single passage
        for index in random.choice(len(self.passages), size=n_passages, replace=False).tolist():
            query = keyword_query(self.passages[index].title, self._tokens(index)[1], random)
            if query:
                examples += self._examples(query, index, self._options.n_passage_spans, random)
        return [examples[i] for i in random.permutation(len(examples))]

    def _examples(
        self, query: str, index: int, n: int, random: np.random.Generator
    ) -> list[Example]:
        tokens, _ = self._tokens(index)
        starts = self._starts(query, index, n, random)
        spans = [span(tokens, start, self._options.n_tokens) for start in starts]
        title = self._format.title(self.passages[index].title)
        by_unit = [(self._options.unit, tuple(spans)), ("title", (title,) if title else ())]
        return [
            Example(tuple(self._model.encode_prompt(self._prompt(unit, query))), targets, unit)
            for unit, targets in by_unit
            if targets
        ]

    def _prompt(self, unit: str, query: str) -> str:
        return prompt_for(unit, query, self._model.prompts)

    def _starts(self, query: str, index: int, n: int, random: np.random.Generator) -> list[int]:
        """Return the tokens of a passage at which its spans start."""
        choice, temperature = self._options.choice, self._options.temperature
        tokens, words = self._tokens(index)
        if choice == "query":
            return span_starts(query, words, n, random, temperature=temperature)
        if choice == "attention":
            return attention_spans(
                self._importance(query, index), n, random, temperature=temperature
            )
        n_ngrams = max(len(tokens) - self._options.n_tokens + 1, min(len(tokens), 1))
        order = random.permutation(n_ngrams) if choice == "random" else np.arange(n_ngrams)
        return [int(start) for start in order[:n]]

    def _importance_of(self, query: str, index: int) -> NDArray[np.float64]:
        if index not in self._contexts:
            self._contexts[index] = Context.of(self._tokens(index)[0], self._model.decode)
        return self._attention.importance(query, self._contexts[index], self._options.n_tokens)

    @cached_property
    def _attention(self) -> Attention:
        return Attention(self._options.encoder)

    def _tokens(self, index: int) -> tuple[Ngram, Words]:
        """Return the tokens and the words of a passage."""
        if index not in self._token_cache:
            tokens = self._format.text(self.passages[index].text)
            self._token_cache[index] = tokens, split_words(tokens, self._model.decode)
        return self._token_cache[index]
