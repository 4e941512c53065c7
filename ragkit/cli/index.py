"""`ragkit index`: build, change and check collections."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragkit.cli import settings
from ragkit.cli.common import (
    PARTIAL,
    InOption,
    JsonOption,
    QuietOption,
    StrictOption,
    note,
    note_unfinished,
    open_collection,
    out,
    print_json,
    print_losses,
    progress,
)
from ragkit.errors import RagkitError

if TYPE_CHECKING:
    from ragkit.collection import Collection
    from ragkit.collection.ingest import AddReport
    from ragkit.types import Document

app = typer.Typer(help="Build, change and check collections.", no_args_is_help=True)

MetadataOption = Annotated[
    list[str] | None,
    typer.Option("--metadata", "-m", help="A field for every document, as in year=2024."),
]
ToOption = Annotated[Path | None, typer.Option("--to", help="The collection; made if absent.")]


@app.command()
def add(
    paths: Annotated[
        list[str], typer.Argument(help="Files and folders; - reads a text from stdin.")
    ],
    to: ToOption = None,
    metadata: MetadataOption = None,
    embedder: Annotated[str | None, typer.Option(help="For a new collection.")] = None,
    chunk_tokens: Annotated[int | None, typer.Option(min=8, help="For a new collection.")] = None,
    index: Annotated[
        str | None, typer.Option(help="For a new collection: exact, or a FAISS factory.")
    ] = None,
    name: Annotated[str, typer.Option(help="Id of the document read from stdin.")] = "stdin",
    strict: StrictOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add files and folders; unchanged ones are left alone. Run it again to go on after a stop."""
    target = _target(to)
    collection = _open_or_make(target, embedder, chunk_tokens, index, strict=strict)
    items: list[Any] = [path for path in paths if path != "-"]
    if "-" in paths:
        items += _from_stdin(name)
    with (
        _interruptible("add", *paths, "--to", target),
        progress(quiet=quiet) as show,
    ):
        report = collection.add(items, metadata=_fields(metadata), on_progress=show)
    _finish(collection, report, as_json=as_json)


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or folder; see `index recipes`.")],
    to: ToOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build the collection that a recipe describes."""
    from ragkit.collection import Collection
    from ragkit.recipes import load_recipe

    loaded = load_recipe(recipe)
    target = to or Path(f"{loaded.name}.rag")
    exists = (target / "collection.json").exists()
    collection = Collection(target, settings=None if exists else loaded.collection_settings)
    with (
        _interruptible("build", recipe, "--to", target),
        progress(quiet=quiet) as show,
    ):
        report = collection.add(loaded.paths, metadata=loaded.metadata, on_progress=show)
        if loaded.adapter is not None:
            collection.use_adapter(loaded.adapter)
    _finish(collection, report, as_json=as_json)


@app.command()
def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that can be built by name."""
    from ragkit.recipes import load_recipe, names

    loaded = [load_recipe(name) for name in names()]
    if as_json:
        print_json([{"name": recipe.name, "about": recipe.about} for recipe in loaded])
        return
    for recipe in loaded:
        out(f"{recipe.name:12} {recipe.about}")


