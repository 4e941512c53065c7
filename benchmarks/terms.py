"""The terms of BM25 against plain words, on five sets with judgements.

    python benchmarks/terms.py [--hybrid] [--out FILE]

The baseline are lower-cased words of two letters or more, without stop words, stemmed. Whole
documents are indexed; measures come from ir-measures, p-values from a paired sign-flip permutation
test over the queries, corrected by Holm over the five sets. With --hybrid, both are fused with the
vectors of MiniLM (of documents cut at its window) by reciprocal rank, 100 candidates each.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
from common import data_root, heading
from ir_measures import R, nDCG

from ragkit.embedders import load_embedder
from ragkit.evaluation.datasets import load_retrieval
from ragkit.evaluation.statistics import holm, paired_permutation_test
from ragkit.indexes.bm25 import BM25Index, Postings
from ragkit.indexes.terms import TermAnalyzer
from ragkit.retrievers.hybrid import fuse_scores
from ragkit.types import Analyzer, Vectors

SETS = ("nfcorpus", "cranfield", "medline", "vaswani", "cacm")
MEASURES = (nDCG @ 10, R @ 100)
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with".split()
)


class PlainWords(TermAnalyzer):
    """Words of two letters or more, as in scikit-learn, without stop words, stemmed."""

    def terms(self, text: str) -> list[str]:
        """Return the terms of one text."""
        words = re.findall(r"\b\w\w+\b", text.lower())
        return self._stem([word for word in words if word not in STOP_WORDS])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hybrid", action="store_true", help="fuse with vectors; minutes")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    result: dict[str, Any] = heading()
    p_values = []
    for name in SETS:
        vectors = embed(name) if options.hybrid else None
        plain, ours = (
            evaluate(name, analyzer, vectors) for analyzer in (PlainWords(), TermAnalyzer())
        )
        result[name] = {"n_queries": len(plain["values"][0])}
        for i, measure in enumerate(MEASURES):
            a, b = plain["values"][i], ours["values"][i]
            p = paired_permutation_test(a, b)
            p_values.append(p)
            figures = {"plain": sum(a) / len(a), "ragkit": sum(b) / len(b), "p": p}
            result[name][str(measure)] = {key: round(value, 4) for key, value in figures.items()}
        result[name]["terms_s"] = {"plain": plain["seconds"], "ragkit": ours["seconds"]}
        print(name, json.dumps(result[name]), flush=True)
    result["smallest_p_holm"] = round(min(holm(p_values)), 4)
    print(f"smallest p after Holm's correction: {result['smallest_p_holm']}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def embed(name: str) -> tuple[Vectors, Vectors]:
    """Return the vectors of a set's documents and of its judged queries."""
    embedder = load_embedder("minilm")
    data = load_retrieval(name, root=data_root())
    texts = [f"{doc.title}\n{doc.text}" if doc.title else doc.text for doc in data.corpus]
    queries = [data.queries[query] for query in data.qrels if query in data.queries]
    return embedder.embed_passages(texts), embedder.embed_queries(queries)


def evaluate(
    name: str, analyzer: Analyzer, vectors: tuple[Vectors, Vectors] | None
) -> dict[str, Any]:
    """Return each measure's values of the judged queries in one order, and the seconds."""
    data = load_retrieval(name, root=data_root())
    documents = list(data.corpus)
    texts = [f"{doc.title}\n{doc.text}" if doc.title else doc.text for doc in documents]
    start = time.process_time()
    term_lists = [analyzer.terms(text) for text in texts]
    seconds = time.process_time() - start
    queries = [query for query in data.qrels if query in data.queries]
    found = BM25Index(Postings.build(term_lists)).search(
        [analyzer.terms(data.queries[query]) for query in queries], 100
    )
    run = {
        query: {documents[row].id: float(s) for s, row in zip(*pair, strict=True) if row >= 0}
        for query, *pair in zip(queries, *found, strict=True)
    }
    if vectors is not None:
        scores = vectors[1] @ vectors[0].T  # (queries, documents)
        for query, row in zip(queries, scores, strict=True):
            best = np.argsort(-row, kind="stable")[:100]
            dense = {documents[i].id: float(row[i]) for i in best}
            run[query] = fuse_scores([run[query], dense], "rrf", [1.0, 1.0])
    qrels = {query: dict(data.qrels[query]) for query in queries}
    values: dict[Any, dict[str, float]] = {measure: {} for measure in MEASURES}
    for metric in ir_measures.iter_calc(MEASURES, qrels, run):
        values[metric.measure][metric.query_id] = metric.value
    table = [[values[measure].get(query, 0.0) for query in queries] for measure in MEASURES]
    return {"values": table, "seconds": round(seconds, 2)}


if __name__ == "__main__":
    main()
