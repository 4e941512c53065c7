"""Questions for the materials agent: drawn the same way each time, true, and answerable."""

import dataclasses
import re
import sqlite3
from collections import defaultdict

import pytest
from tiers import smoke

from ragkit.agents.definition import AgentOptions, load_agent
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.errors import RagkitError
from ragkit.evaluation.materials.oracle import FaultyPlanner, OraclePlanner
from ragkit.evaluation.materials.questions import KINDS, Plan, generate
from ragkit.evaluation.materials.scoring import judge, summarize
from ragkit.evaluation.materials.words import PHRASINGS
from ragkit.evaluation.splits import split_of


@pytest.fixture(scope="module")
def questions():
    return generate(default_path(), 10)


@pytest.fixture(scope="module")
def held():
    """(elements, property) values of materials by id, read here and in no other way."""
    connection = sqlite3.connect(f"file:{default_path()}?mode=ro", uri=True)
    rows = connection.execute(
        "SELECT m.material_id, f.elements, f.reduced, p.name, q.number, q.text FROM quantities q, "
        "properties p, materials m, formulas f WHERE p.id = q.property AND m.id = q.material "
        "AND f.id = m.formula"
    ).fetchall()
    connection.close()
    table = defaultdict(lambda: (set(), "", defaultdict(list)))
    for material_id, elements, reduced, name, number, text in rows:
        entry = table.setdefault(
            material_id, (set(elements.strip("-").split("-")), reduced, defaultdict(list))
        )
        entry[2][name].append(text if number is None else number)
    return table


def matching(held, arguments):
    """The materials that meet a search's conditions, by brute force."""
    found = {}
    for material_id, (elements, _, values) in held.items():
        wanted = set(filter(None, arguments.get("elements", "").split(",")))
        system = set(filter(None, arguments.get("chemsys", "").split("-")))
        meets = wanted <= elements and system in (set(), elements)
        for condition in arguments.get("where", ()):
            name, operator, value = condition.split(" ")
            if operator == "=":
                meets = meets and value in values[name]
            else:
                sign = 1 if operator == ">" else -1
                meets = meets and any(sign * each > sign * float(value) for each in values[name])
        fields = arguments.get("fields", "nelements").replace("material_id", "nelements")
        if meets and values[fields]:
            found[material_id] = values[fields]
    return found


def test_questions_when_drawn_twice_are_the_same_and_of_all_kinds(questions):
    assert generate(default_path(), 10) == questions
    assert [sum(q.kind == kind for q in questions) for kind in KINDS] == [10] * 12
    assert len({q.text for q in questions}) == len({q.id for q in questions}) == 120


@pytest.mark.models
def test_questions_when_drawn_by_another_seed_are_others(questions):
    other = generate(default_path(), 10, seed=1)
    assert len({q.text for q in other} & {q.text for q in questions}) < 30


