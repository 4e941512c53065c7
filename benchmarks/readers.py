"""Which reader answers better with the embedded models? Decides what `--reader auto` is.

    python benchmarks/readers.py [--questions N] [--out FILE]

NQ's development questions (litm_oracle_kv) choose; XQuAD is reported, never chosen on. The corpus
is every gold passage of the set; both readers get the same five hits of the hybrid retriever. An
answer counts if a gold answer stands in its text after SQuAD's normalisation. "Without gold": the
gold passage is taken out of the hits, and the right thing is to refuse. With
--unchecked a third row is SmolLM2 with its unsupported sentences left in. Differences come with a
paired sign-flip permutation test (10,000 draws, seed 0).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import holds, machine, questions_of

from ragkit.collection import Collection
from ragkit.evaluation.splits import split_of
from ragkit.llms import load_llm
from ragkit.readers import ExtractiveReader, LongContextReader
from ragkit.types import Answer, Document, Hit, Reader

K = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=292, help="at most this many a set")
    parser.add_argument("--without-gold", type=int, default=100, help="of these, also without gold")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--unchecked", action="store_true", help="also unsupported sentences")
    options = parser.parse_args()
    print(machine())
    llm = load_llm("smollm2")
    language: dict[str, Reader] = {"smollm2": LongContextReader(llm)}
    if options.unchecked:
        language["unchecked"] = LongContextReader(llm, unsupported="mark")
    passages, questions = questions_of("nq_gold")
    chosen = [q for q in questions if split_of(q["gold"]) == "dev"]
    result = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "k": K}
    result["nq dev"] = compare(
        "nq dev", passages, chosen[: options.questions], options.without_gold, language
    )
    passages, questions = questions_of("xquad")
    every = max(1, len(questions) // options.questions)
    result["xquad en"] = compare(
        "xquad en",
        passages,
        questions[::every][: options.questions],
        options.without_gold,
        language,
    )
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def compare(
    name: str,
    passages: Sequence[Document],
    questions: Sequence[dict[str, Any]],
    n_without: int,
    language: Mapping[str, Reader],
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        collection = Collection(Path(folder) / "c.rag")
        collection.add(passages)
        runs = collection.retriever("hybrid", copies=True).retrieve(
            [q["question"] for q in questions], K + 1
        )
        readers = {"extractive": ExtractiveReader(collection.embedder), **language}
        rows = {key: measure(r, questions, runs, n_without) for key, r in readers.items()}
    found = np.mean(
        [
            any(h.chunk.doc_id == q["gold"] for h in run[:K])
            for q, run in zip(questions, runs, strict=True)
        ]
    )
    print(f"\n{name}: {len(questions)} questions, gold passage among {K} hits: {found:.3f}")
    print(
        f"{'reader':12} {'holds':>6} {'answered':>9} {'words':>6} {'refused':>8} {'s/question':>11}"
    )
    for key, row in rows.items():
        print(
            f"{key:12} {np.mean(row['correct']):6.3f} {row['answered']:9.3f} {row['words']:6.1f} "
            f"{row['refused_without']:8.3f} {row['seconds']:11.2f}"
        )
    p = permutation(rows["extractive"]["correct"], rows["smollm2"]["correct"])
    print(f"extractive - smollm2: paired permutation p = {p:.4f}")
    summary = {
        key: {k: v for k, v in row.items() if k != "correct"}
        | {"holds": float(np.mean(row["correct"]))}
        for key, row in rows.items()
    }
    return {"questions": len(questions), "gold_in_hits": float(found), "p": p, **summary}


def measure(
    reader: Reader,
    questions: Sequence[dict[str, Any]],
    runs: Sequence[Sequence[Hit]],
    n_without: int,
) -> dict[str, Any]:
    start = time.perf_counter()
    answers = _read(reader, questions, [run[:K] for run in runs])
    seconds = (time.perf_counter() - start) / len(questions)
    without = [
        [hit for hit in run if hit.chunk.doc_id != q["gold"]][:K]
        for q, run in zip(questions[:n_without], runs, strict=False)
    ]
    refused = [a.refusal is not None for a in _read(reader, questions[:n_without], without)]
    return {
        "correct": [holds(a.text, q["answers"]) for a, q in zip(answers, questions, strict=True)],
        "answered": float(np.mean([a.refusal is None for a in answers])),
        "words": float(np.mean([len(a.text.split()) for a in answers])),
        "refused_without": float(np.mean(refused)),
        "seconds": seconds,
    }


def _read(
    reader: Reader, questions: Sequence[dict[str, Any]], runs: Sequence[Sequence[Hit]]
) -> list[Answer]:
    answers = []
    for i, (question, hits) in enumerate(zip(questions, runs, strict=True), start=1):
        answers += reader.read([question["question"]], [hits])
        if i % 20 == 0:
            print(f"  {type(reader).__name__} {i}/{len(questions)}", file=sys.stderr)
    return answers


def permutation(a: Sequence[bool], b: Sequence[bool], draws: int = 10_000) -> float:
    """Two-sided p of the mean paired difference under random sign flips."""
    differences = np.array(a, dtype=float) - np.array(b, dtype=float)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (draws, len(differences)))
    null = np.abs((signs * differences).mean(axis=1))
    return float((1 + (null >= abs(differences.mean()) - 1e-12).sum()) / (1 + draws))


if __name__ == "__main__":
    main()
