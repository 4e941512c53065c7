"""Refuses documents whose ids belong to another source, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ragkit.collection.metadata import storable
from ragkit.collection.plan import FilePlan
from ragkit.documents import SUPPORTED, SourceFile, load_file
from ragkit.errors import CollectionError, DocumentError
from ragkit.store.reader import StoreReader
from ragkit.types import Document

_RECORD_KINDS = frozenset({"csv", "json", "jsonl"})


def check_ids(
    store: StoreReader | None, plan: FilePlan, documents: Iterable[Document], *, raw_ids: bool
) -> None:
    """Check that no document of a call has the id of another source's document.

    Args:
        store: Tables of the collection; None if it does not exist yet.
        plan: Files of the call.
        documents: Documents in memory; a generator is not consumed.
        raw_ids: Records keep their own ids.

    Raises:
        CollectionError: An id belongs to another source.
    """
    offered = documents if isinstance(documents, Sequence) else ()
    ids = {document.id for document in offered if isinstance(document.id, str)}
    memory = {name for name in ids if storable(name) == name}  # the others fail later
    check = _IdCheck(store, plan, raw_ids)
    check.memory(memory)
    check.files()
    check.records(memory)


class _IdCheck:
    def __init__(self, store: StoreReader | None, plan: FilePlan, raw_ids: bool) -> None:
        self._store = store
        self._plan = plan
        self._raw_ids = raw_ids

    def memory(self, ids: set[str]) -> None:
        """Check documents in memory."""
        files = set(self._plan.rows)
        if self._store is not None and ids:
            files |= {row.id for row in self._store.files()}
        for name in sorted(ids & files):
            raise _refused(name, "a document in memory", f"the file {name!r}")
        self._check_owners(sorted(ids), "", "a document in memory", frozenset())

    def files(self) -> None:
        """Check files, of which each may become one document.

        One whose id a record of another file has fails alone, when it is read.
        """
        paths = {file.id: file.path for file in self._plan.changed}
        for name, owner in self._owners(list(paths)):
            if not owner:
                raise _refused(name, f"the file {str(paths[name])!r}", _described(owner))

    def records(self, memory: set[str]) -> None:
        """Check the records of those files whose records can have any id of the collection."""
        owners = dict.fromkeys(memory, "")
        ids_of: dict[str, list[str]] = {}
        released = self._plan.released
        for file in self._plan.changed:
            kind = SUPPORTED.get(file.path.suffix.lower())
            if kind not in _RECORD_KINDS or not self._can_clash(file, memory):
                continue
            try:
                documents = load_file(file, raw_ids=self._raw_ids).documents
            except DocumentError:  # the ingestion reports it
                released -= {file.id}  # it keeps the documents that it had
                continue
            ids_of[file.id] = [document.id for document in documents]
        for file_id, ids in ids_of.items():
            source = f"a record of {file_id!r}"
            for name in ids:
                if name in owners:
                    raise _refused(name, source, _described(owners[name]))
                if name in self._plan.rows and name != file_id:
                    raise _refused(name, source, f"the file {name!r}")
                owners[name] = file_id
            self._check_owners(ids, file_id, source, released)

    def _can_clash(self, file: SourceFile, memory: set[str]) -> bool:
        prefixes = (f"{file.id}#", f"{file.id}@")
        return (
            self._raw_ids
            or any(name.startswith(prefixes) for name in memory)
            or (self._store is not None and self._store.has_memory_documents(prefixes))
        )

    def _check_owners(
        self, ids: Sequence[str], file: str, source: str, released: frozenset[str]
    ) -> None:
        for name, owner in self._owners(ids):
            if owner != file and owner not in released:
                raise _refused(name, source, _described(owner))

    def _owners(self, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield those ids that the collection has, with the files of their documents."""
        versions = self._store.live_versions(ids) if self._store is not None else {}
        yield from ((name, file) for name, (_, file) in versions.items())


def _described(owner: str) -> str:
    return f"the file {owner!r}" if owner else "a document in memory"


def _refused(name: str, source: str, owner: str) -> CollectionError:
    return CollectionError(
        f"{source} has the id {name!r}, which belongs to {owner}; nothing was written. Delete "
        f"{name!r} first, or give one of the two another id"
    )
