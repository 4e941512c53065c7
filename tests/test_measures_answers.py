"""Answers against gold answers: a hand table, a slower ROUGE-L beside, and the type of a score."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.measures.answers import accuracy, exact_match, normalise, rouge_l, token_f1
from ragkit.evaluation.measures.score import Score


@pytest.mark.parametrize(
    ("value", "cause"), [(None, ""), (1.0, "why"), (math.nan, ""), (math.inf, "")]
)
def test_score_when_it_is_neither_number_nor_cause_is_refused(value, cause):
    with pytest.raises(ValueError, match="expected a"):
        Score(value, cause)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat's, whiskers!", "cats whiskers"),
        ("A", ""),
        ("an-apple a day", "anapple day"),
        ("theatre of the absurd", "theatre of absurd"),
        ("Ärzte\tund\nthe", "ärzte und"),
    ],
)
def test_normalise_when_text_has_marks_and_articles_drops_them(text, expected):
    assert normalise(text) == expected


# Columns: prediction, answers, exact match, token F1, accuracy, ROUGE-L. The last column was also
# checked once against rouge-score 0.1.2 (rougeL without stems).
HAND = [
    ("Paris", ["paris."], 1, 1, 1, 1),
    ("the city of Paris", ["Paris"], 0, 1 / 2, 1, 2 / 5),
    ("Paris, Texas", ["Paris, France"], 0, 1 / 2, 0, 1 / 2),
    ("y x z", ["x y z"], 0, 1, 0, 2 / 3),
    ("x x y", ["x y y"], 0, 2 / 3, 0, 2 / 3),
    ("no idea", ["Rome", "Milan"], 0, 0, 0, 0),
    ("Rome", ["Milan", "Rome"], 1, 1, 1, 1),
    ("10", ["1"], 0, 0, 1, 0),
    ("police killed the gunman", ["police kill the gunman"], 0, 2 / 3, 0, 3 / 4),
    ("the gunman kill police", ["police kill the gunman"], 0, 1, 0, 1 / 2),
    ("", ["Rome"], 0, 0, 0, 0),
    ("", [], 1, 1, 1, 1),
    ("something", [], 0, 0, 0, 0),
    ("", ["..."], 1, 1, 1, 1),
]


@pytest.mark.parametrize(("prediction", "answers", "em", "f1", "held", "rouge"), HAND)
def test_answer_measures_when_worked_by_hand_are_these(prediction, answers, em, f1, held, rouge):
    assert exact_match(prediction, answers) == em
    assert token_f1(prediction, answers) == pytest.approx(f1, abs=1e-12)
    assert accuracy(prediction, answers) == held
    assert rouge_l(prediction, answers) == pytest.approx(rouge, abs=1e-12)


def test_answer_measures_when_answers_are_one_text_refuse_it():
    with pytest.raises(TypeError, match="expected a list of strings"):
        exact_match("a", "abc")


def test_rouge_l_when_letters_are_not_ascii_counts_them():
    assert rouge_l("Čech přišel", ["čech odešel"]) == 0.5


words = st.lists(st.sampled_from("u v w x y".split()), max_size=12)


@given(first=words, second=words)
def test_rouge_l_when_compared_with_the_quadratic_table_is_equal(first, second):
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, word in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if word == other else max(table[i][j + 1], table[i + 1][j])
            )
    total = len(first) + len(second)
    expected = 2 * table[-1][-1] / total if total else 1.0
    assert rouge_l(" ".join(first), [" ".join(second)]) == expected


@given(prediction=words, answers=st.lists(words.map(" ".join), max_size=3))
def test_answer_measures_when_compared_keep_their_order(prediction, answers):
    text = " ".join(prediction)
    assert exact_match(text, answers) <= accuracy(text, answers) <= 1
    assert exact_match(text, answers) <= rouge_l(text, answers) <= token_f1(text, answers) <= 1
