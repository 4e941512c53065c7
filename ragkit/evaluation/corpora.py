"""A data set's corpus in a collection."""

from __future__ import annotations

from ragkit.collection import Collection
from ragkit.collection.ingest import AddReport, OnProgress
from ragkit.errors import DatasetError
from ragkit.evaluation.datasets import RetrievalSet


def add_corpus(
    collection: Collection, dataset: RetrievalSet, *, on_progress: OnProgress | None = None
) -> AddReport:
    """Add a data set's corpus to a collection that holds nothing else; run again it goes on.

    Raises:
        DatasetError: The collection holds documents that are not in the corpus.
    """
    if (collection.path / "collection.json").exists():
        names = {document.id for document in dataset.corpus}
        strange = sorted(held_documents(collection) - names)
        if strange:
            raise DatasetError(
                f"{str(collection.path)!r} holds {len(strange)} documents that are not in the "
                f"corpus of {dataset.name} ({strange[0]!r}, …); choose another folder"
            )
    return collection.add(dataset.corpus, on_progress=on_progress)


def held_documents(collection: Collection) -> set[str]:
    """The ids of the documents that can be found."""
    return {row["id"] for row in collection.documents() if row["state"] == "indexed"}
