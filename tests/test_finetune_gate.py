"""The gate lets an adapter pass that gained and lost nothing, and no other."""

from __future__ import annotations

import math

import pytest

from ragkit.finetune.gate import Scores, compare_scores, judge_adapter

N = 60
BAD = Scores("task", [0.0] * N, [0.0] * N)
GOOD = Scores("task", [0.0] * N, [1.0] * 40 + [0.0] * 20)
SAME = Scores("general", [1.0] * N, [1.0] * N)


def test_a_gain_without_a_loss_is_promoted_and_says_how_much():
    report = judge_adapter(GOOD, SAME)
    assert report.promoted
    assert report.task.gain == pytest.approx(2 / 3)
    assert report.task.p < 0.001
    assert report.general.gain == 0
    assert "+0.667 on task" in report.why


@pytest.mark.parametrize(
    ("task", "general", "why"),
    [
        (BAD, SAME, "no significant gain on task"),
        (Scores("task", GOOD.after, GOOD.before), SAME, "no significant gain on task: -0.667"),
        (Scores("task", [0.0] * N, [1.0, *[0.0] * 59]), SAME, "no significant gain"),
        (GOOD, Scores("general", [1.0] * N, [0.0] * 30 + [1.0] * 30), "a significant loss"),
        (GOOD, Scores("general", [1.0] * 10, [0.0] + [1.0] * 9), "a loss on general of more than"),
    ],
)
def test_anything_else_is_refused_with_its_reason(task, general, why):
    report = judge_adapter(task, general)
    assert not report.promoted
    assert report.why.startswith(why)


def test_a_small_loss_that_is_not_significant_passes():
    general = Scores("general", [1.0] * 100, [0.0] * 3 + [1.0] * 97)
    assert judge_adapter(GOOD, general).promoted


@pytest.mark.parametrize("scores", [([1.0], [1.0]), ([1.0, 0.0], [1.0]), ([math.nan, 1], [1, 1])])
def test_scores_that_cannot_be_compared_are_refused(scores):
    with pytest.raises(ValueError, match=r"expected equal numbers|not finite"):
        compare_scores(Scores("x", *scores))
