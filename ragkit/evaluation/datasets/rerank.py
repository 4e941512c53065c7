"""Readers of pools for reranking: TREC DL 2019 with the first 100 hits of BM25, and NovelEval."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.faults import Faults, Malformed
from ragkit.evaluation.datasets.passages import Passages
from ragkit.evaluation.datasets.reading import (
    Source,
    abbreviate,
    as_object,
    check_unique,
    get_id,
    get_list,
    get_query,
    get_string,
    json_values,
    read_lines,
)
from ragkit.evaluation.datasets.shapes import RerankSet
from ragkit.evaluation.datasets.trec import judgements, topics
from ragkit.types import Document


def read_rerank(
    hits: str | Path, qrels: str | Path, *, name: str = "", lenient: bool = False
) -> RerankSet:
    """Read retrieved passages in rank_llm's format, with TREC judgements.

    Args:
        hits: A JSON array of {query, hits: [{content, qid, docid, rank, score}]}.
        qrels: The judgements; they may judge passages outside the pool.
        name: Name of the data set; default: that of the file.
        lenient: Skip malformed records and list them in `losses`.

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
    for location, value in json_values(source, faults):
        with faults.at(location):
            row = as_object(value)
            rows = [as_object(hit) for hit in get_list(row, "hits")]
            if not rows:
                raise Malformed("no hits", "delete the query or add its hits")
            query = get_id(rows[0], "qid")
            check_unique(queries, query, "query")
            words = get_query(row, "query")
            scores: dict[str, float] = {}
            for hit in rows:
                key = get_id(hit, "docid")
                check_unique(scores, key, "document")
                scores[key] = _score(hit.get("score"))
                passages.add(key, get_string(hit, "content"), "")
            queries[query] = words
            run[query] = dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
    judged = judgements(Source(Path(qrels)), faults, queries=queries)
    return RerankSet(
        name or source.path.stem, "test", passages.all(), queries, judged, faults.losses(), run
    )


def read_noveleval(path: str | Path, *, lenient: bool = False) -> RerankSet:
    """Read NovelEval: corpus.tsv, queries.tsv, qrels.txt.

    The first stage is a web search, whose order is that of the judgements: the first of n
    candidates has the score n, the last has 1.

    Args:
        path: The folder.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A file is missing, or a line is malformed.

    Source:
        Sun et al. 2023, https://github.com/sunnweiwei/RankGPT.
    """
    folder = Path(path)
    faults = Faults(lenient=lenient)
    corpus: dict[str, Document] = {}
    for location, line in read_lines(Source(folder / "corpus.tsv"), faults):
        with faults.at(location):
            key, tab, words = line.partition("\t")
            if not tab or not key:
                raise Malformed("no id and tab", "each line is id, tab, text")
            check_unique(corpus, key, "document")
            corpus[key] = Document(key, words)
    queries = topics(Source(folder / "queries.tsv"), faults)
    qrels = judgements(Source(folder / "qrels.txt"), faults, documents=corpus, queries=queries)
    run = {
        query: {key: float(len(judged) - rank) for rank, key in enumerate(judged)}
        for query, judged in qrels.items()
    }
    documents = tuple(corpus.values())
    return RerankSet("noveleval", "test", documents, queries, qrels, faults.losses(), run)


def _score(value: Any) -> float:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise Malformed(f"score {abbreviate(value)}", "a score is a finite number")
