"""History does not show: a collection answers like one built fresh from its live documents."""

import os
import shutil
import sqlite3
import tempfile

from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from properties import examples

from ragkit.collection.collection import Collection, Settings
from ragkit.testing import HashEmbedder
from ragkit.types import Document

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # flushing costs nothing there
QUERIES = ["gap", "gap band oxide", "iron iron gap", "absent"]
FILTERS = [None, {"n": {">=": 1}}, {"or": [{"n": 0}, {"title": "gap"}]}]
IDS = [f"d{i}" for i in range(24)]

ids = st.sampled_from(IDS)
texts = st.lists(st.sampled_from(["gap", "band", "oxide", "iron"]), min_size=1, max_size=9).map(
    " ".join
)
titles = st.sampled_from(["", "", "gap", "iron"])
fields = st.sampled_from([{}, {"n": 0}, {"n": 1}, {"n": 2}])
documents = st.builds(Document, ids, texts, title=titles, metadata=fields)


class History(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.live: dict[str, Document] = {}
        self.collection = self.open("kept.rag")

    def open(self, name):
        chosen = Settings(chunk_tokens=4)
        return Collection(f"{self.folder}/{name}", embedder=HashEmbedder(8), settings=chosen)

    @initialize(first=st.lists(documents, min_size=1, max_size=6))
    def start(self, first):
        self.add(first)

    @rule(some=st.lists(documents, min_size=1, max_size=4))
    def add(self, some):
        self.collection.add(some)
        first: dict[str, Document] = {}
        for document in some:
            first.setdefault(document.id, document)
        self.live |= first

    @rule(start=st.integers(0, len(IDS) - 9), text=texts)
    def add_nine_one_by_one(self, start, text):
        for i in range(start, start + 9):
            self.add([Document(IDS[i], f"{text} {'gap ' * (i % 3)}")])

    @precondition(lambda self: self.live)
    @rule(data=st.data(), n=st.integers(0, 3))
    def change_metadata(self, data, n):
        old = self.live[data.draw(st.sampled_from(sorted(self.live)))]
        self.add([Document(old.id, old.text, old.title, metadata={"n": n})])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def delete(self, data):
        gone = data.draw(st.sets(st.sampled_from(sorted(self.live)), max_size=6))
        assert self.collection.delete([*gone, "unknown"]) == sorted(gone)
        self.live = {key: value for key, value in self.live.items() if key not in gone}

    @rule()
    def compact(self):
        self.collection.compact()

    @rule()
    def gc(self):
        self.collection.gc()

    @rule()
    def repair(self):
        assert self.collection.repair() == 0

    @rule()
    def reopen(self):
        self.collection.close()
        self.collection = self.open("kept.rag")

    def teardown(self):
        try:
            if self.live:
                with self.open("fresh.rag") as fresh:
                    fresh.add(list(self.live.values()))
                    _must_be_alike(self.collection, fresh)
            assert self.collection.verify().faults == ()
            assert _n_tombstones(self.collection) == _n_dead_rows(self.collection)
        finally:
            self.collection.close()
            shutil.rmtree(self.folder)


def _n_tombstones(collection: Collection) -> int:
    with sqlite3.connect(collection.path / "store.db") as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM chunks c JOIN documents d ON c.document = d.seq "
            "WHERE d.died IS NOT NULL"
        )
    connection.close()
    return count


def _n_dead_rows(collection: Collection) -> int:
    snapshot = collection.snapshot()
    return sum(map(len, snapshot.segments)) - len(snapshot)


def _must_be_alike(kept: Collection, fresh: Collection) -> None:
    assert kept.digest() == fresh.digest()
    for name in ("dense", "bm25", "hybrid"):
        for where in FILTERS:
            for k in (3, 200):
                found = kept.retriever(name).retrieve(QUERIES, k, where=where)
                assert found == fresh.retriever(name).retrieve(QUERIES, k, where=where)


History.TestCase.settings = examples(
    14, few=3, stateful_step_count=12, derandomize=True, suppress_health_check=list(HealthCheck)
)
test_history_when_anything_happened_does_not_show = History.TestCase
