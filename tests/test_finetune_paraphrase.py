"""Paraphrases that are noise, too long, the same or about something else are left out."""

from __future__ import annotations

import pytest

from ragkit.finetune.jsonl_cache import JsonlCache
from ragkit.finetune.paraphrase import ParaphraseOptions, Tally, length_ratio_bounds, paraphrases
from ragkit.testing import ScriptedLLM

TEXT = "What is the band gap of GaAs, which I need?"


def test_usual_ratios_are_two_standard_deviations_around_the_mean():
    assert length_ratio_bounds([("ab", "a"), ("ab", "abc")]) == pytest.approx((0.0, 2.0))


@pytest.mark.parametrize(
    ("reply", "field"),
    [
        ("How large is the band gap of GaAs, please?", "kept"),
        ("Sure! How large is the band gap of GaAs?", "noise"),
        ("", "noise"),
        ("Gap?", "length"),
        ("How large is the band gap of GaAs? " * 4, "length"),
        ("what is the band gap of GaAs which I need", "same"),
        ("How large is the band gap of InAs, please?", "inconsistent"),
    ],
)
def test_each_reply_is_counted_by_what_it_fails(reply, field):
    llm = ScriptedLLM([reply])
    found, tally = paraphrases(llm, [TEXT], lambda i, text: "GaAs" in text)
    assert tally == Tally(**({"asked": 1} | {field: 1}))
    assert found == ({0: reply} if field == "kept" else {})


def test_texts_are_told_apart_by_their_place_and_kept(tmp_path):
    replies = [f"Tell me how large the band gap of {name} may be." for name in ("GaAs", "InAs")]
    llm = ScriptedLLM(replies)
    texts = [f"What is the band gap of {name}, which I need?" for name in ("GaAs", "InAs")]

    def same(i, text):
        return texts[i].split(",")[0][-4:] in text

    for model in (llm, ScriptedLLM(["never asked"])):
        cache = JsonlCache(tmp_path / "cache.jsonl", "job")
        found, tally = paraphrases(model, texts, same, ParaphraseOptions(seed=7), cache=cache)
        assert found == dict(enumerate(replies))
        assert tally.kept == 2
