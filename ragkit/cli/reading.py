"""The parts of `ragkit eval` that evaluate answers, and the support check."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.cli.common import (
    ReaderChoice,
    RetrieverChoice,
    note,
    open_collection,
    out,
    print_json,
    print_losses,
    progress,
    resumable,
)
from ragkit.cli.corpora import open_corpus
from ragkit.collection.context import Progress
from ragkit.errors import DatasetError

if TYPE_CHECKING:
    from ragkit.evaluation.datasets import QASet, SupportSet


@dataclass(frozen=True, slots=True)
class Answers:
    """Options of `ragkit eval` that the evaluation of answers uses."""

    data: str
    in_: Path | None
    reader: str | None
    llm: str | None
    judge: str | None
    retrievers: str | None
    baseline: str | None
    n: int | None
    split: str | None
    to: Path | None
    lenient: bool
    quiet: bool
    as_json: bool


def evaluate_answers(options: Answers) -> bool:
    """Evaluate answers or the support check, if options and data ask for it; else return False."""
    from ragkit.evaluation.datasets import QASet, SupportSet, info, load_dataset, names

    is_support = options.data in names() and info(options.data).kind == "support"
    if options.reader is None and not is_support:
        if options.llm is not None:
            raise ValueError("--llm is for --reader llm")
        return False
    data = load_dataset(options.data, split=options.split, lenient=options.lenient)
    print_losses(data.losses)
    if isinstance(data, SupportSet):
        if options.reader is not None:
            raise ValueError(f"{data.name} has statements, not questions; leave out --reader")
        _evaluate_support(data, options)
    elif isinstance(data, QASet):
        _evaluate_reader(data, options)
    else:
        raise DatasetError(
            f"{data.name} is a {type(data).__name__}; --reader needs questions with answers"
        )
    return True


def _evaluate_support(data: SupportSet, options: Answers) -> None:
    from ragkit.evaluation.support import evaluate_support
    from ragkit.llms import load_llm
    from ragkit.readers.support import load_judge

    llm = None if options.judge is None else load_llm(options.judge)
    with progress(quiet=options.quiet) as show:
        report = evaluate_support(
            data,
            n=options.n,
            judge=lambda hits: load_judge(hits, llm),
            on_statement=lambda i, total: show(Progress("documents", i, total, "statements")),
        )
    if options.as_json:
        print_json(report.to_dict())
    else:
        out(str(report))


def _evaluate_reader(data: QASet, options: Answers) -> None:
    from ragkit import __version__
    from ragkit.evaluation.reading import reading_experiment
    from ragkit.evaluation.splits import sample
    from ragkit.pipeline import QA
    from ragkit.readers import load_reader

    readers: list[Any] = [name.strip() for name in str(options.reader).split(",")]
    known = [choice.value for choice in ReaderChoice]
    if not set(readers) <= set(known) or len(set(readers)) < len(readers):
        raise ValueError(
            f"--reader is {options.reader!r}; expected names from {', '.join(known)}, each once"
        )
    if options.baseline is not None and options.baseline not in readers:
        raise ValueError(f"--baseline is {options.baseline!r}; expected one of {readers}")
    retriever: Any = options.retrievers or "hybrid"
    retrieving = [choice.value for choice in RetrieverChoice]
    if retriever not in retrieving:
        raise ValueError(
            f"--retrievers is {retriever!r}; with --reader expected one of {', '.join(retrieving)}"
        )
    data = replace(data, questions=tuple(sample(data.questions, options.n)))
    with ExitStack() as stack:
        stack.enter_context(resumable(options.to))
        if data.passages:
            collection = open_corpus(stack, options.in_, options.to, data, quiet=options.quiet)
        elif options.in_ is None:
            raise DatasetError(f"{data.name} has no passages; name a collection with --in")
        else:
            collection = stack.enter_context(open_collection(options.in_))
        show = stack.enter_context(progress(quiet=options.quiet))
        found = collection.retriever(retriever)
        result = reading_experiment(
            {
                name: QA(
                    found,
                    load_reader(name, collection.embedder, llm=options.llm, judge=options.judge),
                )
                for name in readers
            },
            data,
            baseline=options.baseline,
            settings={
                "retriever": retriever, "llm": options.llm or "", "judge": options.judge or "",
                "ragkit": __version__,
                "collection": asdict(found.source),
            },
            folder=options.to,
            on_query=lambda done, total: show(Progress("documents", done, total, "questions")),
        )  # fmt: skip
    if options.as_json:
        print_json(result.to_dict())
        return
    out(str(result))
    if sys.stdout.isatty():
        note("* the difference has p < 0.05 (paired permutation test, Holm's correction)")
