"""Generative retrieval of passages by n-grams that a language model generates.

Source: SEAL (Bevilacqua et al. 2022) for keys and scores; UGR (Chen et al. 2023) for one model that
retrieves passages, documents, sentences and entities, each with its own index and prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from ragkit.indexes.token_layout import TokenLayout
from ragkit.llms.beams import BeamModel
from ragkit.pipeline import Composable, check_queries
from ragkit.retrievers.keys import Keys, NgramOptions, generate_keys
from ragkit.retrievers.ngram_scoring import (
    Match,
    Ngram,
    RowScore,
    candidates,
    score_row,
    unigram_weights,
)
from ragkit.retrievers.rows import RowFormat, row_tokenizer
from ragkit.types import (
    Chunk,
    ChunkIndex,
    ChunkMatch,
    Hit,
    RowHit,
    ScorePart,
    Source,
    TokenIndex,
    Where,
)

Granularity = Literal["passage", "sentence", "document", "entity"]
GRANULARITIES: tuple[Granularity, ...] = ("passage", "sentence", "document", "entity")


class NgramRetriever(Composable):
    """Retrieves passages by n-grams of the corpus that a language model generates for the query.

    `Hit.parts[-1].detail["ngrams"]` lists the matching n-grams: text, offsets in the document (None
    in a title and outside the chunk), count in the corpus, log-probability, weight, and share of
    the score; `detail["unigrams"]` is the share of single tokens.

    A hit is a chunk. A sentence is mapped to the chunk that contains it; a document or an entity (a
    title with the beginning of the document) to the first chunk of the document.

    Args:
        index: Collection to search.
        model: Model that generates n-grams; see `ragkit.llms.beams.load_beam_model`.
        granularity: Unit that is scored.
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
        self.layout = ngram_layout(model, granularity)

    @property
    def source(self) -> Source:
        """Path, generation and embedder fingerprint of the hits."""
        return self._index.source

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that determine the results: index, model and options."""
        return {
            "index": self._index.identity(),
            "model": self._model.identity,
            "granularity": self._granularity,
            "options": asdict(self._options),
        }

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """Return at most k hits per query, each matched by at least one n-gram."""
        check_queries(queries, k)

        runs: list[list[ChunkMatch]] = [[] for _ in queries]
        for attempt in self._index.attempts():
            with attempt as snapshot:
                rows = snapshot.token_rows(self.layout, where)
                if rows is not None:
                    ranked = [self._rank(rows.index, query) for query in queries]
                    runs = [snapshot.best_chunks(rows, run, k) for run in ranked]
                chunks = snapshot.chunks(runs)
        return [
            [
                Hit(
                    chunks[match.number],
                    match.score,
                    (self._part(chunks[match.number], match.detail, rank),),
                )
                for rank, match in enumerate(run, start=1)
            ]
            for run in runs
        ]

    def _rank(self, index: TokenIndex, query: str) -> list[RowHit]:
        keys = generate_keys(
            self._model, self._rows, index, query, self._granularity, self._options
        )
        return [
            RowHit(row.row, row.score, detail=(row, index.row(row.row)))
            for row in rank_rows(index, keys, self._options)
            if row.score > 0 or self._options.scoring.variant == "lm"
        ]

    def _part(self, chunk: Chunk, hit: RowHit, rank: int) -> ScorePart:
        row, tokens = hit.detail
        body = self._rows.body_start(tokens)
        ngrams = [self._explain(chunk, hit.start, tokens, body, match) for match in row.matches]
        detail = {"ngrams": ngrams, "unigrams": round(row.unigrams, 6)}
        return ScorePart("ngram", self._options.scoring.variant, hit.score, rank, detail=detail)

    def _explain(
        self, chunk: Chunk, unit_start: int, tokens: Sequence[int], body: int, match: Match
    ) -> dict[str, Any]:
        key = match.key
        start = end = None
        if match.offset >= body:
            before = self._model.decode([int(t) for t in tokens[body : match.offset]])
            # A row of a document may start before its first chunk, because of leading white space.
            span = _find(before, self._text(key.tokens), chunk.text, unit_start - chunk.start)
            if span is not None:
                start, end = chunk.start + span[0], chunk.start + span[1]
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
    """Rank the rows that contain keys by SEAL's two stages, best first, ties by row."""
    scoring = options.scoring
    if not keys.keys:
        return []
    occurrences = {}
    for ngram, key in keys.keys.items():
        if key.count <= scoring.max_frequency:
            occurrences[ngram] = index.locate(index.find(ngram))
    weights = unigram_weights(keys.first, index.token_counts(), index.n_tokens, scoring)
    unigrams = {token: weight for token, weight in weights.items() if (token,) not in keys.keys}
    rows = candidates(list(keys.keys.values()), occurrences, scoring)
    scored = [score_row(row, index.row(row), keys.keys, unigrams, scoring) for row in rows]
    return sorted(scored, key=lambda row: (-row.score, row.row))


def ngram_layout(model: BeamModel, granularity: Granularity) -> TokenLayout:
    """Return the layout of the token index for a granularity and a model."""
    by_document = granularity in ("document", "entity")
    return TokenLayout(
        kind="ngrams",
        granularity=granularity,
        scope="document" if by_document else "chunk",
        needs_text=granularity == "document",
        tokenizer=model.fingerprint,
        vocab_size=model.vocab_size,
        end_token=model.end_token,
        version=1,
        tokenize=row_tokenizer(RowFormat(model), granularity),
    )


def _find(before: str, text: str, chunk: str, row_start: int) -> tuple[int, int] | None:
    """Return the span of a text in a chunk, ignoring white space; None if it does not match.

    Args:
        before: Text that precedes it in the row.
        text: Text to locate.
        chunk: Text of the chunk.
        row_start: Offset of the row's text in the chunk; may be negative.
    """
    offsets = [i for i in range(max(0, row_start), len(chunk)) if not chunk[i].isspace()]
    expected = "".join(text.split())
    first = len("".join(before.split()))
    matched = offsets[first : first + len(expected)]
    if not expected or "".join(chunk[i] for i in matched) != expected:
        return None
    return matched[0], matched[-1] + 1
