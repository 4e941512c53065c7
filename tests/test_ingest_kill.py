"""Killing an `add` at any moment loses at most the batch in flight."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ragkit.collection import Collection
from ragkit.ingest import BATCH_CHUNKS
from ragkit.testing import HashEmbedder
from ragkit.types import Document

N_DOCUMENTS, N_TEXTS, N_KILLS = 2_000, 1_500, 5
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

ADD = f"""
import sys
from ragkit.collection import Collection
from ragkit.testing import HashEmbedder
from ragkit.types import Document
documents = [
    Document(f"d{{i}}", f"text number {{i % {N_TEXTS}}} of many", metadata={{"n": i}})
    for i in range({N_DOCUMENTS})
]
collection = Collection(sys.argv[1], embedder=HashEmbedder())
print("ready", flush=True)
collection.add(documents)
"""


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(dir=MEMORY))
    yield made
    shutil.rmtree(made)


def _start(path):
    process = subprocess.Popen(
        [sys.executable, "-c", ADD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def _n_embedded(path):
    with Collection(path, embedder=HashEmbedder()) as collection:
        return sum(job["n_embedded"] for job in collection.info()["jobs"])


def test_add_when_killed_again_and_again_ends_like_one_that_was_not(folder):
    whole = folder / "whole.rag"
    began = time.monotonic()
    with _start(whole) as process:
        began = time.monotonic()
        assert process.wait() == 0
    took = time.monotonic() - began
    with Collection(whole, embedder=HashEmbedder()) as collection:
        digest = collection.digest()
        assert _n_embedded(whole) == N_TEXTS

    path = folder / "killed.rag"
    dice = random.Random(7)
    n_kills = 0
    for attempt in range(N_KILLS):
        with _start(path) as process:
            time.sleep(took * dice.uniform(0.05, 0.3 + 0.15 * attempt))  # the kill's moment
            process.send_signal(signal.SIGKILL)
            n_kills += process.wait() == -signal.SIGKILL
        if (path / "collection.json").exists():
            with Collection(path, embedder=HashEmbedder()) as collection:
                found = collection.retriever("hybrid").retrieve(["text number 7"], 3)
                assert len(found[0]) in (0, 3)
                assert collection.verify().ok
    assert n_kills >= 3
    with Collection(path, embedder=HashEmbedder()) as collection:
        report = collection.add(
            [
                Document(f"d{i}", f"text number {i % N_TEXTS} of many", metadata={"n": i})
                for i in range(N_DOCUMENTS)
            ]
        )
        assert report.added + report.unchanged == N_DOCUMENTS
        assert collection.digest() == digest
        assert collection.verify().faults == ()
        counts = collection.info()["documents"]
        assert counts == {**dict.fromkeys(counts, 0), "indexed": N_DOCUMENTS}
        states = [job["state"] for job in collection.info()["jobs"]]
        assert states[0] == "done"
        assert set(states[1:]) <= {"interrupted", "done"}
    assert N_TEXTS - n_kills * BATCH_CHUNKS <= _n_embedded(path)
    assert _n_embedded(path) <= N_TEXTS + n_kills * BATCH_CHUNKS


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
