"""The support check: what a source carries, and what it does not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiers import smoke

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.digests import text_digest
from ragkit.readers.citations import (
    Evidence,
    SupportChecker,
    cite,
    names,
    numbers,
    strip_marks,
    units,
)
from ragkit.types import Chunk, Citation, Hit


def hit(text: str, *, start: int = 0, doc: str = "d") -> Hit:
    chunk = Chunk(f"{doc}:{start}", doc, text, start, start + len(text), {"digest": "abc"})
    return Hit(chunk, 1.0)


def supported(sentence: str, *sources: str) -> bool:
    return SupportChecker([hit(source) for source in sources]).check(sentence) is not None


GAP = "The band gap of GaAs was measured by Sturge as 1.42 eV at 300 K in 1962."


@pytest.mark.parametrize(
    ("sentence", "source"),
    [
        (GAP, GAP),
        ("the band gap of GaAs was measured by Sturge", GAP),
        ("The gap of GaAs is 1.42 eV.", GAP),
        ("The gap of GaAs is 1.420 eV [1].", GAP),
        ("The gap of GaAs is 1.42eV (passage 2).", GAP),
        ("Sturge's measured band gap of GaAs was 1.42 eV.", GAP),
        ("1.42 eV.", GAP),
        ("1.42", GAP),
        ("GaAs.", GAP),
        ("Yes.", "Yes, it does."),
        ("It has 1250 atoms.", "The cell has 1,250 atoms."),
        ("It has 1,250,000 atoms.", "The cell has 1250000 atoms, and 3 sites."),
        ("The energy is -0.446 eV/atom.", "The formation energy is −0.446 eV/atom."),  # noqa: RUF001
        ("It held 10^21 carriers.", "It held 10²¹ carriers."),
        ("It held 3 × 10**-5 mol.", "It held 3 × 10⁻⁵ mol."),  # noqa: RUF001
        ("Three sites hold iron.", "3 sites hold iron."),
        ("It lost 5 percent of its mass.", "It lost 5% of its mass."),
        ("A thickness of 2 μm was grown.", "A thickness of 2 µm was grown."),
        ("Fe3O4 is a ferrimagnet.", "Magnetite, Fe3O4, is a ferrimagnet."),
        ("The [111] direction is the easy axis.", "The easy axis is the [111] direction [3]."),
        ("It is not stable.", "The phase is not stable."),
        ("It isn't stable.", "The phase is not stable."),
        ("Das Gefüge besteht aus Austenit.", "Das Gefüge besteht aus Austenit."),
    ],
)
def test_check_when_a_source_says_it_finds_it(sentence: str, source: str):
    assert supported(sentence, source)


@pytest.mark.parametrize(
    ("sentence", "source"),
    [
        ("The gap of GaAs is 1.43 eV.", GAP),
        ("The gap of GaAs is 142 eV.", GAP),
        ("The gap of GaAs is -1.42 eV.", GAP),
        ("The gap of GaAs is 1.42 meV.", GAP),
        ("The band gap of GaAs was measured by Sturge at 300 C.", GAP),
        ("The band gap of GaAs was measured by Sturge at 30 K.", GAP),
        ("The gap of GaP is 1.42 eV.", GAP),
        ("The band gap of GaAs was measured by Casey in 1962.", GAP),
        ("The gap of GaAs was measured by Sturge in 1964.", GAP),
        ("The gap of GaAs is not 1.42 eV.", GAP),
        ("The layer is 5 mm thick.", "The layer is 5 nm thick."),
        ("The gap is .7 eV.", "The gap is .5 eV."),
        ("It held 10²⁰ carriers.", "It held 10²¹ carriers."),
        ("It holds 10 carriers.", "It holds 10²¹ carriers."),
        ("It grew by 3 cm-2.", "It grew by 3 cm⁻³."),
        ("Three men play chess.", "Two men play chess."),
        ("Berlin is the capital of France.", "Paris is the capital of France."),
        ("Aspirin cures colds.", "Aspirin does not cure colds."),
        ("Iron is harder than tin and lead.", "The weather was fine."),
        ("No.", "Yes, it does."),
        ("Paris.", "It is in Lyon."),
        ("", GAP),
        (" ", GAP),
        ("[1]", GAP),
        ("[1, 2].", GAP),
        ("—!", GAP),
        ("It is.", "It is."),  # nothing in it can be checked
        ("The gap is 1e999999999 eV.", "The gap is 1e999999998 eV."),
        (
            "A lattice constant 1.4200000000000000000000000000001 was found.",
            "A lattice constant 1.4200000000000000000000000000002 was found.",
        ),
        # Half from one source sentence, half from another.
        ("Nickel oxide is green, melting at 2 K.", "Nickel oxide is green. Melting is at 2 K."),
    ],
)  # fmt: skip
def test_check_when_no_source_says_it_finds_nothing(sentence: str, source: str):
    assert not supported(sentence, source)


def test_check_without_sources_finds_nothing():
    assert not supported(GAP)


def test_check_returns_the_span_of_the_best_sentence_and_the_earlier_hit_of_equals():
    text = "Intro words. The gap of GaAs is 1.42 eV. It is direct."
    checker = SupportChecker([hit("Nothing here."), hit(text), hit(text)])
    start = text.index("The gap")
    expected = Evidence(1, start, text.index(" It is direct"), 1.0)
    assert checker.check("The gap of GaAs is 1.42 eV.") == expected


def test_check_at_the_threshold_is_inclusive():
    source = [hit("alpha beta gamma delta")]
    sentence = "it has alpha beta gamma"  # three of its four stems
    assert SupportChecker(source, coverage=0.75).check(sentence) is not None
    assert SupportChecker(source, coverage=0.76).check(sentence) is None


RUNS = [" ", "\n", "1", "1,", "111,", "1111,", "[1", "9" * 50 + " ", "a ", "°", "-"]


@pytest.mark.parametrize("run", smoke(RUNS, " ", "1,"))
def test_check_of_a_hostile_text_takes_no_more_than_linear_time(run: str):
    text = "Iron " + run * (100_000 // len(run)) + "1111 melts."
    start = time.process_time()
    SupportChecker([hit(text)]).check(text)
    assert time.process_time() - start < 10  # squared, it would be minutes


def test_check_from_many_threads_gives_what_one_gives():
    sources = [hit(f"Sample {n} of batch {n % 7} has a gap of {n / 10} eV.") for n in range(50)]
    sentences = [f"The gap of sample {n} is {n / 10} eV." for n in range(80)]
    checker = SupportChecker(sources)
    expected = [SupportChecker(sources).check(sentence) for sentence in sentences]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(checker.check, sentences)) == expected
    assert sum(evidence is not None for evidence in expected) == 50


@pytest.mark.parametrize("coverage", [0, -0.1, 1.1])
def test_checker_with_a_share_out_of_range_raises(coverage: float):
    with pytest.raises(ValueError, match="more than 0 and at most 1"):
        SupportChecker([], coverage=coverage)


def test_cite_of_a_chunk_inside_a_document_gives_document_offsets():
    document = "Title. The gap is 1.42 eV. End."
    chunk = Chunk("d:7-26", "d", document[7:26], 7, 26, {"digest": text_digest(document)})
    citation = cite(Hit(chunk, 1.0), 4, 7)
    assert citation == Citation("d", "d:7-26", 11, 14, "gap", text_digest(document))
    assert document[citation.start : citation.end] == citation.quote


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [1].", "a."),
        ("a [1][2] b [12, 3].", "a b."),
        ("a [1-3] b [passage 2] c (Source 4) d", "a b c d"),
        ("along [111], [001], [100] and (111)", "along [111], [001], [100] and (111)"),
        ("f(1) and x[i]", "f(1) and x[i]"),
        ("[1] Next", " Next"),
    ],
)
def test_strip_marks_takes_marks_and_leaves_directions(text: str, expected: str):
    assert strip_marks(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,250, and 3", {"1250", "3"}),
        ("1,2,3", {"1", "2", "3"}),
        ("-3, −3.10, +5, 5. and .5", {"-3", "-3.1", "5", "0.5"}),  # noqa: RUF001
        ("0, 0.0, -0 and 00", {"0"}),
        ("1e3 and 2.5E-3", {"1000", "0.0025"}),
        ("10–20 and 30-40", {"10", "20", "30", "40"}),  # noqa: RUF001
        ("Fe3O4, H2O, x2", set()),
        ("mp-2534", {"2534"}),
        ("two to twelve", {"2", "12"}),
        ("10²¹ cm⁻³, 10^21, 10**21, 10⁻⁵", {"10^21", "10^-5"}),
        ("٣", {"3"}),
    ],
)
def test_numbers_have_one_spelling(text: str, expected: set[str]):
    assert numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 nm, 5nm and 5-nm", {"nm"}),
        ("1 mW or 1 MW", {"mW", "MW"}),
        ("3 %, 3 percent, 3 per cent", {"%"}),
        ("10¹⁷ cm⁻³ or 10^17 cm^-3", {"cm-3"}),
        ("300 K and 300 \N{KELVIN SIGN}", {"K"}),
        ("20 °C", {"°C"}),
        ("5 million, 3 kings, 1962 he", set()),
        ("Kelvin and K", set()),
    ],
)
def test_units_after_numbers_have_one_spelling(text: str, expected: set[str]):
    assert units(text) == expected


def test_names_are_inner_capitals_and_mixtures():
    assert names("Iron and GaAs, says Bohr's iPhone 4K, I and The A") == {
        "GaAs", "Bohr", "iPhone", "4K"
    }  # fmt: skip


SAMPLE = "Iron iron GaAs not 3.5 -2 eV 10²¹ K 5nm % [1] The melts. isn't (a) 東京。 x²"
WORDS = st.lists(
    st.sampled_from(SAMPLE.split()),
    min_size=1,
    max_size=12,
).map(" ".join)  # fmt: skip
TEXTS = WORDS | st.text(max_size=80)


@given(TEXTS)
def test_every_sentence_of_a_source_with_something_to_check_supports_itself(text: str):
    checker = SupportChecker([hit(text)])
    for start, end in RuleSegmenter().sentences(text):
        sentence = text[start:end]
        evidence = checker.check(sentence)
        if evidence is None:  # no content word and no number in it
            assert not supported(sentence, sentence)
            assert not numbers(strip_marks(sentence))
        else:
            assert evidence.coverage == 1.0


@given(TEXTS, st.integers(13, 10**9))
def test_a_sentence_with_a_number_of_no_source_is_never_supported(text: str, number: int):
    if str(number) in numbers(text):
        return
    checker = SupportChecker([hit(text)])
    for start, end in [*RuleSegmenter().sentences(text), (0, len(text))]:
        assert checker.check(f"{text[start:end]} and {number} more") is None
