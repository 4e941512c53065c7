"""Fusion weights by cross-validation, and what each part is worth."""

import numpy as np
import pytest

from ragkit import Collection, Document
from ragkit.evaluation.fusion import ablate, fit_fusion, fuse_runs
from ragkit.evaluation.measures import nDCG
from ragkit.evaluation.runs import SystemRun, make_run
from ragkit.retrievers import HybridRetriever
from ragkit.retrievers.hybrid import fuse_scores
from ragkit.testing import HashEmbedder

QUERIES = [f"q{i}" for i in range(40)]
QRELS = {query: {f"d{i}": 1} for i, query in enumerate(QUERIES)}


def noisy(name, share, seed):
    """A system that puts the right document first for a share of the queries, else last."""
    random = np.random.default_rng(seed)
    run = {}
    for i, query in enumerate(QUERIES):
        others = [f"d{j}" for j in random.choice(40, 8, replace=False) if j != i]
        right = random.random() < share
        names = [f"d{i}", *others] if right else [*others, f"d{i}"]
        run[query] = {doc: float(len(names) - rank) for rank, doc in enumerate(names)}
    return SystemRun(name, run, dict.fromkeys(QUERIES, 0.001), {})


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    collection = Collection(tmp_path_factory.mktemp("c") / "notes.rag", embedder=HashEmbedder())
    words = "oxide band gap magnet moment lattice ion cell anode phase".split()
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(words, 12)) for _ in range(40)]
    collection.add(Document(f"d{i:02}", f"{text} number {i}.") for i, text in enumerate(texts))
    return collection


@pytest.mark.parametrize("method", ["rrf", "minmax"])
def test_fused_runs_equal_what_the_hybrid_retriever_gives(notes, method):
    # One chunk a document, so chunks and documents rank alike.
    queries = {"a": "oxide band gap", "b": "magnet moment", "c": "ion cell 7"}
    parts = [notes.retriever("dense"), notes.retriever("bm25")]
    weights = [0.3, 0.7]
    hybrid = HybridRetriever(parts, method=method, weights=weights, candidates=40)
    runs = [make_run(name, part, queries, 40) for name, part in zip("xy", parts, strict=True)]
    fused = fuse_runs("z", runs, method, weights)
    for query, text in queries.items():
        hits = hybrid.retrieve([text], 40)[0]
        expected = {hit.chunk.doc_id: hit.score for hit in hits}
        assert fused.run[query] == pytest.approx(expected, abs=1e-6)


def test_fuse_scores_when_ranks_tie_goes_by_id():
    assert list(fuse_scores([{"b": 1.0, "a": 1.0}], "rrf", [1.0])) == ["a", "b"]
    assert fuse_scores([{"b": 1.0, "a": 1.0}], "minmax", [2.0]) == {"a": 2.0, "b": 2.0}


def test_fit_gives_a_system_that_knows_nothing_no_weight():
    good, useless = noisy("good", 0.95, 1), noisy("useless", 0.0, 2)
    fit = fit_fusion([good, useless], QRELS, nDCG @ 10)
    assert fit.weights["good"] > 0.8
    alone = nDCG @ 10
    assert fit.mean >= np.mean(list(alone.scores(good.run, QRELS).values())) - 1e-9


def test_fit_when_systems_err_apart_takes_both_and_says_what_to_expect():
    first, second = noisy("first", 0.6, 3), noisy("second", 0.6, 4)
    fit = fit_fusion([first, second], QRELS, nDCG @ 10, folds=4)
    assert min(fit.weights.values()) >= 0.2
    assert sum(fit.weights.values()) == pytest.approx(1.0)
    assert fit.validated <= fit.mean + 1e-9  # chosen without the fold it is measured on
    assert len(fit.fold_choices) == 4
    assert fit == fit_fusion([first, second], QRELS, nDCG @ 10, folds=4)


def test_fit_when_all_weights_are_as_good_takes_equal_ones():
    run = noisy("one", 1.0, 5)
    same = SystemRun("two", run.run, run.seconds, {})
    fit = fit_fusion([run, same], QRELS, nDCG @ 10)
    assert (fit.method, dict(fit.weights)) == ("rrf", {"one": 0.5, "two": 0.5})


def test_validated_is_no_better_than_chance_where_nothing_can_be_learned():
    # The relevant documents are dealt anew, so weights that fit one fold say nothing of another.
    runs = [noisy(f"s{i}", 0.5, 10 + i) for i in range(3)]
    order = np.random.default_rng(0).permutation(40)
    shuffled = {query: {f"d{order[i]}": 1} for i, query in enumerate(QUERIES)}
    fit = fit_fusion(runs, shuffled, nDCG @ 10)
    assert fit.validated <= fit.mean
    assert fit.validated < 0.3


def test_ablation_tells_what_each_part_is_worth():
    good, useless = noisy("good", 0.95, 1), noisy("useless", 0.0, 2)
    fit = fit_fusion([good, useless], QRELS, nDCG @ 10)
    rows = {row.system: row for row in ablate([good, useless], QRELS, [nDCG @ 10], fit).rows}
    assert rows["useless"].difference < -0.3
    assert rows["useless"].p_holm < 0.05
    assert abs(rows["good"].difference) < 0.1
    if "without good" in rows:
        assert rows["without good"].mean == rows["useless"].mean


def test_wrong_runs_are_refused():
    run = noisy("a", 0.5, 0)
    short = SystemRun("b", {"q0": {"d0": 1.0}}, {"q0": 0.0}, {})
    with pytest.raises(ValueError, match="different queries"):
        fuse_runs("x", [run, short], "rrf", [1.0, 1.0])
    with pytest.raises(ValueError, match="no runs"):
        fit_fusion([], QRELS, nDCG @ 10)
    with pytest.raises(ValueError, match="folds is 41"):
        fit_fusion([run], QRELS, nDCG @ 10, folds=41)


def test_fit_when_two_runs_have_one_name_or_there_are_no_steps_is_refused():
    runs = [noisy("a", 0.5, 0), noisy("a", 0.5, 1)]
    with pytest.raises(ValueError, match="no name twice"):
        fit_fusion(runs, QRELS, nDCG @ 10)
    for steps in (0, -1):
        with pytest.raises(ValueError, match=f"steps is {steps}"):
            fit_fusion(runs[:1], QRELS, nDCG @ 10, steps=steps)