@pytest.mark.models
def test_splits_when_compared_share_no_material_and_no_text():
    by_split = {name: generate(default_path(), 10, split=name) for name in ("train", "dev", "test")}
    for name, questions in by_split.items():
        assert {split_of(key) for q in questions for key in q.materials} == {name}
    texts = [{q.text for q in questions} for questions in by_split.values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 360


def test_materials_when_a_question_names_or_expects_them_are_all_listed(questions, held):
    for question in questions:
        ids = {fact.material_id for fact in question.truth.all_facts} - {None}
        ids |= question.truth.material_ids
        assert {held[each][1] for each in ids} <= question.materials, question


@pytest.mark.models
def test_phrasings_when_counted_are_three_or_more_a_kind_and_used():
    assert set(PHRASINGS) == set(KINDS)
    assert min(len(set(each)) for each in PHRASINGS.values()) >= 3
    openings = defaultdict(set)
    for question in generate(default_path(), 30, split="train"):
        openings[question.kind].add(re.split(r"[A-Z][a-z]?[\dA-Z(]|[^\w ']", question.text)[0][:9])
    assert min(map(len, openings.values())) >= 3, openings


def test_sets_when_searched_by_brute_force_are_complete(questions, held):
    for question in questions:
        if question.kind == "filter":
            found = matching(held, question.plan.calls[0].arguments)
            assert set(found) == question.truth.material_ids, question.text
            assert 2 <= len(found) <= 8


def test_counts_when_made_by_brute_force_agree(questions, held):
    n_checked = 0
    for question in questions:
        call = question.plan.calls[0] if question.plan.calls else None
        if question.kind == "count" and call.tool != "search_formula_tables":
            assert question.truth.facts[0][0].value == len(matching(held, call.arguments))
            n_checked += 1
    assert n_checked


@pytest.mark.parametrize("kind", ["extremum", "multi_hop"])
def test_extremes_when_found_by_brute_force_agree(questions, held, kind):
    for question in (q for q in questions if q.kind == kind):
        arguments = question.plan.calls[0].arguments
        found = matching(held, arguments)
        if arguments["sort_fields"].startswith("-"):
            best = max(found, key=lambda each: max(found[each]))
        else:
            best = min(found, key=lambda each: min(found[each]))
        assert question.truth.facts[0][0].material_id == best, question.text


def test_missing_when_looked_for_is_nowhere(questions):
    connection = sqlite3.connect(f"file:{default_path()}?mode=ro", uri=True)
    statement = (
        "SELECT count(*) FROM quantities q, properties p, formulas f WHERE p.id = q.property "
        "AND f.id = q.formula AND f.reduced = ? AND p.name = ?"
    )
    for question in (q for q in questions if q.kind == "missing"):
        name = question.plan.calls[0].arguments["fields"]
        for key in question.materials:
            assert connection.execute(statement, (key, name)).fetchone() == (0,), question.text
    connection.close()


@pytest.mark.models
def test_questions_when_too_many_are_wanted_are_refused():
    with pytest.raises(ValueError, match="n_per_kind is 0"):
        generate(default_path(), 0)
    with pytest.raises(ValueError, match=r"only \d+ different questions of kind 'irrelevant'"):
        generate(default_path(), 100, split="dev", kinds=["irrelevant"])


def test_kinds_when_some_are_chosen_give_the_same_questions(questions):
    some = generate(default_path(), 10, kinds=["count", "missing"])
    assert some == [q for q in questions if q.kind in ("count", "missing")]


@pytest.mark.parametrize("team", smoke([False, True], tier="models"), ids=["flat", "team"])
def test_oracle_planner_when_all_questions_are_asked_makes_no_mistake(questions, team):
    chosen = [q for n, q in enumerate(questions) if not team or n % 2]
    options = AgentOptions(llm=OraclePlanner(questions), team=team)
    agent = load_agent("materials", options)
    verdicts = [judge(question, agent.run(question.text)) for question in chosen]
    assert [v for v in verdicts if not v.correct] == []
    found = summarize(verdicts)["all"]
    assert set(found.mae.values()) == {0.0}
    assert found.n_no_number == 0
    assert sum(v.ungrounded + v.parse_failures for v in verdicts) == 0


@pytest.mark.models
def test_faults_when_they_may_be_repaired_cost_little_and_much_when_not(questions):
    chosen, oracle = questions[::3], OraclePlanner(questions)
    accuracies, errors = [], 0
    for retry in (True, False):
        agent = load_agent("materials", AgentOptions(llm=FaultyPlanner(oracle, retry=retry)))
        verdicts = [judge(question, agent.run(question.text)) for question in chosen]
        accuracies.append(summarize(verdicts)["all"].accuracy)
        errors += sum(v.errors + v.parse_failures for v in verdicts)
    assert accuracies[0] > 0.95
    assert accuracies[1] < accuracies[0] - 0.25
    assert errors > 20


def test_oracle_planner_when_asked_something_else_says_so(questions):
    agent = load_agent("materials", AgentOptions(llm=OraclePlanner(questions)))
    with pytest.raises(RagkitError, match="no plan is known for 'Why\\?'"):
        agent.run("Why?")


def test_plan_when_a_row_does_not_come_fails_in_the_loop_and_does_not_crash(questions):
    question = next(q for q in questions if q.kind == "lookup")
    broken = dataclasses.replace(
        question, plan=Plan(question.plan.calls, ({"row": {"step": 0, "property": "none",
                                                           "material_id": ""}},))
    )  # fmt: skip
    run = load_agent("materials", AgentOptions(llm=OraclePlanner([broken]))).run(question.text)
    assert not run.final.complete
    assert "no row r0" in "".join(step.text for step in run.steps if step.kind == "observation")
