"""The judge of support: quotes, conflicts, computed numbers, and what it says of the rest."""

from __future__ import annotations

import pytest

from ragkit.readers import LongContextReader
from ragkit.readers.support import load_judge
from ragkit.readers.support.judge import SupportJudge, is_foreign
from ragkit.testing import ScriptedLLM
from ragkit.types import Chunk, Hit

TEXTS = {
    "Silicon": "Silicon has an indirect band gap of 1.12 eV at 300 K. It is grey.",
    "Gallium arsenide": "Gallium arsenide (GaAs) has a direct band gap of 1.42 eV at 300 K.",
}
HITS = [
    Hit(Chunk(f"{name}:0", name, text, 0, len(text), {"title": name}), 1.0)
    for name, text in TEXTS.items()
]


@pytest.fixture(scope="module")
def judge():
    return load_judge(HITS)


def quotes(verdict):
    return [HITS[e.hit].chunk.text[e.start : e.end] for e in verdict.evidence]


def test_the_shipped_weights_judge(judge):
    assert isinstance(judge, SupportJudge)


@pytest.mark.parametrize(
    "sentence", ["It is grey.", "It is grey. [2]", "an indirect band gap of 1.12 eV at 300 K"]
)
def test_what_stands_in_a_source_is_quoted(judge, sentence):
    verdict = judge.judge(sentence)
    assert (verdict.support, verdict.probability, verdict.reason) == ("quoted", 1.0, "")
    assert len(verdict.evidence) == 1


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("GaAs has a band gap of 1.12 eV at 300 K.", "the source gives 1.42 eV, not 1.12 eV"),
        ("Silicon has a direct band gap of 1.12 eV.", "direct"),
        ("Silicon has a band gap of 1.42 eV at 300 K.", "1.12 eV"),
    ],
)
def test_a_swapped_value_or_word_contradicts_and_says_why(judge, sentence, reason):
    verdict = judge.judge(sentence)
    assert verdict.support == "contradicted"
    assert reason in verdict.reason
    assert verdict.probability <= 0.05
    assert quotes(verdict)


@pytest.mark.parametrize(
    "sentence",
    ["The band gap of gallium arsenide is 1.12 eV.", "The gap of silicon is 1.42 eV."],
)
def test_a_value_of_another_thing_does_not_support(judge, sentence):
    verdict = judge.judge(sentence)
    assert verdict.support == "unsure"
    assert "of another thing" in verdict.reason


def test_a_difference_of_cited_numbers_is_computed(judge):
    verdict = judge.judge(
        "The band gap of gallium arsenide is 0.30 eV larger than the band gap of silicon."
    )
    assert verdict.support == "computed"
    assert "0.3" in verdict.reason
    assert {HITS[e.hit].chunk.doc_id for e in verdict.evidence} == set(TEXTS)


def test_what_no_source_speaks_of_is_not_supported(judge):
    for sentence in ("The stadium holds 40,000 people.", "Penguins live in Antarctica."):
        assert judge.judge(sentence).support in ("unsupported", "contradicted")


def test_another_language_is_unsure_and_says_so(judge):
    verdict = judge.judge("Die Bandlücke von Silizium ist indirekt und nicht sehr groß.")
    assert (verdict.support, verdict.reason) == ("unsure", "the check was trained on English")
    assert is_foreign("Le silicium est gris et la bande est indirecte.")
    assert not is_foreign("In the table the gap is the largest of all.")
    assert not is_foreign("GaAs: 1.42 eV")


def test_nothing_to_compare_is_unsupported():
    assert load_judge([]).judge("Silicon is grey.").support == "unsupported"
    assert load_judge(HITS).judge("…").support == "unsupported"


def test_limits_out_of_order_are_refused():
    with pytest.raises(ValueError, match="expected 0 <= unsure <= sure <= 1"):
        SupportJudge(HITS, sure=0.2, unsure=0.4)


def test_a_reader_removes_contradicted_sentences_and_keeps_them_in_the_answer():
    reply = "It is grey. GaAs has a band gap of 1.12 eV at 300 K."
    answer = LongContextReader(ScriptedLLM([reply])).read(["What is known?"], [HITS])[0]
    assert answer.text == "It is grey. [1]"
    [removed] = answer.removed
    assert (removed.text, removed.support) == (
        "GaAs has a band gap of 1.12 eV at 300 K.", "contradicted"
    )  # fmt: skip
    assert "1.42 eV" in removed.reason
    assert [loss.why for loss in answer.losses] == [removed.reason]
    marked = LongContextReader(ScriptedLLM([reply]), unsupported="mark")
    text = marked.read(["What is known?"], [HITS])[0].text
    assert text.startswith("It is grey. [1] GaAs has a band gap of 1.12 eV at 300 K. [2]")
    assert text.endswith("[contradicted]")
