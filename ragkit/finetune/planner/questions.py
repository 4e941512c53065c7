"""Questions for training only: kinds that users ask and the benchmark's twelve leave out."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ragkit.agents.materials.chemistry.formulas import reduced
from ragkit.agents.materials.chemistry.names import ELEMENTS
from ragkit.evaluation.materials.data import QuestionData
from ragkit.evaluation.materials.kinds import (
    Draft,
    Maker,
    asks_for_count,
    choose_property,
    fill_phrasing,
    pick_phrasing,
    question_text,
    search_call,
)
from ragkit.evaluation.materials.question import (
    KINDS,
    Fact,
    Kind,
    MaterialsQuestion,
    Plan,
    Truth,
    row_template,
)
from ragkit.evaluation.materials.questions import draw_questions
from ragkit.evaluation.materials.searches import (
    MAKERS,
    choose_elements,
    choose_searched_property,
    count_draft,
    extremum_draft,
    fix_articles,
    format_value,
    group_phrase,
    multi_hop_draft,
    set_draft,
)
from ragkit.evaluation.splits import Split
from ragkit.finetune.planner.wordings import (
    BETWEEN,
    MORE_TABLES,
    SINGULAR,
    SINGULAR_HOPS,
    TRAINING,
    UNKNOWN,
    VAGUE,
)

_FOLLOWING = (
    "And its {name}?",
    "And the {name}?",
    "What about its {name}?",
    "What is its {name}?",
    "Now the {name}, please.",
    "How large is its {name}?",
    "Which {name} does it have?",
)
_MORE = (
    "Also give me its {second}.",
    "I need the {second}, too.",
    "Please add the {second}.",
    "With its {second}, please.",
)
_WEIGHTS: dict[str, float] = {
    "lookup": 2, "misspelt": 2, "missing": 2, "ambiguous": 3, "filter": 1.5, "extremum": 2,
    "count": 2, "comparison": 2, "conversion": 4, "polymorph": 4, "multi_hop": 4,
    "singular": 1.5, "singular hop": 2, "between": 1.5, "vague property": 2,
}  # fmt: skip


def training_questions(
    snapshot_path: str | Path, n: int, *, seed: int = 0, split: Split = "train"
) -> list[MaterialsQuestion]:
    """Draw about `n_questions` questions of all kinds, in random order.

    Args:
        snapshot_path: See `generate`.
        n: How many.
        seed: Draws other questions.
        split: "train" or "dev".

    Raises:
        ValueError: The snapshot does not hold so many.
    """
    data = QuestionData(snapshot_path, split, TRAINING)
    makers: dict[str, tuple[Kind, Maker]] = {kind: (kind, MAKERS[kind]) for kind in KINDS}
    makers |= _EXTRA
    each = n / sum(_WEIGHTS.get(name, 1) for name in makers)
    found: list[MaterialsQuestion] = []
    for name, (kind, make) in makers.items():
        many = max(1, round(each * _WEIGHTS.get(name, 1)))
        found += draw_questions(data, kind, make, many, rng=f"{seed} {name}")
    random.Random(seed).shuffle(found)
    return found


def in_tables(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for a property that this formula has in a table only, and others as materials."""
    name = rng.choice(list(MORE_TABLES))
    wording = MORE_TABLES[name]
    keys = data.table_pool.get(name)
    if not keys:
        return None
    key = rng.choice(keys)
    values = data.of_formula[key, name]
    if key in data.ids or any(value.material_id for value in values):
        return None
    formula = re.sub(r"(?<=[A-Za-z])1(?![0-9])", "", values[0].formula)  # the tables write Sc1N1
    if len(formula) > 30:  # an alloy's composition
        return None
    phrase = rng.choice(wording.phrases)
    text = question_text(data, rng, "lookup", name=phrase, subject=formula)
    requests = {wording.tool: text, "formula_tables": f"{text} Look in the tables."}
    calls = [
        search_call(place, request, formula=formula, fields=name)
        for place, request in requests.items()
    ]
    facts = tuple(dict.fromkeys(value.fact for value in values))
    return Draft(
        text, Truth((facts,)), Plan(tuple(calls), (row_template(1, name),)), frozenset({key})
    )


