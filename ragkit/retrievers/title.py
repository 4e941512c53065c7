"""Generative retrieval of documents: the model writes a title, and it is one that exists.

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
from ragkit.retrievers.rows import RowFormat, fitted_query, prompt_for, title_tokens
from ragkit.types import ChunkIndex, ChunkMatch, Hit, ScorePart, RowHit, Rows, Source, TokenIndex, Where

_LONGEST = 19  # tokens of an identifier, its end not counted; what is longer is cut


class TitleRetriever(Composable):
    """Documents by their titles, or by other names in their field `aliases`.

    A hit is the document's first chunk; documents without a title are never found, and no more are
    found than there are beams. `Hit.parts[-1].detail["titles"]` lists the names that were written.

    score(title) = Σ_t log p(y_t | y_<t, query) / |y| (GENRE's length penalty of 1; |y| counts the
    end), and a document has its best title's score. `marginalize` sums over its titles instead:
    log Σ_y exp(Σ_t log p(y_t | …) / |y|^0.5).

    Args:
        index: A collection.
        model: Writes the titles; see `ragkit.llms.beams.load_beam_model`.
        width: Beams (GENRE: 5 to 10).
        max_tokens: Most tokens written for a title, its end included (GENRE: 15). Titles are cut to
            19 tokens, so that 20 find all.
        marginalize: See above.
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
            tokenize=title_tokens(self._rows, _LONGEST),
        )

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
            "width": self._options.width,
            "max_tokens": self._options.max_tokens,
            "marginalize": self._marginalize,
        }

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """See `ragkit.types.Retriever`; at most `width` titles are found."""
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
        asked = fitted_query(self._model, ["title"], query)
        prompt = prompt_for("title", asked, self._model.prompts)
        written = beam_search(self._model, prompt, index, self._options)
        names: dict[int, list[tuple[int, Hypothesis]]] = {}  # of each chunk, with their rows
        for hypothesis in written:
            if hypothesis.finished:
                for row in index.locate(hypothesis.state)[0].tolist():
                    names.setdefault(int(chunks[row]), []).append((row, hypothesis))
        hits = []
        for found in names.values():
            titles = [hypothesis for _, hypothesis in found]
            score = score_of(titles, marginalize=self._marginalize)
            hits.append(RowHit(found[0][0], score, detail=self._names(titles)))
        return hits

    def _names(self, found: Sequence[Hypothesis]) -> list[dict[str, Any]]:
        return [
            {
                "text": self._model.decode(each.tokens[:-1]).strip(),
                "logp": round(each.score, 6),
                "tokens": len(each.tokens),
            }
            for each in found
        ]


def score_of(titles: Sequence[Hypothesis], *, marginalize: bool) -> float:
    """A document's score by the titles of it that were written."""
    if not marginalize:
        return max(each.score / len(each.tokens) for each in titles)
    values = [each.score / math.sqrt(len(each.tokens)) for each in titles]
    best = max(values)
    return best + math.log(sum(math.exp(value - best) for value in values))
