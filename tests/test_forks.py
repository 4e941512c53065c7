"""A forked process, such as a worker of a pre-fork server, searches like its parent."""

import gc
import os
import threading

import numpy as np
import pytest
from fault_helpers import in_child, temporary_folder

from ragkit.collection import Collection
from ragkit.collection.collection import Settings
from ragkit.digests import digest
from ragkit.embedders import load_embedder
from ragkit.forks import ForkSafeLock, renew_after_fork
from ragkit.llms.endpoint import EndpointLLM
from ragkit.testing import HashEmbedder, unit_vectors
from ragkit.types import Document

HANG_S = 30
TEXTS = [f"The band gap of compound {i} is {i} eV." for i in range(6)]


@pytest.fixture
def folder():
    with temporary_folder() as made:
        yield made


@pytest.fixture(scope="module")
def minilm():
    return load_embedder("minilm")


def _hits(collection, query="band gap of compound 3", name="hybrid", where=None):
    hits = collection.retriever(name).retrieve([query], 3, where=where)[0]
    return [[hit.chunk.doc_id, hit.score] for hit in hits]


@pytest.mark.parametrize("precision", ["int8", pytest.param("fp32", marks=pytest.mark.models)])
def test_embedder_when_forked_after_use_embeds_in_both_processes(precision, minilm):
    embedder = minilm if precision == "int8" else load_embedder("minilm:fp32")

    def vectors():
        """The digests of a single text's vector and of several texts'."""
        return [digest(embedder.embed_queries(texts).tobytes()) for texts in (TEXTS[:1], TEXTS)]

    before = vectors()
    child = in_child(lambda: [vectors(), in_child(vectors, hang_s=HANG_S)], hang_s=HANG_S)
    assert child == (0, [before, [0, before]])
    assert vectors() == before


def test_collection_when_forked_after_a_search_is_read_in_both_processes(folder, minilm):
    path = folder / "c.rag"
    with Collection(path, embedder=minilm) as notes:
        notes.add([Document(f"d{i}", text) for i, text in enumerate(TEXTS)])
        before = _hits(notes)
        (told, tell), (heard, hear) = os.pipe(), os.pipe()

        def work():
            first = _hits(notes)
            os.write(tell, b"x")
            os.read(heard, 1)
            return [first, _hits(notes, "entirely new words")[0][0], list(notes.verify().faults)]

        children = []
        thread = threading.Thread(target=lambda: children.append(in_child(work, hang_s=HANG_S)))
        thread.start()
        os.read(told, 1)
        assert _hits(notes) == before
    with Collection(path, embedder=minilm) as writer:  # the parent's own connections are closed
        assert writer.add(Document("new", "Entirely new words.")).added == 1
        writer.compact()
    os.write(hear, b"x")
    thread.join()
    assert children == [(0, [before, "new", []])]
    with Collection(path, embedder=minilm) as again:
        assert again.verify().faults == ()
    for handle in (told, tell, heard, hear):
        os.close(handle)


def test_collection_when_a_thread_holds_its_locks_at_the_fork_is_read_in_the_child(folder):
    with Collection(folder / "c.rag", embedder=HashEmbedder()) as notes:
        notes.add([Document("a", "band gap", metadata={"n": 1}), Document("b", "gap")])
        snapshot = notes.snapshot()
        expected = _hits(notes, "gap", where={"n": 1})
        held, done = threading.Event(), threading.Event()

        def hold():
            reader = notes._reader
            with (
                snapshot._filters_lock,
                reader._token_indexes._lock,
                reader.store.reading() as connection,
            ):
                connection.exec_driver_sql("BEGIN")
                connection.exec_driver_sql("SELECT count(*) FROM documents").all()
                held.set()
                done.wait(HANG_S)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(HANG_S)
        try:
            status, said = in_child(lambda: _hits(notes, "gap", where={"n": 1}), hang_s=HANG_S)
        finally:
            done.set()
            thread.join()
        assert (status, said) == (0, expected)
        assert _hits(notes, "gap", where={"n": 1}) == expected


def test_faiss_when_forked_after_a_search_searches_on_one_thread(folder):
    faiss = pytest.importorskip("faiss")
    settings = Settings(index="HNSW8")
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(4)
    try:
        with Collection(folder / "c.rag", embedder=HashEmbedder(16), settings=settings) as notes:
            notes.add([Document(f"d{i}", f"w{i} w{i % 7} w{i % 3}") for i in range(300)])
            queries = unit_vectors(200, 16, seed=0)
            search = notes.snapshot().search_vectors

            def found():
                return [[match.number for match in run] for run in search(queries, 5, None)]

            before = found()
            assert in_child(found, hang_s=HANG_S) == (0, before)
            assert found() == before
    finally:
        faiss.omp_set_num_threads(n_threads)


@pytest.mark.models
def test_torch_when_forked_after_use_runs_on_one_thread():
    torch = pytest.importorskip("torch")
    embedder = load_embedder("transformer:minilm")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        before = embedder.embed_queries(TEXTS * 20)
        status, said = in_child(
            lambda: embedder.embed_queries(TEXTS * 20)[:3].tolist(), hang_s=HANG_S
        )
    finally:
        torch.set_num_threads(n_threads)
    assert status == 0, said
    np.testing.assert_allclose(said, before[:3], atol=1e-5)


def test_endpoint_when_forked_connects_anew():
    llm = EndpointLLM("m", base_url="http://127.0.0.1:9/v1")
    before = llm._client
    status, said = in_child(lambda: llm._client is not before, hang_s=HANG_S)
    assert (status, said) == (0, True)
    assert llm._client is before


def test_renewal_when_its_owner_is_gone_is_forgotten():
    class Owner:
        pass

    renewed = []
    owner, other = Owner(), Owner()
    renew_after_fork(owner, lambda one: renewed.append("owner"))
    renew_after_fork(other, lambda one: renewed.append("other"))
    del owner
    gc.collect()
    assert in_child(lambda: renewed, hang_s=HANG_S) == (0, ["other"])
    assert renewed == []


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
def test_lock_when_forked_while_it_is_held_is_free_in_the_child_alone(make):
    lock = ForkSafeLock(make)

    def work():
        with lock:
            return "free"

    with lock:
        assert in_child(work, hang_s=HANG_S) == (0, "free")
        taken = []
        thread = threading.Thread(target=lambda: taken.append(lock._lock.acquire(timeout=0.01)))
        thread.start()
        thread.join()
        assert taken == [False]
