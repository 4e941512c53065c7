"""Detection of documents that were deleted from a folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from ragkit.collection.ingest import Ingestion
from ragkit.collection.plan import FilePlan, is_missing
from ragkit.store.store import Store


def files_below(store: Store, folder: Path) -> dict[str, str]:
    """Return the paths of the collection's files in a folder and the folders below it, by id."""
    real = PurePath(os.path.realpath(folder))
    return {row.id: row.path for row in store.files() if real in PurePath(row.path).parents}


def gone_files(below: dict[str, str]) -> frozenset[str]:
    """Return the ids of those files that do not exist any more.

    A file that exists but cannot be read is not among them.
    """
    return frozenset(name for name, path in below.items() if is_missing(path))


def find_deleted(
    store: Store, below: dict[str, str], plan: FilePlan, job: Ingestion
) -> tuple[list[str], list[str], int]:
    """Find documents and files that no longer exist in a folder.

    Args:
        store: Tables of the collection.
        below: Files of the folder, before the job.
        plan: Plan of the job.
        job: Finished job that ingested the folder.

    Returns:
        Ids of deleted documents, ids of deleted files, and the number of live documents from the
        folder, deleted ones included.
    """
    known = below.keys() | plan.rows.keys()
    missing = gone_files(below) - plan.rows.keys()
    deleted = []
    n_from_root = 0
    for doc_id, _, file in store.live_documents(store.generation()):
        if file not in known:
            continue
        n_from_root += 1
        if file in missing or (file in job.read_files and doc_id not in job.offered):
            deleted.append(doc_id)
    return deleted, sorted(missing), n_from_root
