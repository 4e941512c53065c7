"""Fits the constants of the readers without a language model: which sentence holds the answer?

    python benchmarks/fit_readers.py [extractive | spans] [--model FOLDER]

Each question comes twice, with five hits of the hybrid retriever: as retrieved, where a sentence is
positive if it is from the gold passage and holds an answer; and with the gold passage taken out,
where none is. The model is a logistic regression (Newton's method on standardised features, ridge
1e-5 a row).

extractive  NQ with gold passages (litm_oracle_kv); the corpus is every gold passage. A seeded 35 %
            of the training questions fit the weights, the development questions choose the
            threshold and the share that the second sentence needs.
spans       The pair model has seen the training questions, so the weights are fitted on NQ's
            development questions and on 300 questions of the articles of SQuADShifts that were
            held out of its training. The threshold is chosen on NQ's development questions, whose
            likelihoods come from a regression fitted on the other half of them.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import data_root, holds, machine, questions_of
from numpy.typing import NDArray

from ragkit.collection import Collection
from ragkit.evaluation.splits import split_of
from ragkit.finetune.pair.examples import is_held_out, read_spans
from ragkit.pair.model import PairModel
from ragkit.readers.extractive import FEATURES, Candidate, ExtractiveReader
from ragkit.readers.spans import FEATURES as SPAN_FEATURES
from ragkit.readers.spans import SpanReader
from ragkit.types import Document, Embedder, Hit, Vectors

K = 5
SHARE = 0.35
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
SECOND = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 2.0)  # 2: never
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One question with one run of hits."""

    features: Array  # (candidates, features)
    gold: NDArray[np.bool_]  # from the gold passage, and holds an answer
    holding: NDArray[np.bool_]  # holds an answer, wherever it is from
    candidates: Sequence[Candidate]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("reader", nargs="?", default="extractive", choices=("extractive", "spans"))
    parser.add_argument("--model", type=Path, help="folder of a pair model; default: the shipped")
    options = parser.parse_args()
    print(time.strftime("%Y-%m-%d"), machine())
    passages, questions = questions_of("nq_gold")
    generator = np.random.default_rng(0)
    train = [q for q in questions if split_of(q["gold"]) == "train" and generator.random() < SHARE]
    dev = [q for q in questions if split_of(q["gold"]) == "dev"]
    if options.reader == "spans":
        fit_spans(passages, dev, options.model)
        return
    cases = {
        name: cases_of(passages, chosen, ExtractiveReader)
        for name, chosen in (("train", train), ("dev", dev))
    }
    weights, bias = fit([case for both in cases["train"] for case in both])
    show_weights(FEATURES, weights, bias)
    show_dev(cases["dev"], [likelihoods(both, weights, bias) for both in cases["dev"]])


def fit_spans(
    passages: Sequence[Document], dev: Sequence[dict[str, Any]], model: Path | None
) -> None:
    """Fit the weights of `SpanReader`, and its threshold by halves."""
    pair_model = PairModel(model)

    def reader(embedder: Embedder) -> SpanReader:
        return SpanReader(embedder, pair_model)

    held_out = [
        example
        for example in read_spans(data_root())
        if example.source == "squadshifts" and is_held_out(example.group)
    ]
    names = {text: f"p{i}" for i, text in enumerate(dict.fromkeys(e.passage for e in held_out))}
    chosen = random.Random(3).sample(held_out, 300)
    shifts = cases_of(
        [Document(name, text) for text, name in names.items()],
        [
            {"question": e.question, "gold": names[e.passage],
             "answers": [e.passage[start:end] for start, end in e.spans]}
            for e in chosen
        ],
        reader,
    )  # fmt: skip
    nq = cases_of(passages, dev, reader)
    flat = [case for both in [*nq, *shifts] for case in both]
    weights, bias = fit(flat)
    show_weights(SPAN_FEATURES, weights, bias)
    likely: list[tuple[Array, ...]] = []
    for half in (0, 1):
        others = [*nq[1 - half :: 2], *shifts]
        own = fit([case for both in others for case in both])
        likely += [likelihoods(both, *own) for both in nq[half::2]]
    show_dev([*nq[0::2], *nq[1::2]], likely)


def cases_of(
    passages: Sequence[Document],
    questions: Sequence[dict[str, Any]],
    make: Callable[[Embedder], ExtractiveReader],
) -> list[tuple[Case, Case]]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Collection(f"{folder}/c.rag") as collection:
        collection.add(passages)
        reader = make(Remembering(collection.embedder))
        runs = collection.retriever("hybrid", copies=True).retrieve(
            [question["question"] for question in questions], K + 1
        )
        cases = [pair(reader, *both) for both in zip(questions, runs, strict=True)]
    print(f"{len(cases)} questions, {time.perf_counter() - start:.0f} s", flush=True)
    return cases


