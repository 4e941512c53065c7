import tempfile
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.indexes import merge
from ragkit.indexes.bm25 import BM25Index, Postings, Statistics
from ragkit.indexes.exact import ExactIndex
from ragkit.indexes.faiss import FaissIndex
from ragkit.indexes.merge import MergedPostings
from ragkit.indexes.terms import TermAnalyzer
from ragkit.testing import check_term_index, check_vector_index, unit_vectors

WORDS = st.sampled_from("band gap lattice phonon oxide magnet cell anode".split())
ROWS = st.lists(st.lists(WORDS, max_size=12), min_size=1, max_size=25)


@pytest.mark.parametrize(
    "build",
    [ExactIndex, FaissIndex, lambda v: FaissIndex(v, factory="HNSW8")],
    ids=["exact", "faiss-flat", "faiss-hnsw"],
)
def test_vector_index_when_checked_keeps_the_contract(build):
    check_vector_index(build)


def test_faiss_product_quantiser_when_filtered_answers_exactly():
    vectors = unit_vectors(2_000, 16, seed=1)
    index = FaissIndex(vectors, factory="PQ4x4")
    allowed = np.arange(2_000) % 2 == 0
    queries = unit_vectors(5, 16, seed=2)
    expected = ExactIndex(vectors).search(queries, 7, allowed=allowed)
    np.testing.assert_array_equal(index.search(queries, 7, allowed=allowed)[1], expected[1])


def test_faiss_ivf_when_probing_more_lists_finds_at_least_as_much():
    vectors = unit_vectors(4_000, 16, seed=3)
    queries = unit_vectors(50, 16, seed=4)
    truth = ExactIndex(vectors).search(queries, 10)[1]
    recalls = []
    for n_probe in (1, 4, 16, 64):
        found = FaissIndex(vectors, factory="IVF64,Flat", n_probe=n_probe).search(queries, 10)[1]
        recalls.append(np.mean([len(set(a) & set(b)) for a, b in zip(found, truth, strict=True)]))
    assert recalls == sorted(recalls)
    assert recalls[-1] == 10


def test_faiss_when_rows_are_too_few_to_train_is_flat():
    vectors = unit_vectors(100, 16, seed=3)
    queries = unit_vectors(3, 16, seed=4)
    found = FaissIndex(vectors, factory="IVF64,Flat").search(queries, 5)
    np.testing.assert_array_equal(found[1], ExactIndex(vectors).search(queries, 5)[1])


def test_faiss_when_saved_and_loaded_answers_the_same(tmp_path):
    vectors = unit_vectors(500, 16, seed=3)
    queries = unit_vectors(3, 16, seed=4)
    index = FaissIndex(vectors, factory="HNSW16")
    index.save(tmp_path / "i.faiss")
    again = FaissIndex.load(vectors, tmp_path / "i.faiss")
    np.testing.assert_array_equal(again.search(queries, 5)[1], index.search(queries, 5)[1])
    with pytest.raises(ValueError, match="has 500 rows of 16 dimensions; expected 499"):
        FaissIndex.load(vectors[:499], tmp_path / "i.faiss")


def test_faiss_when_asked_for_a_gpu_that_is_absent_names_the_wheel():
    faiss = pytest.importorskip("faiss")
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        pytest.skip("a GPU is here")
    with pytest.raises(ImportError, match=r"ragkit-framework\[gpu\]"):
        FaissIndex(unit_vectors(5, 4, seed=0), device="gpu")


def test_faiss_when_the_factory_is_unknown_says_so():
    with pytest.raises(ValueError, match="does not accept the factory 'Bogus'"):
        FaissIndex(unit_vectors(5, 4, seed=0), factory="Bogus")


def test_exact_when_vectors_do_not_fit_names_both_shapes():
    index = ExactIndex(unit_vectors(5, 4, seed=0))
    with pytest.raises(ValueError, match=r"\(1, 3\); expected \(queries, 4\)"):
        index.search(unit_vectors(1, 3, seed=0), 1)
    with pytest.raises(ValueError, match="NaN"):
        index.search(np.full((1, 4), np.nan, dtype=np.float32), 1)


def test_exact_when_other_rows_change_gives_the_same_scores():
    vectors = unit_vectors(3_000, 384, seed=5)
    query = unit_vectors(1, 384, seed=6)
    scores, rows = ExactIndex(vectors).search(query, 3_000)
    score_of = dict(zip(rows[0].tolist(), scores[0].tolist(), strict=True))
    for picked in (np.arange(7), np.arange(100, 250), np.arange(1, 3_000, 3)):
        scores, rows = ExactIndex(vectors[picked]).search(query, len(picked))
        found = dict(zip(picked[rows[0]].tolist(), scores[0].tolist(), strict=True))
        assert found == {row: score_of[row] for row in picked.tolist()}


def test_term_index_when_checked_keeps_the_contract():
    check_term_index(lambda rows: BM25Index(Postings.build(rows)))


