"""KILT scores: a hand table, the figures of KILT's own test files, and properties."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.measures.answers import exact_match, token_f1
from ragkit.evaluation.measures.kilt import kilt_em, kilt_f1, kilt_score, page_r_precision
from ragkit.evaluation.measures.score import Score

DATA = Path(os.environ.get("RAGKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
words = st.lists(st.sampled_from("u v w".split()), max_size=4)


@pytest.mark.parametrize(
    ("pages", "gold", "expected"),
    [
        (["1"], [["1"]], 1),
        (["2", "1"], [["1"]], 0),
        (["1", "3", "2"], [["1", "2"]], 1 / 2),
        (["1", "1", "2"], [["1", "2"]], 1),
        (["2"], [["1", "2"]], 1 / 2),
        (["3", "1"], [["1", "2"], ["3"]], 1),
        (["3", "1"], [[], ["1", "2"]], 1 / 2),
        ([], [["1"]], 0),
    ],
)
def test_page_r_precision_when_worked_by_hand_is_this(pages, gold, expected):
    assert page_r_precision(pages, gold) == Score(expected)


def test_kilt_scores_when_no_gold_names_a_page_have_a_cause():
    nothing = Score(None, "no gold output names a page")
    assert page_r_precision(["1"], [[]]) == nothing
    assert kilt_em("a", ["a"], pages=["1"], gold_pages=[]) == nothing
    assert kilt_score(1.0, nothing) == nothing


def test_page_r_precision_when_given_a_text_for_a_list_refuses_it():
    with pytest.raises(TypeError, match="expected a list"):
        page_r_precision(["12"], ["12"])


@given(
    prediction=words.map(" ".join),
    answers=st.lists(words.map(" ".join), min_size=1, max_size=3),
    pages=st.lists(st.sampled_from("abcd"), max_size=6),
    gold=st.lists(st.frozensets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=3),
)
def test_kilt_scores_when_compared_with_plain_ones_are_never_higher(
    prediction, answers, pages, gold
):
    em, f1 = exact_match(prediction, answers), token_f1(prediction, answers)
    right = page_r_precision(pages, gold) == Score(1.0)
    kwargs = {"pages": pages, "gold_pages": gold}
    assert kilt_em(prediction, answers, **kwargs) == Score(em if right else 0.0)
    assert kilt_f1(prediction, answers, **kwargs) == Score(f1 if right else 0.0)
    unique = list(dict.fromkeys(pages))
    success = any(set(unique[: len(pages_of_one)]) & pages_of_one for pages_of_one in gold)
    assert page_r_precision(pages, gold).value <= success


def records(name: str) -> list[dict]:
    path = DATA / "kilt_format" / name
    if not path.exists():
        pytest.skip(f"no data at {path}; set RAGKIT_DATA")
    return [json.loads(line) for line in path.read_text().splitlines()]


def page_ids(output: dict) -> list[str]:
    return [str(row["wikipedia_id"]) for row in output["provenance"]]


@pytest.mark.reference
@pytest.mark.parametrize(
    ("gold", "guess", "em", "f1", "kilt_em_mean", "kilt_f1_mean"),
    [
        ("gold1.jsonl", "guess1_1.jsonl", 2 / 3, 0.8333333333333334, 1 / 3, 1 / 3),
        ("gold1.jsonl", "gold1.jsonl", 1, 1, 1, 1),
        ("gold3.jsonl", "guess3_1.jsonl", 0, 0.5102040816326531, 0, 0.25510204081632654),
    ],
)
def test_kilt_when_run_on_its_own_test_files_gives_its_own_figures(
    gold, guess, em, f1, kilt_em_mean, kilt_f1_mean
):
    rows = []
    for gold_row, guess_row in zip(records(gold), records(guess), strict=True):
        given_answer = guess_row["output"][0]
        answers = [output["answer"] for output in gold_row["output"]]
        pages = page_ids(given_answer)
        gold_pages = [page_ids(output) for output in gold_row["output"]]
        text = given_answer["answer"]
        rows.append(
            (
                exact_match(text, answers),
                token_f1(text, answers),
                kilt_em(text, answers, pages=pages, gold_pages=gold_pages).value,
                kilt_f1(text, answers, pages=pages, gold_pages=gold_pages).value,
            )
        )
    means = np.mean(rows, axis=0)
    assert means == pytest.approx([em, f1, kilt_em_mean, kilt_f1_mean], abs=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize(("guess", "expected"), [("guess2_1.jsonl", 1 / 2), ("guess2_2.jsonl", 1)])
def test_page_r_precision_when_run_on_kilt_test_files_gives_its_own_figures(guess, expected):
    gold = [page_ids(output) for output in records("gold2.jsonl")[0]["output"]]
    assert page_r_precision(page_ids(records(guess)[0]["output"][0]), gold) == Score(expected)