def likelihoods(both: Sequence[Case], weights: Array, bias: float) -> tuple[Array, ...]:
    return tuple(1 / (1 + np.exp(-(case.features @ weights + bias))) for case in both)


def show_weights(names: Sequence[str], weights: Array, bias: float) -> None:
    print({name: round(float(w), 2) for name, w in zip(names, weights, strict=True)})
    print("BIAS", round(bias, 2))


def show_dev(cases: Sequence[tuple[Case, Case]], likely: Sequence[tuple[Array, ...]]) -> None:
    best = threshold_table(likely)
    firsts(cases, likely)
    second_table(cases, likely, best)


class Remembering:
    """An embedder that embeds each text once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known.update(zip(new, self._embedder.embed_passages(new), strict=True))
        return np.array([self._known[text] for text in texts])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)


def pair(
    reader: ExtractiveReader, question: dict[str, Any], run: Sequence[Hit]
) -> tuple[Case, Case]:
    """The question with its hits, and with the gold passage taken out."""
    without = [hit for hit in run if hit.chunk.doc_id != question["gold"]]
    cases = []
    for hits in (run[:K], without[:K]):
        candidates = reader.candidates(hits)
        holding = np.array([holds(c.text, question["answers"]) for c in candidates])
        gold = np.array([hits[c.hit].chunk.doc_id == question["gold"] for c in candidates])
        features = reader.features(question["question"], hits, candidates)
        cases.append(Case(features, holding & gold, holding, candidates))
    return cases[0], cases[1]


def fit(cases: Sequence[Case]) -> tuple[Array, float]:
    """Weights and bias on the raw features."""
    x = np.concatenate([case.features for case in cases])  # (sentences, features)
    y = np.concatenate([case.gold for case in cases]).astype(float)  # (sentences,)
    print(f"{len(y)} sentences, {y.mean():.3f} of them positive")
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-9
    design = np.c_[(x - mean) / deviation, np.ones(len(x))]
    ridge = 1e-5 * len(y) * np.diag([1.0] * x.shape[1] + [0.0])
    w = np.zeros(design.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-design @ w))
        gradient = design.T @ (p - y) + ridge @ w
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge
        w -= np.linalg.solve(hessian, gradient)
    weights = w[:-1] / deviation
    return weights, float(w[-1] - weights @ mean)


def threshold_table(likely: Sequence[tuple[Array, ...]]) -> float:
    """Prints answer rates on dev with and without gold; returns the threshold with the best J."""
    with_gold, without = (np.array([both[i].max(initial=0) for both in likely]) for i in (0, 1))
    print("\nthreshold  answered with gold  without gold  Youden's J")
    rows = {t: (np.mean(with_gold >= t), np.mean(without >= t)) for t in THRESHOLDS}
    for t, (answered, wrongly) in rows.items():
        print(f"{t:9.2f}  {answered:18.3f}  {wrongly:12.3f}  {answered - wrongly:10.3f}")
    return max(rows, key=lambda t: rows[t][0] - rows[t][1])


def firsts(cases: Sequence[tuple[Case, Case]], likely: Sequence[tuple[Array, ...]]) -> None:
    """Prints how often the first, or one of the first two sentences holds an answer."""
    for n in (1, 2):
        found = [
            both[0].holding[np.argsort(-p[0], kind="stable")[:n]].any()
            for both, p in zip(cases, likely, strict=True)
        ]
        print(f"an answer is in the first {n}: {np.mean(found):.3f}")


def second_table(
    cases: Sequence[tuple[Case, Case]], likely: Sequence[tuple[Array, ...]], threshold: float
) -> None:
    """Prints what showing a second sentence brings and costs, by the share it must reach."""
    print(f"\nat threshold {threshold}: second only if at least r times as likely as the first")
    print("    r  holds  mean words  two sentences  a shown second is from another passage")
    for r in SECOND:
        held, words, twos, others = [], [], 0, 0
        for (case, _), (p, _) in zip(cases, likely, strict=True):
            order = np.argsort(-p, kind="stable")[:2]
            shown = [i for i in order[:1] if p[i] >= threshold]
            shown += [i for i in order[1:] if p[i] >= max(threshold, r * p[order[0]])]
            held.append(case.holding[shown].any())
            words.append(sum(len(case.candidates[i].text.split()) for i in shown))
            if len(shown) == 2:
                twos += 1
                others += len({case.candidates[i].hit for i in shown}) == 2
        share = others / max(1, twos)
        print(
            f"{r:5.2f}  {np.mean(held):5.3f}  {np.mean(words):10.1f}  {twos / len(cases):13.3f}"
            f"  {share:10.3f}"
        )


if __name__ == "__main__":
    main()
