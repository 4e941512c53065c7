"""What counts as a right answer of the materials agent, and what does not."""

import json

import pytest

from ragkit.agents.ledger import Quantity
from ragkit.agents.render import render_answer
from ragkit.agents.steps import Action, Final, Observation, Run
from ragkit.evaluation.materials.memory import asked_number, remember
from ragkit.evaluation.materials.question import Fact, MaterialsQuestion, Plan, Truth
from ragkit.evaluation.materials.scoring import Verdict, judge, summarize, ungrounded
from ragkit.evaluation.measures import scor
from ragkit.types import Usage

GAP = Fact("band_gap", 0.186, "eV", "GaAs", "mp-2534")
OTHER = Fact("band_gap", 0.5, "eV", "GaAs", "mp-10048")


def question(truth, kind="lookup"):
    return MaterialsQuestion(
        "q-1", kind, "What is the band gap of GaAs?", truth, Plan(), frozenset()
    )


def row(fact, **changes):
    given = {"value": fact.value, "unit": fact.unit, "property": fact.property,
             "subject": fact.formula, "subject_id": fact.material_id,
             "kind": "material"}  # fmt: skip
    return Quantity(**(given | changes))


def answer(*rows, text="", **changes):
    held = {f"r{n}": each for n, each in enumerate(rows, start=1)}
    final = Final(text or render_answer(held), held, **changes)
    return Run("What is the band gap of GaAs?", final, (final,), held)


def refusal(reason, exit_reason="refused"):
    return answer(text="No answer.", refusal=reason, exit_reason=exit_reason)


LOOKUP = question(Truth(((GAP, OTHER),)))
CONVERSION = question(
    Truth(((Fact("band_gap", 186.0, "meV", "GaAs", "mp-2534"),),), also=(GAP,), exact_unit=True),
    "conversion",
)
FILTER = question(Truth(material_ids=frozenset({"mp-1", "mp-2"})), "filter")
COUNT = question(Truth(((Fact("count", 7),),)), "count")
COMPARISON = question(Truth(((Fact("difference", 0.314, "eV"),), (GAP,), (OTHER,))), "comparison")
MISSING = question(Truth(refusal="not_held"), "missing")


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        (LOOKUP, answer(row(GAP))),
        (LOOKUP, answer(row(OTHER))),
        (LOOKUP, answer(row(GAP), row(OTHER))),
        (LOOKUP, answer(row(GAP, value=186.0, unit="meV"))),
        (LOOKUP, answer(row(GAP, value=0.18605))),
        (LOOKUP, answer(row(GAP), row(GAP, property="space_group", value="F-43m", unit=""))),
        (CONVERSION, answer(row(GAP), row(GAP, value=186.0, unit="meV"))),
        (FILTER, answer(row(GAP, subject_id="mp-1"), row(GAP, subject_id="mp-2"))),
        (COUNT, answer(Quantity(7, property="n_materials"))),
        (COMPARISON, answer(row(GAP), row(OTHER), Quantity(0.314, "eV", "difference"))),
        (COMPARISON, answer(row(GAP), row(OTHER), Quantity(-0.314, "eV", "calculated"))),
        (MISSING, refusal("not_held")),
    ],
)
def test_judge_when_the_answer_is_right_accepts_it(asked, run):
    verdict = judge(asked, run)
    assert (verdict.correct, verdict.why, verdict.ungrounded) == (True, "", 0)


@pytest.mark.parametrize(
    ("asked", "run", "why"),
    [
        (LOOKUP, answer(row(GAP, value=0.19)), "band_gap is 0.19 eV; expected 0.186"),
        (LOOKUP, answer(row(GAP, subject_id="mp-1")), "material mp-1; expected mp-2534"),
        (LOOKUP, answer(row(GAP, subject_id=None)), "material None"),
        (LOOKUP, answer(row(OTHER, subject_id="mp-2534")), "expected mp-2534"),
        (LOOKUP, answer(row(GAP, unit="meV")), "band_gap is 0.186 meV"),
        (LOOKUP, answer(row(GAP, unit="GPa")), "band_gap is 0.186 GPa"),
        (LOOKUP, answer(row(GAP, property="efermi")), "no band_gap among the rows"),
        (LOOKUP, answer(row(GAP, value="0.186")), "band_gap is 0.186"),
        (LOOKUP, answer(row(GAP), row(GAP, value=3.0)), "is wrong beside it"),
        (LOOKUP, refusal("not_held"), "refused (not_held) what has an answer"),
        (LOOKUP, answer(row(GAP), exit_reason="max_steps", complete=False), "not finished"),
        (CONVERSION, answer(row(GAP)), "no value in meV"),
        (CONVERSION, answer(row(GAP, value=0.186, unit="meV")), "0.186 meV; expected 186"),
        (FILTER, answer(row(GAP, subject_id="mp-1")), "missing mp-2"),
        (FILTER, answer(*(row(GAP, subject_id=f"mp-{n}") for n in (1, 2, 3))), "among them mp-3"),
        (COUNT, answer(Quantity(8, property="n_materials")), "count is 8"),
        (COMPARISON, answer(row(GAP), row(OTHER)), "no difference"),
        (COMPARISON, answer(row(GAP), Quantity(0.314, "eV", "difference")), "expected 0.5"),
        (MISSING, refusal("unclear"), "expected a refusal (not_held), got unclear"),
        (MISSING, answer(row(GAP)), "got an answer"),
        (MISSING, refusal("not_held", "max_steps"), "not finished: max_steps"),
    ],
)
def test_judge_when_the_answer_is_wrong_says_why(asked, run, why):
    verdict = judge(asked, run)
    assert not verdict.correct
    assert why in verdict.why


