"""`ragkit tune`: choose settings for a data set."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragkit.cli.common import (
    JsonOption,
    QuietOption,
    note,
    out,
    print_json,
    print_losses,
    resumable,
)
from ragkit.cli.evaluate import DataOption, LenientOption, SplitOption, fill


def tune(
    data: DataOption,
    measure: Annotated[str, typer.Option(help="Measure to optimize.")] = "nDCG@10",
    chunk_tokens: Annotated[str, typer.Option(help="Chunk sizes, separated by commas.")] = "200",
    latency_ms: Annotated[
        float | None, typer.Option(help="Maximum median time per query, in milliseconds.")
    ] = None,
    split: SplitOption = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for the collections, which are reused by later calls."),
    ] = None,
    lenient: LenientOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose chunk size, retriever and fusion on half of the queries; test on the other half."""
    from ragkit.collection import Collection
    from ragkit.collection.description import Settings
    from ragkit.evaluation.datasets import load_retrieval
    from ragkit.evaluation.measures import parse_measure
    from ragkit.evaluation.tuning import Trial, candidate_retrievers, check_budget, retrieval_trial
    from ragkit.evaluation.tuning import tune as choose

    parsed = parse_measure(measure)
    sizes = _sizes(chunk_tokens)
    dataset = load_retrieval(data, split=split, lenient=lenient)
    print_losses(dataset.losses)
    judged = [query for query in dataset.queries if query in dataset.qrels]
    check_budget(len(sizes), judged, latency_ms)
    with ExitStack() as stack:
        stack.enter_context(resumable(to))
        folder = to or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trials: dict[str, Trial] = {}
        for size in sizes:
            path = folder / f"{size}-tokens.rag"
            collection = stack.enter_context(Collection(path, settings=Settings(chunk_tokens=size)))
            fill(collection, dataset, quiet=quiet)
            for name, retriever in candidate_retrievers(collection).items():
                trials[f"{name}, {size} tokens"] = retrieval_trial(
                    retriever, dataset.queries, dataset.qrels, parsed
                )
        result = choose(
            trials,
            judged,
            latency_ms=latency_ms,
            on_round=lambda left, n: None if quiet else note(f"{left} settings, {n} queries"),
        )
    if as_json:
        print_json(asdict(result))
        return
    for n_queries, means in result.rounds:
        out(f"on {n_queries} queries:")
        for name, mean in sorted(means.items(), key=lambda item: -item[1]):
            slow = "  too slow" if name in result.too_slow else ""
            out(f"  {name:32} {mean:.4f}  {result.milliseconds[name]:7.2f} ms{slow}")
    out(str(result))


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--chunk-tokens is {text!r}; expected numbers, e.g. 128,200") from error
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"--chunk-tokens is {text!r}; expected each size only once")
    if min(sizes) < 8:
        raise ValueError(f"--chunk-tokens is {text!r}; expected at least 8")
    return sizes
