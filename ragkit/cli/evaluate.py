"""`ragkit eval` and `ragkit compare`: systems measured on a data set."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from ragkit.collection.context import Progress
from ragkit.errors import DatasetError
from ragkit.losses import collect

if TYPE_CHECKING:
    from ragkit.collection import Collection
    from ragkit.evaluation.datasets import RetrievalSet
    from ragkit.evaluation.experiment import Experiment
    from ragkit.evaluation.measures import Measure

DataOption = Annotated[
    str, typer.Option("--data", help="A data set's name, or the path of a BEIR folder or zip.")
]
MeasuresOption = Annotated[str, typer.Option(help="Separated by commas.")]
SplitOption = Annotated[str | None, typer.Option(help="Which split [default: test].")]
LenientOption = Annotated[
    bool, typer.Option("--lenient", help="Skip and count malformed lines instead of stopping.")
]
DEFAULT_MEASURES = "nDCG@10,R@100,MRR@10"


def evaluate(
    data: DataOption,
    in_: Annotated[
        Path | None,
        typer.Option("--in", help="The collection; made from the corpus if it is not there."),
    ] = None,
    retrievers: Annotated[str, typer.Option(help="Separated by commas.")] = "bm25,dense,hybrid",
    measures: MeasuresOption = DEFAULT_MEASURES,
    baseline: Annotated[str | None, typer.Option(help="Default: the first retriever.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Documents a query.")] = 100,
    split: SplitOption = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder for runs and results; run again to go on.")
    ] = None,
    lenient: LenientOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure retrievers on a data set, with intervals and paired tests."""
    from ragkit.evaluation.datasets import load_retrieval
    from ragkit.evaluation.experiment import check_comparison, experiment

    wanted = _measures(measures)
    names: list[Any] = _listed("--retrievers", retrievers)
    known = [choice.value for choice in RetrieverChoice]
    if not set(names) <= set(known):
        raise ValueError(f"--retrievers is {retrievers!r}; expected some of {', '.join(known)}")
    dataset = load_retrieval(data, split=split, lenient=lenient)
    print_losses(dataset.losses)
    judged = {query: row for query, row in dataset.qrels.items() if query in dataset.queries}
    check_comparison(names, judged, wanted, baseline)
    with ExitStack() as stack:
        stack.enter_context(resumable(to))
        if in_ is None and to is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "corpus.rag"
        else:
            path = in_ if in_ is not None else (to or Path()) / "corpus.rag"
        collection = stack.enter_context(_collection(path, dataset, own=in_ is None, quiet=quiet))
        show = stack.enter_context(progress(quiet=quiet))
        found = experiment(
            {name: collection.retriever(name) for name in names},
            dataset.queries,
            dataset.qrels,
            wanted,
            k=k,
            baseline=baseline,
            name=f"{dataset.name} {dataset.split}".strip(),
            folder=to,
            on_query=lambda done, total: show(Progress("documents", done, total, "queries")),
        )
    _print(found, as_json=as_json)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="TREC run files; the first is the baseline.")],
    data: Annotated[str | None, typer.Option("--data", help="A data set with the qrels.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="A TREC qrels file.")] = None,
    measures: MeasuresOption = DEFAULT_MEASURES,
    split: SplitOption = None,
    lenient: LenientOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare run files: means, intervals, paired tests."""
    from ragkit.evaluation.datasets import load_retrieval, read_qrels, read_run
    from ragkit.evaluation.experiment import Experiment
    from ragkit.evaluation.runs import SystemRun

    if (data is None) == (qrels is None):
        raise ValueError("say where the judgements are: --data NAME or --qrels FILE, one of them")
    with collect() as losses:
        if qrels is not None:
            judged: Any = read_qrels(qrels, lenient=lenient)
        else:
            dataset = load_retrieval(str(data), split=split, lenient=lenient)
            judged = dataset.qrels
            losses.extend(dataset.losses)
        found = [read_run(file, lenient=lenient) for file in runs]
    print_losses(losses)
    for file, run in zip(runs, found, strict=True):
        answered = len(judged.keys() & run.keys())
        if not answered:
            raise DatasetError(
                f"{str(file)!r} has none of the {len(judged)} judged queries; their ids must be "
                "those of the qrels"
            )
        if answered < len(judged):
            note(f"{file}: {len(judged) - answered} of {len(judged)} judged queries count as 0")
    systems = [SystemRun(name, run, {}) for name, run in zip(_names(runs), found, strict=True)]
    _print(Experiment(systems, judged, _measures(measures)), as_json=as_json)


def _measures(text: str) -> list[Measure]:
    from ragkit.evaluation.measures import parse_measure

    return [parse_measure(name) for name in _listed("--measures", text)]


def _listed(option: str, text: str) -> list[str]:
    """The names that commas separate, each once."""
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) < len(names):
        raise ValueError(f"{option} is {text!r}; expected every name once")
    return names


def _names(runs: Sequence[Path]) -> list[str]:
    """The files' stems, or their paths where stems are equal."""
    stems = [file.stem for file in runs]
    return stems if len(set(stems)) == len(stems) else [str(file) for file in runs]


def _collection(path: Path, dataset: RetrievalSet, *, own: bool, quiet: bool) -> Collection:
    """The collection at a path, or a new one from the data set's corpus."""
    from ragkit.collection import Collection
    from ragkit.evaluation.corpora import indexed_documents

    is_new = not (path / "collection.json").exists()
    collection = Collection(path)
    if is_new or own:
        fill(collection, dataset, quiet=quiet)
    judged = {document for row in dataset.qrels.values() for document in row}
    missing = len(judged - indexed_documents(collection))
    if missing == len(judged):
        raise DatasetError(
            f"{str(path)!r} holds none of the {len(judged)} judged documents of {dataset.name}; "
            "leave --in out to build a collection from the data set's own corpus"
        )
    if missing:
        note(f"{missing} of {len(judged)} judged documents are not in {path}: they cannot be found")
    return collection


def fill(collection: Collection, dataset: RetrievalSet, *, quiet: bool) -> None:
    """Add a data set's corpus, saying so; what is lost is printed."""
    from ragkit.evaluation.corpora import add_corpus

    if not quiet:
        note(f"{len(dataset.corpus)} documents of {dataset.name} go into {collection.path}")
    with progress(quiet=quiet) as show:
        report = add_corpus(collection, dataset, on_progress=show)
    print_losses(report.losses)


def _print(found: Experiment, *, as_json: bool) -> None:
    if as_json:
        print_json(found.to_dict())
        return
    out(found.table())
    if sys.stdout.isatty():
        note("* the difference has p < 0.05 (paired permutation test, Holm's correction)")