def test_judge_when_values_are_known_by_formula_only_compares_compositions():
    fact = Fact("band_gap", 2.4, "eV", "Li2ZnGe", None)
    asked = question(Truth(((fact,),)))
    assert judge(asked, answer(row(fact, subject="Ge1Li2Zn1"))).correct
    assert not judge(asked, answer(row(fact, subject="GeLiZn"))).correct
    assert not judge(asked, answer(row(fact, subject_id="mp-1"))).correct


def test_judge_when_a_wavenumber_is_asked_for_in_terahertz_converts_as_light():
    fact = Fact("last_phdos_peak", 14.98962, "THz", "MgO", None)
    asked = question(Truth(((fact,),), also=(Fact("last_phdos_peak", 500.0, "1/cm", "MgO", None),)))
    assert judge(asked, answer(row(fact, value=500.0, unit="1/cm"))).correct


def test_value_error_when_units_differ_is_in_the_truths_unit():
    verdict = judge(LOOKUP, answer(row(GAP, value=200.0, unit="meV")))
    assert verdict.value_error == pytest.approx(0.014)
    assert verdict.relative_error == pytest.approx(0.014 / 0.186)
    assert (verdict.unit, verdict.numeric) == ("eV", True)
    assert judge(LOOKUP, refusal("not_held")).value_error is None
    assert judge(COMPARISON, answer(Quantity(-0.4, "eV", "calculated"))).value_error == (
        pytest.approx(0.086)
    )


def test_ungrounded_when_a_number_stands_beside_the_rows_finds_it():
    good = answer(row(GAP))
    assert ungrounded(good) == []
    assert ungrounded(answer(row(GAP), text=f"{good.text}\nAbout 1.42 eV.")) == ["1.42"]
    assert judge(LOOKUP, answer(row(GAP), text=f"{good.text}\nAbout 1.42 eV.")).ungrounded == 1


def test_judge_when_a_run_has_assistants_counts_their_steps_and_failures():
    final = answer(row(GAP)).final
    inner = (Action("search", {}), Observation("", "no JSON", error=True), final)
    steps = (
        Observation("", "no JSON", error=True), Action("expert", {}),
        Observation("expert", "r1", inner=inner), Action("x", {}),
        Observation("x", "failed", error=True), Action("answer", {}), final,
    )  # fmt: skip
    run = Run("?", final, steps, final.rows, Usage(100, 20), 1.5)
    verdict = judge(LOOKUP, run)
    assert (verdict.steps, verdict.parse_failures, verdict.errors) == (4, 2, 1)
    assert (verdict.prompt_tokens, verdict.completion_tokens, verdict.seconds) == (100, 20, 1.5)
    assert Verdict(**json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_summary_when_there_are_refusals_counts_them_as_wrong_and_drops_none():
    runs = [answer(row(GAP)), answer(row(GAP, value=0.286)), refusal("not_held")]
    found = summarize([judge(LOOKUP, run) for run in runs] + [judge(MISSING, refusal("not_held"))])
    assert list(found) == ["lookup", "missing", "all"]
    lookup = found["lookup"]
    assert (lookup.n, lookup.n_refused, lookup.n_no_number) == (3, 1, 1)
    assert lookup.accuracy == pytest.approx(1 / 3)
    assert lookup.mae == {"eV": pytest.approx(0.05)}
    assert lookup.interval is not None
    assert lookup.interval.low <= lookup.accuracy <= lookup.interval.high
    assert found["missing"].interval is None
    assert found["missing"].relative_error.value is None
    assert found["all"].accuracy == 0.5
    assert summarize([]) == {}


def test_memory_when_asked_again_repeats_itself_and_is_far_off():
    said = [remember(LOOKUP, trial=n).final.rows["r1"].value for n in range(10)]
    result = scor(said, 0.186, scale=0.186)
    assert result.scor > 0.9
    assert result.mae.value > 0.2 * 0.186 - 1e-3
    assert not judge(LOOKUP, remember(LOOKUP)).correct
    assert not judge(MISSING, remember(MISSING)).correct
    assert asked_number(FILTER) is None
    assert asked_number(LOOKUP) == GAP
