"""The general set: right replies count, and only whole ones are learned again."""

from __future__ import annotations

import re

import pytest

from ragkit.finetune.general import (
    GENERAL,
    REPLAY,
    GeneralQuestion,
    general_scores,
    replay_dialogues,
)
from ragkit.testing import ScriptedLLM

RIGHT = {
    "What is the capital of France?": "The capital of France is Paris.",
    "How many days are in a week?": "There are 7 days in a week.",
    "Answer with yes or no: is the sun a star?": "Yes, it is.",
    "Name three fruits, separated by commas.": "apple, pear, plum",
    "Write the numbers from one to five.": "1, 2, 3, 4, 5",
    "Give a list of two colours, each on a line of its own that begins with a dash.": "- a\n- b",
    "Reply with a single word: the colour of grass.": "Green.",
}
WRONG = {
    "What is the capital of France?": "It is Lyon.",
    "Answer with yes or no: is the sun a star?": "I think yes",
    "Reply with a single word: the colour of grass.": "Grass is green.",
    "Give a list of two colours, each on a line of its own that begins with a dash.": "red, blue",
}


@pytest.mark.parametrize(("replies", "score"), [(RIGHT, 1.0), (WRONG, 0.0)])
def test_replies_are_judged_by_what_they_hold(replies, score):
    by_text = {each.text: each for each in GENERAL}
    for text, reply in replies.items():
        assert general_scores(ScriptedLLM([reply]), [by_text[text]]) == [score], text


def test_every_question_is_scored_and_told():
    seen = []
    scores = general_scores(ScriptedLLM(["42"]), on_question=lambda: seen.append(1))
    assert len(scores) == len(seen) == len(GENERAL) >= 40
    assert sum(scores) < 3


def test_patterns_are_expressions_and_no_question_is_replayed():
    for each in GENERAL:
        re.compile(each.pattern)
    assert not {each.text for each in GENERAL} & set(REPLAY)
    assert len(set(REPLAY)) == len(REPLAY)


def test_only_whole_replies_are_learned_again():
    dialogues = replay_dialogues(ScriptedLLM(["Hello!"]), ["Hi!", "Ho!"])
    assert [each.messages[-1].content for each in dialogues] == ["Hello!", "Hello!"]
    assert {each.task for each in dialogues} == {"general"}
    assert replay_dialogues(ScriptedLLM([" "]), ["Hi!"]) == []


def test_a_plain_question_is_judged_line_by_line_in_any_case():
    assert general_scores(ScriptedLLM(["so:\nYES"]), [GeneralQuestion("?", "^yes")]) == [1.0]