def two_properties(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for two properties of one material that one tool returns."""
    first, wording, phrase = choose_property(data, rng, list(data.words.properties))
    others = [
        name for name, each in data.words.properties.items()
        if each.tool == wording.tool and name != first
    ]  # fmt: skip
    keys = data.material_pool.get(first)
    if not others or not keys:
        return None
    second, key = rng.choice(others), rng.choice(keys)
    held = [
        tuple(dict.fromkeys(value.fact for value in data.of_formula.get((key, name), ())))
        for name in (first, second)
    ]
    formula = data.formula_of(key)
    other = rng.choice(data.words.properties[second].phrases)
    if rng.random() < 0.5:
        text = question_text(data, rng, "lookup", name=f"{phrase} and the {other}", subject=formula)
    else:
        more = rng.choice(_MORE).format(second=other)
        text = f"{question_text(data, rng, 'lookup', name=phrase, subject=formula)} {more}"
    call = search_call(wording.tool, text, formula=formula, fields=f"{first},{second}")
    if not all(held) or len(data.ids[key]) > 1:
        return None
    plan = Plan((call,), (row_template(0, first), row_template(0, second)))
    return Draft(text, Truth(tuple(held)), plan, frozenset({key}))


def follow_ups(
    snapshot_path: str | Path, n: int, seed: int = 0, split: Split = "train"
) -> list[tuple[MaterialsQuestion, MaterialsQuestion]]:
    """Draw pairs: a question about a material, and one about the same material without its name.

    Args:
        snapshot_path: See `generate`.
        n: How many, or fewer if there are not so many.
        seed: Draws other pairs.
        split: "train" or "dev".
    """
    data = QuestionData(snapshot_path, split, TRAINING)
    rng = random.Random(f"{seed} follow-ups")
    firsts = (
        draw_questions(data, "lookup", two_properties, n, rng=f"{seed} before follow-ups")
        if n
        else []
    )
    found: list[tuple[MaterialsQuestion, MaterialsQuestion]] = []
    for first in firsts:
        key = next(iter(first.materials))
        name, wording, phrase = choose_property(data, rng, list(data.words.properties))
        values = data.of_formula.get((key, name))
        if not values:
            continue
        text = rng.choice(_FOLLOWING).format(name=phrase)
        formula = data.formula_of(key)
        call = search_call(wording.tool, text, formula=formula, fields=name)
        facts = tuple(dict.fromkeys(value.fact for value in values))
        plan = Plan((call,), (row_template(0, name),))
        second = MaterialsQuestion(
            f"follow-{len(found)}", "lookup", text, Truth((facts,)), plan, first.materials
        )
        found.append((first, second))
    return found


def unknown_property(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for a property that no tool returns."""
    key = rng.choice(data.pool)
    formula = data.formula_of(key)
    text = question_text(data, rng, "missing", name=rng.choice(UNKNOWN), subject=formula)
    return Draft(text, Truth(refusal="not_held"), Plan(refusal="not_held"), frozenset({key}))


def vague_property(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for a word that may mean any of several properties."""
    key = rng.choice(data.pool)
    text = question_text(data, rng, "lookup", name=rng.choice(VAGUE), subject=data.formula_of(key))
    return Draft(text, Truth(refusal="unclear"), Plan(refusal="unclear"), frozenset({key}))


def of_an_element(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for a property, or the number, of the solids of one element; most elements have none.

    A lone symbol is a formula here; in "materials with Te" it is an element.
    """
    symbol = rng.choice(list(ELEMENTS))
    key = reduced(symbol)
    if rng.random() < 0.4:
        phrasing, text = pick_phrasing(data, rng, "polymorph", subject=symbol)
        if not asks_for_count(data, phrasing):
            return None
        call = search_call(
            "summary", text, formula=symbol, limit=1, thought="Searches count all rows."
        )
        if key not in data.ids:
            plan = Plan((call,), refusal="not_held")
            return Draft(text, Truth(refusal="not_held"), plan, frozenset({key}))
        truth = Truth(((Fact("count", len(data.ids[key])),),))
        return Draft(
            text, truth, Plan((call,), (row_template(0, "n_materials"),)), frozenset({key})
        )
    name, wording, phrase = choose_property(data, rng, list(data.words.properties))
    values = data.of_formula.get((key, name), ())
    if values and any(value.material_id is None for value in values):
        return None  # a table has it, too
    text = question_text(data, rng, "lookup", name=phrase, subject=symbol)
    call = search_call(wording.tool, text, formula=symbol, fields=name)
    if not values:
        plan = Plan((call,), refusal="not_held")
        return Draft(text, Truth(refusal="not_held"), plan, frozenset({key}))
    facts = tuple(dict.fromkeys(value.fact for value in values))
    return Draft(text, Truth((facts,)), Plan((call,), (row_template(0, name),)), frozenset({key}))


def singular(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for the extreme of a group that is named in the singular."""
    return extremum_draft(data, rng, partial(_in_singular, data, rng, SINGULAR))


def singular_hop(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask for another property of such an extreme."""
    return multi_hop_draft(data, rng, partial(_in_singular, data, rng, SINGULAR_HOPS))


def _in_singular(
    data: QuestionData, rng: random.Random, phrasings: Sequence[str], *, group: str, **words: str
) -> str:
    return fill_phrasing(data, rng, rng.choice(phrasings), {**words, "group": _one_of(group)})


def _one_of(group: str) -> str:
    """Turn "tin compounds" into "tin compound"."""
    one = re.sub(r"\b([a-z]*(?:material|compound|solid|crystal|ide))s\b", r"\1", group, count=1)
    return one.replace("that contain ", "that contains ").replace("in them", "in it")


def between(data: QuestionData, rng: random.Random) -> Draft | None:
    """Ask how many, or which, materials have a value in a range."""
    name, place, phrase = choose_searched_property(data, rng)
    elements = choose_elements(data, rng, name)
    values = data.matching(name, elements or ())
    if elements is None or len(values) < 5 or name == "nsites":
        return None
    low, high = sorted(float(f"{value.number:.2g}") for value in rng.sample(values, 2))
    inside = [value for value in values if low < value.number < high]
    near = [v for v in values if min(abs(v.number - low), abs(v.number - high)) < 1e-6]
    if low == high or near or not inside:
        return None
    unit = values[0].unit
    condition = rng.choice(BETWEEN).format(
        name=phrase, low=f"{low:g}", high=format_value(high, unit)
    )
    group = group_phrase(data, rng, elements, values)
    where, every = [f"{name} > {low:g}", f"{name} < {high:g}"], ",".join(elements)
    if rng.random() < 0.5:
        text = question_text(data, rng, "count", group=group, condition=fix_articles(condition))
        ids = {value.material_id for value in inside}
        call = search_call(place, text, elements=every, where=where, fields=name, limit=1)
        return count_draft(text, call, "n_materials", len(ids))
    if len(inside) > 8 or not all(data.in_split(value.reduced) for value in inside):
        return None
    text = question_text(data, rng, "filter", group=group, condition=fix_articles(condition))
    call = search_call(place, text, elements=every, where=where, fields=name, limit=20)
    return set_draft(text, call, name, inside)


_EXTRA: dict[str, tuple[Kind, Maker]] = {
    "in tables": ("lookup", in_tables),
    "two properties": ("lookup", two_properties),
    "unknown property": ("missing", unknown_property),
    "vague property": ("ambiguous", vague_property),
    "elements": ("lookup", of_an_element),
    "singular": ("extremum", singular),
    "singular hop": ("multi_hop", singular_hop),
    "between": ("count", between),
}