@pytest.mark.reference
@given(rows=ROWS, query=st.lists(WORDS, min_size=1, max_size=5))
@examples(60)
def test_bm25_when_compared_with_bm25s_agrees(rows, query):
    import bm25s

    if not any(rows):
        return
    vocabulary = {word: i for i, word in enumerate(sorted({w for row in rows for w in row}))}
    corpus = bm25s.tokenization.Tokenized(
        ids=[[vocabulary[w] for w in row] for row in rows], vocab=vocabulary
    )
    oracle = bm25s.BM25(method="lucene", k1=1.5, b=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bm25s divides by zero for empty rows
        oracle.index(corpus, show_progress=False)
    known = [word for word in query if word in vocabulary]
    expected = oracle.get_scores(known) if known else np.zeros(len(rows))  # (rows,)
    scores, found = BM25Index(Postings.build(rows)).search([query], len(rows))
    ours = np.zeros(len(rows))
    ours[found[0][found[0] >= 0]] = scores[0][found[0] >= 0]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@given(rows=ROWS, dead=st.sets(st.integers(0, 24)), cut=st.integers(0, 25), query=st.lists(WORDS))
@examples(100)
def test_bm25_when_split_and_partly_dead_scores_like_a_fresh_index(rows, dead, cut, query):
    live = np.array([i not in dead for i in range(len(rows))])
    fresh = BM25Index(Postings.build([row for row, on in zip(rows, live, strict=True) if on]))
    expected = dict(_pairs(fresh, query, np.flatnonzero(live)))
    parts = [
        (Postings.build(p), m) for p, m in ((rows[:cut], live[:cut]), (rows[cut:], live[cut:]))
    ]
    statistics = Statistics(parts)
    found = {}
    for (postings, mask), offset in zip(parts, (0, cut), strict=True):
        if postings.n_rows:
            index = BM25Index(postings, statistics=statistics)
            found |= dict(_pairs(index, query, np.arange(postings.n_rows) + offset, mask))
    assert found == expected


@given(rows=ROWS, cut=st.integers(0, 25), data=st.data())
@examples(100)
def test_postings_when_merged_equal_postings_built_at_once(rows, cut, data):
    order = data.draw(st.permutations(range(len(rows))))
    dropped = data.draw(st.sets(st.integers(0, len(rows) - 1)))
    keep = [i for i in order if i not in dropped]
    target = np.full(len(rows), -1)
    target[keep] = np.arange(len(keep))
    parts = [Postings.build(rows[:cut]), Postings.build(rows[cut:])]
    block = data.draw(st.integers(1, 20))
    with mock.patch.object(merge, "_BLOCK", block), tempfile.TemporaryDirectory() as folder:
        MergedPostings(parts, [target[:cut], target[cut:]]).save(Path(folder))
        merged = Postings.load(Path(folder))
    at_once = Postings.build([rows[i] for i in keep])
    assert merged.lengths.tolist() == at_once.lengths.tolist()
    assert merged.vocabulary() == at_once.vocabulary()
    for term in {word for row in rows for word in row}:
        assert [a.tolist() for a in merged.find(term)] == [a.tolist() for a in at_once.find(term)]


def test_postings_when_saved_and_mapped_are_the_same(tmp_path):
    postings = Postings.build([["a", "b", "a"], [], ["zebra", "über"]])
    postings.save(tmp_path)
    mapped = Postings.load(tmp_path)
    assert [a.tolist() for a in mapped.find("a")] == [[0], [2]]
    assert [a.tolist() for a in mapped.find("über")] == [[2], [1]]
    assert [a.tolist() for a in mapped.find("absent")] == [[], []]
    Postings.build([[], []]).save(tmp_path)
    assert Postings.load(tmp_path).n_terms == 0


def test_bm25_when_explained_adds_up_to_the_score():
    index = BM25Index(Postings.build([["gap", "band", "gap"], ["band"], ["oxide"]]))
    scores, rows = index.search([["gap", "band", "gap"]], 3)
    assert rows[0].tolist() == [0, 1, -1]
    explained = index.explain(["gap", "band", "gap"], rows[0][:2])
    for score, shares in zip(scores[0][:2], explained, strict=True):
        assert sum(shares.values()) == pytest.approx(score, abs=2e-6)
    assert [list(shares) for shares in explained] == [["band", "gap"], ["band"]]


def test_terms_when_the_language_is_unknown_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"expected 'none' or one of .*english"):
        TermAnalyzer("klingon")
    assert TermAnalyzer("none").terms("The gaps of GaAs, K") == ["the", "gaps", "of", "gaas", "k"]


def _pairs(index, query, names, allowed=None):
    scores, rows = index.search([query], max(1, len(names)), allowed=allowed)
    return [
        (int(names[row]), round(float(score), 5))
        for score, row in zip(scores[0], rows[0], strict=True)
        if row >= 0
    ]
