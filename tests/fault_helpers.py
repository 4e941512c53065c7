"""What the tests of faults share: a small collection, and children that die where they are told."""

import json
import mmap
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import sqlalchemy as sa

from ragkit.collection import Collection, ingest, repair
from ragkit.errors import CollectionError
from ragkit.testing import HashEmbedder
from ragkit.types import Document

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # flushing costs nothing there
RETRIEVERS = ("dense", "bm25", "hybrid")
BATCH = 4
DIED = 77  # exit status of a child that died as it was told
OWN = {"collection.json", "store.db", "lock", "ledger", "segments"}
_DURABLE = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "shutil.rmtree",
}  # fmt: skip

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def documents(start, stop, version=1):
    return [
        Document(
            f"d{i:02}",
            f"gap w{i % 7} of version {version}. Band {i % 5} follows.",
            f"title {i % 3}",
            metadata={"n": i},
        )
        for i in range(start, stop)
    ]


@contextmanager
def small_batches():
    """Several batches and segments from a few documents."""
    with (
        mock.patch.multiple(ingest, BATCH_CHUNKS=BATCH, BATCH_DOCUMENTS=5, SEGMENT_CHUNKS=6),
        mock.patch.multiple(repair, BATCH_CHUNKS=BATCH, SEGMENT_CHUNKS=6),
    ):
        yield


class CountingEmbedder(HashEmbedder):
    """Counts in memory that outlives a fork and a death."""

    def __init__(self):
        super().__init__(16)
        self._total = mmap.mmap(-1, 8)

    def embed_passages(self, texts):
        self._total[:8] = (self.total + len(texts)).to_bytes(8, "little")
        return super().embed_passages(texts)

    @property
    def total(self):
        return int.from_bytes(self._total[:8], "little")

    def forget(self):
        self._total[:8] = bytes(8)


def opened(path, embedder=None):
    return Collection(path, embedder=embedder or HashEmbedder(16))


@contextmanager
def temporary_folder():
    made = Path(tempfile.mkdtemp(dir=MEMORY))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def in_child(work, *, hang_s=30):
    """Run `work` in a fork, which ends without any cleaning up.

    Returns its exit status (negative: the signal) and what it returned or raised, as text.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(hang_s)
            try:
                said, code = work(), 0
            except CollectionError as error:
                said, code = f"{type(error).__name__}: {error}", 2
            except BaseException:  # noqa: BLE001  # whatever it is, the parent shows it
                said = traceback.format_exc()
            os.write(writing, json.dumps(said).encode()[:60_000])
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        data = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(data) if data else None


def on_every_step(act):
    """Call `act(name)` before every durable step of this process, for good: for children only."""
    busy = []

    def step(name):
        if not busy:
            busy.append(name)
            act(name)
            busy.clear()

    def hook(event, arguments):
        if event in _DURABLE:
            step(event)
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            step("open to write")

    flush = os.fsync

    def fsync(handle):
        step("fsync")
        flush(handle)

    os.fsync = fsync
    sys.addaudithook(hook)
    sa.event.listen(sa.Engine, "commit", lambda connection: step("commit"))


def run_and_die(command, n):
    """Run a command in a child that dies at its n-th durable step; returns whether it did."""

    def work():
        left = [n]

        def act(name):
            left[0] -= 1
            if left[0] == 0:
                os._exit(DIED)

        on_every_step(act)
        command()

    status, said = in_child(work)
    assert status in (0, DIED), said
    return status == DIED


def states(command, look):
    """All that `look()` returns while a command runs, and the names of the command's steps."""

    def work():
        seen, steps = [], []

        def act(name):
            steps.append(name)
            if name == "commit":
                seen.append(look())

        on_every_step(act)
        command()
        return [sorted({*seen, look()}), steps]

    status, said = in_child(work)
    assert status == 0, said
    return set(said[0]), said[1]


def digest(path):
    """What the collection says, "" if there is none yet."""
    if not (path / "collection.json").exists():
        return ""
    with opened(path) as collection:
        return collection.digest()


def check_whole(path):
    """The collection opens, is searched by everything that there is, and verifies."""
    if not (path / "collection.json").exists():
        return
    with opened(path) as collection:
        live = {row["id"] for row in collection.documents() if row["state"] == "indexed"}
        for name in RETRIEVERS:
            hits = collection.retriever(name, copies=True).retrieve(["gap band"], 1000)[0]
            assert {hit.chunk.doc_id for hit in hits} == live
        assert collection.verify().faults == ()


def check_no_debris(path):
    """Nothing lies there that no generation needs."""
    assert {item.name for item in path.iterdir()} <= OWN
    with opened(path) as collection:
        counts = collection.info()["documents"]
        assert counts == {**dict.fromkeys(counts, 0), "indexed": counts["indexed"]}
        live = set(collection._reader.store.read_state().segments)
        with collection._reader.store.reading() as connection:
            rows = connection.exec_driver_sql("SELECT digest FROM segments").all()
    assert live <= {folder.name for folder in path.glob("segments/*")} <= {row[0] for row in rows}
