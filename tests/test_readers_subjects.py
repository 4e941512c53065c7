"""Questions about two things are split by what the hits are about."""

from __future__ import annotations

import pytest

from ragkit.readers.subjects import split_question

NAMES = [
    ["Silicon", "Si"], ["Germanium"], ["Silicon carbide", "SiC"], ["Nickel oxide"], ["Hematite"],
    ["Zinc oxide"], ["Gallium nitride", "GaN"], ["The Who"], ["Pink Floyd"], [""], ["7"],
]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("Compare the gaps of silicon and germanium",
         ["the gaps of silicon", "the gaps of germanium"]),
        ("Which is wider, silicon or GaN?", ["Which is wider, silicon?", "Which is wider, GaN?"]),
        ("Nickel oxide or hematite: which is redder?",
         ["Nickel oxide: which is redder?", "hematite: which is redder?"]),
        ("How does the mass of zinc oxide compare to hematite?",
         ["the mass of zinc oxide?", "the mass of hematite?"]),
        ("Is GaN lighter than SiC?", ["Is GaN lighter?", "Is SiC lighter?"]),
        ("the modulus of wurtzite zinc oxide with that of wurtzite gallium nitride, both",
         ["the modulus of wurtzite zinc oxide, both",
          "the modulus of wurtzite gallium nitride, both"]),
        ("Who was older, The Who or Pink Floyd?",
         ["Who was older, The Who?", "Who was older, Pink Floyd?"]),
        ("Gaps of silicon, germanium and SiC",
         ["Gaps of silicon", "Gaps of germanium", "Gaps of SiC"]),
    ],
)  # fmt: skip
def test_a_question_about_several_things_asks_for_each(question, parts):
    found = split_question(question, NAMES)
    assert [part.question for part in found] == parts
    for part in found:
        names = [name.lower() for i in part.hits for name in NAMES[i]]
        assert part.subject.lower() in names


@pytest.mark.parametrize(
    "question",
    [
        "What is the gap of silicon?",
        "What is the gap of silicon carbide?",  # silicon is a part of its name
        "Is silicon a direct or an indirect semiconductor?",
        "How much salt and pepper?",
        "Which 7 or 8?",
        "",
    ],
)
def test_a_question_about_one_thing_stays_whole(question):
    assert split_question(question, NAMES) == []


def test_hits_about_the_same_thing_belong_to_one_part():
    names = [["Silicon"], ["Germanium"], ["Silicon"]]
    found = split_question("Compare silicon and germanium", names)
    assert [part.hits for part in found] == [(0, 2), (1,)]
