# ruff: noqa: RUF001 - quotes and full-width stops are what is tested
import os
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from tiers import smoke

from ragkit.chunking.sentences import RuleSegmenter

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("RAGKIT_DATA", ROOT.parent / "shared" / "data"))

# Strings that the rules check, so that random texts contain them.
MARKS = ' \n\t.!?…。！)"”(“[]*#-|>,:;aAIé漢39\r\x00'
PIECES = st.sampled_from([*MARKS, "\n\n", "Fig", "e.g.", "Dr", "U.S", "The", "so "])
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=80)


def split(text):
    return [text[start:end] for start, end in RuleSegmenter().sentences(text)]


@pytest.mark.parametrize(
    "sentences",
    [
        # scientific text
        ["See Fig. 3.", "The gap is approx. 3.5 eV.", "Done."],
        ["Smith et al. (2003) found T_c = 39 K.", "It was new.", "Phys. Rev. B 12, 345 agrees."],
        [
            "J. A. Smith and M.-L. Chen agree, cf. Ref. 7, Eqs. (3) and (4), and Sec. IV.",
            "So do I.",
        ],
        ["Oxides, e.g. Fe3O4, i.e. magnetite, vs. others, etc. are listed in Tab. S1.", "OK."],
        ["It melts at 300 K.", "Superconductivity follows."],
        ["Is C. elegans a worm?", "Yes."],
        ["It is known.[12]", "Others differ.[3, 4]", "End"],
        # names, times, places
        ["Dr. Who met Mrs. Smith at 5 p.m. on Jan. 3.", "She left."],
        ["He lives in the U.S.", "The president, J. F. Kennedy, lived there."],
        ["U.S. Steel Corp. and Apple Inc. rose 3.5%.", "They fell."],
        ["He said no.", "No. 5 won."],
        # quotes, brackets, ellipses
        ['She said "Go."', "Then we left.", "“Really?” he asked.", "(It is so.)", "Good."],
        ["Wait...", "What?!", "He trailed off ... and came back.", "No…", "Yes!"],
        ["**Bold.**", "Next *one.*", "Then."],
        # sites, versions, numbered items
        ["Visit www.example.com or use Node.js 2.0.1 now.", "Fine."],
        ["1. First thing.", "Then more."],
        # the writer without capitals
        ["i like it.", "you do not?", "well, approx. half of it."],
        # other languages
        ["Das geschah am 3. Oktober, z. B. in Berlin.", "Es war kalt."],
        ["M. Dupont est arrivé.", "Il est parti."],
        ["¿Qué hora es?", "¡Vamos!", "La Sra. López llegó."],
    ],
)
def test_sentences_when_joined_by_a_space_then_found_again(sentences):
    assert split(" ".join(sentences)) == sentences


def test_sentences_when_chinese_or_japanese_then_no_space_is_needed():
    assert split("今日は晴れ。行こう！「はい。」と言った。次？") == [
        "今日は晴れ。",
        "行こう！",
        "「はい。」と言った。",
        "次？",
    ]


def test_sentences_when_markdown_then_headings_items_and_rows_end_at_their_newline():
    text = "# Title\nSome text\n## Sub\n- item one\n- item, e.g.\n* last\n1. one\n| a |\n|---|\nEnd"
    assert split(text) == text.split("\n")


def test_sentences_when_blank_line_then_always_end():
    assert split("a line\n\nof verse\r\n \r\nDr.\n\nWho") == ["a line", "of verse", "Dr.", "Who"]


def test_sentences_when_short_line_then_end_at_newline():
    assert split("Best regards\nJane Doe\nInstitute of Physics") == [
        "Best regards",
        "Jane Doe",
        "Institute of Physics",
    ]


def test_sentences_when_hard_wrapped_then_newlines_do_not_end_them():
    first = (
        "Crystals were grown by the floating zone technique in an image furnace with Xe\n"
        "Lamps, at a rate of 5 mm per hour in air, and were annealed afterwards approx.\n"
        "3 h at 900 K."
    )
    second = "The second batch grew\nfaster."
    assert split(f"{first} {second}") == [first, second]


def test_sentences_when_line_ends_in_a_function_word_then_it_goes_on():
    assert split("We grew it under\nAr gas\nTable of\nContents") == [
        "We grew it under\nAr gas",
        "Table of\nContents",
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\n \t\r\n"])
def test_sentences_when_only_white_space_then_none(text):
    assert split(text) == []


@pytest.mark.parametrize("text", ["...", "a", "?!", "Dr.", "\x00"])
def test_sentences_when_one_token_then_one_sentence(text):
    assert split(f" {text}\n") == [text]


@examples(250)
@given(TEXTS)
def test_sentences_when_any_text_then_spans_leave_out_only_white_space(text):
    before = 0
    for start, end in RuleSegmenter().sentences(text):
        assert before <= start < end
        assert not text[before:start].strip()
        assert text[start:end] == text[start:end].strip()
        before = end
    assert not text[before:].strip()


ENDLESS = [
    *(".", "a", " ", "\n", '"', "[", "a.", ".[1,", "\t\n", "a \n"),
    *(". ((((", "e.g. ", "A. ", "\n#", "。"),
]


@pytest.mark.parametrize("piece", smoke(ENDLESS, "a.", ".[1,"))
def test_sentences_when_two_megabytes_of_one_piece_then_all_is_kept(piece):
    # Quadratic time would be hours here; linear time is about a second.
    text = piece * (2_000_000 // len(piece.encode()))
    spans = RuleSegmenter().sentences(text)
    assert sum(len(text[start:end].split()) for start, end in spans) == len(text.split())


@pytest.mark.reference
@pytest.mark.parametrize(("name", "goal"), [("en_pud-ud-test", 0.99), ("en_ewt-ud-dev", 0.85)])
def test_boundary_f1_when_on_english_treebank_then_reaches_the_goal(name, goal):
    if not (DATA / "ud_segmentation").is_dir():
        pytest.skip(f"no folder {DATA / 'ud_segmentation'}; set RAGKIT_DATA")
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "segmentation.py"))
    golds = benchmark["documents"](name)
    got, baseline = (benchmark["score"](benchmark[system], golds) for system in ("rules", "plain"))
    assert got.f1 >= goal
    assert got.f1 > baseline.f1
