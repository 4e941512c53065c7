"""Detection of documents that were deleted from a folder."""

from __future__ import annotations

from pathlib import Path

from ragkit.collection.ingest import Ingestion
from ragkit.store.store import Store


def find_deleted(store: Store, root: Path, job: Ingestion) -> tuple[list[str], list[str], int]:
    """Find documents and files that no longer exist in a folder.

    A file that exists but could not be read is not deleted, nor are its documents.

    Args:
        store: Tables of the collection.
        root: Folder that was ingested.
        job: Finished job that ingested the folder.

    Returns:
        Ids of deleted documents, ids of deleted files, and the number of live documents from the
        folder, deleted ones included.
    """
    known = store.files_of_root(str(root.resolve()))
    present = job.offered | job.read_files
    missing = {file for file in known if file not in present and _is_missing(root / file)}
    deleted = []
    n_from_root = 0
    for doc_id, _, file in store.live_documents(store.generation()):
        if file not in known:
            continue
        n_from_root += 1
        if file in missing or (file in job.read_files and doc_id not in job.offered):
            deleted.append(doc_id)
    return deleted, sorted(missing), n_from_root


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
