"""`store.db`: every statement that writes it.

Writers use one connection and short transactions (WAL, so readers never wait). The commit of a
generation is one transaction: `commit_generation`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ragkit.store import checks
from ragkit.store.reader import LIVE, StoreReader, as_number, in_parts, read_generation
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
    """The tables, opened for reading and writing by the one process that holds the lock."""

    def next_numbers(self) -> tuple[int, int]:
        """The first document and chunk numbers that were never used."""
        rows = self._all(sa.select(meta).where(meta.c.key.in_(["next_document", "next_chunk"])))
        known = {row[0]: as_number(row[1]) for row in rows}
        return known.get("next_document", 1), known.get("next_chunk", 1)

    def keep_description(self, text: str) -> None:
        """Keep a copy of `collection.json`."""
        with self.begin() as connection:
            _set_meta(connection, "description", text)

    def start_job(self, kind: str) -> int:
        """Open a job; jobs that a killed process left open become interrupted."""
        with self.begin() as connection:
            connection.execute(
                sa.update(jobs).where(jobs.c.state == "running").values(state="interrupted")
            )
            row = connection.execute(
                sa.insert(jobs).values(kind=kind, state="running", started=time.time())
            )
            assert row.inserted_primary_key is not None
            return int(row.inserted_primary_key[0])

    def end_job(self, job: int, state: str, found: Sequence[Loss]) -> None:
        """Close a job and keep its losses."""
        with self.begin() as connection:
            connection.execute(
                sa.update(jobs).where(jobs.c.id == job).values(state=state, finished=time.time())
            )
            if found:
                connection.execute(sa.insert(losses), [{"job": job, **asdict(x)} for x in found])

    def stage(
        self,
        rows: Sequence[DocumentRow],
        new_chunks: Sequence[ChunkRow] = (),
        *,
        replaces: Sequence[str] = (),
    ) -> None:
        """Write documents that are not live yet.

        Args:
            rows: Their versions.
            new_chunks: Their chunks.
            replaces: Ids whose earlier staged or failed versions go.
        """
        with self.begin() as connection:
            _unstage(connection, replaces)
            if rows:
                connection.execute(sa.insert(documents), [as_values(row) for row in rows])
                _set_meta(connection, "next_document", str(rows[-1].seq + 1))
                checks.seal(connection, rows, new_chunks)
            if new_chunks:
                connection.execute(sa.insert(chunks), [as_values(chunk) for chunk in new_chunks])
                _set_meta(connection, "next_chunk", str(new_chunks[-1].seq + 1))

    def unstage(self, ids: Sequence[str]) -> None:
        """Forget staged or failed versions."""
        with self.begin() as connection:
            _unstage(connection, ids)

    def count_embedded(self, job: int, n_embedded: int, n_reused: int) -> None:
        """Add to the job's counts of texts."""
        with self.begin() as connection:
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job)
                .values(
                    n_embedded=jobs.c.n_embedded + n_embedded, n_reused=jobs.c.n_reused + n_reused
                )
            )

    def mark_embedded(self, job: int) -> None:
        """Every parsed document of the job has its vectors."""
        with self.begin() as connection:
            connection.execute(
                sa.update(documents)
                .where(documents.c.job == job, documents.c.state == "parsed")
                .values(state="embedded")
            )

    def commit_generation(
        self, job: int, segment: tuple[str, int] | None, complete: Sequence[FileRow]
    ) -> int:
        """The one commit point of ingestion: the job's embedded documents become live.

        Earlier versions of the same ids die in the same transaction.

        Args:
            job: Whose documents.
            segment: Digest and row count of the segment that holds their chunks.
            complete: Files of which nothing is missing any more.

        Returns:
            The new generation.
        """
        with self.begin() as connection:
            generation = _advance(connection)
            mine = (documents.c.job == job) & (documents.c.state == "embedded")
            earlier = LIVE & documents.c.id.in_(sa.select(documents.c.id).where(mine))
            # A file that loses a document to another source is read again when it is next offered.
            losers = sa.select(documents.c.file).where(earlier)
            connection.execute(sa.update(files).where(files.c.id.in_(losers)).values(digest=""))
            checks.drop_seals(connection, sa.select(documents.c.seq).where(earlier))
            connection.execute(sa.update(documents).where(earlier).values(died=generation))
            connection.execute(
                sa.update(documents).where(mine).values(born=generation, state="indexed")
            )
            _add_segments(connection, generation, [segment] if segment else [])
            _complete(connection, complete)
            return generation

    def note_files(self, rows: Sequence[FileRow]) -> None:
        """Remember files that are about to be read, or of which nothing had to be written."""
        with self.begin() as connection:
            _complete(connection, rows)

    def kill_documents(self, ids: Sequence[str]) -> tuple[int, list[str]]:
        """Delete documents; returns the new generation and the ids that were there."""
        with self.begin() as connection:
            found: list[str] = []
            touched: set[str] = set()
            for part in in_parts(ids):
                rows = connection.execute(
                    sa.select(documents.c.id, documents.c.file).where(
                        documents.c.id.in_(part), LIVE
                    )
                ).all()
                found += [row[0] for row in rows]
                touched |= {row[1] for row in rows}
            if not found:
                return read_generation(connection), []
            generation = _advance(connection)
            for part in in_parts(found):
                these = sa.select(documents.c.seq).where(documents.c.id.in_(part), LIVE)
                checks.drop_seals(connection, these)
                connection.execute(
                    sa.update(documents)
                    .where(documents.c.id.in_(part), LIVE)
                    .values(died=generation)
                )
            for part in in_parts(sorted(touched)):  # they are read again when they are next offered
                connection.execute(sa.update(files).where(files.c.id.in_(part)).values(digest=""))
            return generation, found

    def read_again(self, ids: Sequence[str]) -> None:
        """Make files be read when they are next offered, though they may be unchanged."""
        with self.begin() as connection:
            for part in in_parts(ids):
                connection.execute(sa.update(files).where(files.c.id.in_(part)).values(digest=""))

    def forget_files(self, ids: Sequence[str]) -> None:
        """Drop files that are gone, and what was staged or failed of them."""
        with self.begin() as connection:
            for part in in_parts(ids):
                _drop_staged(connection, documents.c.file.in_(part))
                connection.execute(sa.delete(files).where(files.c.id.in_(part)))
            checks.drop_file_seals(connection, ids)

    def replace_segments(
        self, old: Sequence[str], new: Sequence[tuple[str, int]], *, dropped: Sequence[int]
    ) -> int:
        """Compaction's commit: the same documents in other segments.

        Args:
            old: Segments that die.
            new: Digest and row count of those that hold their live rows.
            dropped: Dead chunks that no segment holds any more: they need no tombstone.
        """
        with self.begin() as connection:
            generation = _advance(connection)
            for part in in_parts(old):
                connection.execute(
                    sa.update(segments).where(segments.c.digest.in_(part)).values(died=generation)
                )
            _add_segments(connection, generation, new)
            for numbers in in_parts(dropped):
                connection.execute(sa.delete(chunks).where(chunks.c.seq.in_(numbers)))
            return generation

    def collect_garbage(self, keep_from: int) -> list[str]:
        """Drop what no generation from `keep_from` on needs; returns the segments that remain.

        The rows of a dead document and of its chunks stay, without their texts, while a segment
        holds the chunks: they are its tombstones, and `replace_segments` drops them.
        """
        with self.begin() as connection:
            connection.execute(sa.delete(segments).where(segments.c.died <= keep_from))
            held = sa.exists().where(chunks.c.document == documents.c.seq)
            connection.execute(sa.delete(documents).where(documents.c.died <= keep_from, ~held))
            dead = sa.select(documents.c.seq).where(
                documents.c.died <= keep_from, documents.c.text != ""
            )
            connection.execute(
                sa.update(chunks).where(chunks.c.document.in_(dead)).values(text="", metadata="{}")
            )
            connection.execute(
                sa.update(documents)
                .where(documents.c.died <= keep_from, documents.c.text != "")
                .values(text="", metadata="{}", title="")
            )
            return [row[0] for row in connection.execute(sa.select(segments.c.digest))]

    def ledger_rows(self, fingerprint: str, role: str, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The rows of known keys."""
        found: dict[bytes, int] = {}
        for part in in_parts(keys):
            statement = sa.select(ledger.c.key, ledger.c.row).where(
                ledger.c.fingerprint == fingerprint, ledger.c.role == role, ledger.c.key.in_(part)
            )
            found |= {row[0]: row[1] for row in self._all(statement)}
        return found

    def add_ledger_keys(self, keys: Sequence[LedgerKey]) -> None:
        """Commit keys whose vectors are on the disk."""
        if not keys:
            return
        last = keys[-1]
        with self.begin() as connection:
            connection.execute(sa.insert(ledger), [as_values(key) for key in keys])
            _set_meta(connection, f"ledger:{last.fingerprint}:{last.role}", str(last.row + 1))

    def ledger_checksums(self, fingerprint: str, role: str) -> Iterator[tuple[bytes, int, int]]:
        """(key, row, CRC-32) of every vector."""
        return self.stream(
            sa.select(ledger.c.key, ledger.c.row, ledger.c.checksum).where(
                ledger.c.fingerprint == fingerprint, ledger.c.role == role
            )
        )

    def drop_ledger_keys(self, fingerprint: str, role: str, keys: Sequence[bytes]) -> None:
        """Forget keys; their vectors stay in the file until it is written anew."""
        with self.begin() as connection:
            for part in in_parts(keys):
                connection.execute(
                    sa.delete(ledger).where(
                        ledger.c.fingerprint == fingerprint,
                        ledger.c.role == role,
                        ledger.c.key.in_(part),
                    )
                )


def _unstage(connection: sa.Connection, ids: Sequence[str]) -> None:
    for part in in_parts(ids):
        _drop_staged(connection, documents.c.id.in_(part))


def _drop_staged(connection: sa.Connection, which: Any) -> None:
    staged = which & documents.c.born.is_(None)
    numbers = sa.select(documents.c.seq).where(staged)
    connection.execute(sa.delete(chunks).where(chunks.c.document.in_(numbers)))
    checks.drop_seals(connection, numbers)
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
        # The same rows may have been a segment before, and died: then it lives again.
        values = {"n_rows": n_rows, "born": generation, "died": None}
        connection.execute(
            sqlite.insert(segments)
            .values(digest=name, **values)
            .on_conflict_do_update(index_elements=["digest"], set_=values)
        )


def _complete(connection: sa.Connection, rows: Sequence[FileRow]) -> None:
    for row in rows:
        connection.execute(
            sqlite.insert(files)
            .values(**as_values(row))
            .on_conflict_do_update(index_elements=["id"], set_=as_values(row))
        )
    checks.seal_files(connection, rows)
