"""`ragkit eval` and `ragkit compare`: evaluate and compare systems on a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragkit.cli.ask import JudgeOption, LlmOption
from ragkit.cli.common import (
    JsonOption,
    QuietOption,
    RetrieverChoice,
    note,
    out,
    print_json,
    print_losses,
    progress,
    resumable,
)
from ragkit.cli.corpora import open_corpus
from ragkit.cli.reading import Answers, evaluate_answers
from ragkit.collection.context import Progress
from ragkit.errors import DatasetError
from ragkit.losses import collect

if TYPE_CHECKING:
    from ragkit.evaluation.experiment import Experiment
    from ragkit.evaluation.measures import Measure

DataOption = Annotated[
    str, typer.Option("--data", help="Name of a data set, or path of a BEIR folder or zip.")
]
MeasuresOption = Annotated[str, typer.Option(help="Measures, separated by commas.")]
SplitOption = Annotated[str | None, typer.Option(help="Split of the data set [default: test].")]
LenientOption = Annotated[
    bool, typer.Option("--lenient", help="Skip and count malformed lines instead of stopping.")
]
DEFAULT_MEASURES = "nDCG@10,R@100,MRR@10"


def evaluate(
    data: DataOption,
    in_: Annotated[
        Path | None,
        typer.Option("--in", help="Collection; created from the corpus if it does not exist."),
    ] = None,
    retrievers: Annotated[
        str | None,
        typer.Option(
            help="Retrievers, separated by commas "
            "[default: bm25,dense,hybrid; with --reader: hybrid]."
        ),
    ] = None,
    measures: MeasuresOption = DEFAULT_MEASURES,
    reader: Annotated[
        str | None,
        typer.Option(
            help="Evaluate answers instead: readers, separated by commas (spans, extractive, llm), "
            "each after the first of --retrievers."
        ),
    ] = None,
    llm: LlmOption = None,
    judge: JudgeOption = None,
    n: Annotated[
        int | None,
        typer.Option("-n", min=2, help="Number of questions or statements [default: all]."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Baseline [default: the first system].")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Documents per query.")] = 100,
    split: SplitOption = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder for runs and results; run again to resume.")
    ] = None,
    lenient: LenientOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate retrievers on a data set, with confidence intervals and paired tests.

    With --reader: evaluate answers. With a data set of statements: evaluate the support check.
    """
    if evaluate_answers(
        Answers(
            data,
            in_,
            reader,
            llm,
            judge,
            retrievers,
            baseline,
            n,
            split,
            to,
            lenient,
            quiet,
            as_json,
        )
    ):
        return
    from ragkit.evaluation.datasets import load_retrieval
    from ragkit.evaluation.experiment import check_comparison, experiment

    parsed = _measures(measures)
    retrievers = retrievers or "bm25,dense,hybrid"
    names: list[Any] = _split("--retrievers", retrievers)
    known = [choice.value for choice in RetrieverChoice]
    if not set(names) <= set(known):
        raise ValueError(f"--retrievers is {retrievers!r}; expected names from {', '.join(known)}")
    dataset = load_retrieval(data, split=split, lenient=lenient)
    print_losses(dataset.losses)
    judged = {query: row for query, row in dataset.qrels.items() if query in dataset.queries}
    check_comparison(names, judged, parsed, baseline)
    if n is not None:
        raise ValueError("-n is for --reader or a data set of statements; use --split for queries")
    with ExitStack() as stack:
        stack.enter_context(resumable(to))
        collection = open_corpus(stack, in_, to, dataset, quiet=quiet)
        show = stack.enter_context(progress(quiet=quiet))
        result = experiment(
            {name: collection.retriever(name, copies=True) for name in names},
            dataset.queries,
            dataset.qrels,
            parsed,
            k=k,
            baseline=baseline,
            name=f"{dataset.name} {dataset.split}".strip(),
            folder=to,
            on_query=lambda done, total: show(Progress("documents", done, total, "queries")),
        )
    _print(result, as_json=as_json)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="TREC run files; the first is the baseline.")],
    data: Annotated[str | None, typer.Option("--data", help="Data set with the qrels.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC qrels file.")] = None,
    measures: MeasuresOption = DEFAULT_MEASURES,
    split: SplitOption = None,
    lenient: LenientOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare run files: print means, confidence intervals and paired tests."""
    from ragkit.evaluation.datasets import load_retrieval, read_qrels, read_run
    from ragkit.evaluation.experiment import Experiment
    from ragkit.evaluation.runs import SystemRun

    if (data is None) == (qrels is None):
        raise ValueError("specify the judgements with either --data NAME or --qrels FILE")
    with collect() as losses:
        if qrels is not None:
            judged: Any = read_qrels(qrels, lenient=lenient)
        else:
            dataset = load_retrieval(str(data), split=split, lenient=lenient)
            judged = dataset.qrels
            losses.extend(dataset.losses)
        loaded = [read_run(file, lenient=lenient) for file in runs]
    print_losses(losses)
    for file, run in zip(runs, loaded, strict=True):
        answered = len(judged.keys() & run.keys())
        if not answered:
            raise DatasetError(
                f"{str(file)!r} has none of the {len(judged)} judged queries; its query ids must "
                "be those of the qrels"
            )
        if answered < len(judged):
            note(f"{file}: {len(judged) - answered} of {len(judged)} judged queries count as 0")
    systems = [SystemRun(name, run, {}) for name, run in zip(_names(runs), loaded, strict=True)]
    _print(Experiment(systems, judged, _measures(measures)), as_json=as_json)


def _measures(text: str) -> list[Measure]:
    from ragkit.evaluation.measures import parse_measure

    return [parse_measure(name) for name in _split("--measures", text)]


def _split(option: str, text: str) -> list[str]:
    """Split a comma-separated list of unique names."""
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) < len(names):
        raise ValueError(f"{option} is {text!r}; expected each name only once")
    return names


def _names(runs: Sequence[Path]) -> list[str]:
    """Return the stems of the files, or their paths if stems are not unique."""
    stems = [file.stem for file in runs]
    return stems if len(set(stems)) == len(stems) else [str(file) for file in runs]


def _print(result: Experiment, *, as_json: bool) -> None:
    if as_json:
        print_json(result.to_dict())
        return
    out(result.table())
    if sys.stdout.isatty():
        note("* the difference has p < 0.05 (paired permutation test, Holm's correction)")
