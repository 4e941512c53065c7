"""Retrieval quality and speed on NFCorpus' test queries.

    python benchmarks/retrieval.py [--out FILE]

Documents are cut into the default 200-token chunks; a document's score is its best chunk's.
Measures come from ir-measures, not from ragkit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import ir_measures
from common import beir, heading
from ir_measures import RR, R, nDCG

from ragkit.collection import Collection
from ragkit.evaluation.runs import best_documents

MEASURES = (nDCG @ 10, R @ 100, RR @ 10)
CHUNKS_A_QUERY = 300  # enough for 100 documents


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    corpus, queries, qrels = beir("nfcorpus")
    result = heading()
    with tempfile.TemporaryDirectory() as folder:
        collection = Collection(Path(folder) / "nfcorpus.rag")
        start = time.perf_counter()
        report = collection.add(corpus)
        result["ingest_s"] = round(time.perf_counter() - start, 1)
        print(f"{report.added} documents, {report.n_chunks} chunks in {result['ingest_s']} s")
        print(f"{'retriever':10}" + "".join(f"{m!s:>10}" for m in MEASURES) + f"{'ms/query':>10}")
        for name in ("dense", "bm25", "hybrid"):
            result[name] = evaluate(collection, name, queries, qrels)
            print(f"{name:10}" + "".join(f"{result[name][str(m)]:10.4f}" for m in MEASURES)
                  + f"{result[name]['ms_per_query']:10.2f}")  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def evaluate(
    collection: Collection, name: Any, queries: dict[str, str], qrels: dict[str, dict[str, int]]
) -> dict[str, float]:
    retriever = collection.retriever(name, copies=True)
    texts = [queries[query] for query in qrels]
    single = texts[:50]
    retriever.retrieve(single[:1], 10)
    start = time.perf_counter()
    for text in single:
        retriever.retrieve([text], 10)
    milliseconds = 1000 * (time.perf_counter() - start) / len(single)
    found = retriever.retrieve(texts, CHUNKS_A_QUERY)
    run = {query: best_documents(hits, 100) for query, hits in zip(qrels, found, strict=True)}
    scores = ir_measures.calc_aggregate(MEASURES, qrels, run)
    return {**{str(m): float(scores[m]) for m in MEASURES}, "ms_per_query": round(milliseconds, 2)}


if __name__ == "__main__":
    main()
