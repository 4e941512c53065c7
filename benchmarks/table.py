"""The retrieval table: ragkit, bm25s and plain FAISS on five sets; llama-index and txtai on one.

    python benchmarks/table.py [--peers PYTHON] [--to FOLDER] [--out FILE]

All systems search the same 200-token chunks (title, newline, text); a document's score is its best
chunk's. Each system and set is kept in the folder, so that the command goes on after a stop. p is a
paired permutation test against ragkit's hybrid, Holm's correction over a table's rows. The last
table is over all sets: the mean of the sets' means, its sign flips a query at a time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import heading, machine, peer_versions, run_system

from ragkit import __version__
from ragkit.chunking import Chunker
from ragkit.collection import Collection
from ragkit.digests import text_digest
from ragkit.embedders import load_embedder
from ragkit.evaluation.corpora import add_corpus
from ragkit.evaluation.datasets import RetrievalSet, load_retrieval
from ragkit.evaluation.experiment import Experiment
from ragkit.evaluation.measures import R, nDCG
from ragkit.evaluation.runs import SystemRun, make_run
from ragkit.evaluation.statistics import holm, paired_permutation_test

SETS = ("nfcorpus", "cranfield", "vaswani", "cacm", "medline")
MEASURES = (nDCG @ 10, R @ 100)
OURS = ("hybrid", "bm25", "dense")
K, CHUNKS = 100, 300


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--to", type=Path, default=Path(".bench/table"), help="where runs are kept")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    result = heading(options.peers)
    found: dict[str, Experiment] = {}
    for name in SETS:
        peers = ["bm25s", "sentence-transformers"]
        peers += ["llama-index", "txtai"] if name == "cranfield" else []
        found[name] = measure(load_retrieval(name), peers, options)
        print(f"\n{found[name].table()}")
        speeds = {s: 1000 / found[name].milliseconds(s) for s in found[name].runs}
        print("queries/s: " + ", ".join(f"{s} {v:.0f}" for s, v in speeds.items()), flush=True)
        result[name] = {**found[name].to_dict(), "queries_per_s": speeds}
        del result[name]["scores"], result[name]["manifests"]
    result["mean"] = mean_of_sets(found)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(data: RetrievalSet, peers: list[str], options: argparse.Namespace) -> Experiment:
    """Every system's run on one set, and their comparison."""
    # What was made by other versions is not taken for this one's.
    made_by = [machine(), peer_versions(options.peers), __version__, K, CHUNKS]
    folder = options.to / text_digest(repr(made_by))[:8] / data.name
    folder.mkdir(parents=True, exist_ok=True)
    queries = {name: text for name, text in data.queries.items() if name in data.qrels}
    runs = []
    with Collection(folder / "corpus.rag") as collection:
        add_corpus(collection, data)
        for name in OURS:
            file = folder / f"{name}.jsonl"
            runs.append(
                make_run(name, collection.retriever(name, copies=True), queries, K, file=file)
            )
    passages, asked = folder / "passages.jsonl", folder / "queries.json"
    write_chunks(data, passages)
    asked.write_text(json.dumps(queries))
    runs += [peer_run(name, passages, asked, folder, options.peers) for name in peers]
    return Experiment(runs, {q: data.qrels[q] for q in queries}, MEASURES, name=data.name)


def write_chunks(data: RetrievalSet, target: Path) -> None:
    """The chunks that ragkit makes of the corpus, with their titles."""
    if target.exists():
        return
    chunker = Chunker(load_embedder("minilm").tokenizer)
    partial = target.with_suffix(".writing")
    with partial.open("w") as stream:
        for document in data.corpus:
            for number, chunk in enumerate(chunker.chunk(document)):
                text = f"{document.title}\n{chunk.text}" if document.title else chunk.text
                stream.write(json.dumps({"_id": f"{document.id}\t{number}", "text": text}) + "\n")
    partial.rename(target)


def peer_run(name: str, passages: Path, queries: Path, folder: Path, peers: Path) -> SystemRun:
    """A peer's run: its chunks' ids and scores, as documents."""
    target = folder / f"{name}.json"
    if not target.exists():
        partial = folder / f"{name}.json.writing"
        run_system(peers, name, "run", passages, queries, CHUNKS, partial)
        partial.rename(target)
    stored = json.loads(target.read_text())
    run: dict[str, dict[str, float]] = {}
    for query, found in stored["run"].items():
        scores: dict[str, float] = {}
        for passage, score in found:
            scores.setdefault(passage.split("\t")[0], score)
        run[query] = dict(list(scores.items())[:K])
    return SystemRun(name, run, stored["seconds"])


def mean_of_sets(found: Mapping[str, Experiment]) -> list[dict[str, Any]]:
    """The mean of the sets' means, and hybrid against every other system over all queries."""
    systems = [name for name in found[SETS[-1]].runs if all(name in e.runs for e in found.values())]
    rows: list[dict[str, Any]] = []
    print(f"\nmean of {len(found)} sets")
    for measure in map(str, MEASURES):
        n_queries = sum(len(e.values("hybrid", measure)) for e in found.values())

        def weighted(system: str, measure: str = measure, total: int = n_queries) -> Any:
            # Each query weighs as one of its set, so that the mean is the mean of the sets' means.
            values = [e.values(system, measure) for e in found.values()]
            return np.concatenate([v * total / (len(v) * len(found)) for v in values])

        ours = weighted("hybrid")
        p_values = [paired_permutation_test(ours, weighted(s)) for s in systems[1:]]
        for system, p in zip(systems, [None, *holm(p_values)], strict=True):
            mean = float(weighted(system).mean())
            rows.append({"system": system, "measure": measure, "mean": mean, "p_holm": p})
            shown = "" if p is None else f"{mean - float(ours.mean()):+8.4f}  p = {p:.4f}"
            print(f"{system:22} {measure:8} {mean:.4f}  {shown}")
    return rows


if __name__ == "__main__":
    main()
