"""Ranking measures: equal to trec_eval's, and values that print as they are written."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.measures.ranking import (
    AP,
    MAP,
    MRR,
    RR,
    Measure,
    P,
    R,
    Rprec,
    Success,
    nDCG,
    parse_measure,
    score_run,
)

MEASURES = [
    *(nDCG, nDCG @ 1, nDCG @ 5, nDCG @ 10, R @ 1, R @ 10, R @ 100, P @ 1, P @ 5, P @ 10),
    *(MAP, MAP @ 3, AP, MRR, RR, MRR @ 1, RR @ 3, MRR @ 10, Rprec, Success @ 1, Success @ 5),
]
DOCS = [f"d{number}" for number in range(25)] + ["é", "z", "Z", "日本"]


def random_case(seed: int) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    """A run and qrels with all that goes wrong: ties, near ties, and queries on one side only."""
    rng = random.Random(seed)
    levels = [rng.choice([0.0, 1.0, -2.5, 1 + 1e-12, 1e-50, 0.1, 12.25]) for _ in range(4)]

    def score() -> float:
        return rng.choice(levels) if rng.random() < 0.6 else rng.uniform(-5, 20)

    queries = [f"q{number}" for number in range(rng.randint(1, 8))]
    run = {
        query: {doc: score() for doc in rng.sample(DOCS, rng.choice([0, 1, 6, 20, len(DOCS)]))}
        for query in queries
        if rng.random() < 0.8
    }
    run["only in the run"] = {"d1": 1.0}
    qrels = {
        query: {doc: rng.choice([-2, -1, 0, 0, 1, 1, 2, 3]) for doc in rng.sample(DOCS, n_judged)}
        for query in queries
        if (n_judged := rng.choice([1, 4, 12, 25]))
    }
    return run, qrels


def reference(measure: Measure, run, qrels) -> dict[str, float]:
    """ir-measures by trec_eval. It gives RR@k to the MS MARCO script, which breaks ties by
    ascending id, so here RR is taken from trec_eval and cut off. trec_eval crashes where a query
    has negative grades only (it clears max_rel + 1 counters), so those become 0 for it."""
    ir_measures = pytest.importorskip("ir_measures")
    name = {"MRR": "RR", "MAP": "AP"}.get(measure.name, measure.name)
    cut = name == "RR" and measure.cutoff is not None
    wanted = ir_measures.parse_measure(name if cut else str(Measure(name, measure.cutoff)))
    qrels = {
        query: dict.fromkeys(judged, 0) if max(judged.values()) < 0 else judged
        for query, judged in qrels.items()
    }
    found = {
        metric.query_id: metric.value
        for metric in ir_measures.pytrec_eval.iter_calc([wanted], qrels, run)
    }
    if cut:
        return {query: v if v > 0.999 / measure.cutoff else 0.0 for query, v in found.items()}
    return found


@pytest.mark.reference
def test_scores_when_compared_with_ir_measures_are_equal_on_100_random_runs():
    seen_between = 0
    for seed in range(100):
        run, qrels = random_case(seed)
        ours = score_run(MEASURES, run, qrels)
        for measure in MEASURES:
            expected = reference(measure, run, qrels)
            assert ours[measure] == pytest.approx(expected, abs=1e-9, rel=0), (seed, str(measure))
            assert list(ours[measure]) == list(qrels)
            seen_between += sum(0 < value < 1 for value in expected.values())
    assert seen_between > 1500  # the cases are not all trivial


@pytest.mark.reference
def test_mrr_when_scores_have_no_ties_equals_the_ms_marco_script():
    ir_measures = pytest.importorskip("ir_measures")
    rng = random.Random(1)
    docs = DOCS[:25]
    run = {f"q{q}": dict(zip(docs, rng.sample(range(99), 25), strict=True)) for q in range(50)}
    qrels = {query: {rng.choice(docs): 1} for query in run}
    expected = {
        metric.query_id: metric.value
        for metric in ir_measures.iter_calc([ir_measures.RR @ 10], qrels, run)
    }
    assert (MRR @ 10).scores(run, qrels) == pytest.approx(expected, abs=1e-9)
    assert 0 in expected.values()


def test_scores_when_worked_by_hand_are_these():
    grades = [3, 2, 3, 0, 1, 2]
    run = {"q": {f"d{rank}": float(-rank) for rank in range(6)}}
    qrels = {"q": {**{f"d{rank}": grade for rank, grade in enumerate(grades)}, "missed": 1}}
    dcg = 3 + 2 / math.log2(3) + 3 / 2 + 1 / math.log2(6) + 2 / math.log2(7)
    best = 3 + 3 / math.log2(3) + 2 / 2 + 2 / math.log2(5) + 1 / math.log2(6) + 1 / math.log2(7)
    expected = {
        nDCG @ 6: dcg / best,
        nDCG @ 1: 1.0,
        R @ 3: 3 / 6,
        R @ 100: 5 / 6,
        P @ 5: 4 / 5,
        P @ 10: 5 / 10,
        MRR @ 10: 1.0,
        MAP: (1 + 1 + 1 + 4 / 5 + 5 / 6) / 6,
        MAP @ 3: 3 / 6,
        Rprec: 5 / 6,
        Success @ 1: 1.0,
    }
    found = {measure: measure.scores(run, qrels)["q"] for measure in expected}
    assert found == pytest.approx(expected, abs=1e-12)


def test_scores_when_documents_tie_take_the_higher_id_first_and_compare_in_single_precision():
    qrels = {"q": {"b": 1}}
    assert (P @ 1).scores({"q": {"a": 1.0, "b": 1.0}}, qrels) == {"q": 1.0}
    assert (P @ 1).scores({"q": {"c": 1.0, "b": 1.0}}, qrels) == {"q": 0.0}
    assert (P @ 1).scores({"q": {"a": 1 + 1e-12, "b": 1.0}}, qrels) == {"q": 1.0}
    assert (P @ 1).scores({"q": {"a": 1 + 1e-6, "b": 1.0}}, qrels) == {"q": 0.0}
    assert (P @ 1).scores({"q": {"a": 1e301, "b": 1e300}}, qrels) == {"q": 1.0}


def test_scores_when_queries_are_on_one_side_only_follow_the_qrels():
    run = {"run only": {"a": 1.0}, "empty": {}, "no relevant": {"a": 1.0}}
    qrels = {"no results": {"a": 1}, "empty": {"a": 1}, "no relevant": {"a": 0}, "unjudged": {}}
    for scores in score_run(MEASURES, run, qrels).values():
        assert scores == dict.fromkeys(qrels, 0.0)
    assert all(not scores for scores in score_run(MEASURES, run, {}).values())
    assert score_run([], run, qrels) == {}


def test_scores_when_a_run_holds_nan_name_query_and_document():
    with pytest.raises(ValueError, match="document 'b' for query 'q' is NaN"):
        nDCG.scores({"q": {"a": 1.0, "b": math.nan}}, {"q": {"a": 1}})


@pytest.mark.parametrize(
    "text", ["nDCG@10", "R@100", "MRR@10", "RR", "MAP", "AP@5", "P@5", "Rprec", "Success@1"]
)
def test_measure_when_parsed_prints_as_it_was_written(text):
    assert str(parse_measure(text)) == text
    assert parse_measure(text.replace("@", " @ ")) == parse_measure(text)


def test_measure_when_written_with_at_equals_the_parsed_one_and_is_a_key():
    assert str(nDCG @ 10) == "nDCG@10"
    assert {nDCG @ 10: 1}[parse_measure("nDCG@10")] == 1
    assert nDCG @ 10 != nDCG @ 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndcg@10", r"'ndcg@10'; expected one of nDCG, R@k, MRR, .*Success@k"),
        ("", "expected one of"),
        ("nDCG@", "cutoff of 'nDCG@' is ''; expected a number, such as nDCG@10"),
        ("nDCG@-1", "expected a number"),
        ("nDCG@1.5", "expected a number"),
        ("nDCG@10@5", "expected a number"),
        ("nDCG@0", "is 0; expected 1 or more"),
        ("P", "P needs a cutoff, such as P@10"),
        ("R", "R needs a cutoff, such as R@10"),
        ("Rprec@10", "Rprec takes no cutoff, but got 10"),
    ],
)
def test_parse_measure_when_text_is_no_measure_says_why(text, message):
    with pytest.raises(ValueError, match=message):
        parse_measure(text)


@pytest.mark.parametrize("cutoff", [0, -1, True, 2.0])
def test_measure_when_cutoff_is_no_count_is_refused(cutoff):
    with pytest.raises(ValueError, match="expected 1 or more"):
        _ = nDCG @ cutoff


def test_measure_when_cut_twice_or_not_at_all_is_refused():
    with pytest.raises(ValueError, match="nDCG@10 already has a cutoff"):
        _ = nDCG @ 10 @ 5
    with pytest.raises(ValueError, match="Success needs a cutoff"):
        Success.scores({}, {"q": {"a": 1}})
    with pytest.raises(ValueError, match="measure is 'ERR'"):
        Measure("ERR")


ids = st.sampled_from(DOCS)
runs = st.dictionaries(st.just("q"), st.dictionaries(ids, st.integers(-3, 3), max_size=20))
judgements = st.dictionaries(ids, st.integers(-1, 3), max_size=20)


@given(run=runs, judged=judgements, k=st.integers(1, 30))
def test_scores_when_run_is_any_keep_their_bounds(run, judged, k):
    qrels = {"q": judged}
    for scores in score_run(MEASURES, run, qrels).values():
        assert 0 <= scores["q"] <= 1 + 1e-12
    assert (R @ k).scores(run, qrels)["q"] <= (R @ (k + 1)).scores(run, qrels)["q"]
    n_relevant = max(1, sum(grade > 0 for grade in judged.values()))
    assert Rprec.scores(run, qrels)["q"] <= (Success @ n_relevant).scores(run, qrels)["q"]


@given(run=runs, judged=judgements, rng=st.randoms())
def test_scores_when_run_is_shuffled_or_scaled_stay_the_same(run, judged, rng):
    qrels = {"q": judged}
    items = list(run.get("q", {}).items())
    rng.shuffle(items)
    changed = {"q": {doc: 4.0 * score + 1 for doc, score in items}}
    assert score_run(MEASURES, changed, qrels) == score_run(MEASURES, run, qrels)


@given(judged=judgements)
def test_scores_when_ranking_is_perfect_are_one(judged):
    if not any(grade > 0 for grade in judged.values()):
        return
    run = {"q": dict(judged)}
    for measure in (nDCG, nDCG @ 3, MAP, MRR, Rprec, Success @ 1, R @ 30):
        assert measure.scores(run, {"q": judged})["q"] == pytest.approx(1, abs=1e-12)
