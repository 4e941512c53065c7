"""Collections for data sets, for the commands that evaluate or tune."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit.cli.common import note, print_losses, progress
from ragkit.errors import DatasetError

if TYPE_CHECKING:
    from ragkit.collection import Collection
    from ragkit.evaluation.datasets import QASet, RetrievalSet


def open_corpus(
    stack: ExitStack,
    in_: Path | None,
    to: Path | None,
    dataset: RetrievalSet | QASet,
    *,
    quiet: bool,
) -> Collection:
    """Open the collection of a data set until the stack is left.

    It is the one at `in_`, else one in the folder `to`, else a temporary one.
    """
    if in_ is None and to is None:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "corpus.rag"
    else:
        path = in_ if in_ is not None else (to or Path()) / "corpus.rag"
    return stack.enter_context(_collection(path, dataset, own=in_ is None, quiet=quiet))


def _collection(path: Path, dataset: RetrievalSet | QASet, *, own: bool, quiet: bool) -> Collection:
    """Open a collection, or create it from the corpus of the data set."""
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
            f"{str(path)!r} has none of the {len(judged)} judged documents of {dataset.name}; "
            "omit --in to create a collection from the corpus of the data set, or add its files "
            "with --raw-ids"
        )
    if missing:
        note(f"{missing} of {len(judged)} judged documents are not in {path}: they cannot be found")
    return collection


def fill(collection: Collection, dataset: RetrievalSet | QASet, *, quiet: bool) -> None:
    """Add the corpus of a data set to a collection, and print losses."""
    from ragkit.evaluation.corpora import add_corpus

    if not quiet:
        note(f"adding {len(dataset.corpus)} documents of {dataset.name} to {collection.path}")
    with progress(quiet=quiet) as show:
        report = add_corpus(collection, dataset, on_progress=show)
    print_losses(report.losses)
