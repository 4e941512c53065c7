"""The rules that compare the values, comparisons and denials of a statement with its evidence."""

# ruff: noqa: RUF001 - the signs of numbers
from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.readers.support.frames import compare_frames, frame_features

GAPS = [
    "The band gap of GaAs is 1.42 eV at 300 K.",
    "The band gap of silicon is 1.12 eV at 300 K.",
]
PAIR = "GaAs and InP have band gaps of 1.42 and 1.34 eV, respectively."

AGREES = [
    ("GaAs has a band gap of 1.42 eV at 300 K.", GAPS),
    ("GaAs has a band gap of about 1.4 eV.", ["The band gap of GaAs is 1.42 eV."]),
    ("The band gap of GaAs is 1420 meV.", ["The band gap of GaAs is 1.42 eV."]),
    ("The band gap of InP is 1.34 eV.", [PAIR]),
    ("The band gap of GaAs is between 1.4 and 1.5 eV.", ["The band gap of GaAs is 1.42 eV."]),
    ("The melting point of lead is 327 °C.", ["Lead has a melting point of 327.5 °C."]),
    ("The film grew 1.5 × 10^5 islands.", ["In the film, 150,000 islands grew."]),
    ("The carrier density was 3e15 cm^-3.", ["The carrier density was 3 × 10¹⁵ cm⁻³."]),
    ("The bridge is 1.2 km long.", ["The bridge is 1,200 m long."]),
    ("The drug cured 12 percent of the patients.", ["The drug cured 12 % of the patients."]),
    ("The trial had twenty-five patients.", ["The trial had 25 patients."]),
    ("The treaty was signed in 1648.", ["The treaty was signed on 24 October 1648."]),
    ("The treaty was signed in the 17th century.", ["The treaty was signed in 1648."]),
    ("The band formed in the 1990s.", ["The band formed in 1994."]),
    ("The band formed in the 1990's.", ["The band formed in 1994."]),
    ("The court fined the firm more than $2 million.", ["The court fined the firm $2.4 million."]),
    ("The city has at least 200 bridges.", ["The city has 217 bridges."]),
    ("Ravel was born in 1875.", ["Maurice Ravel (7 March 1875 – 28 December 1937) composed."]),
    ("The gap of gallium arsenide is 1.42 eV.", ["Gallium arsenide (GaAs) has a gap of 1.42 eV."]),
    ("GaAs is used in lasers.", ["Lasers are made of gallium arsenide (GaAs) and used widely."]),
    ("Iron is denser than aluminium.", ["Aluminium is lighter than iron."]),
    ("The Nile is longer than the Rhine.", ["At 6,650 km, the Nile is longer than the Rhine."]),
    ("The court has nine judges.", ["The court has nine judges, who serve for life."]),
    ("The rate rose to 2.5 %.", ["In May, the rate was raised and rose to 2.5 percent."]),
]
CONFLICTS = [
    ("The band gap of GaAs is 1.12 eV at 300 K.", GAPS, "gives 1.42 eV, not 1.12 eV"),
    ("The band gap of InP is 1.42 eV.", [PAIR], "for another thing"),
    ("The band gap of GaAs is 1.34 eV.", [PAIR], "for another thing"),
    (
        "Lead melts at 232 °C.",
        ["Lead melts at 327 °C and tin at 232 °C."],
        "gives 327 °C, not 232 °C",
    ),
    ("The band gap of GaAs is 1.42 meV.", ["The band gap of GaAs is 1.42 eV."], "1.42 eV"),
    ("The layer is 5 nm thick.", ["The layer is 5 Å thick."], "another unit"),
    (
        "The calculated gap of ZnO is 3.37 eV.",
        ["The measured gap of ZnO is 3.37 eV."],
        "qualifier: the source says measured, not calculated",
    ),
    ("GaAs has an indirect band gap.", ["GaAs has a direct band gap."], "the opposite"),
    (
        "The phase is cubic at room temperature.",
        ["At room temperature, the phase is tetragonal."],
        "the opposite",
    ),
    ("Iron is lighter than aluminium.", ["Iron is heavier than aluminium."], "other way round"),
    ("Lead is harder than steel.", ["Steel is harder than lead."], "other way round"),
    (
        "The gap of Si is larger than that of GaAs.",
        ["The gap of GaAs exceeds that of Si."],
        "other way round",
    ),
    (
        "The band gap of Si is larger than that of GaAs.",
        ["The band gap of Si is 1.12 eV.", "The band gap of GaAs is 1.42 eV."],
        "1.12 eV < 1.42 eV",
    ),
    ("The treaty was signed in 1649.", ["The treaty was signed in 1648."], "1648, not 1649"),
    ("The firm was founded in 1901.", ["The firm was established in 1911."], "1911, not 1901"),
    ("The match was played on 4 May.", ["The match was played on 14 May."], "14 May, not 4 May"),
    ("The team won five titles.", ["The team won seven titles."], "seven titles"),
    ("The court has eleven judges.", ["The court has nine judges."], "nine judges"),
    ("It is her second studio album.", ["It is her third studio album."], "third, not second"),
    ("The drug cured 21 % of the patients.", ["The drug cured 12 % of the patients."], "12 %"),
    ("The dose was 5 mg per day.", ["The dose was 50 mg per day."], "50 mg, not 5 mg"),
    ("The bridge is 12 km long.", ["The bridge is 1,200 m long."], "1,200 m"),
    ("The fine was $3 million.", ["The fine was $3 billion."], "$3 billion"),
    ("The salt is soluble in water.", ["The salt is insoluble in water."], "the opposite"),
    ("The salt is not soluble in water.", ["The salt is soluble in water."], "denies it"),
    (
        "The senate approved the bill in June.",
        ["In June, the senate did not approve the bill."],
        "only the source denies it",
    ),
    ("The appeal was never heard in court.", ["The appeal was heard in court."], "denies it"),
    ("The vaccine is safe for children.", ["The vaccine is dangerous for children."], "opposite"),
    (
        "Sales decreased in the second quarter.",
        ["Sales increased in the second quarter."],
        "opposite",
    ),
    (
        "Ravel was born in 1885.",
        ["Maurice Ravel (7 March 1875 – 28 December 1937) composed."],
        "1875, not",
    ),
    ("Later YouTube acquired Google.", ["Later Google acquired YouTube."], "other way round"),
    ("The city has at least 300 bridges.", ["The city has 217 bridges."], "217 bridges"),
    ("The band formed in the 1980s.", ["The band formed in 1994."], "1994"),
]
COMPUTED = [
    ("The gaps of GaAs and Si differ by 0.30 eV.", GAPS, "1.42 - 1.12 = 0.30 eV"),
    ("The gap of GaAs is 0.3 eV larger than that of silicon.", GAPS, "1.42 - 1.12 = 0.3 eV"),
    (
        "Together the two mines produced 70 tonnes.",
        ["The north mine produced 40 tonnes.", "The south mine produced 30 tonnes."],
        "40 + 30 = 70 tonnes",
    ),
    (
        "The tower is 2.5 times as tall as the church.",
        ["The tower is 100 m tall.", "The church is 40 m tall."],
        "100 / 40 = 2.5",
    ),
    (
        "The firm Ardex failed 21 years after it was founded.",
        ["Ardex was founded in 1980.", "Ardex failed in 2001."],
        "2001 - 1980 = 21 years",
    ),
    (
        "The profit of Ardex rose by 25 percent.",
        ["Ardex made a profit of $40 million in 2001.", "In 2002, Ardex made $50 million."],
        "(50000000 - 40000000) / 40000000 = 25 percent",
    ),
    (
        "The band gap of GaAs is larger than that of Si.",
        ["The band gap of Si is 1.12 eV.", "The band gap of GaAs is 1.42 eV."],
        "1.42 eV > 1.12 eV",
    ),
]
OPEN = [
    ("The band gap of GaAs is 1.52 eV at 2 K.", ["The band gap of GaAs is 1.42 eV at 300 K."]),
    ("The calculated gap of ZnO is 0.8 eV.", ["The measured gap of ZnO is 3.37 eV."]),
    ("The gap of monolayer MoS2 is 1.8 eV.", ["The gap of bulk MoS2 is 1.2 eV."]),
    ("The gap of GaAs is 1.42 eV.", ["The gap of InP is 1.34 eV."]),
    ("The gap of GaAs is 1.424 eV.", ["The gap of GaAs is about 1.4 eV."]),
    ("The density of GaAs is 5.3 g/cm3.", ["The gap of GaAs is 1.42 eV."]),
    ("The firm has 320 employees.", ["The firm has five factories in Spain."]),
    ("The firm was sold in 1990.", ["The firm was founded in 1950."]),
    ("The wall is 5 miles long.", ["The wall is 8 km long."]),
    ("Boeing 737 jets are grounded.", ["The Boeing 727 made its first flight in 1963."]),
    ("The court heard the case.", ["The city lies on a river."]),
    ("The drug lowers blood pressure.", ["The drug was approved by the agency."]),
    ("Lead is softer than steel.", ["Lead is cheaper than gold."]),
    ("Who won the cup in 1990?", ["The team won the cup in 1994."]),
    ("The bill was not discussed in May.", ["The bill was passed in June."]),
    ("The team has two coaches.", ["The team has two stadiums, and its coach retired."]),
]


