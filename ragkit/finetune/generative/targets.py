"""Training sets for generative retrieval: from passages, and queries where there are some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ragkit.digests import text_digest
from ragkit.finetune.generative.spans import Words, keyword_query, span, span_starts, words_of
from ragkit.finetune.generative.ugr import Attention, Context, attention_spans
from ragkit.finetune.sequences import Example
from ragkit.llms.beams import BeamModel
from ragkit.llms.soft_prompts import PROMPTS
from ragkit.retrievers.rows import Ngram, RowFormat, prompt_for

SpanChoice = Literal["query", "attention", "random", "first"]
"""By likeness to the query (SEAL), by a BERT's attention (UGR), by chance, from the beginning."""

_REMEMBERED = 1 << 14  # queries whose attention is kept


@dataclass(frozen=True, slots=True)
class Passage:
    """What is to be found."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the passage that answers it, by its place."""

    query: str
    passage: int


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What an epoch holds.

    Attributes:
        n_spans: Spans of a pair's passage, each a target.
        n_tokens: Of a span; as many as are decoded.
        passage_share: Share of all passages that are taught without a query in an epoch.
        n_passage_spans: Their spans.
        temperature: Of drawing spans; see `span_starts` and `attention_spans`. Attention is small
            numbers: at 1 they are drawn nearly uniformly, at 0.001 to 0.01 attention decides.
        choice: How spans are chosen.
        encoder: What pays attention, for `ragkit.models.resolve`.
        unit: What the passages are, for the prompt: "passage", "document", "sentence", "entity".
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
                f"passage_share is {self.passage_share} and temperature {self.temperature}; "
                "expected a share from 0 to 1, and above 0"
            )
        if self.choice not in get_args(SpanChoice) or self.unit not in PROMPTS:
            raise ValueError(
                f"choice is {self.choice!r} and unit {self.unit!r}; expected one of "
                f"{', '.join(get_args(SpanChoice))}, and one of {', '.join(PROMPTS)}"
            )


class SpanTargets:
    """SEAL's examples: passage spans and titles, for queries, and for queries made up of passages.

    Args:
        model: Its tokenizer decides what a token is.
        passages: The corpus.
        pairs: Queries and their passages; may be none.
        options: See `TargetOptions`.
        seed: Of everything drawn.

    Raises:
        ValueError: A pair's passage is not there.
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
        self._read: dict[int, tuple[Ngram, Words]] = {}
        self._contexts: dict[int, Context] = {}
        self._importance = lru_cache(maxsize=_REMEMBERED)(self._importance_of)
        for pair in self._pairs:
            if not 0 <= pair.passage < len(self.passages):
                raise ValueError(
                    f"the query {pair.query!r} has passage {pair.passage}; expected a place among "
                    f"the {len(self.passages)} passages, from 0"
                )

    @cached_property
    def digest(self) -> str:
        """Of passages, pairs, options, seed and tokenizer."""
        passages = [(each.title, each.text) for each in self.passages]
        pairs = [(each.query, each.passage) for each in self._pairs]
        how = (asdict(self._options), self._seed, self._model.fingerprint)
        return text_digest(json.dumps([passages, pairs, how]))

    def epoch(self, number: int) -> list[Example]:
        """The examples of an epoch, in the order they are trained in."""
        random = np.random.default_rng([self._seed, number])
        examples: list[Example] = []
        for pair in self._pairs:
            examples += self._of(pair.query, pair.passage, self._options.n_spans, random)
        share = len(self.passages) * self._options.passage_share
        n_passages = max(round(share), 1 if share else 0)  # of a single one as well
        for at in random.choice(len(self.passages), size=n_passages, replace=False).tolist():
            query = keyword_query(self.passages[at].title, self._tokens(at)[1], random)
            if query:
                examples += self._of(query, at, self._options.n_passage_spans, random)
        return [examples[i] for i in random.permutation(len(examples))]

    def _of(self, query: str, at: int, n: int, random: np.random.Generator) -> list[Example]:
        tokens, _ = self._tokens(at)
        starts = self._starts(query, at, n, random)
        spans = [span(tokens, start, self._options.n_tokens) for start in starts]
        title = self._format.title(self.passages[at].title)
        found = [(self._options.unit, tuple(spans)), ("title", (title,) if title else ())]
        return [
            Example(tuple(self._model.encode_prompt(self._prompt(unit, query))), targets, unit)
            for unit, targets in found
            if targets
        ]

    def _prompt(self, unit: str, query: str) -> str:
        return prompt_for(unit, query, self._model.prompts)

    def _starts(self, query: str, at: int, n: int, random: np.random.Generator) -> list[int]:
        """The tokens of a passage at which its spans begin."""
        choice, temperature = self._options.choice, self._options.temperature
        tokens, words = self._tokens(at)
        if choice == "query":
            return span_starts(query, words, n, random, temperature=temperature)
        if choice == "attention":
            return attention_spans(self._importance(query, at), n, random, temperature=temperature)
        n_ngrams = max(len(tokens) - self._options.n_tokens + 1, min(len(tokens), 1))
        order = random.permutation(n_ngrams) if choice == "random" else np.arange(n_ngrams)
        return [int(start) for start in order[:n]]

    def _importance_of(self, query: str, at: int) -> NDArray[np.float64]:
        if at not in self._contexts:
            self._contexts[at] = Context.of(self._tokens(at)[0], self._model.decode)
        return self._attention.importance(query, self._contexts[at], self._options.n_tokens)

    @cached_property
    def _attention(self) -> Attention:
        return Attention(self._options.encoder)

    def _tokens(self, at: int) -> tuple[Ngram, Words]:
        """A passage's tokens, and its words."""
        if at not in self._read:
            tokens = self._format.text(self.passages[at].text)
            self._read[at] = tokens, words_of(tokens, self._model.decode)
        return self._read[at]
