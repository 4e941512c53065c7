"""Generative retrieval: a model writes n-grams of the corpus, which say what passage it means.

Source: SEAL (Bevilacqua et al. 2022) for keys and scores, UGR (Chen et al. 2023) for one model over
passages, documents, sentences and entities, each with its own index and prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from ragkit.indexes.token_layout import RowHit, TokenLayout
from ragkit.llms.beams import BeamModel
from ragkit.retrievers.base import ChunkIndex, Composable, check_queries
from ragkit.retrievers.keys import Keys, NgramOptions, keys_of
from ragkit.retrievers.ngram_scoring import (
    Match,
    Ngram,
    RowScore,
    candidates,
    score_row,
    unigram_weights,
)
from ragkit.retrievers.rows import RowFormat, row_tokens
from ragkit.types import Chunk, Hit, Part, Rows, Source, TokenIndex, Where

Granularity = Literal["passage", "sentence", "document", "entity"]
GRANULARITIES: tuple[Granularity, ...] = ("passage", "sentence", "document", "entity")


class NgramRetriever(Composable):
    """Passages by the n-grams a language model writes for the query, which all occur in them.

    `Hit.parts[-1].detail["ngrams"]` lists those that found it: text, place in the document (None in
    a title and outside the chunk), count in the corpus, log-probability, weight, what it added;
    `detail["unigrams"]` is what single tokens added.

    A hit is a chunk. Sentences find the chunk they stand in, documents and entities (a title with
    the document's beginning) the document's first chunk.

    Args:
        index: A collection.
        model: Writes the n-grams; see `ragkit.llms.beams.load_beam_model`.
        granularity: What is scored.
        options: See `NgramOptions`.
    """

    def __init__(
        self,
        index: ChunkIndex,
        model: BeamModel,
        *,
        granularity: Granularity = "passage",
        options: NgramOptions | None = None,
    ) -> None:
        if granularity not in GRANULARITIES:
            raise ValueError(
                f"granularity is {granularity!r}; expected one of {', '.join(GRANULARITIES)}"
            )
        self._index, self._model = index, model
        self._granularity, self._options = granularity, options or NgramOptions()
        self._rows = RowFormat(model)
        self.layout = layout_of(model, granularity)

    @property
    def source(self) -> Source:
        """Where the hits come from."""
        return self._index.source

    @property
    def settings(self) -> dict[str, Any]:
        """The index, the model and how it is asked."""
        return {
            "index": self._index.identity(),
            "model": self._model.identity,
            "granularity": self._granularity,
            "options": asdict(self._options),
        }

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """See `ragkit.types.Retriever`; chunks that no n-gram found are no hits."""
        check_queries(queries, k)

        def search(index: TokenIndex, _: Rows) -> list[list[RowHit]]:
            return [self._rank(index, query) for query in queries]

        runs = self._index.search_tokens(self.layout, search, len(queries), k, where)
        return [
            [
                Hit(chunk, found.score, (self._part(chunk, found, rank),))
                for rank, (chunk, found) in enumerate(run, start=1)
            ]
            for run in runs
        ]

    def _rank(self, index: TokenIndex, query: str) -> list[RowHit]:
        keys = keys_of(self._model, self._rows, index, query, self._granularity, self._options)
        return [
            RowHit(row.row, row.score, detail=(row, index.row(row.row)))
            for row in rank_rows(index, keys, self._options)
            if row.score > 0 or self._options.scoring.variant == "lm"
        ]

    def _part(self, chunk: Chunk, found: RowHit, rank: int) -> Part:
        row, tokens = found.detail
        body = self._rows.body_start(tokens)
        ngrams = [self._explain(chunk, found.start, tokens, body, match) for match in row.matches]
        detail = {"ngrams": ngrams, "unigrams": round(row.unigrams, 6)}
        return Part("ngram", self._options.scoring.variant, found.score, rank, detail=detail)

    def _explain(
        self, chunk: Chunk, unit_start: int, tokens: Sequence[int], body: int, match: Match
    ) -> dict[str, Any]:
        key = match.key
        start = end = None
        if match.offset >= body:
            before = self._model.decode([int(t) for t in tokens[body : match.offset]])
            # Where the row's text begins within the chunk. A whole document begins before it where
            # white space does.
            place = _find(before, self._text(key.tokens), chunk.text, unit_start - chunk.start)
            if place is not None:
                start, end = chunk.start + place[0], chunk.start + place[1]
        return {
            "text": self._text(key.tokens).strip(),
            "start": start,
            "end": end,
            "count": key.count,
            "logp": round(key.logprob, 6),
            "weight": round(key.weight, 6),
            "added": round(match.added, 6),
        }

    def _text(self, ngram: Ngram) -> str:
        special = {*self._rows.opening, *self._rows.delimiter}
        return self._model.decode([token for token in ngram if token not in special])


def rank_rows(index: TokenIndex, keys: Keys, options: NgramOptions) -> list[RowScore]:
    """SEAL's two stages: the rows that keys found, best first, ties by row."""
    scoring = options.scoring
    if not keys.keys:
        return []
    places = {}
    for ngram, key in keys.keys.items():
        if key.count <= scoring.max_frequency:
            places[ngram] = index.locate(index.find(ngram))
    weights = unigram_weights(keys.first, index.token_counts(), index.n_tokens, scoring)
    unigrams = {token: weight for token, weight in weights.items() if (token,) not in keys.keys}
    rows = candidates(list(keys.keys.values()), places, scoring)
    scored = [score_row(row, index.row(row), keys.keys, unigrams, scoring) for row in rows]
    return sorted(scored, key=lambda each: (-each.score, each.row))


def layout_of(model: BeamModel, granularity: Granularity) -> TokenLayout:
    """The rows of a granularity for a model."""
    whole = granularity in ("document", "entity")
    return TokenLayout(
        kind="ngrams",
        granularity=granularity,
        scope="document" if whole else "chunk",
        needs_text=granularity == "document",
        tokenizer=model.fingerprint,
        vocab_size=model.vocab_size,
        end_token=model.end_token,
        version=1,
        tokenize=row_tokens(RowFormat(model), granularity),
    )


def _find(before: str, text: str, chunk: str, begins: int) -> tuple[int, int] | None:
    """Where a piece of text stands in a chunk, white space aside; None if it is not there.

    Args:
        before: What stands before it in its row.
        text: The piece.
        chunk: The chunk's text.
        begins: Where the row's text begins in the chunk.
    """
    places = [i for i in range(max(0, begins), len(chunk)) if not chunk[i].isspace()]
    wanted = "".join(text.split())
    first = len("".join(before.split()))
    span = places[first : first + len(wanted)]
    if not wanted or "".join(chunk[i] for i in span) != wanted:
        return None
    return span[0], span[-1] + 1
