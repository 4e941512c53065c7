import pytest

from ragkit.collection import Collection
from ragkit.retrievers import Composable, HybridRetriever
from ragkit.testing import HashEmbedder, check_retriever
from ragkit.types import Chunk, Document, Hit, ScorePart

OPTIONS = {
    "dense": ("dense", {}),
    "bm25": ("bm25", {}),
    "hybrid": ("hybrid", {}),
    "weighted": ("hybrid", {"weights": [0.3, 2.0]}),
    "minmax": ("hybrid", {"method": "minmax"}),
    "minmax weighted": ("hybrid", {"method": "minmax", "weights": [0.7, 0.3], "candidates": 7}),
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    path = tmp_path_factory.mktemp("retrievers") / "c.rag"
    with Collection(path, embedder=HashEmbedder()) as made:
        words = "band gap oxide iron melt".split()
        documents = [
            Document(f"d{i:02}", " ".join(words[: i % 5 + 1] + words[: i % 3])) for i in range(40)
        ]
        made.add(documents[:15])
        made.add(documents[15:])
        yield made


@pytest.mark.parametrize("name", OPTIONS)
def test_retriever_when_checked_keeps_the_contract(collection, name):
    kind, options = OPTIONS[name]
    queries = ["band gap", "iron", "melt of oxide", "nothing here"]
    check_retriever(collection.retriever(kind, **options), queries)


@pytest.mark.parametrize("name", OPTIONS)
def test_retriever_when_filtered_keeps_only_what_passes(collection, name):
    kind, options = OPTIONS[name]
    hits = collection.retriever(kind, **options).retrieve(["band"], where={"doc_id": "d07"})[0]
    assert [hit.chunk.doc_id for hit in hits] == ["d07"]


class Fixed(Composable):
    """Says the same ranking for every query."""

    def __init__(self, name, scores):
        self.hits = [
            Hit(Chunk(i, i, i, 0, 1), score, (ScorePart(name, "score", score, rank),))
            for rank, (i, score) in enumerate(scores.items(), start=1)
        ]

    def retrieve(self, queries, k=10, *, where=None):
        return [self.hits[:k] for _ in queries]


A = Fixed("a", {"x": 9.0, "y": 5.0, "z": 1.0})
B = Fixed("b", {"y": 0.5, "w": 0.5})


def _scores(retriever):
    return {hit.chunk.id: hit.score for hit in retriever.retrieve(["q"])[0]}


def test_hybrid_by_rank_when_worked_by_hand_agrees():
    # ranks from 1, constant 60: y = 1/62 + 1/61, x = 1/61, w = 1/62, z = 1/63
    found = HybridRetriever([A, B]).retrieve(["q"])[0]
    assert {hit.chunk.id: hit.score for hit in found} == {
        "y": 0.032522, "x": 0.016393, "w": 0.016129, "z": 0.015873,
    }  # fmt: skip
    assert [hit.chunk.id for hit in found] == ["y", "x", "w", "z"]
    assert found[0].parts == (
        ScorePart("a", "score", 5.0, 2),
        ScorePart("b", "score", 0.5, 1),
        ScorePart("hybrid", "a", 1 / 62, 2, 1.0, {"score": 5.0}),
        ScorePart("hybrid", "b", 1 / 61, 1, 1.0, {"score": 0.5}),
    )


def test_hybrid_by_weighted_rank_when_worked_by_hand_agrees():
    # y = 3/62 + 0/61, w = 0
    assert _scores(HybridRetriever([A, B], weights=[3, 0])) == {
        "x": 0.04918, "y": 0.048387, "z": 0.047619, "w": 0.0,
    }  # fmt: skip


def test_hybrid_by_score_when_worked_by_hand_agrees():
    # a: x 1, y 1/2, z 0; b: equal scores are 1 each
    assert _scores(HybridRetriever([A, B], method="minmax", weights=[2, 0.5])) == {
        "x": 2.0, "y": 1.5, "w": 0.5, "z": 0.0,
    }  # fmt: skip


def test_hybrid_when_scores_tie_orders_by_chunk_id():
    first, second = Fixed("a", {"q": 1.0, "p": 0.5}), Fixed("b", {"p": 1.0, "q": 0.5})
    found = HybridRetriever([first, second]).retrieve(["q"])[0]
    assert [hit.chunk.id for hit in found] == ["p", "q"]
    assert found[0].score == found[1].score


def test_hybrid_when_candidates_are_few_fuses_only_those():
    assert _scores(HybridRetriever([A, B], candidates=1)).keys() >= {"x", "y"}
    found = HybridRetriever([A, B], candidates=1).retrieve(["q"], 1)[0]
    assert [hit.chunk.id for hit in found] == ["x"]


@pytest.mark.parametrize(
    ("retrievers", "options", "said"),
    [
        ([], {}, "retrievers is empty"),
        ([A], {"method": "sum"}, "method is 'sum'; expected 'rrf' or 'minmax'"),
        ([A, B], {"weights": [1]}, "expected 2 non-negative numbers"),
        ([A], {"weights": [-1]}, "expected 1 non-negative numbers"),
        ([A], {"weights": [float("nan")]}, "non-negative"),
        ([A], {"candidates": 0}, "candidates is 0; expected at least 1"),
    ],
)
def test_hybrid_when_arguments_are_wrong_says_so(retrievers, options, said):
    with pytest.raises(ValueError, match=said):
        HybridRetriever(retrievers, **options)
