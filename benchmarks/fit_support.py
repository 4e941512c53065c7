"""Fits the regression of the support check, and measures it set by set beside word overlap.

    python benchmarks/fit_support.py [--pairs N] [--model FOLDER] [--out FILE]

Data: the development sets of `support`, at most N pairs a set. The regression is fitted on the four
sets of answers' sentences with their sources (ExpertQA, Factcheck-GPT, K-QA, WiCE), which is what
the check reads; the figures of each of them come from a fit on the other three. The seven others
are for testing only. AUROC: how often a supported statement scores above another one.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import data_root, heading
from numpy.typing import NDArray

from ragkit.evaluation.datasets.shapes import SupportPair
from ragkit.evaluation.datasets.support import read_support
from ragkit.evaluation.measures import auroc
from ragkit.pair.model import PairModel
from ragkit.readers.support.judge import FEATURES, SupportJudge
from ragkit.types import Chunk, Hit

Array = NDArray[np.float64]
FITTED = ("expertqa", "factcheckgpt", "kqa_nli", "wice")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=300, help="at most this many a set")
    parser.add_argument("--model", type=Path, help="folder of a pair model; default: the shipped")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    result: dict[str, Any] = heading()
    sets: dict[str, list[SupportPair]] = defaultdict(list)
    for example in read_support(data_root(), "dev"):
        sets[example.source].append(example)
    model = PairModel(options.model)
    data = {name: measure(model, pairs, options.pairs) for name, pairs in sorted(sets.items())}
    fitted = [name for name in data if name in FITTED]
    rows = {}
    print(f"{'set':24}{'n':>5}{'overlap':>9}{'head':>9}{'check':>9}")
    for name, (x, y) in data.items():
        weights, bias = fit([data[other] for other in fitted if other != name])
        scores = (x[:, 0], x[:, FEATURES.index("joint")], x @ weights)
        row = [auroc(each.tolist(), (y == 1).tolist()).value or 0.0 for each in scores]
        rows[name] = [round(value, 4) for value in row]
        print(f"{name:24}{len(y):5}" + "".join(f"{value:9.3f}" for value in row), flush=True)
        del bias
    mean = np.mean(list(rows.values()), axis=0)
    print(f"{'mean':24}{'':5}" + "".join(f"{value:9.3f}" for value in mean))
    weights, bias = fit([data[name] for name in fitted])
    print({name: round(float(w), 2) for name, w in zip(FEATURES, weights, strict=True)})
    print("BIAS", round(bias, 2))
    result |= {"auroc of overlap, head, check": rows, "mean": mean.round(4).tolist()}
    result["seconds"] = round(time.process_time())
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(model: PairModel, pairs: Sequence[SupportPair], n: int) -> tuple[Array, Array]:
    """Return the features of at most n pairs, float64 (pairs, features), and their labels."""
    chosen = random.Random(0).sample(list(pairs), min(n, len(pairs)))
    rows = [
        SupportJudge([Hit(Chunk("c", "d", e.evidence, 0, len(e.evidence)), 1.0)], model).measure(
            e.statement
        )[1]
        for e in chosen
    ]
    return np.array(rows), np.array([float(e.label == "supported") for e in chosen])


def fit(parts: Sequence[tuple[Array, Array]], ridge: float = 0.01) -> tuple[Array, float]:
    """Fit a logistic regression in which every set weighs the same."""
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    share = np.concatenate([np.full(len(part[1]), 1 / len(part[1])) for part in parts])
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-9
    design = np.c_[(x - mean) / deviation, np.ones(len(x))]
    penalty = ridge * share.sum() * np.diag([1.0] * x.shape[1] + [0.0])
    w = np.zeros(design.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-design @ w))
        gradient = design.T @ (share * (p - y)) + penalty @ w
        hessian = (design * (share * p * (1 - p))[:, None]).T @ design + penalty
        w -= np.linalg.solve(hessian, gradient)
    weights = w[:-1] / deviation
    return weights, float(w[-1] - weights @ mean)


if __name__ == "__main__":
    main()