def kinds(statement: str, evidence: list[str], context: tuple[str, ...] = ()) -> list[str]:
    return [finding.kind for finding in compare_frames(statement, evidence, context=context)]


@pytest.mark.parametrize(("statement", "evidence"), AGREES)
def test_fact_that_the_evidence_gives_agrees(statement, evidence):
    found = kinds(statement, evidence)
    assert "agrees" in found
    assert "conflicts" not in found


@pytest.mark.parametrize(("statement", "evidence", "reason"), CONFLICTS)
def test_fact_that_the_evidence_gives_otherwise_conflicts(statement, evidence, reason):
    found = compare_frames(statement, evidence)
    reasons = [finding.reason for finding in found if finding.kind == "conflicts"]
    assert any(reason in text for text in reasons), found


@pytest.mark.parametrize(("statement", "evidence", "reason"), COMPUTED)
def test_number_from_two_numbers_is_computed(statement, evidence, reason):
    found = compare_frames(statement, evidence)
    assert [finding.reason for finding in found if finding.kind == "computed"] == [reason]
    assert "conflicts" not in kinds(statement, evidence)


@pytest.mark.parametrize(("statement", "evidence"), OPEN)
def test_fact_that_cannot_be_compared_is_open(statement, evidence):
    assert "conflicts" not in kinds(statement, evidence)
    assert "computed" not in kinds(statement, evidence)


