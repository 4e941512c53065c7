"""Killing a writer at any moment loses at most the batch in flight."""

import os
import random
import signal
import time
import warnings

import pytest
from fault_helpers import RETRIEVERS, temporary_folder

from ragkit.collection import Collection
from ragkit.collection.context import BATCH_CHUNKS
from ragkit.testing import HashEmbedder
from ragkit.types import Document

N_DOCUMENTS, N_TEXTS = 1_600, 1_200
KILLS_A_COLLECTION = 5
GONE = [f"d{i}" for i in range(0, N_DOCUMENTS, 3)]


@pytest.fixture
def folder():
    with temporary_folder() as made:
        yield made


def _documents():
    return [
        Document(f"d{i}", f"text number {i % N_TEXTS} of many", metadata={"n": i})
        for i in range(N_DOCUMENTS)
    ]


def _write(path):
    """What is killed: adding, deleting, and merging what is left."""
    with Collection(path, embedder=HashEmbedder()) as collection:
        collection.add(_documents())
        collection.delete(GONE)
        collection.compact()
        return collection.digest()


def _start(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            _write(path)
            code = 0
        finally:
            os._exit(code)
    return child


def _kill_after(path, delay_s):
    """Whether the kill came before the end."""
    child = _start(path)
    time.sleep(delay_s)  # the kill's moment
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def _check_whole(path):
    if not (path / "collection.json").exists():
        return
    with Collection(path, embedder=HashEmbedder()) as collection:
        live = {row["id"] for row in collection.documents() if row["state"] == "indexed"}
        for name in RETRIEVERS:
            [hits] = collection.retriever(name, copies=True).retrieve(["text number 7"], 10_000)
            assert {hit.chunk.doc_id for hit in hits} == live
        assert collection.verify().faults == ()


def _check_end(path, digest, n_kills):
    """The same calls once more end like a run that nobody killed."""
    assert _write(path) == digest
    with Collection(path, embedder=HashEmbedder()) as collection:
        assert collection.verify().faults == ()
        counts = collection.info()["documents"]
        assert counts == {**dict.fromkeys(counts, 0), "indexed": N_DOCUMENTS - len(GONE)}
        jobs = collection._reader.store.job_history(1_000)
        assert jobs[0]["state"] == "done"
        assert {job["state"] for job in jobs} <= {"interrupted", "done"}
        n_embedded = sum(job["n_embedded"] for job in jobs)
    assert N_TEXTS - n_kills * BATCH_CHUNKS <= n_embedded <= N_TEXTS + n_kills * BATCH_CHUNKS
    folders = {item.name for item in (path / "segments").iterdir()}
    assert not any(name.startswith("writing") for name in folders)


def _kill_again_and_again(folder, n_kills, seed):
    print(f"seed {seed}")
    dice = random.Random(seed)
    digest = _write(folder / "warm.rag")
    began = time.monotonic()
    assert _write(folder / "whole.rag") == digest
    took = time.monotonic() - began
    n_done = 0
    while n_done < n_kills:
        path = folder / f"killed{n_done}.rag"
        n_here = n_late = 0
        while n_here < min(KILLS_A_COLLECTION, n_kills - n_done) and n_late < KILLS_A_COLLECTION:
            if _kill_after(path, took * dice.uniform(0.0, 0.9)):
                n_here += 1
                _check_whole(path)
            else:
                n_late += 1
        _check_end(path, digest, n_here)
        n_done += n_here


@pytest.mark.faults
def test_writing_when_killed_twice_ends_like_one_that_was_not(folder):
    _kill_again_and_again(folder, 2, seed=random.SystemRandom().randrange(10**6))


@pytest.mark.faults
def test_writing_when_killed_twenty_times_ends_like_one_that_was_not(folder):
    _kill_again_and_again(folder, 20, seed=random.SystemRandom().randrange(10**6))


class _Interrupted(HashEmbedder):
    def embed_passages(self, texts):
        if self.n_embedded >= 600:
            raise KeyboardInterrupt
        return super().embed_passages(texts)


def test_add_when_interrupted_while_embedding_keeps_what_was_embedded(folder):
    documents = [Document(f"d{i}", f"text number {i}") for i in range(1_000)]
    path = folder / "c.rag"
    with Collection(path, embedder=_Interrupted()) as collection:
        with pytest.raises(KeyboardInterrupt):
            collection.add(documents)
        assert collection.info()["jobs"][0]["state"] == "interrupted"
        assert collection.retriever("hybrid").retrieve(["text"]) == [[]]
        assert collection.verify().ok
        n_before = collection.info()["jobs"][0]["n_embedded"]
    with Collection(path, embedder=HashEmbedder()) as collection:
        report = collection.add(documents)
        assert (report.n_embedded, report.n_reused) == (1_000 - n_before, n_before)
        assert n_before >= 600
        assert collection.verify().ok
        assert {row["state"] for row in collection.documents()} == {"indexed"}
