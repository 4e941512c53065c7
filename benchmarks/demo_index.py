"""The demo index, measured: size, seconds to build, and answers to its own questions.

    python benchmarks/demo_index.py

Builds `indexes/demo` in a temporary folder and asks what `indexes/demo/questions.jsonl` asks.
Success@k: a chunk of the right article is among the first k hits. An answer counts if the answer
string stands in its text after SQuAD's normalisation. The reader gets five hits. Questions without
an answer should be refused. p: success@1 of a trained model against the untrained one, paired
permutation test.

The questions were written together with the articles, some in the articles' words: the table shows
that the index works, it does not compare methods.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from common import ROOT, holds, machine

from ragkit import Collection, ExtractiveReader, load_embedder, load_recipe
from ragkit.collection.collection import RetrieverName
from ragkit.evaluation.statistics import paired_permutation_test
from ragkit.llms.beams import load_beam_model
from ragkit.types import Retriever

K = 5
RETRIEVERS: tuple[RetrieverName, ...] = ("dense", "bm25", "hybrid")
GENERATIVE: tuple[RetrieverName, ...] = ("title", "ngram")


def main() -> None:
    questions = read_questions(ROOT / "indexes" / "demo" / "questions.jsonl")
    recipe = load_recipe(ROOT / "indexes" / "demo")
    settings = recipe.collection_settings
    embedder = load_embedder(settings.embedder)
    embedder.embed_passages(["loads the model, which the build time leaves out"])
    with tempfile.TemporaryDirectory() as folder:
        notes = Collection(Path(folder) / "demo.rag", embedder=embedder, settings=settings)
        started = time.perf_counter()
        notes.add(recipe.paths, metadata=recipe.metadata)
        seconds = time.perf_counter() - started
        info = notes.info()
        print(f"{date.today()}, {machine()}")
        print(
            f"\n{info['documents']['indexed']} documents, {info['chunks']} chunks, "
            f"{info['bytes'] / 1e6:.2f} MB on disk, built in {seconds:.1f} s, "
            f"embedder {info['embedder']['name']} {info['embedder']['fingerprint'][:12]}"
        )
        print_table(notes, questions, recipe.adapter)
        notes.close()


def read_questions(path: Path) -> list[dict[str, Any]]:
    """{question, doc_id, answer}; doc_id and answer are null where the corpus has no answer."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def print_table(notes: Collection, questions: list[dict[str, Any]], adapter: Path | None) -> None:
    answerable = [q for q in questions if q["answer"] is not None]
    n, n_hopeless = len(answerable), len(questions) - len(answerable)
    reader = ExtractiveReader(notes.embedder)
    print(
        f"\n| retriever | success@1 | success@{K} | answered right | refused without need "
        f"| refused rightly | s a question | p |\n|---|---|---|---|---|---|---|---|"
    )
    first: dict[str, list[float]] = {}
    for name, retriever in retrievers(notes, adapter):
        texts = [q["question"] for q in questions]
        retriever.retrieve(texts[:1], K)
        began = time.perf_counter()
        runs = retriever.retrieve(texts, K)
        seconds = (time.perf_counter() - began) / len(texts)
        ranks, right, refused, rightly = [], 0, 0, 0
        for q, run, answer in zip(questions, runs, reader.read(texts, runs), strict=True):
            if q["answer"] is None:
                rightly += answer.refusal is not None
                continue
            found = [hit.chunk.doc_id for hit in run]
            ranks.append(found.index(q["doc_id"]) if q["doc_id"] in found else K)
            right += holds(answer.text, [q["answer"]])
            refused += answer.refusal is not None
        cells = [
            f"{sum(rank < 1 for rank in ranks)} of {n}",
            f"{sum(rank < K for rank in ranks)} of {n}",
            f"{right} of {n}",
            f"{refused} of {n}",
            f"{rightly} of {n_hopeless}",
            f"{seconds:.3f}",
        ]
        first[name] = [float(rank < 1) for rank in ranks]
        base = first.get(name.replace(", trained", ", untrained"))
        is_trained = name.endswith(", trained") and base is not None
        cells.append(f"{paired_permutation_test(base, first[name]):.4f}" if is_trained else "")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def retrievers(notes: Collection, adapter: Path | None) -> Iterator[tuple[str, Retriever]]:
    """Every retriever; the generative ones as they come, and with the recipe's adapter."""
    for name in RETRIEVERS:
        yield name, notes.retriever(name, copies=True)
    models = [("untrained", load_beam_model("smollm2"))]
    if adapter is not None:
        models.append(("trained", load_beam_model("smollm2", adapter=adapter)))
    for label, model in models:
        for name in GENERATIVE:
            yield f"{name}, {label}", notes.retriever(name, model=model, copies=True)


if __name__ == "__main__":
    main()
