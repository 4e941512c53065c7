"""Adding a data set's corpus to a collection."""

from __future__ import annotations

from ragkit.collection import Collection
from ragkit.collection.context import OnProgress
from ragkit.collection.ingest import AddReport
from ragkit.errors import DatasetError
from ragkit.evaluation.datasets import QASet, RetrievalSet


def add_corpus(
    collection: Collection, dataset: RetrievalSet | QASet, *, on_progress: OnProgress | None = None
) -> AddReport:
    """Add a data set's corpus to an empty collection; the same call resumes if it was interrupted.

    Raises:
        DatasetError: The collection holds documents that are not in the corpus.
    """
    if (collection.path / "collection.json").exists():
        ids = {document.id for document in dataset.corpus}
        foreign = sorted(indexed_documents(collection) - ids)
        if foreign:
            raise DatasetError(
                f"{str(collection.path)!r} holds {len(foreign)} documents that are not in the "
                f"corpus of {dataset.name} ({foreign[0]!r}, …); choose another folder"
            )
    return collection.add(dataset.corpus, on_progress=on_progress)


def indexed_documents(collection: Collection) -> set[str]:
    """Return the ids of the documents that are indexed."""
    return {row["id"] for row in collection.documents() if row["state"] == "indexed"}