def test_one_of_several_values_that_agrees_is_enough():
    evidence = ["The gap of ZnO is 3.2 eV in one study.", "The gap of ZnO is 3.37 eV in others."]
    assert kinds("The gap of ZnO is 3.37 eV.", evidence) == ["agrees"]


def test_title_is_the_subject_of_it():
    statement, evidence = "The band gap of GaAs is 1.12 eV.", ["It has a band gap of 1.42 eV."]
    assert kinds(statement, evidence, ("Gallium arsenide (GaAs)",)) == ["conflicts"]
    assert kinds(statement, evidence, ("Indium phosphide",)) == ["open"]


def test_titles_that_do_not_match_the_evidence_are_refused():
    with pytest.raises(ValueError, match="2 titles for 1 evidence"):
        compare_frames("It is.", ["It is."], context=["a", "b"])


def test_finding_names_its_evidence():
    finding = compare_frames("The band gap of silicon is 1.12 eV at 300 K.", GAPS)[0]
    assert (finding.kind, finding.evidence) == ("agrees", 1)
    assert compare_frames("It rains.", [])[0].evidence == -1


def test_features_give_shares_and_counts():
    features = frame_features(
        "GaAs has a band gap of 1.12 eV.", ["The band gap of GaAs is 1.42 eV."]
    )
    assert features == {
        "numbers": 0.0,
        "names": 1.0,
        "words": 1.0,
        "negation_differs": 0.0,
        "comparison_conflicts": 0.0,
        "qualifier_conflicts": 0.0,
        "conflicts": 1.0,
        "agreements": 0.0,
        "computed": 0.0,
    }


def test_features_count_a_formula_and_its_name_as_one():
    evidence = ["Gallium arsenide (GaAs) is a semiconductor."]
    features = frame_features("GaAs and InP are semiconductors.", evidence)
    assert (features["names"], features["words"]) == (0.5, 1.0)


def test_features_flag_comparisons_qualifiers_and_denials():
    turned = frame_features("Lead is harder than steel.", ["Steel is harder than lead."])
    assert turned["comparison_conflicts"] == 1.0
    method = frame_features("The calculated gap is 3.37 eV.", ["The measured gap is 3.37 eV."])
    assert method["qualifier_conflicts"] == 1.0
    denied = frame_features("The salt is not soluble.", ["The salt is soluble."])
    assert denied["negation_differs"] == 1.0


TEXTS = sorted(
    {text for case in [*AGREES, *CONFLICTS, *COMPUTED, *OPEN] for text in [case[0], *case[1]]}
)


@pytest.mark.parametrize("text", [text for text in TEXTS if not text.endswith("?")])
def test_sentence_agrees_with_itself(text):
    found = kinds(text, [text])
    assert "agrees" in found
    assert "conflicts" not in found


@given(st.permutations(TEXTS[:6]), st.sampled_from(TEXTS))
def test_order_of_evidence_does_not_change_the_kinds(order, statement):
    assert kinds(statement, order) == kinds(statement, TEXTS[:6])


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_is_read(statement, evidence):
    assert isinstance(kinds(statement, [evidence]), list)
    assert "conflicts" not in kinds(statement, [statement])


@given(st.decimals("0.1", "9999", places=2))
def test_any_number_agrees_with_itself_rounded(value):
    source = [f"The gap of GaAs is {value} eV."]
    assert kinds(f"The gap of GaAs is {value} eV.", source) == ["agrees"]
    assert kinds(f"The gap of GaAs is {value:.1f} eV.", source) == ["agrees"]
    assert kinds(f"The gap of GaAs is {value + 1000} eV.", source) == ["conflicts"]


def test_statement_with_three_sentences_takes_little_time():
    evidence = [*GAPS, "In 1962, Sturge measured the absorption of GaAs from 0.6 to 2.75 eV."]
    best = min(_seconds(f"GaAs has a gap of 1.{i} eV at 300 K.", evidence) for i in range(10, 20))
    assert best < 0.01


def _seconds(statement: str, evidence: list[str]) -> float:
    start = time.perf_counter()
    compare_frames(statement, evidence)
    return time.perf_counter() - start
