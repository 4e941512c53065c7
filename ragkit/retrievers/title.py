"""Generative retrieval of documents by titles, with decoding constrained to existing titles.

Source: GENRE (De Cao et al. 2021); CorpusBrain (Chen et al. 2022) decodes the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ragkit.indexes.token_layout import TokenLayout
from ragkit.llms.beams import BeamModel
from ragkit.llms.search import BeamOptions, Hypothesis, beam_search
from ragkit.pipeline import Composable, check_queries
from ragkit.retrievers.rows import RowFormat, prompt_for, title_tokenizer, truncate_query
from ragkit.types import (
    ChunkIndex,
    ChunkMatch,
    Hit,
    RowHit,
    Rows,
    ScorePart,
    Source,
    TokenIndex,
    Where,
)

_MAX_TITLE_TOKENS = 19  # without the delimiter; longer titles are truncated


class TitleRetriever(Composable):
    """Retrieves documents by their titles, or by alternative names in their field `aliases`.

    A hit is the first chunk of a document. Documents without a title cannot be found, and the
    number of hits is at most the number of beams. `Hit.parts[-1].detail["titles"]` lists the
    generated titles.

    score(title) = Σ_t log p(y_t | y_<t, query) / |y| (GENRE's length penalty of 1; |y| includes the
    delimiter), and the score of a document is that of its best title. `marginalize` sums over its
    titles instead: log Σ_y exp(Σ_t log p(y_t | …) / |y|^0.5).

    Args:
        index: Collection to search.
        model: Model that generates titles; see `ragkit.llms.beams.load_beam_model`.
        width: Number of beams (GENRE: 5 to 10).
        max_tokens: Maximum length of a generated title, including the delimiter (GENRE: 15). Titles
            are truncated to 19 tokens, so that 20 reach all of them.
        marginalize: Sum over the titles of a document, see above.
    """

    def __init__(
        self,
        index: ChunkIndex,
        model: BeamModel,
        *,
        width: int = 10,
        max_tokens: int = 20,
        marginalize: bool = False,
    ) -> None:
        self._index, self._model = index, model
        self._rows = RowFormat(model)
        self._marginalize = marginalize
        self._options = BeamOptions(
            width=width,
            max_tokens=max_tokens,
            end_tokens=frozenset(self._rows.delimiter),
            length_power=1.0,
        )
        self.layout = TokenLayout(
            kind="trie",
            granularity="title",
            scope="document",
            needs_text=False,
            tokenizer=model.fingerprint,
            vocab_size=model.vocab_size,
            end_token=model.end_token,
            version=1,
            tokenize=title_tokenizer(self._rows, _MAX_TITLE_TOKENS),
        )

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
            "width": self._options.width,
            "max_tokens": self._options.max_tokens,
            "marginalize": self._marginalize,
        }

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """Return at most k hits per query, from at most `width` titles."""
        check_queries(queries, k)

        runs: list[list[ChunkMatch]] = [[] for _ in queries]
        for attempt in self._index.attempts():
            with attempt as snapshot:
                rows = snapshot.token_rows(self.layout, where)
                if rows is not None:
                    ranked = [self._rank(rows.index, rows.chunks, query) for query in queries]
                    runs = [snapshot.best_chunks(rows, run, k) for run in ranked]
                chunks = snapshot.chunks(runs)
        return [
            [
                Hit(chunks[number], score, (self._part(score, rank, row),))
                for rank, (number, score, row) in enumerate(run, start=1)
            ]
            for run in runs
        ]

    def _part(self, score: float, rank: int, row: RowHit) -> ScorePart:
        return ScorePart("title", "genre", score, rank, detail={"titles": row.detail})

    def _rank(self, index: TokenIndex, chunks: Rows, query: str) -> list[RowHit]:
        truncated = truncate_query(self._model, ["title"], query)
        prompt = prompt_for("title", truncated, self._model.prompts)
        hypotheses = beam_search(self._model, prompt, index, self._options)
        matches: dict[int, list[tuple[int, Hypothesis]]] = {}  # rows and titles of each chunk
        for hypothesis in hypotheses:
            if hypothesis.finished:
                for row in index.locate(hypothesis.state)[0].tolist():
                    matches.setdefault(int(chunks[row]), []).append((row, hypothesis))
        hits = []
        for chunk_matches in matches.values():
            titles = [hypothesis for _, hypothesis in chunk_matches]
            score = _document_score(titles, marginalize=self._marginalize)
            hits.append(RowHit(chunk_matches[0][0], score, detail=self._describe(titles)))
        return hits

    def _describe(self, titles: Sequence[Hypothesis]) -> list[dict[str, Any]]:
        return [
            {
                "text": self._model.decode(title.tokens[:-1]).strip(),
                "logp": round(title.score, 6),
                "tokens": len(title.tokens),
            }
            for title in titles
        ]


def _document_score(titles: Sequence[Hypothesis], *, marginalize: bool) -> float:
    """Return the score of a document, from its generated titles."""
    if not marginalize:
        return max(title.score / len(title.tokens) for title in titles)
    values = [title.score / math.sqrt(len(title.tokens)) for title in titles]
    best = max(values)
    return best + math.log(sum(math.exp(value - best) for value in values))
