"""`ragkit index`: create, modify and verify collections."""

from __future__ import annotations

import json
import math
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

WaitOption = Annotated[
    float,
    typer.Option("--wait", min=0, metavar="SECONDS", help="Wait while another process writes."),
]
RawIdsOption = Annotated[
    bool,
    typer.Option(
        "--raw-ids", help="Give records their own ids, without FILE#, as evaluation corpora need."
    ),
]

app = typer.Typer(help="Create, modify and verify collections.", no_args_is_help=True)

MetadataOption = Annotated[
    list[str] | None,
    typer.Option("--metadata", "-m", help="Field added to all documents, e.g. year=2024."),
]
EncodingOption = Annotated[
    str,
    typer.Option(
        "--encoding",
        help="Encoding of files that are not UTF-8 and declare none [default: a guess].",
    ),
]
ToOption = Annotated[
    Path | None, typer.Option("--to", help="Collection; created if it does not exist.")
]


@app.command()
def add(
    paths: Annotated[
        list[str], typer.Argument(help="Files and folders; - reads a document from stdin.")
    ],
    to: ToOption = None,
    metadata: MetadataOption = None,
    embedder: Annotated[str | None, typer.Option(help="Embedder of a new collection.")] = None,
    chunk_tokens: Annotated[
        int | None, typer.Option(min=8, help="Tokens per chunk of a new collection.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(help="Index of a new collection: exact, or a FAISS factory string."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Id of the document read from stdin [default: stdin- and its digest]."),
    ] = None,
    raw_ids: RawIdsOption = False,
    encoding: EncodingOption = "",
    wait: WaitOption = 0.0,
    strict: StrictOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add files and folders to a collection, skipping unchanged files.

    After an interruption, run the same command again to resume.
    """
    target = _target(to)
    collection = _open_or_create(target, embedder, chunk_tokens, index, strict=strict)
    items: list[Any] = [path for path in paths if path != "-"]
    if "-" in paths:
        items += _from_stdin(name, encoding)
    options = ("--encoding", encoding) if encoding else ()
    with (
        _interruptible("add", *paths, "--to", target, *options),
        progress(quiet=quiet) as show,
    ):
        report = collection.add(
            items,
            metadata=_fields(metadata),
            raw_ids=raw_ids,
            encoding=encoding,
            wait=wait,
            on_progress=show,
        )
    _finish(collection, report, as_json=as_json)


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(help="Name or folder of a recipe; see `index recipes`.")],
    to: ToOption = None,
    wait: WaitOption = 0.0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build the collection of a recipe."""
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
        report = collection.add(loaded.paths, metadata=loaded.metadata, wait=wait, on_progress=show)
        if loaded.adapter is not None:
            collection.use_adapter(loaded.adapter, wait=wait)
    _finish(collection, report, as_json=as_json)


@app.command()
def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that can be built by name."""
    from ragkit.recipes import load_recipe, recipe_names

    loaded = [load_recipe(name) for name in recipe_names()]
    if as_json:
        print_json([{"name": recipe.name, "about": recipe.about} for recipe in loaded])
        return
    for recipe in loaded:
        out(f"{recipe.name:12} {recipe.about}")


@app.command()
def sync(
    path: Annotated[Path, typer.Argument(help="Folder to synchronize with.")],
    to: ToOption = None,
    metadata: MetadataOption = None,
    encoding: EncodingOption = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Allow deletion of more than half of its documents.")
    ] = False,
    raw_ids: RawIdsOption = False,
    wait: WaitOption = 0.0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add a folder, and delete the documents of files that no longer exist in it."""
    target = _target(to)
    collection = _open_or_create(target, None, None, None, strict=False)
    options = ("--encoding", encoding) if encoding else ()
    with _interruptible("sync", path, "--to", target, *options), progress(quiet=quiet) as show:
        report = collection.sync(
            path,
            metadata=_fields(metadata),
            raw_ids=raw_ids,
            encoding=encoding,
            yes=yes,
            wait=wait,
            on_progress=show,
        )
    _finish(collection, report, as_json=as_json)


@app.command()
def delete(
    ids: Annotated[list[str], typer.Argument(help="Document ids; - reads them from stdin.")],
    in_: InOption = None,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Delete documents by id."""
    if ids == ["-"]:
        ids = [line for line in sys.stdin.read().splitlines() if line]
    deleted = open_collection(in_).delete(ids, wait=wait)
    missing = sorted(set(ids) - set(deleted))
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
    """List the documents with their states."""
    rows = open_collection(in_).documents()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        reason = f"  ({row['reason']})" if row["reason"] else ""
        out(f"{row['state']:9} {row['chunks']:5} chunks  {row['id']}{reason}")


@app.command()
def show(
    doc_id: Annotated[str, typer.Argument(help="Id of the document.")],
    in_: InOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the stored text of a document."""
    document = open_collection(in_).document(doc_id)
    if document is None:
        raise RagkitError(f"there is no document {doc_id!r}; run `ragkit index list` for all ids")
    if as_json:
        print_json(document)
    else:
        out(document.text)


@app.command()
def info(in_: InOption = None, as_json: JsonOption = False) -> None:
    """Show counts, generation, settings and fingerprints."""
    collection = open_collection(in_)
    details = collection.info()
    if as_json:
        print_json(details)
        return
    states = ", ".join(f"{n} {state}" for state, n in details["documents"].items() if n)
    out(f"documents   {states or 'none'}")
    out(f"chunks      {details['chunks']} in {len(details['segments'])} segments")
    out(f"generation  {details['generation']}")
    out(f"embedder    {details['embedder']['name']} ({details['embedder']['fingerprint'][:12]})")
    out(f"settings    {json.dumps(details['settings'])}")
    out(f"size        {details['bytes'] / 1e6:.1f} MB")
    note_unfinished(collection)


@app.command()
def verify(in_: InOption = None, as_json: JsonOption = False) -> None:
    """Verify all digests. Exit code 1 if there is a fault."""
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
            out("no faults")
        else:
            out("run `ragkit index repair`: it repairs what it can and prints remaining faults")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def repair(in_: InOption = None, wait: WaitOption = 0.0, quiet: QuietOption = False) -> None:
    """Rebuild the indexes from the stored documents."""
    collection = open_collection(in_)
    with (
        _interruptible("repair", "--in", collection.path),
        progress(quiet=quiet) as show,
    ):
        n_embedded = collection.repair(on_progress=show, wait=wait)
        faults = collection.verify().faults
    out(f"rebuilt; {n_embedded} texts were embedded again")
    for fault in faults:
        out(f"fault: {fault}")
    if faults:
        out("these faults cannot be repaired; restore a backup, or rebuild the collection")
        raise typer.Exit(1)


@app.command()
def upgrade(
    path: Annotated[Path, typer.Argument(help="Collection of an older format.")],
    raw_ids: RawIdsOption = False,
    wait: WaitOption = 0.0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upgrade a collection to the current format, reading its files again.

    Texts that stay the same are not embedded again. Until the end, the old collection is in its
    place, or beside it as PATH.format-1.
    """
    from ragkit.collection.upgrade import upgrade as upgrade_collection

    with (
        _interruptible("upgrade", path, done="the collection is as it was. Start again"),
        progress(quiet=quiet) as show,
    ):
        report = upgrade_collection(path, raw_ids=raw_ids, wait=wait, on_progress=show)
    print_losses(report.losses)
    if as_json:
        print_json(report)
    elif not report.upgraded:
        out(f"{path} has the current format")
    else:
        out(
            f"{path}: upgraded; {report.n_read} documents read again, {report.n_kept} kept as they "
            f"were stored, {report.n_failed} failed; {report.n_embedded} texts embedded, "
            f"{report.n_reused} vectors reused"
        )
    if report.n_failed:
        raise typer.Exit(PARTIAL)


@app.command()
def trust(in_: InOption = None, wait: WaitOption = 0.0) -> None:
    """Trust the FAISS files of a collection that was created on another machine."""
    out(f"{open_collection(in_).trust(wait=wait)} FAISS files signed")


@app.command()
def compact(in_: InOption = None, wait: WaitOption = 0.0) -> None:
    """Merge all segments into one."""
    collection = open_collection(in_)
    collection.compact(wait=wait)
    out(f"{len(collection.info()['segments'])} segments")


@app.command()
def gc(in_: InOption = None, wait: WaitOption = 0.0) -> None:
    """Delete data that the last two generations do not use."""
    out(f"{open_collection(in_).gc(wait=wait)} segments removed")


def _target(to: Path | None) -> Path:
    path = settings.value("collection", None if to is None else str(to))
    if path is None:
        raise RagkitError("no collection was specified; use --to PATH, e.g. --to notes.rag")
    return Path(path)


def _open_or_create(
    path: Path,
    embedder: str | None,
    chunk_tokens: int | None,
    index: str | None,
    *,
    strict: bool,
) -> Collection:
    from ragkit.collection import Collection
    from ragkit.collection.description import Settings

    options = {"chunk_tokens": chunk_tokens, "index": index}
    requested: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if (path / "collection.json").exists():
        collection = Collection(path, embedder=embedder, strict=strict)
        for key, value in requested.items():
            if getattr(collection.settings, key) != value:
                raise RagkitError(
                    f"{str(path)!r} has {key} = {getattr(collection.settings, key)!r}, which "
                    "cannot be changed after creation; omit the option"
                )
        return collection
    requested["embedder"] = settings.value("embedder", embedder)
    return Collection(path, settings=Settings(**requested), strict=strict)


def _from_stdin(name: str | None, encoding: str) -> Sequence[Document]:
    """Read standard input; the default id has its digest, so that no two streams share it."""
    from ragkit.digests import digest
    from ragkit.documents import read_stream
    from ragkit.documents.decoding import decode_bytes
    from ragkit.losses import report

    data = sys.stdin.buffer.read()
    name = name or f"stdin-{digest(data)[:8]}"
    text, losses = decode_bytes(data, name, encoding=encoding)
    result = read_stream(text, name=name)
    for loss in (*losses, *result.losses):
        report(loss)
    return result.documents


def _fields(pairs: Sequence[str] | None) -> dict[str, Any]:
    fields = {}
    for pair in pairs or ():
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"--metadata is {pair!r}; expected FIELD=VALUE")
        fields[key] = _field_value(text)
    return fields


def _field_value(text: str) -> Any:
    """Parse JSON; a number that is written otherwise in JSON, such as 3.10, stays text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        return text  # NaN is a word, too
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text if is_number and json.dumps(value) != text.strip() else value


@contextmanager
def _interruptible(*command: str | Path, done: str = "progress is saved. Resume") -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note(f"{done} with: {shlex.join(['ragkit', 'index', *map(str, command)])}")
        raise


def _finish(collection: Collection, report: AddReport, *, as_json: bool) -> None:
    print_losses(report.losses)
    if as_json:
        print_json(report)
    else:
        counts = ("added", "changed", "unchanged", "deleted", "failed")
        summary = ", ".join(
            f"{getattr(report, name)} {name}" for name in counts if getattr(report, name)
        )
        out(
            f"{collection.path}: {summary or 'nothing to do'}; {report.n_chunks} new chunks, "
            f"{report.n_embedded} texts embedded, generation {report.generation}"
        )
    if report.failed:
        raise typer.Exit(PARTIAL)
