"""The questions in `data/written_questions.jsonl`, written by hand, with truths from the database.

Each line says what is asked and what the truth is computed from. None of these sentences was seen
by training, and the materials they name are of the test split; what answers a question about a
group may be of any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragkit.agents.materials.chemistry.formulas import reduced
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.evaluation.materials.data import QuestionData, Value
from ragkit.evaluation.materials.kinds import find_extreme
from ragkit.evaluation.materials.question import Fact, MaterialsQuestion, Plan, Truth

FILE = Path(__file__).parent / "data" / "written_questions.jsonl"


def written_questions() -> list[MaterialsQuestion]:
    """All of them; their plans are empty.

    Raises:
        ValueError: A line has no truth in the database, or names a material of another split.
    """
    data = QuestionData(default_path(), "test")
    found = []
    for n, line in enumerate(FILE.read_text("utf-8").splitlines()):
        spec = json.loads(line)
        truth = _truth(data, spec)
        if not (truth.facts or truth.material_ids or truth.refusal):
            raise ValueError(f"line {n + 1} ({spec['ask']!r}) has no truth in the database")
        named = [spec[key] for key in ("formula", "first", "second") if key in spec]
        keys = frozenset(map(reduced, named))
        if "id" in spec:
            value = data.of_material[spec["id"], "nelements"][0]
            keys |= {value.reduced}
        if not all(map(data.in_split, keys)):
            raise ValueError(f"line {n + 1} ({spec['ask']!r}) is not of the test split")
        found.append(
            MaterialsQuestion(f"written-{n}", spec["kind"], spec["ask"], truth, Plan(), keys)
        )
    return found


def _truth(data: QuestionData, spec: Mapping[str, Any]) -> Truth:
    if "refuse" in spec:
        return Truth(refusal=spec["refuse"])
    name = spec.get("property", "")
    if "first" in spec:
        return _compared(data, spec, name)
    if "elements" in spec:
        return _of_group(data, spec, name)
    key = reduced(spec["formula"]) if "formula" in spec else ""
    if spec.get("count"):
        return Truth(((Fact("count", len(data.ids[key])),),))
    if spec.get("ids"):
        return Truth(material_ids=frozenset(data.ids[key]))
    values = data.of_formula[key, name] if key else data.of_material[spec["id"], name]
    if "order" in spec:
        held = [value for value in values if value.material_id]
        return _one(find_extreme(held, highest=spec["order"] == "highest"))
    facts = tuple(dict.fromkeys(value.fact for value in values))
    if "unit" not in spec:
        return Truth((facts,) if facts else ())
    wanted = tuple(
        Fact(f.property, float(f.value) * spec["factor"], spec["unit"], f.formula, f.material_id)
        for f in facts
    )
    return Truth((wanted,), also=facts, exact_unit=True)


def _compared(data: QuestionData, spec: Mapping[str, Any], name: str) -> Truth:
    pairs = [data.of_formula[reduced(spec[key]), name] for key in ("first", "second")]
    if [len({value.number for value in values}) for values in pairs] != [1, 1]:
        return Truth()
    one, other = (values[0] for values in pairs)
    apart = Fact("difference", abs(one.number - other.number), one.unit)
    return Truth(((apart,),), also=(one.fact, other.fact))


def _of_group(data: QuestionData, spec: Mapping[str, Any], name: str) -> Truth:
    values = data.matching(name, spec["elements"])
    if "order" in spec:
        top = find_extreme(values, highest=spec["order"] == "highest")
        if top is None or "then" not in spec:
            return _one(top)
        held = data.of_material[str(top.material_id), spec["then"]]
        return Truth((tuple(dict.fromkeys(value.fact for value in held)),) if held else ())
    above = "above" in spec
    limit = spec["above" if above else "below"]
    ids = frozenset(
        str(value.material_id) for value in values
        if (value.number > limit if above else value.number < limit)
    )  # fmt: skip
    if spec["kind"] == "count":
        return Truth(((Fact("count", len(ids)),),))
    return Truth(material_ids=ids)


def _one(value: Value | None) -> Truth:
    return Truth() if value is None else Truth(((value.fact,),))
