"""Write to `store.db`.

Writers use one connection and short transactions (in WAL mode, so readers never wait). A generation
is committed in one transaction: `commit_generation`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ragkit.store import checks
from ragkit.store.reader import LIVE, StoreReader, batches, parse_number, read_generation
from ragkit.store.rows import ChunkRow, DocumentRow, FileRow, LedgerKey, as_values
from ragkit.store.schema import (
    chunks,
    documents,
    files,
    jobs,
    ledger,
    losses,
    meta,
    segments,
)
from ragkit.types import Loss


class Store(StoreReader):
    """Read and write access to the tables, for the process that has the write lock."""

    def next_numbers(self) -> tuple[int, int]:
        """Return the first unused document number and chunk number."""
        rows = self._all(sa.select(meta).where(meta.c.key.in_(["next_document", "next_chunk"])))
        numbers = {row[0]: parse_number(row[1]) for row in rows}
        return numbers.get("next_document", 1), numbers.get("next_chunk", 1)

    def save_description(self, text: str) -> None:
        """Store a copy of `collection.json`."""
        with self.begin() as connection:
            _set_meta(connection, "description", text)

    def start_job(self, kind: str) -> int:
        """Start a job; mark running jobs of killed processes as interrupted."""
        with self.begin() as connection:
            connection.execute(
                sa.update(jobs).where(jobs.c.state == "running").values(state="interrupted")
            )
            row = connection.execute(
                sa.insert(jobs).values(kind=kind, state="running", started=time.time())
            )
            assert row.inserted_primary_key is not None
            return int(row.inserted_primary_key[0])

    def end_job(self, job: int, state: str, job_losses: Sequence[Loss]) -> None:
        """End a job and store its losses."""
        with self.begin() as connection:
            connection.execute(
                sa.update(jobs).where(jobs.c.id == job).values(state=state, finished=time.time())
            )
            if job_losses:
                values = [{"job": job, **asdict(loss)} for loss in job_losses]
                connection.execute(sa.insert(losses), values)

    def stage(
        self,
        rows: Sequence[DocumentRow],
        new_chunks: Sequence[ChunkRow] = (),
        *,
        replaces: Sequence[str] = (),
    ) -> None:
        """Write documents that become live at the next commit.

        Args:
            rows: Versions of the documents.
            new_chunks: Chunks of the documents.
            replaces: Ids whose earlier staged or failed versions are deleted.
        """
        with self.begin() as connection:
            _unstage(connection, replaces)
            if rows:
                connection.execute(sa.insert(documents), [as_values(row) for row in rows])
                _set_meta(connection, "next_document", str(rows[-1].seq + 1))
                checks.write_seals(connection, rows, new_chunks)
            if new_chunks:
                connection.execute(sa.insert(chunks), [as_values(chunk) for chunk in new_chunks])
                _set_meta(connection, "next_chunk", str(new_chunks[-1].seq + 1))

    def unstage(self, ids: Sequence[str]) -> None:
        """Delete staged and failed versions of documents."""
        with self.begin() as connection:
            _unstage(connection, ids)

    def count_embedded(self, job: int, n_embedded: int, n_reused: int) -> None:
        """Add to the job's numbers of embedded and reused texts."""
        with self.begin() as connection:
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job)
                .values(
                    n_embedded=jobs.c.n_embedded + n_embedded, n_reused=jobs.c.n_reused + n_reused
                )
            )

    def mark_embedded(self, job: int) -> None:
        """Set the state of the job's parsed documents to embedded."""
        with self.begin() as connection:
            connection.execute(
                sa.update(documents)
                .where(documents.c.job == job, documents.c.state == "parsed")
                .values(state="embedded")
            )

    def commit_generation(
        self, job: int, segment: tuple[str, int] | None, complete: Sequence[FileRow]
    ) -> int:
        """Commit a generation: make the job's embedded documents live.

        Earlier versions of the same ids are deleted in the same transaction. This is the only
        commit point of ingestion.

        Args:
            job: Job of the documents.
            segment: Digest and number of rows of the segment with their chunks.
            complete: Files whose documents are then all committed.

        Returns:
            The new generation.
        """
        with self.begin() as connection:
            generation = _advance(connection)
            mine = (documents.c.job == job) & (documents.c.state == "embedded")
            earlier = LIVE & documents.c.id.in_(sa.select(documents.c.id).where(mine))
            # A file whose document another source replaces is read again when it is next added.
            replaced = sa.select(documents.c.file).where(earlier)
            connection.execute(sa.update(files).where(files.c.id.in_(replaced)).values(digest=""))
            checks.delete_seals(connection, sa.select(documents.c.seq).where(earlier))
            connection.execute(sa.update(documents).where(earlier).values(died=generation))
            connection.execute(
                sa.update(documents).where(mine).values(born=generation, state="indexed")
            )
            _add_segments(connection, generation, [segment] if segment else [])
            _write_files(connection, complete)
            return generation

    def record_files(self, rows: Sequence[FileRow]) -> None:
        """Record files that are about to be read, or whose documents are unchanged."""
        with self.begin() as connection:
            _write_files(connection, rows)

    def delete_documents(self, ids: Sequence[str]) -> tuple[int, list[str]]:
        """Delete documents; return the new generation and the ids that existed."""
        with self.begin() as connection:
            deleted: list[str] = []
            affected_files: set[str] = set()
            for batch in batches(ids):
                rows = connection.execute(
                    sa.select(documents.c.id, documents.c.file).where(
                        documents.c.id.in_(batch), LIVE
                    )
                ).all()
                deleted += [row[0] for row in rows]
                affected_files |= {row[1] for row in rows}
            if not deleted:
                return read_generation(connection), []
            generation = _advance(connection)
            for batch in batches(deleted):
                seqs = sa.select(documents.c.seq).where(documents.c.id.in_(batch), LIVE)
                checks.delete_seals(connection, seqs)
                connection.execute(
                    sa.update(documents)
                    .where(documents.c.id.in_(batch), LIVE)
                    .values(died=generation)
                )
            _reset_digests(connection, sorted(affected_files))
            return generation, deleted

    def reset_file_digests(self, ids: Sequence[str]) -> None:
        """Reset the digests of files, so that they are read again when they are next added."""
        with self.begin() as connection:
            _reset_digests(connection, ids)

    def delete_files(self, ids: Sequence[str]) -> None:
        """Delete files that no longer exist, and their staged and failed documents."""
        with self.begin() as connection:
            for batch in batches(ids):
                _delete_staged(connection, documents.c.file.in_(batch))
                connection.execute(sa.delete(files).where(files.c.id.in_(batch)))
            checks.delete_file_seals(connection, ids)

    def replace_segments(
        self, old: Sequence[str], new: Sequence[tuple[str, int]], *, dropped: Sequence[int]
    ) -> int:
        """Commit a compaction: the same documents in new segments.

        Args:
            old: Segments that are replaced.
            new: Digest and number of rows of the segments with their live rows.
            dropped: Dead chunks that are in no segment any more and need no tombstone.
        """
        with self.begin() as connection:
            generation = _advance(connection)
            for batch in batches(old):
                connection.execute(
                    sa.update(segments).where(segments.c.digest.in_(batch)).values(died=generation)
                )
            _add_segments(connection, generation, new)
            for numbers in batches(dropped):
                connection.execute(sa.delete(chunks).where(chunks.c.seq.in_(numbers)))
            return generation

    def collect_garbage(self, keep_from: int) -> list[str]:
        """Delete what no generation from `keep_from` on needs; return the remaining segments.

        While a segment contains the chunks of a dead document, the rows of both are kept without
        their texts: they are the segment's tombstones, which `replace_segments` deletes.
        """
        with self.begin() as connection:
            connection.execute(sa.delete(segments).where(segments.c.died <= keep_from))
            has_chunks = sa.exists().where(chunks.c.document == documents.c.seq)
            expired = documents.c.died <= keep_from
            connection.execute(sa.delete(documents).where(expired, ~has_chunks))
            dead = sa.select(documents.c.seq).where(expired, documents.c.text != "")
            connection.execute(
                sa.update(chunks).where(chunks.c.document.in_(dead)).values(text="", metadata="{}")
            )
            connection.execute(
                sa.update(documents)
                .where(expired, documents.c.text != "")
                .values(text="", metadata="{}", title="", layout=b"")
            )
            return [row[0] for row in connection.execute(sa.select(segments.c.digest))]

    def ledger_rows(self, fingerprint: str, role: str, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return the row of each key that is in the ledger."""
        rows: dict[bytes, int] = {}
        for batch in batches(keys):
            statement = sa.select(ledger.c.key, ledger.c.row).where(
                ledger.c.fingerprint == fingerprint, ledger.c.role == role, ledger.c.key.in_(batch)
            )
            rows |= {row[0]: row[1] for row in self._all(statement)}
        return rows

    def add_ledger_keys(self, keys: Sequence[LedgerKey]) -> None:
        """Commit keys whose vectors are flushed to the disk."""
        if not keys:
            return
        last = keys[-1]
        with self.begin() as connection:
            connection.execute(sa.insert(ledger), [as_values(key) for key in keys])
            _set_meta(connection, f"ledger:{last.fingerprint}:{last.role}", str(last.row + 1))

    def ledger_checksums(self, fingerprint: str, role: str) -> Iterator[tuple[bytes, int, int]]:
        """Iterate over (key, row, CRC-32) of all vectors."""
        return self.stream(
            sa.select(ledger.c.key, ledger.c.row, ledger.c.checksum).where(
                ledger.c.fingerprint == fingerprint, ledger.c.role == role
            )
        )

    def delete_ledger_keys(self, fingerprint: str, role: str, keys: Sequence[bytes]) -> None:
        """Delete keys; their vectors stay in the file until it is rewritten."""
        with self.begin() as connection:
            for batch in batches(keys):
                connection.execute(
                    sa.delete(ledger).where(
                        ledger.c.fingerprint == fingerprint,
                        ledger.c.role == role,
                        ledger.c.key.in_(batch),
                    )
                )


def _reset_digests(connection: sa.Connection, ids: Sequence[str]) -> None:
    for batch in batches(ids):
        connection.execute(sa.update(files).where(files.c.id.in_(batch)).values(digest=""))


def _unstage(connection: sa.Connection, ids: Sequence[str]) -> None:
    for batch in batches(ids):
        _delete_staged(connection, documents.c.id.in_(batch))


def _delete_staged(connection: sa.Connection, condition: Any) -> None:
    staged = condition & documents.c.born.is_(None)
    numbers = sa.select(documents.c.seq).where(staged)
    connection.execute(sa.delete(chunks).where(chunks.c.document.in_(numbers)))
    checks.delete_seals(connection, numbers)
    connection.execute(sa.delete(documents).where(staged))


def _set_meta(connection: sa.Connection, key: str, value: str) -> None:
    connection.execute(
        sqlite.insert(meta)
        .values(key=key, value=value)
        .on_conflict_do_update(index_elements=["key"], set_={"value": value})
    )


def _advance(connection: sa.Connection) -> int:
    generation = read_generation(connection) + 1
    _set_meta(connection, "generation", str(generation))
    return generation


def _add_segments(
    connection: sa.Connection, generation: int, new: Sequence[tuple[str, int]]
) -> None:
    for name, n_rows in new:
        # A dead segment with the same rows becomes live again.
        values = {"n_rows": n_rows, "born": generation, "died": None}
        connection.execute(
            sqlite.insert(segments)
            .values(digest=name, **values)
            .on_conflict_do_update(index_elements=["digest"], set_=values)
        )


def _write_files(connection: sa.Connection, rows: Sequence[FileRow]) -> None:
    for row in rows:
        connection.execute(
            sqlite.insert(files)
            .values(**as_values(row))
            .on_conflict_do_update(index_elements=["id"], set_=as_values(row))
        )
    checks.write_file_seals(connection, rows)
