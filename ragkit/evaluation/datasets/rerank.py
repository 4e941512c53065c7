"""Pools to be reranked: TREC DL 2019 with BM25's first 100, and NovelEval."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.faults import Faults, Malformed
from ragkit.evaluation.datasets.passages import Passages
from ragkit.evaluation.datasets.reading import (
    Source,
    identifier,
    items,
    json_values,
    lines,
    mapping,
    once,
    query_text,
    short,
    text,
)
from ragkit.evaluation.datasets.shapes import RerankSet
from ragkit.evaluation.datasets.trec import judgements, topics
from ragkit.types import Document


def read_rerank(
    hits: str | Path, qrels: str | Path, *, name: str = "", lenient: bool = False
) -> RerankSet:
    """Retrieved passages as rank_llm stores them, with TREC judgements.

    Args:
        hits: A JSON array of {query, hits: [{content, qid, docid, rank, score}]}.
        qrels: The judgements; they may judge passages outside of the pool.
        name: The set's name; default: the file's.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed, or a judged query has no hits.

    Source:
        Pradeep et al. 2023, https://github.com/castorini/rank_llm.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    queries: dict[str, str] = {}
    run: dict[str, dict[str, float]] = {}
    source = Source(Path(hits))
    for place, value in json_values(source, faults):
        with faults.at(place):
            row = mapping(value)
            rows = [mapping(hit) for hit in items(row, "hits")]
            if not rows:
                raise Malformed("no hits", "delete the query or add its hits")
            query = identifier(rows[0], "qid")
            once(queries, query, "query")
            words = query_text(row, "query")
            scores: dict[str, float] = {}
            for hit in rows:
                key = identifier(hit, "docid")
                once(scores, key, "document")
                scores[key] = _score(hit.get("score"))
                passages.add(key, text(hit, "content"), "")
            queries[query] = words
            run[query] = dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
    judged = judgements(Source(Path(qrels)), faults, queries=queries)
    return RerankSet(
        name or source.path.stem, "test", passages.all(), queries, judged, faults.losses(), run
    )


def read_noveleval(path: str | Path, *, lenient: bool = False) -> RerankSet:
    """NovelEval: corpus.tsv, queries.tsv, qrels.txt.

    The first stage is the web search's order, which is that of the judgements: the first of n
    candidates has score n, the last has 1.

    Args:
        path: The folder.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A file is missing, or a line is malformed.

    Source:
        Sun et al. 2023, https://github.com/sunnweiwei/RankGPT.
    """
    folder = Path(path)
    faults = Faults(lenient=lenient)
    corpus: dict[str, Document] = {}
    for place, line in lines(Source(folder / "corpus.tsv"), faults):
        with faults.at(place):
            key, tab, words = line.partition("\t")
            if not tab or not key:
                raise Malformed("no id and tab", "each line is id, tab, text")
            once(corpus, key, "document")
            corpus[key] = Document(key, words)
    queries = topics(Source(folder / "queries.tsv"), faults)
    qrels = judgements(Source(folder / "qrels.txt"), faults, documents=corpus, queries=queries)
    run = {
        query: {key: float(len(judged) - place) for place, key in enumerate(judged)}
        for query, judged in qrels.items()
    }
    documents = tuple(corpus.values())
    return RerankSet("noveleval", "test", documents, queries, qrels, faults.losses(), run)


def _score(value: Any) -> float:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise Malformed(f"score {short(value)}", "a score is a finite number")
