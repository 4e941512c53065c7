"""The demo index, measured: size, seconds to build, and answers to its own questions.

    python benchmarks/demo_index.py

Builds `indexes/demo` in a temporary folder and asks what `indexes/demo/questions.jsonl` asks.
Success@k: a chunk of the right article is among the first k hits. An answer counts if the answer
string stands in its text after SQuAD's normalisation. The reader gets five hits. Questions without
an answer should be refused.

The questions were written together with the articles, some in the articles' words: the table shows
that the index works, it does not compare methods.
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from common import ROOT, holds, machine

from ragkit import QA, Collection, ExtractiveReader, load_embedder, load_recipe
from ragkit.collection import RetrieverName
from ragkit.types import Retriever

K = 5
RETRIEVERS: tuple[RetrieverName, ...] = ("dense", "bm25", "hybrid")


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
        print_table(notes, questions)
        notes.close()


def read_questions(path: Path) -> list[dict[str, Any]]:
    """{question, doc_id, answer}; doc_id and answer are null where the corpus has no answer."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def print_table(notes: Collection, questions: list[dict[str, Any]]) -> None:
    answerable = [q for q in questions if q["answer"] is not None]
    hopeless = [q for q in questions if q["answer"] is None]
    print(
        f"\n| retriever | success@1 | success@{K} | answered right | refused without need "
        f"| refused rightly |\n|---|---|---|---|---|---|"
    )
    for name in RETRIEVERS:
        retriever: Retriever = notes.retriever(name)
        qa = QA(retriever, ExtractiveReader(notes.embedder), k=K)
        runs = retriever.retrieve([q["question"] for q in answerable], K)
        found = [
            [hit.chunk.doc_id for hit in run].index(q["doc_id"])
            if q["doc_id"] in {hit.chunk.doc_id for hit in run}
            else K
            for q, run in zip(answerable, runs, strict=True)
        ]
        answers = qa.ask_many([q["question"] for q in answerable])
        others = qa.ask_many([q["question"] for q in hopeless])
        right = sum(holds(a.text, [q["answer"]]) for q, a in zip(answerable, answers, strict=True))
        cells = [
            f"{sum(rank < 1 for rank in found)} of {len(answerable)}",
            f"{sum(rank < K for rank in found)} of {len(answerable)}",
            f"{right} of {len(answerable)}",
            f"{sum(a.refusal is not None for a in answers)} of {len(answerable)}",
            f"{sum(a.refusal is not None for a in others)} of {len(hopeless)}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
