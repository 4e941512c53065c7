"""Generative retrieval beside BM25 and dense vectors: NQ's questions with their gold passages.

    python benchmarks/generative.py train [--tokens N]      an adapter; goes on where it stopped
    python benchmarks/generative.py measure [--adapter DIR] [--max-queries N]

The corpus is all 2,600 passages of litm_oracle_kv. Questions are split by their gold passage's id:
70 % train the adapter, 10 % choose (early stopping, fusion weights), 20 % test. Fusion weights are
fitted on the questions that choose, not on those that trained: an adapter knows its own questions.
Every run is kept in the folder --to, so that the same command goes on after a stop, and --only
lets two processes share the work. p is a paired
permutation test, Holm's correction, against the two-way hybrid.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import BENCHMARKS, data_root, heading

from ragkit.collection import Collection
from ragkit.evaluation.datasets import QASet, read_litm
from ragkit.evaluation.experiment import Experiment
from ragkit.evaluation.fusion import ablate, fit_fusion
from ragkit.evaluation.measures import Rprec, Success, nDCG
from ragkit.evaluation.runs import SystemRun, make_run
from ragkit.evaluation.splits import split_of
from ragkit.finetune import TrainOptions, TrainProgress
from ragkit.finetune.generative import (
    GenerativeOptions,
    Pair,
    Passage,
    SpanTargets,
    TargetOptions,
    train_generative,
)
from ragkit.llms.beams import CausalBeams, load_beam_model
from ragkit.retrievers.keys import NgramOptions

K = 100
MEASURES = (Rprec, Success @ 1, Success @ 5, Success @ 20)
WIDTH, TITLE_WIDTH = 5, 5
PARTS = ("bm25", "dense", "ngram trained")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("job", choices=("train", "measure"))
    parser.add_argument("--to", type=Path, default=Path(".bench/generative"))
    parser.add_argument("--tokens", type=float, default=1.2e6, help="the training budget")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adapter", type=Path, help="default: the trained one in --to")
    parser.add_argument(
        "--only", help="make the runs of systems with this in their names, no table"
    )
    parser.add_argument("--max-queries", type=int, help="of each split")
    parser.add_argument("--out", type=Path, help="default: results/<date>-generative.json")
    options = parser.parse_args()
    data = read_litm(data_root() / "litm_oracle_kv" / "nq-open-oracle.jsonl.gz")
    if options.job == "train":
        train(data, options)
    else:
        measure(data, options)


def train(data: QASet, options: argparse.Namespace) -> None:
    documents = list(data.passages)
    place = {document.id: i for i, document in enumerate(documents)}
    passages = [Passage(document.title, document.text) for document in documents]
    pairs: dict[str, list[Pair]] = {"train": [], "dev": [], "test": []}
    for question in data.questions:
        gold = question.gold[0]
        pairs[split_of(gold)].append(Pair(question.text, place[gold]))
    model = load_beam_model("smollm2")
    assert isinstance(model, CausalBeams)
    targets = SpanTargets(model, passages, pairs["train"], TargetOptions(), seed=options.seed)
    held = TargetOptions(n_spans=2, passage_share=0.0)
    dev = SpanTargets(model, passages, pairs["dev"], held, seed=options.seed + 1).epoch(0)
    how = TrainOptions(max_tokens=int(options.tokens), learning_rate=1e-3, seed=options.seed)
    about = {"data": "litm_oracle_kv (NQ, CC BY-SA 3.0), 70 % of the questions, all passages"}
    began, shown = time.monotonic(), 0.0

    def progress(now: TrainProgress) -> None:
        nonlocal shown
        if time.monotonic() - shown > 20:
            shown = time.monotonic()
            print(f"{shown - began:.0f} s: {now.tokens:,} of {now.max_tokens:,} tokens, loss "
                  f"{now.loss:.3f}, dev {now.dev_loss}", file=sys.stderr, flush=True)  # fmt: skip

    report = train_generative(
        model, targets, options.to / "litm", GenerativeOptions(train=how, about=about),
        dev=dev, on_progress=progress,
    )  # fmt: skip
    print(report)


def measure(data: QASet, options: argparse.Namespace) -> None:
    result = heading()
    collection = Collection(options.to / "litm.rag")
    if not (options.to / "litm.rag").exists():
        collection.add(list(data.passages))
    adapter = options.adapter or options.to / "litm" / "adapter"
    questions = {"dev": {}, "test": {}}  # type: dict[str, dict[str, str]]
    for question in data.questions:
        split = split_of(question.gold[0])
        if split in questions and len(questions[split]) < (
            options.max_queries or len(data.questions)
        ):
            questions[split][question.id] = question.text
    qrels = {q.id: dict.fromkeys(q.gold, 1) for q in data.questions}
    runs: dict[str, dict[str, SystemRun]] = {"dev": {}, "test": {}}
    for name, retriever in systems(collection, adapter):
        if options.only and options.only not in name:
            continue
        for split in ("test", "dev") if name in PARTS else ("test",):
            file = options.to / "runs" / f"{split}-{name.replace(' ', '-').replace(',', '')}.jsonl"
            runs[split][name] = make_run(
                name, retriever, questions[split], K, file=file, on_query=_shown(f"{name}, {split}")
            )
    if options.only:
        return
    test = {query: qrels[query] for query in questions["test"]}
    dev = {query: qrels[query] for query in questions["dev"]}
    fits = {
        n: fit_fusion([runs["dev"][name] for name in PARTS[:n]], dev, nDCG @ 10) for n in (2, 3)
    }
    result |= table(runs["test"], test, fits)
    result["fusion"] = {
        n: {"method": fit.method, "weights": dict(fit.weights), "mean": fit.mean,
            "validated": fit.validated}
        for n, fit in fits.items()
    }  # fmt: skip
    result |= {"n_test": len(test), "n_dev": len(dev), "width": WIDTH}
    result["milliseconds"] = {
        name: round(1000 * statistics.median(run.seconds.values()), 1)
        for name, run in runs["test"].items()
    }
    about = adapter / "ragkit.json"
    result["adapter"] = json.loads(about.read_text()) if about.exists() else {}
    out = options.out or BENCHMARKS / "results" / f"{result['date']}-generative.json"
    out.write_text(json.dumps(result, indent=1) + "\n")


def systems(collection: Collection, adapter: Path) -> list[tuple[str, Any]]:
    """Every system; one base model and one trained one are loaded."""
    base = load_beam_model("smollm2")
    found: list[tuple[str, Any]] = [
        (n, collection.retriever(n, copies=True)) for n in ("bm25", "dense")
    ]
    models = [("zero-shot", base)]
    if (adapter / "adapter_config.json").exists():
        models.append(("trained", load_beam_model("smollm2", adapter=adapter)))
    for label, model in models:
        found.append((f"title {label}", collection.retriever("title", model=model, copies=True)))
        for more, words in (("", 3), (", no query n-grams", 0)):
            how = NgramOptions(width=WIDTH, title_width=TITLE_WIDTH, query_words=words)
            retriever = collection.retriever("ngram", model=model, options=how, copies=True)
            found.append((f"ngram {label}{more}", retriever))
    return found


def table(
    runs: dict[str, SystemRun], qrels: Mapping[str, Mapping[str, int]], fits: dict[int, Any]
) -> dict[str, Any]:
    from ragkit.evaluation.fusion import fuse_runs

    fused = [
        fuse_runs(f"{n} fused", [runs[name] for name in PARTS[:n]], fit.method,
                  [fit.weights[name] for name in PARTS[:n]])
        for n, fit in fits.items()
    ]  # fmt: skip
    experiment = Experiment([*runs.values(), *fused], qrels, MEASURES, baseline="2 fused")
    ablation = ablate([runs[name] for name in PARTS], qrels, MEASURES, fits[3])
    for title, each in (("systems", experiment), ("ablation of 3 fused", ablation)):
        print(f"\n{title}")
        for row in each.rows:
            p = "" if row.p_holm is None else f"{row.difference:+.3f}, p = {row.p_holm:.4f}"
            print(f"{row.system:32} {row.measure:10} {row.mean:.3f} "
                  f"({row.low:.3f} to {row.high:.3f}) {p}")  # fmt: skip
    rows = {"systems": experiment.rows, "ablation": ablation.rows}
    return {name: [_plain(row) for row in each] for name, each in rows.items()}


def _plain(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}


def _shown(label: str) -> Any:
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        print(f"{time.monotonic() - began:.0f} s: {label} {done}/{total}", file=sys.stderr)

    return show


if __name__ == "__main__":
    main()
