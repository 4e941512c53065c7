"""`ragkit tune`: choose settings for a data set."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragkit.cli.ask import make_qa
from ragkit.cli.common import (
    InOption,
    JsonOption,
    QuietOption,
    note,
    open_collection,
    out,
    print_json,
    print_losses,
    resumable,
)
from ragkit.cli.corpora import fill
from ragkit.cli.evaluate import DataOption, LenientOption, SplitOption
from ragkit.errors import DatasetError


def tune(
    data: DataOption,
    measure: Annotated[str, typer.Option(help="Measure to optimize.")] = "nDCG@10",
    chunk_tokens: Annotated[str, typer.Option(help="Chunk sizes, separated by commas.")] = "200",
    latency_ms: Annotated[
        float | None, typer.Option(help="Maximum median time per query, in milliseconds.")
    ] = None,
    refusal: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Find the threshold below which `ask` refuses, so that at most this share of its "
            "answers is wrong, at 95 % confidence. Needs --in; --data is a JSON Lines file of "
            "`question` and `answers` (none: to be refused).",
        ),
    ] = None,
    in_: InOption = None,
    split: SplitOption = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for the collections, which are reused by later calls."),
    ] = None,
    lenient: LenientOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose chunk size, retriever and fusion on half of the queries; test on the other half.

    With --refusal: find the threshold of answers.
    """
    if refusal is not None:
        _tune_refusal(Path(data), refusal, in_, as_json=as_json)
        return
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


def _tune_refusal(file: Path, risk: float, in_: Path | None, *, as_json: bool) -> None:
    from ragkit.evaluation.measures import accuracy
    from ragkit.evaluation.refusal import CONFIDENCE, fit_threshold, risk_coverage

    cases = _read_cases(file)
    likelihoods, right = [], []
    with open_collection(in_) as collection:
        qa = make_qa(collection, None, None, None, threshold=0.0)
        for question, answers in cases:
            answer = qa.ask(question)
            first = answer.sentences[0].probability if answer.sentences else 0.0
            if first is None:
                raise ValueError(
                    "the reader gives no likelihoods; use the reader spans or extractive"
                )
            likelihoods.append(first)
            right.append(bool(answers) and accuracy(answer.text, answers) == 1.0)
    point, curve = fit_threshold(likelihoods, right, risk), risk_coverage(likelihoods, right)
    if as_json:
        rows = [{**asdict(each), "bound": each.bound()} for each in curve]
        print_json({"threshold": point.threshold, "confidence": CONFIDENCE, "curve": rows})
        return
    out(f"threshold  answered   wrong  bound at {CONFIDENCE:.0%}")
    step = max(1, len(curve) // 12)
    for each in sorted({*curve[::step], point}, key=lambda one: -one.threshold):
        mark = "  <- chosen" if each == point else ""
        shares = f"{each.coverage:8.1%}  {each.risk:6.1%}  {each.bound():6.1%}"
        out(f"{each.threshold:9.4f}  {shares}{mark}")
    out(
        f"from {point.threshold:.4f} on {point.coverage:.0%} of {len(cases)} questions are "
        f"answered; with {CONFIDENCE:.0%} confidence at most {risk:.0%} of the answers are wrong"
    )
    out(f"use it: ragkit ask --threshold {point.threshold:.4f}, or the same in ragkit.toml")


def _read_cases(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Read questions and their answers."""
    from ragkit.evaluation.datasets import read_nq_open

    if not file.is_file():
        raise DatasetError(f"{file} is no file; expected JSON Lines of question and answers")
    cases = [(question.text, question.answers) for question in read_nq_open(file).questions]
    if not cases:
        raise DatasetError(f"{file} has no questions")
    return cases
