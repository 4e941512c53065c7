"""What has gone from a folder since it was added."""

from __future__ import annotations

from pathlib import Path

from ragkit.collection.ingest import Ingestion
from ragkit.store.store import Store


def vanished(store: Store, root: Path, job: Ingestion) -> tuple[list[str], list[str], int]:
    """What came from a root and is not in it any more: documents, files.

    Third comes how many live documents came from the root. A file that is there and could not be
    read has not vanished, nor has what was in it.
    """
    known = store.files_of_root(str(root.resolve()))
    there = job.offered | job.read_files
    missing = {file for file in known if file not in there and _is_missing(root / file)}
    gone = []
    n_from_root = 0
    for doc_id, _, file in store.live_documents(store.generation()):
        if file not in known:
            continue
        n_from_root += 1
        if file in missing or (file in job.read_files and doc_id not in job.offered):
            gone.append(doc_id)
    return gone, sorted(missing), n_from_root


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
