"""What commands share: options, output, progress, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ragkit.cli import settings
from ragkit.errors import RagkitError
from ragkit.losses import describe
from ragkit.types import Loss

if TYPE_CHECKING:
    from ragkit.collection import Collection
    from ragkit.collection.context import OnProgress

PARTIAL, NO_EVIDENCE = 3, 4

err = Console(stderr=True, highlight=False)


class RetrieverChoice(StrEnum):
    """Retrievers of a collection."""

    dense = "dense"
    bm25 = "bm25"
    hybrid = "hybrid"
    by_title = "title"  # str has a method of that name
    ngram = "ngram"


class ReaderChoice(StrEnum):
    """Readers."""

    auto = "auto"
    extractive = "extractive"
    llm = "llm"


class OrderChoice(StrEnum):
    """Orders of passages in a prompt."""

    edges = "edges"
    descending = "descending"
    ascending = "ascending"


class UnsupportedChoice(StrEnum):
    """What happens to unsupported sentences."""

    remove = "remove"
    mark = "mark"


InOption = Annotated[
    Path | None, typer.Option("--in", help="The collection [env: RAGKIT_COLLECTION].")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", help="A filter, as in 'year>=2020', or JSON; several must all hold."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first loss.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
RetrieverOption = Annotated[
    RetrieverChoice | None, typer.Option(help="Which retriever [default: hybrid].")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="What the retrievers title and ngram write with [default: smollm2]."
    ),
]
AdapterOption = Annotated[
    Path | None,
    typer.Option(
        "--adapter", help="Its adapter, or none [default: the collection's own, if it has one]."
    ),
]


def retriever_of(
    collection: Collection, name: str | None, model: str | None = None, adapter: Path | None = None
) -> Any:
    """A retriever by what the command line says of it."""
    given = {"model": model, "adapter": adapter}
    options = {key: value for key, value in given.items() if value is not None}
    chosen: Any = settings.value("retriever", name)
    if options and chosen not in ("title", "ngram"):
        raise ValueError(
            f"{chosen!r} takes no options --model and --adapter; say --retriever ngram or title"
        )
    if chosen in ("title", "ngram") and adapter is None and collection.adapter is not None:
        note("the model is taken with the collection's own adapter (--adapter none: without)")
    return collection.retriever(chosen, **options)


def out(text: str) -> None:
    """A line for people or programs, on stdout."""
    print(text)


def print_json(value: Any) -> None:
    """JSON on stdout; dataclasses become objects."""
    out(json.dumps(plain(value), ensure_ascii=False, indent=1))


def plain(value: Any) -> Any:
    """Dataclasses, also inside lists and dictionaries, as dictionaries."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def print_losses(losses: Sequence[Loss]) -> None:
    """Each loss on a line, on stderr."""
    for loss in losses:
        err.print(f"[yellow]loss[/yellow] {_escape(describe(loss))}", soft_wrap=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def note(text: str) -> None:
    """A line for people, on stderr."""
    err.print(_escape(text), soft_wrap=True)


def collection_path(flag: Path | None) -> Path:
    """The collection from --in, the environment or ragkit.toml."""
    found = settings.value("collection", None if flag is None else str(flag))
    if found is None:
        raise RagkitError(
            'which collection? Say --in PATH, set RAGKIT_COLLECTION, or write collection = "PATH" '
            f"into the [ragkit] table of {settings.FILE}"
        )
    return Path(found)


def open_collection(flag: Path | None, *, strict: bool = False) -> Collection:
    """An existing collection.

    Raises:
        CollectionError: There is none.
    """
    from ragkit.collection import Collection
    from ragkit.errors import CollectionError

    path = collection_path(flag)
    # Where only the store is left, it has a copy of collection.json.
    if not any((path / name).exists() for name in ("collection.json", "store.db")):
        raise CollectionError(
            f"there is no collection at {str(path)!r}; "
            f"make one with: ragkit index add PATH --to {path}"
        )
    return Collection(path, strict=strict)


@contextmanager
def resumable(folder: Path | None) -> Iterator[None]:
    """Say at Ctrl-C that the same command goes on, where a folder keeps what was done."""
    try:
        yield
    except KeyboardInterrupt:
        if folder is not None:
            note(f"what was done is kept in {folder}: run the same command again to go on")
        raise


def note_unfinished(collection: Collection) -> None:
    """Say on stderr that what is not committed yet is not found."""
    if collection.is_unfinished():
        note(
            "an `index add` is running or was interrupted: what it has not committed is not found "
            "yet; run it again to go on"
        )


def read_where(filters: Sequence[str] | None) -> dict[str, Any] | None:
    """The filters of the command line as one."""
    if not filters:
        return None
    from ragkit.store.filters import parse_expression

    parsed = [parse_expression(text) for text in filters]
    return parsed[0] if len(parsed) == 1 else {"and": parsed}


def read_argument(text: str) -> str:
    """The argument, or standard input for "-"."""
    return sys.stdin.read().strip() if text == "-" else text


@contextmanager
def progress(*, quiet: bool) -> Iterator[OnProgress]:
    """A progress bar on stderr, where that is a terminal."""
    if quiet or not err.is_terminal:
        yield lambda step: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[item]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=None, item="")

        def show(step: Any) -> None:
            item = step.item if len(step.item) <= 40 else f"…{step.item[-39:]}"
            bar.update(
                task,
                description=step.stage,
                completed=step.done,
                total=step.total or None,
                item=_escape(item),
            )

        yield show
