"""Where the time of a generative query goes, and what the constraint costs.

    python benchmarks/generative_query.py [--n 30] [--to .bench/generative] [--out FILE]

Queries are test questions of litm_oracle_kv, the collection and the adapter those of
`generative.py`, the retriever is `ngram` at beam 5 and 10 tokens. Shares are wall time of each
part's entry points; parts do not overlap. The constraint is measured in one run with the same beam
search without it, alternating: it may write any token then.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import BENCHMARKS, data_root, heading
from numpy.typing import NDArray
from time_shares import show, timed

from ragkit.collection import Collection
from ragkit.evaluation.datasets import read_litm
from ragkit.evaluation.splits import split_of
from ragkit.indexes.token_segments import SegmentedSuffixes
from ragkit.llms.beams import _TorchBeams, load_beam_model
from ragkit.llms.search import BeamOptions, beam_search
from ragkit.retrievers import ngram
from ragkit.retrievers.keys import NgramOptions
from ragkit.retrievers.rows import prompt_for

PARTS: dict[str, list[tuple[Any, str]]] = {
    "language model": [(_TorchBeams, "_forward")],
    "keys and values of the beams": [(_TorchBeams, "_select")],
    "what may follow": [(SegmentedSuffixes, "successors")],
    "counts and places of n-grams": [
        (SegmentedSuffixes, "find"), (SegmentedSuffixes, "count"), (SegmentedSuffixes, "locate"),
    ],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--n", type=int, default=30, help="queries")
    parser.add_argument("--to", type=Path, default=Path(".bench/generative"))
    parser.add_argument("--out", type=Path, help="default: results/<date>-generative-query.json")
    options = parser.parse_args()
    data = read_litm(data_root() / "litm_oracle_kv" / "nq-open-oracle.jsonl.gz")
    asked = [q.text for q in data.questions if split_of(q.gold[0]) == "test"][: options.n]
    result = heading()
    collection = Collection(options.to / "litm.rag")
    adapter = options.to / "litm" / "adapter"
    model = load_beam_model("smollm2", adapter=adapter if adapter.exists() else None)
    how = NgramOptions(width=5, title_width=5)
    retriever = collection.retriever("ngram", model=model, options=how, copies=True)
    retriever.retrieve(asked[:1], 10)
    seconds = [_seconds(partial(retriever.retrieve, [query], 10)) for query in asked]
    result["milliseconds"] = {
        "median": 1000 * statistics.median(seconds),
        "least": 1000 * min(seconds),
        "most": 1000 * max(seconds),
    }
    print({name: round(value) for name, value in result["milliseconds"].items()})
    with timed(PARTS) as spent:
        total = sum(_seconds(partial(retriever.retrieve, [query], 10)) for query in asked)
    result["shares"] = show(f"{len(asked)} queries", spent, total)
    result["constraint"] = constraint_cost(collection, model, asked)
    out = options.out or BENCHMARKS / "results" / f"{result['date']}-generative-query.json"
    out.write_text(json.dumps(result, indent=1) + "\n")


class Anything:
    """Writes any token."""

    def __init__(self, vocab_size: int) -> None:
        self._all = np.arange(vocab_size)

    def start(self) -> int:
        return 0

    def advance(self, state: int, token: int) -> int:
        return state

    def successors(self, state: int) -> NDArray[np.int64]:
        return self._all


def constraint_cost(collection: Collection, model: Any, asked: list[str]) -> dict[str, float]:
    """Medians of the same search with and without the constraint."""
    how = BeamOptions(width=5, max_tokens=10)
    free = Anything(model.vocab_size)
    found: dict[str, list[float]] = {"constrained": [], "free": []}

    rows = collection.snapshot().token_rows(ngram.ngram_layout(model, "passage"), None)
    assert rows is not None
    for query in asked:
        prompt = prompt_for("passage", query, model.prompts)
        for name, constraint in (("constrained", rows.index), ("free", free)):
            seconds = _seconds(partial(beam_search, model, prompt, constraint, how))
            found[name].append(seconds)
    cost = {name: 1000 * statistics.median(times) for name, times in found.items()}
    cost["ratio"] = statistics.median(
        a / b for a, b in zip(found["constrained"], found["free"], strict=True)
    )
    print(cost)
    return cost


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
