"""What answers look like, and which numbers a model may write itself: none."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.agents.ledger import Quantity, Quote
from ragkit.agents.render import (
    citations_of,
    free_numbers,
    names_in,
    render_answer,
    run_html,
    show_quantity,
    show_value,
)
from ragkit.agents.steps import Action, Final, Observation, Run, Thought
from ragkit.types import Citation, Sentence

GAP = Quantity(
    0.18610000000000015,
    "eV",
    "band_gap",
    "GaAs",
    "mp-2534",
    "F-43m",
    "DFT (PBE)",
    "Materials Project",
)
MEASURED = Quantity(
    1.52, "eV", "band_gap", "GaAs", None, "", "experiment", "Zhuo 2018", kind="material"
)
VOLUME = Quantity(45.2, "angstrom**3", "volume", "Fe2O3", "mp-24972")
COUNT = Quantity(42, "", "n_rows", method="count over all matching rows")
DIRECT = Citation("d1", "c1", 0, 15, "GaAs is direct.", "0" * 32)
WARM = Citation("d2", "c2", 3, 8, "Warm.", "1" * 32)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0.0, "0"), (1.0, "1"), (12.3456, "12.346"), (100.0, "100"), (-0.5, "-0.5")),
        *((5.57e-05, "5.57e-05"), (0.0996, "0.0996"), (1e12, "1e+12"), (123456.7891, "123456.789")),
        *((7, "7"), (True, "yes"), (False, "no"), ("FM", "FM"), (-1234567, "-1234567")),
    ],
)
def test_value_when_shown_then_has_the_digits_that_matter(value, shown):
    assert show_value(value) == shown


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_value_when_shown_then_is_the_number_to_three_digits(value):
    assert float(show_value(value)) == pytest.approx(value, rel=5.1e-3, abs=1e-300)


@pytest.mark.parametrize(
    ("quantity", "line"),
    [
        (GAP, "GaAs (mp-2534, F-43m): band gap 0.186 eV [DFT (PBE); Materials Project]"),
        (MEASURED, "GaAs (no material id): band gap 1.52 eV [experiment; Zhuo 2018]"),
        (VOLUME, "Fe2O3 (mp-24972): volume 45.2 Å^3"),
        (COUNT, "n rows: 42 [count over all matching rows]"),
        (Quantity(2.2, "bohr_magneton/angstrom**3", "m"), "m: 2.2 μB/Å^3"),
    ],
)
def test_quantity_when_shown_then_says_what_of_which_and_whence(quantity, line):
    assert show_quantity(quantity) == line


def test_answer_when_rendered_then_is_a_line_a_row_then_what_else_is_held_then_the_note():
    assert render_answer({"r1": GAP, "r4": COUNT}, [MEASURED], "A direct gap.") == (
        "GaAs (mp-2534, F-43m): band gap 0.186 eV [DFT (PBE); Materials Project]\n"
        "n rows: 42 [count over all matching rows]\n"
        "Other values:\n"
        "- GaAs (no material id): band gap 1.52 eV [experiment; Zhuo 2018]\n"
        "Note: A direct gap."
    )


def test_answer_when_much_else_is_held_then_eight_are_shown_and_the_rest_counted():
    others = [replace(MEASURED, value=float(n)) for n in range(68)]
    lines = render_answer({"r1": GAP}, others, pages=["Shown: 1 of 3 materials."]).splitlines()
    assert lines[1:4] == [
        "Shown: 1 of 3 materials.",
        "Other values:",
        "- GaAs (no material id): band gap 0 eV [experiment; Zhuo 2018]",
    ]
    assert lines[10:] == [
        "- GaAs (no material id): band gap 7 eV [experiment; Zhuo 2018]",
        "… and 60 more",
    ]
    assert "more" not in render_answer({"r1": GAP}, others[:8])


def test_answer_when_sentences_are_quoted_then_marks_and_spans_tie_up():
    rows = {
        "r1": Quote("GaAs is\n direct.", (DIRECT,)),
        "r2": COUNT,
        "r3": Quote("Warm.", (WARM, DIRECT)),
    }
    text = render_answer(rows, [], "This note is left out.")
    assert text == ("GaAs is direct. [1]\nn rows: 42 [count over all matching rows]\nWarm. [2] [3]")
    citations, sentences = citations_of(rows)
    assert citations == [DIRECT, WARM, DIRECT]
    assert sentences == [Sentence(0, 19, (1,), "quoted"), Sentence(62, 75, (2, 3), "quoted")]
    assert [text[each.start : each.end] for each in sentences] == [
        "GaAs is direct. [1]",
        "Warm. [2] [3]",
    ]


def test_names_when_taken_then_are_formulas_ids_and_space_groups():
    assert names_in([GAP, COUNT, Quote("Warm.", (WARM,))]) == {"GaAs", "mp-2534", "F-43m"}


QUESTION = "Which of GaAs and Fe2O3 with 12 atoms, a gap above 1.5 eV and 1,000 rows is stable?"
KNOWN = {"GaAs", "mp-2534", "F-43m", "Ca(HO)2", "P6_3/mmc", "Li2Fe(SO4)2", "Fm-3m"}


@pytest.mark.parametrize(
    "note",
    [
        "",
        "Direct gap, lowest of all.",
        "GaAs is mp-2534 with F-43m.",
        "Fe2O3, or Ca(HO)2.",
        "Li2Fe(SO4)2 in P6_3/mmc; Fm-3m too",
        "12 atoms, above 1.5 eV",
        "over 1,000 rows",
        "over 1000 rows.",
        "(GaAs), 'Fe2O3'!",
    ],
)
def test_numbers_when_asked_for_or_names_then_are_free_of_blame(note):
    assert free_numbers(note, QUESTION, KNOWN) == []


@pytest.mark.parametrize(
    "note",
    [
        *(
            "0.19",
            ".19",
            "2e-3",
            "1,234",
            "1.2345,6",
            "½",
            "x²",
            "Ⅷ",
            "٣",
            "\uff14\uff12",
            "①",
            "³",
        ),
        *("forty two", "forty-two", "Fortytwo", "a dozen", "half of it", "thirteen", "zero"),
        *("50%", "-3", "\u22123", "+7", "~7", "<7", "mp-999", "mp-25345", "mp-2534.5", "3eV"),
        *("x10^5", "10^5", "5\u00d710³", "GaAs2", "Fe2O4", "Fe3O2.", "F-44m", "7/8", "1/2", "1:3"),
        *("-12", "-1.5", "1.55", "15", "0.12", "12.0e3", "112", "0x1F", "3.", "4\u200b2", "4 2"),
        *("two", "a third", "1e5", "2", "GaAs=7", "r7", "one-and-a-half", "2-3", "v2"),
    ],
)
def test_numbers_when_nothing_vouches_for_them_then_are_free(note):
    assert free_numbers(note, QUESTION, KNOWN) != []


def test_numbers_when_the_question_spells_them_then_may_be_spelled():
    assert free_numbers("Both, the two.", "Which of the two is harder?") == []
    assert free_numbers("three", "Which of the two is harder?") == ["three"]


PIECES = st.sampled_from(
    [
        *"0123456789.,-+eE%/^ ():",
        "GaAs",
        "mp-",
        "Fe2O3",
        "mp-149",
        " is ",
        "eV",
        "\u00d710",
        "r1",
        "12",
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20)


@given(
    note=TEXTS, question=TEXTS, known=st.sets(st.sampled_from(["GaAs", "Fe2O3", "mp-149", "12"]))
)
def test_numbers_when_anything_is_written_then_no_digits_pass_that_nobody_gave(
    note, question, known
):
    if free_numbers(note, question, known):
        return
    given_words = [question, question.replace(",", ""), *known]
    for digits in re.findall(r"\d+", note.replace(",", "")) + re.findall(r"\d+", note):
        assert any(digits in words for words in given_words), (digits, note)


@given(
    st.lists(st.sampled_from(["½", "Ⅷ", "²", "٣", "①", "७", "Ⅻ", "a", " "]), min_size=1).map(
        "".join
    )
)
def test_numbers_when_written_in_other_digits_then_none_passes(note):
    assert bool(free_numbers(note, "?")) == any(each.isnumeric() for each in note)


def test_html_when_a_run_is_shown_then_nothing_of_it_is_markup():
    evil = "<script>alert(1)</script>"
    steps = (
        Thought(evil),
        Action(evil, {evil: evil}),
        Observation(evil, f"| {evil}\n| b"),
        Final(evil, note=evil),
    )
    shown = run_html(Run(evil, steps[-1], steps, {}))
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 4
    assert "<li><b>thought</b> " in shown
    assert "<b>answered</b>" in shown
