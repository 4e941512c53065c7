"""`ragkit ask` and `ragkit chat`: answer questions with citations."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragkit.cli import settings
from ragkit.cli.common import (
    NO_EVIDENCE,
    PARTIAL,
    InOption,
    JsonOption,
    OrderChoice,
    QuietOption,
    ReaderChoice,
    RetrieverOption,
    StrictOption,
    UnsupportedChoice,
    WhereOption,
    copies_line,
    note,
    open_collection,
    out,
    print_json,
    print_losses,
    progress,
    read_argument,
    read_where,
)
from ragkit.types import Answer

if TYPE_CHECKING:
    from ragkit.collection import Collection
    from ragkit.collection.ingest import AddReport
    from ragkit.pipeline import QA

DocsOption = Annotated[
    list[str] | None,
    typer.Option("--docs", help="Answer from these files instead of a collection."),
]
ReaderOption = Annotated[
    ReaderChoice | None, typer.Option(help="Reader [default: auto, see docs/readers.md].")
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Likelihood below which to refuse; `ragkit tune --refusal` finds one."
    ),
]
LlmOption = Annotated[
    str | None,
    typer.Option(help="Language model: smollm2, openai:MODEL, URL#MODEL, hf:ORG/NAME or a path."),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        help="Language model that decides what the check of a model's answer is unsure of "
        "[default: none, it stays unsure]."
    ),
]


def ask(
    question: Annotated[str, typer.Argument(help="Question; - reads stdin.")],
    in_: InOption = None,
    docs: DocsOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of passages to read.")] = 8,
    retriever: RetrieverOption = None,
    reader: ReaderOption = None,
    llm: LlmOption = None,
    order: Annotated[
        OrderChoice, typer.Option(help="Order of passages in the prompt.")
    ] = OrderChoice.edges,
    unsupported: Annotated[
        UnsupportedChoice, typer.Option(help="Treatment of sentences that no passage supports.")
    ] = UnsupportedChoice.remove,
    threshold: ThresholdOption = None,
    judge: JudgeOption = None,
    where: WhereOption = None,
    strict: StrictOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer a question; every sentence is checked before it is shown. Exit code 4: no evidence."""
    with _collection(in_, docs, strict=strict, quiet=quiet) as (collection, added):
        qa = make_qa(
            collection,
            retriever,
            reader,
            llm,
            order=order,
            unsupported=unsupported,
            threshold=threshold,
            judge=judge,
        )
        qa.k, qa.strict = k, strict
        text, filters = read_argument(question), read_where(where)
        answer = _answer(qa, text, filters, silent=as_json)
        if docs:  # a temporary folder; `ragkit verify --docs` verifies the answer
            answer = replace(answer, source=replace(answer.source, collection=None))
        if added is not None:
            answer = replace(answer, losses=(*added.losses, *answer.losses))
        if as_json:
            print_json(answer)
        else:
            _show_sources(answer)
    if answer.refusal is not None:
        raise typer.Exit(NO_EVIDENCE)
    if added is not None and added.failed:
        raise typer.Exit(PARTIAL)


def chat(
    in_: InOption = None,
    docs: DocsOption = None,
    retriever: RetrieverOption = None,
    reader: ReaderOption = None,
    llm: LlmOption = None,
    judge: JudgeOption = None,
    where: WhereOption = None,
) -> None:
    """Answer questions interactively and independently. An empty line ends the chat."""
    with _collection(in_, docs, strict=False, quiet=False) as (collection, _):
        qa = make_qa(collection, retriever, reader, llm, judge=judge)
        filters = read_where(where)
        prompt = "? " if sys.stdin.isatty() else ""
        while True:
            try:
                question = input(prompt).strip()
            except EOFError:
                break
            if not question:
                break
            _show_sources(_answer(qa, question, filters, silent=False))


@contextmanager
def _collection(
    in_: Path | None, docs: Sequence[str] | None, *, strict: bool, quiet: bool
) -> Iterator[tuple[Collection, AddReport | None]]:
    if not docs:
        yield open_collection(in_, strict=strict), None
        return
    from ragkit.collection import Collection

    if in_ is not None:
        raise ValueError("--in and --docs are both set; use one of them")
    with (
        tempfile.TemporaryDirectory(prefix="ragkit-") as folder,
        Collection(Path(folder) / "docs.rag", strict=strict) as collection,
    ):
        with progress(quiet=quiet) as show:
            report = collection.add(list(docs), on_progress=show)
        print_losses(report.losses)
        yield collection, report


def make_qa(
    collection: Collection,
    retriever: str | None,
    reader: str | None,
    llm: str | None,
    *,
    threshold: float | None = None,
    judge: str | None = None,
    **options: Any,
) -> QA:
    """Combine a retriever and a reader, from flags or settings."""
    from ragkit.pipeline import QA
    from ragkit.readers import load_reader

    retriever_name: Any = settings.value("retriever", retriever)
    reader_name: Any = settings.value("reader", reader)
    llm_name = settings.value("llm", llm)
    options["judge"] = settings.value("judge", judge)
    least = settings.value("threshold", None if threshold is None else str(threshold))
    try:
        options["threshold"] = None if least is None else float(least)
    except ValueError as error:
        raise ValueError(f"threshold is {least!r}; expected a number from 0 to 1") from error
    built_reader = load_reader(reader_name, collection.embedder, llm=llm_name, **options)
    return QA(collection.retriever(retriever_name), built_reader)


def _answer(qa: QA, question: str, where: dict[str, Any] | None, *, silent: bool) -> Answer:
    """Stream the answer to the terminal unless `silent`, and return it."""
    answer = None
    for event in qa.stream(question, where=where):
        if event.kind == "sentence" and not silent:
            print(event.text, end=" ", flush=True)
        elif event.loss is not None and not silent:
            print_losses([event.loss])
        answer = event.answer or answer
    assert answer is not None
    if not silent and answer.refusal is None:
        out("")
    return answer


def _show_sources(answer: Answer) -> None:
    if answer.spans:
        short = ", ".join(f"{span.text} [{span.citation}]" for span in answer.spans)
        out(f"  short: {short}")
    for number, sentence in enumerate(answer.sentences, start=1):
        if sentence.reason and sentence.support == "quoted":
            out(f"  sentence {number}: {sentence.reason}")
    copies = {hit.chunk.id: hit.copies for hit in answer.hits}
    for number, citation in enumerate(answer.citations, start=1):
        quote = " ".join(f"{citation.table}\n{citation.quote}".split())
        page = f", page {citation.page}" if citation.page else ""
        span = f"{citation.doc_id}:{citation.start}-{citation.end}"
        out(f"  [{number}] {span}{page}  “{quote}”")
        if line := copies_line(copies.get(citation.chunk_id, ())):
            out(f"      {line}")
    if answer.refusal is not None:
        out(f"No answer: {_REASONS[answer.refusal.reason]}.")
        if answer.refusal.nearest:
            note(f"nearest passages: {', '.join(answer.refusal.nearest)}")


_REASONS = {
    "no_hits": "no passage matches the question",
    "no_evidence": "no passage is likely to contain the answer",
    "unsupported": "no passage supports the model's answer",
    "model_refused": "the model found no answer in the passages",
}
