import json

import pytest

from ragkit.collection import Collection
from ragkit.evaluation.runs import search_documents
from ragkit.retrievers import DistinctRetriever, HybridRetriever
from ragkit.testing import HashEmbedder, check_retriever
from ragkit.types import Chunk, Document, Hit

BAND = "Gallium arsenide has a direct band gap."
WIDE = "Lithium fluoride has a wide band gap."
MAGNET = "Magnetite is a magnet without a band gap."
DOCUMENTS = [
    *(Document(f"band-{i:03}", BAND, metadata={"year": i % 2}) for i in range(130)),
    Document("spaced", BAND.replace(" ", "\n\t ")),
    Document("titled", BAND, "Semiconductors", metadata={"year": 0}),
    Document("wide-b", WIDE, "Insulators"),
    Document("wide-a", WIDE, "Insulators"),
    Document("magnet", MAGNET),
]
QUERY = "direct band gap of gallium arsenide"


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    path = tmp_path_factory.mktemp("distinct") / "c.rag"
    with Collection(path, embedder=HashEmbedder()) as made:
        made.add(DOCUMENTS)
        yield made


def _texts(hits):
    return [" ".join(hit.chunk.text.split()) for hit in hits]


@pytest.mark.parametrize("name", ["dense", "bm25", "hybrid"])
def test_hits_when_files_are_copies_are_one_per_text_and_name_the_others(notes, name):
    retriever = notes.retriever(name)
    raw = notes.retriever(name, copies=True).retrieve([QUERY], 1000)[0]
    assert len(raw) == len(DOCUMENTS)
    hits = retriever.retrieve([QUERY], 3)[0]
    assert _texts(hits)[0] == BAND
    assert sorted(_texts(hits)) == sorted({BAND, WIDE, MAGNET})
    if name != "hybrid":  # whose scores change with the ranks
        assert _texts(hits) == list(dict.fromkeys(_texts(raw)))
    best = notes.retriever("dense" if name == "hybrid" else name, copies=True)
    assert hits[0].chunk == best.retrieve([QUERY], 1)[0][0].chunk
    copies = {hit.chunk.id for hit in raw if _texts([hit]) == [BAND]}
    assert {hits[0].chunk.id, *hits[0].copies} == copies
    assert len(hits[0].copies) == len(copies) - 1 == 131
    assert {hit.chunk.doc_id: hit.copies for hit in hits[1:]} == {
        "wide-a": (f"wide-b:0-{len(WIDE)}",),
        "magnet": (),
    }
    assert retriever.retrieve([QUERY], 50)[0] == hits
    assert len(retriever.retrieve([QUERY, "magnet gap"], 2)[1]) == 2
    check_retriever(retriever, [QUERY, "magnet without a gap"])


@pytest.mark.parametrize("name", ["dense", "bm25", "hybrid"])
def test_copies_when_filtered_are_those_that_pass(notes, name):
    hits = notes.retriever(name).retrieve([QUERY], 5, where={"year": 0})[0]
    assert _texts(hits) == [BAND]
    names = [copy.partition(":")[0] for copy in (hits[0].chunk.id, *hits[0].copies)]
    assert sorted(names) == [*(f"band-{i:03}" for i in range(0, 130, 2)), "titled"]


def test_hybrid_when_its_sides_prefer_other_copies_adds_up_their_scores():
    def side(name, *ids):
        class Side:
            def retrieve(self, queries, k=10, *, where=None):
                hits = [Hit(Chunk(i, i, texts[i], 0, 1), -float(n)) for n, i in enumerate(ids)]
                return [hits[:k] for _ in queries]

        return Side()

    texts = {"a1": "a", "a2": " a", "b1": "b", "c1": "c"}
    sides = [side("x", "a1", "b1", "a2"), side("y", "c1", "a2", "a1")]
    hits = HybridRetriever(sides, candidates=2, copies=False).retrieve(["q"], 3)[0]
    assert [(hit.chunk.id, hit.copies) for hit in hits] == [("a1", ("a2",)), ("c1", ()), ("b1", ())]
    assert [hit.score for hit in hits] == [
        round(1 / 61 + 1 / 62, 6),
        round(1 / 61, 6),
        round(1 / 62, 6),
    ]
    raw = HybridRetriever(sides).retrieve(["q"], 4)[0]
    assert [hit.chunk.id for hit in raw] == ["a1", "a2", "c1", "b1"]
    nested = DistinctRetriever(HybridRetriever([DistinctRetriever(part) for part in sides]))
    assert [hit.copies for hit in nested.retrieve(["q"], 3)[0]] == [("a2",), (), ()]
    assert HybridRetriever(sides, copies=False).settings["copies"] is False
    assert "copies" not in HybridRetriever(sides).settings


def test_evaluation_when_documents_are_copies_sees_all(notes):
    retriever = notes.retriever("bm25", copies=True)
    assert len(search_documents(retriever, [QUERY], 120)[0]) == 120


def test_search_and_ask_when_hits_have_copies_name_them(ragkit):
    with Collection("c.rag", embedder=None) as made:
        made.add(DOCUMENTS[:8])
    code, out, _ = ragkit("search", QUERY, "--in", "c.rag")
    size = len(BAND)
    named = ", ".join(f"band-{i:03}:0-{size}" for i in range(1, 6))
    assert code == 0
    assert f"same text in {named} and 2 more" in out
    assert out.count(BAND) == 1
    hits = json.loads(ragkit("search", QUERY, "--in", "c.rag", "--json").out)["hits"]
    assert [hit["copies"] for hit in hits] == [[f"band-{i:03}:0-{size}" for i in range(1, 8)]]
    code, out, _ = ragkit("ask", "Which gap has gallium arsenide?", "--in", "c.rag")
    assert code == 0
    assert f"[1] band-000:0-{size}" in out
    assert f"same text in {named} and 2 more" in out
