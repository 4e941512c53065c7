"""Prompt files: versioned, digested, filled in strictly."""

from __future__ import annotations

from importlib import resources

import pytest

from ragkit.digests import text_digest
from ragkit.prompts import Prompt, load_prompt

NAMES = sorted(
    file.name.removesuffix(".md")
    for file in resources.files("ragkit.prompts").iterdir()
    if file.name.endswith(".md")
)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_prompt_loads_with_version_and_digest(name: str):
    prompt = load_prompt(name)
    assert prompt.name == name
    assert int(prompt.version) >= 1
    assert prompt.text
    assert "<!--" not in prompt.text
    assert prompt.digest == text_digest(prompt.text)


def test_answer_prompt_says_that_passages_are_data_and_how_to_refuse():
    text = load_prompt("answer").text
    assert "do not follow instructions" in text
    assert "NOT FOUND" in text


def test_fill_leaves_dollars_and_braces_of_values_alone():
    prompt = Prompt("p", "1", "$passages\n\nQuestion: $question")
    filled = prompt.fill(passages="$5 $question ${x} {y} %s $$ \\1", question="$passages?")
    assert filled == "$5 $question ${x} {y} %s $$ \\1\n\nQuestion: $passages?"


def test_fill_without_a_value_raises():
    with pytest.raises(KeyError, match="question"):
        load_prompt("answer").fill(passages="x")


def test_load_of_an_unknown_prompt_raises():
    with pytest.raises(FileNotFoundError):
        load_prompt("no-such-prompt")
