"""Sentences made from a source by one change: contradictions, and what is none."""

from __future__ import annotations

import pytest

from ragkit.readers.support.edits import compare_words
from ragkit.readers.support.judge import SupportJudge
from ragkit.types import SUPPORTED, Chunk, Hit

SOURCE = (
    "Anna Berg led the northern survey in 1934 with 17 men, and it took 40 days to reach Lulea."
)
CHANGES = {
    SOURCE.replace("1934", "1943"): "1943",
    SOURCE.replace("17", "71"): "71",
    SOURCE.replace("days", "weeks"): "weeks",
    SOURCE.replace("northern", "southern"): "southern",
    SOURCE.replace("Anna Berg", "Karin Dahl"): "Karin Dahl",
    SOURCE.replace("Lulea", "Umea"): "Umea",
    "Anna Berg led the northern survey in 1934 with 40 men, and it took 17 days.": "",
    SOURCE.replace("17", "x").replace("40", "17").replace("x", "40"): "place",
    SOURCE.replace("led", "never led"): "denies",
    "Anna Berg scarcely led the northern survey in 1934 with 17 men to reach Lulea.": "denies",
}
KEPT = (
    "Anna Berg led the northern survey in 1934 with 17 men.",
    "In fact, Anna Berg led the northern survey in 1934 with 17 men.",
    SOURCE.replace("40", "about 40"),
)
OPENED = "The text says that Anna Berg led the northern survey in 1934 with 17 men."


@pytest.mark.parametrize("sentence", CHANGES)
def test_one_change_is_seen(sentence):
    edit = compare_words(sentence, ["The weather was bad.", SOURCE])
    assert edit is not None
    assert (edit.kind, edit.source) == ("conflict", 1)
    assert CHANGES[sentence] in edit.reason


@pytest.mark.parametrize("sentence", KEPT)
def test_small_words_more_or_less_are_no_change(sentence):
    edit = compare_words(sentence, [SOURCE])
    assert edit is not None
    assert edit.kind == "same"


def test_another_word_is_no_contradiction_and_no_agreement():
    edit = compare_words("Anna Berg joined the northern survey in 1934 with 17 men.", [SOURCE])
    assert edit is not None
    assert (edit.kind, edit.reason) == ("other", "the source says 'led', not 'joined'")


@pytest.mark.parametrize(
    "sentence",
    ["The survey was long.", "It rained in Lulea when the men came back to the town at last."],
)
def test_a_sentence_that_is_near_no_source_is_not_compared(sentence):
    assert compare_words(sentence, [SOURCE]) is None


def test_a_value_of_another_source_is_no_contradiction():
    other = "A second survey in 1936 took 55 days."
    sentence = "Anna Berg led the northern survey in 1936 with 17 men, and it took 40 days."
    edit = compare_words(sentence, [SOURCE, other])
    assert edit is not None
    assert edit.kind != "conflict"


def test_things_that_change_places_around_and_are_no_contradiction():
    source = "The two towns on the river were Kiruna and Gallivare in those years."
    sentence = "The two towns on the river were Gallivare and Kiruna in those years."
    edit = compare_words(sentence, [source])
    assert edit is not None
    assert edit.kind == "same"


def test_the_judge_uses_the_rule():
    judge = SupportJudge([Hit(Chunk("c", "d", SOURCE, 0, len(SOURCE)), 1.0)])
    for sentence in CHANGES:
        assert judge.judge(sentence).support not in SUPPORTED, sentence
    for sentence in (*KEPT, OPENED):
        assert judge.judge(sentence).support in SUPPORTED, sentence