@app.command()
def sync(
    path: Annotated[Path, typer.Argument(help="The folder.")],
    to: ToOption = None,
    metadata: MetadataOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Allow most of it to be deleted.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add a folder, and delete what came from it before and is gone."""
    target = _target(to)
    collection = _open_or_make(target, None, None, None, strict=False)
    with _interruptible("sync", path, "--to", target), progress(quiet=quiet) as show:
        report = collection.sync(path, metadata=_fields(metadata), yes=yes, on_progress=show)
    _finish(collection, report, as_json=as_json)


@app.command()
def delete(
    ids: Annotated[list[str], typer.Argument(help="Document ids; - reads them from stdin.")],
    in_: InOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete documents by id."""
    wanted = [line for line in sys.stdin.read().splitlines() if line] if ids == ["-"] else ids
    deleted = open_collection(in_).delete(wanted)
    missing = sorted(set(wanted) - set(deleted))
    if as_json:
        print_json({"deleted": deleted, "missing": missing})
    else:
        out(f"{len(deleted)} documents deleted")
    for doc_id in missing:
        note(f"there is no document {doc_id!r}")
    if missing:
        raise typer.Exit(PARTIAL if deleted else 1)


@app.command(name="list")
def list_(in_: InOption = None, as_json: JsonOption = False) -> None:
    """List documents with their state."""
    rows = open_collection(in_).documents()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        why = f"  ({row['reason']})" if row["reason"] else ""
        out(f"{row['state']:9} {row['chunks']:5} chunks  {row['id']}{why}")


@app.command()
def show(
    doc_id: Annotated[str, typer.Argument(help="The document's id.")],
    in_: InOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a document's text as it is stored."""
    document = open_collection(in_).document(doc_id)
    if document is None:
        raise RagkitError(f"there is no document {doc_id!r}; `ragkit index list` names them")
    if as_json:
        print_json(document)
    else:
        out(document.text)


@app.command()
def info(in_: InOption = None, as_json: JsonOption = False) -> None:
    """Counts by state, generation, settings and fingerprints."""
    collection = open_collection(in_)
    found = collection.info()
    if as_json:
        print_json(found)
        return
    states = ", ".join(f"{n} {state}" for state, n in found["documents"].items() if n)
    out(f"documents   {states or 'none'}")
    out(f"chunks      {found['chunks']} in {len(found['segments'])} segments")
    out(f"generation  {found['generation']}")
    out(f"embedder    {found['embedder']['name']} ({found['embedder']['fingerprint'][:12]})")
    out(f"settings    {json.dumps(found['settings'])}")
    out(f"size        {found['bytes'] / 1e6:.1f} MB")
    note_unfinished(collection)


@app.command()
def verify(in_: InOption = None, as_json: JsonOption = False) -> None:
    """Re-read every digest; exit code 1 if anything is wrong."""
    collection = open_collection(in_)
    report = collection.verify()
    note_unfinished(collection)
    if as_json:
        print_json({"ok": report.ok, "report": report})
    else:
        out(
            f"{report.documents} documents, {report.chunks} chunks, {report.segments} segments read"
        )
        for fault in dict.fromkeys(report.faults):
            out(f"fault: {fault}")
        if report.ok:
            out("all is well")
        elif not any("cannot mend" in fault for fault in report.faults):
            out("`ragkit index repair` mends what can be mended, and says what is left")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def repair(in_: InOption = None, quiet: QuietOption = False) -> None:
    """Build the indexes anew from the stored documents."""
    collection = open_collection(in_)
    with (
        _interruptible("repair", "--in", collection.path),
        progress(quiet=quiet) as show,
    ):
        n_embedded = collection.repair(on_progress=show)
        left = collection.verify().faults
    out(f"rebuilt; {n_embedded} texts were embedded again")
    for fault in left:
        out(f"fault: {fault}")
    if left:
        out("this is left: restore a copy, or build the collection again from its files")
        raise typer.Exit(1)


@app.command()
def trust(in_: InOption = None) -> None:
    """Open a collection's FAISS files although they were written elsewhere."""
    out(f"{open_collection(in_).trust()} FAISS files signed")


@app.command()
def compact(in_: InOption = None) -> None:
    """Merge all segments into one."""
    collection = open_collection(in_)
    collection.compact()
    out(f"{len(collection.info()['segments'])} segments")


@app.command()
def gc(in_: InOption = None) -> None:
    """Drop what the last two generations do not need."""
    out(f"{open_collection(in_).gc()} segments removed")


def _target(to: Path | None) -> Path:
    found = settings.value("collection", None if to is None else str(to))
    if found is None:
        raise RagkitError("which collection? Say --to PATH, for example --to notes.rag")
    return Path(found)


def _open_or_make(
    path: Path,
    embedder: str | None,
    chunk_tokens: int | None,
    index: str | None,
    *,
    strict: bool,
) -> Collection:
    from ragkit.collection import Collection
    from ragkit.collection.description import Settings

    given = {"chunk_tokens": chunk_tokens, "index": index}
    wanted: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if (path / "collection.json").exists():
        collection = Collection(path, embedder=embedder, strict=strict)
        for key, value in wanted.items():
            if getattr(collection.settings, key) != value:
                raise RagkitError(
                    f"{str(path)!r} has {key} = {getattr(collection.settings, key)!r}, which is "
                    f"fixed when a collection is made; leave the option out"
                )
        return collection
    wanted["embedder"] = settings.value("embedder", embedder)
    return Collection(path, settings=Settings(**wanted), strict=strict)


def _from_stdin(name: str) -> Sequence[Document]:
    from ragkit.documents import read_stream
    from ragkit.losses import report

    result = read_stream(sys.stdin.read(), name=name)
    for loss in result.losses:
        report(loss)
    return result.documents


def _fields(pairs: Sequence[str] | None) -> dict[str, Any]:
    fields = {}
    for pair in pairs or ():
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"--metadata is {pair!r}; expected FIELD=VALUE")
        try:
            fields[key] = json.loads(text)
        except ValueError:
            fields[key] = text
    return fields


@contextmanager
def _interruptible(*command: str | Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note(f"nothing is lost. Go on with: {shlex.join(['ragkit', 'index', *map(str, command)])}")
        raise


def _finish(collection: Collection, report: AddReport, *, as_json: bool) -> None:
    print_losses(report.losses)
    if as_json:
        print_json(report)
    else:
        counts = ("added", "changed", "unchanged", "deleted", "failed")
        said = ", ".join(f"{getattr(report, n)} {n}" for n in counts if getattr(report, n))
        out(
            f"{collection.path}: {said or 'nothing to do'}; {report.n_chunks} new chunks, "
            f"{report.n_embedded} texts embedded, generation {report.generation}"
        )
    if report.failed:
        raise typer.Exit(PARTIAL)
