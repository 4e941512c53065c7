"""Training sets for generative retrieval: from passages, and queries where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ragkit.digests import text_digest
from ragkit.finetune.generative.spans import Words, keyword_query, span, span_starts, words_of
from ragkit.finetune.sequences import Example
from ragkit.llms.beams import BeamModel
from ragkit.retrievers.rows import Ngram, RowFormat, prompt_for


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
        temperature: Of drawing spans; see `span_starts`.
    """

    n_spans: int = 3
    n_tokens: int = 10
    passage_share: float = 0.5
    n_passage_spans: int = 2
    temperature: float = 1.0


class SpanTargets:
    """SEAL's examples: passage spans and titles, for queries, and for queries made up of passages.

    Args:
        model: Its tokenizer decides what a token is.
        passages: The corpus.
        pairs: Queries and their passages; may be none.
        options: See `TargetOptions`.
        seed: Of everything drawn.
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
        self._passages, self._pairs = list(passages), list(pairs)
        self._options, self._seed = options, seed
        self._read: dict[int, tuple[Ngram, Words]] = {}

    @cached_property
    def digest(self) -> str:
        """Of passages and pairs."""
        lines = [f"{each.title}\t{each.text}" for each in self._passages]
        lines += [f"{each.query}\t{each.passage}" for each in self._pairs]
        return text_digest("\n".join(lines))

    def epoch(self, number: int) -> list[Example]:
        """The examples of an epoch, in the order they are trained in."""
        random = np.random.default_rng([self._seed, number])
        examples: list[Example] = []
        for pair in self._pairs:
            examples += self._of(pair.query, pair.passage, self._options.n_spans, random)
        n_passages = round(len(self._passages) * self._options.passage_share)
        for at in random.choice(len(self._passages), size=n_passages, replace=False).tolist():
            query = keyword_query(self._passages[at].title, self._tokens(at)[1], random)
            if query:
                examples += self._of(query, at, self._options.n_passage_spans, random)
        return [examples[i] for i in random.permutation(len(examples))]

    def _of(self, query: str, at: int, n: int, random: np.random.Generator) -> list[Example]:
        tokens, words = self._tokens(at)
        starts = span_starts(query, words, n, random, temperature=self._options.temperature)
        spans = [span(tokens, start, self._options.n_tokens) for start in starts]
        title = self._format.title(self._passages[at].title)
        found = [("passage", tuple(spans)), ("title", (title,) if title else ())]
        return [
            Example(tuple(self._model.encode_prompt(prompt_for(unit, query))), targets, unit)
            for unit, targets in found
            if targets
        ]

    def _tokens(self, at: int) -> tuple[Ngram, Words]:
        """A passage's tokens, and its words."""
        if at not in self._read:
            tokens = self._format.text(self._passages[at].text)
            self._read[at] = tokens, words_of([self._model.decode([token]) for token in tokens])
        return self._read[at]
