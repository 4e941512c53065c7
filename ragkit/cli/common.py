"""Options, output, progress bars and exit codes shared by the commands."""

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
_MAX_COPIES = 5  # named with a hit

err = Console(stderr=True, highlight=False)


class RetrieverChoice(StrEnum):
    """Names of retrievers."""

    dense = "dense"
    bm25 = "bm25"
    hybrid = "hybrid"
    by_title = "title"  # str has a method of that name
    ngram = "ngram"


class ReaderChoice(StrEnum):
    """Names of readers."""

    auto = "auto"
    spans = "spans"
    extractive = "extractive"
    llm = "llm"


class OrderChoice(StrEnum):
    """Orders of passages in a prompt."""

    edges = "edges"
    descending = "descending"
    ascending = "ascending"


class UnsupportedChoice(StrEnum):
    """Treatments of unsupported sentences."""

    remove = "remove"
    mark = "mark"


InOption = Annotated[Path | None, typer.Option("--in", help="Collection [env: RAGKIT_COLLECTION].")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where", help="Metadata filter, e.g. 'year>=2020', or JSON; repeat to combine with AND."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first loss.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress on stderr.")]
RetrieverOption = Annotated[
    RetrieverChoice | None, typer.Option(help="Retriever [default: hybrid].")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Model of the retrievers title and ngram [default: smollm2]."),
]
AdapterOption = Annotated[
    Path | None,
    typer.Option(
        "--adapter", help="Adapter of the model, or none [default: the collection's, if it exists]."
    ),
]


def open_retriever(
    collection: Collection, name: str | None, model: str | None = None, adapter: Path | None = None
) -> Any:
    """Create a retriever from command line options."""
    given = {"model": model, "adapter": adapter}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    retriever: Any = settings.value("retriever", name)
    if options and retriever not in ("title", "ngram"):
        raise ValueError(
            f"the retriever {retriever!r} takes no options --model and --adapter; use --retriever "
            "ngram or title"
        )
    if retriever in ("title", "ngram") and adapter is None and collection.adapter is not None:
        note("using the collection's own adapter (disable with --adapter none)")
    return collection.retriever(retriever, **options)


def out(text: str) -> None:
    """Print a line to stdout."""
    print(text)


def print_json(value: Any) -> None:
    """Print a value as JSON to stdout; dataclasses become objects."""
    out(json.dumps(plain(value), ensure_ascii=False, indent=1))


def plain(value: Any) -> Any:
    """Convert dataclasses to dictionaries, also inside lists and dictionaries."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def print_losses(losses: Sequence[Loss]) -> None:
    """Print losses to stderr, one per line."""
    for loss in losses:
        err.print(f"[yellow]loss[/yellow] {_escape(describe(loss))}", soft_wrap=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def note(text: str) -> None:
    """Print a message to stderr."""
    err.print(_escape(text), soft_wrap=True)


def collection_path(flag: Path | None) -> Path:
    """Return the path of the collection, from --in, the environment or ragkit.toml."""
    path = settings.value("collection", None if flag is None else str(flag))
    if path is None:
        raise RagkitError(
            "no collection was specified; use --in PATH, set RAGKIT_COLLECTION, or add "
            f'collection = "PATH" to the [ragkit] table of {settings.FILE}'
        )
    return Path(path)


def open_collection(flag: Path | None, *, strict: bool = False) -> Collection:
    """Open an existing collection.

    Raises:
        CollectionError: The collection does not exist.
    """
    from ragkit.collection import Collection
    from ragkit.errors import CollectionError

    path = collection_path(flag)
    # The store has a copy of a lost collection.json.
    if not any((path / name).exists() for name in ("collection.json", "store.db")):
        raise CollectionError(
            f"there is no collection at {str(path)!r}; "
            f"create one with: ragkit index add PATH --to {path}"
        )
    return Collection(path, strict=strict)


@contextmanager
def resumable(folder: Path | None) -> Iterator[None]:
    """On Ctrl-C, print how to resume if the finished work is stored in a folder."""
    try:
        yield
    except KeyboardInterrupt:
        if folder is not None:
            note(f"finished work is stored in {folder}; run the same command again to resume")
        raise


def copies_line(copies: Sequence[str]) -> str:
    """Return a line that names the chunks with the same text as a hit; empty if there are none."""
    if not copies:
        return ""
    more = f" and {len(copies) - _MAX_COPIES} more" if len(copies) > _MAX_COPIES else ""
    return f"same text in {', '.join(copies[:_MAX_COPIES])}{more}"


def note_unfinished(collection: Collection) -> None:
    """Print a warning if documents of an unfinished job cannot be found yet."""
    if collection.is_unfinished():
        note(
            "an `index add` is running or was interrupted: documents that it has not committed are "
            "not found yet; run it again to resume"
        )


def read_where(filters: Sequence[str] | None) -> dict[str, Any] | None:
    """Parse filters and combine them into one."""
    if not filters:
        return None
    from ragkit.store.filters import parse_expression

    parsed = [parse_expression(text) for text in filters]
    return parsed[0] if len(parsed) == 1 else {"and": parsed}


def read_argument(text: str) -> str:
    """Return an argument, or standard input for "-"."""
    return sys.stdin.read().strip() if text == "-" else text


@contextmanager
def progress(*, quiet: bool) -> Iterator[OnProgress]:
    """Show a progress bar on stderr if it is a terminal."""
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
