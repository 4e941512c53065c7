# ruff: noqa: RUF001 - superscripts and minus signs are what these tests are about
from ragkit.documents.scripts import subscript, superscript


def test_superscript_when_every_character_has_a_form_uses_it():
    raised = ["5", "-3", "−3", "–3", " 2 ", "2+", "2−", "+", "n", "n + 1", "2n", "(2)", "13"]
    written = ["⁵", "⁻³", "⁻³", "⁻³", "²", "²⁺", "²⁻", "⁺", "ⁿ", "ⁿ⁺¹", "²ⁿ", "⁽²⁾", "¹³"]
    assert [superscript(text) for text in raised] == written


def test_superscript_when_a_character_has_no_form_is_marked():
    raised = ["a", "T", "-3.5", "0,5", "1/2", "a+b", "max", "in", "two words", "2x y"]
    written = ["^a", "^T", "^-3.5", "^0,5", "^(1/2)", "^(a+b)", "^max", "^in"]
    assert [superscript(text) for text in raised] == [*written, "^(two words)", "^(2x y)"]


def test_superscript_when_it_is_an_ordinal_or_a_sign_stays_readable():
    raised = ["st", "nd", "rd", "th", "TH", "er", "ème", "o", "º", "TM", "®", "*", "†", "′", ""]
    written = ["st", "nd", "rd", "th", "TH", "er", "ème", "°", "°", "™", "®", "*", "†", "′", ""]
    assert [superscript(text) for text in raised] == written


def test_subscript_when_every_character_has_a_form_uses_it():
    lowered = ["2", "10", "x", "i", "1-x", "1−x", "n+1", "0", "k=1", "(1)"]
    written = ["₂", "₁₀", "ₓ", "ᵢ", "₁₋ₓ", "₁₋ₓ", "ₙ₊₁", "₀", "ₖ₌₁", "₍₁₎"]
    assert [subscript(text) for text in lowered] == written


def test_subscript_when_a_character_has_no_form_or_it_is_a_word_is_marked():
    lowered = ["c", "B", "max", "oc", "0.5", "i,j", "B,max", "ground state", "*", ""]
    written = ["_c", "_B", "_max", "_oc", "_0.5", "_(i,j)", "_(B,max)", "_(ground state)", "*", ""]
    assert [subscript(text) for text in lowered] == written
