"""Two writers, twenty readers: nobody waits for readers, and no answer mixes generations."""

import json
import multiprocessing
import threading
import time

import pytest
from fault_helpers import RETRIEVERS, opened, small_batches, temporary_folder

from ragkit.collection.writer import acquire_write_lock
from ragkit.errors import Locked
from ragkit.testing import HashEmbedder
from ragkit.types import Document

PAIRS = 6  # documents of one `add` that must be seen together
N_PROCESSES, N_THREADS = 4, 5
HANG_S = 120
FORK = multiprocessing.get_context("forkserver")


@pytest.fixture
def folder():
    with temporary_folder() as made:
        yield made


def _group(name):
    return [
        Document(f"{name}-{i}", f"gap band of {name}", metadata={"group": name})
        for i in range(PAIRS)
    ]


def _add_with_patience(path, name, counts):
    n_refused = 0
    for i in range(8):
        while True:
            try:
                with opened(path) as collection:
                    collection.add(_group(f"{name}{i}"))
                break
            except Locked:
                n_refused += 1
                time.sleep(0.002)
    counts.put((name, n_refused))


def test_add_when_two_processes_write_refuses_one_and_both_end_up_in(folder):
    path = folder / "c.rag"
    counts = FORK.Queue()
    writers = [
        FORK.Process(target=_add_with_patience, args=(path, name, counts)) for name in ("x", "y")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(HANG_S)
    assert [writer.exitcode for writer in writers] == [0, 0]
    refused = dict(counts.get(timeout=HANG_S) for _ in writers)
    assert sorted(refused) == ["x", "y"]
    with opened(path) as collection:
        live = {row["id"] for row in collection.documents()}
        assert live == {d.id for name in "xy" for i in range(8) for d in _group(f"{name}{i}")}
        assert collection.verify().faults == ()
    with opened(folder / "one.rag") as one:
        one.add([d for name in "xy" for i in range(8) for d in _group(f"{name}{i}")])
        with opened(path) as collection:
            assert one.digest() == collection.digest()


def test_add_when_two_threads_write_refuses_one_while_the_other_is_at_it(folder):
    path = folder / "c.rag"
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(HashEmbedder):
        def embed_passages(self, texts):
            inside.set()
            assert go_on.wait(HANG_S)
            return super().embed_passages(texts)

    first = threading.Thread(target=lambda: opened(path, Waiting(16)).add(_group("a")))
    first.start()
    assert inside.wait(HANG_S)
    try:
        with opened(path) as second:
            with pytest.raises(Locked, match=r"another process is writing to .*c\.rag"):
                second.add(_group("b"))
            assert second.retriever("hybrid").retrieve(["gap"]) == [[]]  # readers do not wait
    finally:
        go_on.set()
        first.join(HANG_S)
    with opened(path) as second:
        assert second.add(_group("b")).added == PAIRS
        assert len(second.documents()) == 2 * PAIRS


def test_add_when_eight_threads_wait_for_each_other_all_are_in(folder):
    path = folder / "c.rag"
    files = [folder / name / "README.md" for name in "abcdefgh"]
    for file in files:
        file.parent.mkdir()
        file.write_text(f"The text of {file.parent.name}.")
    start = threading.Barrier(len(files))
    reports = []

    def add(file):
        with opened(path) as collection:
            start.wait(HANG_S)
            reports.append(collection.add(file, wait=HANG_S))

    threads = [threading.Thread(target=add, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    assert [(report.added, report.failed) for report in reports] == [(1, 0)] * len(files)
    with opened(path) as collection:
        ids = [row["id"] for row in collection.documents()]
        texts = sorted(collection.document(doc_id).text for doc_id in ids)
        assert texts == [f"The text of {name}." for name in "abcdefgh"]
        assert collection.verify().faults == ()


def test_writing_when_another_waits_in_line_goes_on_after_it(folder):
    path, docs = folder / "c.rag", folder / "docs"
    docs.mkdir()
    (docs / "n.txt").write_text("words")
    with opened(path) as notes:
        notes.add([*_group("a"), docs])
        for name, write in {
            "delete": lambda: notes.delete("a-0", wait=HANG_S),
            "sync": lambda: notes.sync(docs, wait=HANG_S),
            "compact": lambda: notes.compact(wait=HANG_S),
            "gc": lambda: notes.gc(wait=HANG_S),
            "repair": lambda: notes.repair(wait=HANG_S),
            "trust": lambda: notes.trust(wait=HANG_S),
        }.items():
            lock = acquire_write_lock(path)
            with pytest.raises(Locked):
                notes.add(docs, wait=0.01)
            waiter = threading.Thread(target=write, name=name)
            waiter.start()
            assert waiter.is_alive(), name
            lock.release()
            waiter.join(HANG_S)
            assert not waiter.is_alive(), name
        assert notes.document("a-0") is None
        for wait in (-1, float("nan")):
            with pytest.raises(ValueError, match="expected a number of seconds"):
                notes.add(docs, wait=wait)


def _read_all_the_time(path, done, problems, counts):
    n_reads = [0] * N_THREADS

    def read(i):
        try:
            with opened(path) as reader:
                retrievers = [reader.retriever(name, copies=True) for name in RETRIEVERS]
                while not done.is_set():
                    for retriever in retrievers:
                        _check(retriever.retrieve(["gap band"], 1000)[0], problems)
                        hits = retriever.retrieve(["gap"], 99, where={"group": "stays"})[0]
                        if len(hits) != PAIRS:
                            problems.put(f"{len(hits)} hits of the group that stays")
                        n_reads[i] += 1
        except BaseException as error:
            problems.put(repr(error))
            raise

    threads = [threading.Thread(target=read, args=(i,)) for i in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.put(n_reads)


def _check(hits, problems):
    groups: dict[str, set[str]] = {}
    for hit in hits:
        groups.setdefault(hit.chunk.metadata["group"], set()).add(hit.chunk.text)
        groups.setdefault("#" + hit.chunk.metadata["group"], set()).add(hit.chunk.doc_id)
    for name, found in groups.items():
        if name.startswith("#") and len(found) != PAIRS:
            problems.put(f"{len(found)} of {PAIRS} documents of {name[1:]}")
        if not name.startswith("#") and len(found) != 1:
            problems.put(f"two versions of {name}: {json.dumps(sorted(found))}")


@pytest.mark.faults
def test_search_when_a_writer_adds_deletes_and_compacts_sees_whole_generations(folder):
    path = folder / "c.rag"
    with opened(path) as writer:
        writer.add(_group("stays"))
    done, problems, counts = FORK.Event(), FORK.Queue(), FORK.Queue()
    readers = [
        FORK.Process(target=_read_all_the_time, args=(path, done, problems, counts))
        for _ in range(N_PROCESSES)
    ]
    for reader in readers:
        reader.start()
    try:
        with small_batches(), opened(path) as writer:
            for i in range(12):
                writer.add(_group(f"g{i}"))
                writer.add([Document(d.id, f"{d.text} {i}", metadata=d.metadata)
                            for d in _group("changes")])  # fmt: skip
                if i % 2:
                    writer.delete([document.id for document in _group(f"g{i - 1}")])
                if i % 4 == 3:
                    writer.compact()
                    writer.gc()
                    writer.gc()
            assert writer.verify().faults == ()
    finally:
        done.set()
        n_reads = [n for _ in readers for n in counts.get(timeout=HANG_S)]
        for reader in readers:
            reader.join(HANG_S)
    found = []
    while not problems.empty():
        found.append(problems.get())
    assert found == []
    assert [reader.exitcode for reader in readers] == [0] * N_PROCESSES
    assert len(n_reads) == N_PROCESSES * N_THREADS
    assert min(n_reads) > 0
