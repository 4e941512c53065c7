"""The evidence for the materials agent's trained planner, by one command.

    python benchmarks/trained_agent.py [--adapter DIR] [--part NAME ...] [--untrained]

- benchmark: the 120 questions of `agents.py`, flat and as a team; --untrained asks the model
  without its adapter, too (about a minute and a half a question on two cores), for a paired test.
- new: 504 questions that neither the benchmark nor the gate has, 42 of each kind: the shipped
  default (the rules, and the trained planner where they cannot read a question), and the rules.
- written: the questions that were written by hand: these two, and the trained planner alone.
- llamp: figure 3 and magnetism of the LLaMP paper, beside its authors' columns; see `llamp.py`.

For each part: by kind with intervals, the shares that the goals are set for (a right value with
unit and id where one is held, the right refusal where none is), ungrounded numbers, seconds and
tokens a question, and the most frequent errors. Every verdict is kept in the folder --to: the
command goes on after a stop, parts may be run in processes of their own, and a last run without
--part writes everything to one file.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llamp
from common import BENCHMARKS, heading
from written import written_questions

from agents import comparisons, generate, measure, table
from ragkit.agents.definition import AUTO, RULES, TRAINED
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.evaluation.materials.questions import KINDS, MaterialsQuestion
from ragkit.evaluation.materials.scoring import Verdict
from ragkit.evaluation.statistics import bootstrap_interval
from ragkit.finetune.planner.promotion import held_out_questions

UNTRAINED = "smollm2"
N_NEW = 42  # of each kind
_NEW_SEED = 5000  # errors on other draws led to changes of the training and of the planners
_MOST_ERRORS = 12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = {"benchmark": benchmark, "new": new, "written": written, "llamp": published}
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--adapter", type=Path, help="default: the agent's own")
    parser.add_argument("--untrained", action="store_true", help="also the model without it")
    parser.add_argument("--to", type=Path, default=Path(".bench/trained"), help="verdicts are kept")
    parser.add_argument("--out", type=Path, help="default: results/<date>-trained-agent.json")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = heading()
    print("truths and tools share one database: this measures the agent, not the data")
    for name in options.part:
        result[name] = parts[name](options)
    if len(options.part) == len(parts):
        out = options.out or BENCHMARKS / "results" / f"{result['date']}-trained-agent.json"
        out.write_text(json.dumps(result, indent=1, default=str) + "\n")


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """The 120 questions of `agents.py`, flat and as a team."""
    made = generate(default_path(), 10)
    systems = [(TRAINED, False), (TRAINED, True)]
    if options.untrained:
        systems += [(UNTRAINED, False), (UNTRAINED, True)]
    return asked("benchmark", made, systems, options)


def new(options: argparse.Namespace) -> dict[str, Any]:
    """As many questions of each kind that nothing was chosen on."""
    return asked("new", new_questions(), [(AUTO, False), (RULES, False)], options)


def new_questions() -> list[MaterialsQuestion]:
    """`N_NEW` of each kind that are in neither the benchmark nor the gate."""
    seen = {each.text for each in [*generate(default_path(), 10), *held_out_questions(120)]}
    made = generate(default_path(), N_NEW + 20, seed=_NEW_SEED)
    unseen = [each for each in made if each.text not in seen]
    return [each for kind in KINDS for each in [q for q in unseen if q.kind == kind][:N_NEW]]


def written(options: argparse.Namespace) -> dict[str, Any]:
    """Those that were written by hand."""
    systems = [(AUTO, False), (TRAINED, False), (RULES, False)]
    return asked("written", written_questions(), systems, options)


def published(options: argparse.Namespace) -> dict[str, Any]:
    """The LLaMP paper's."""
    theirs = argparse.Namespace(
        planner=[TRAINED, RULES], adapter=options.adapter, n=300, to=options.to / "llamp"
    )
    theirs.to.mkdir(parents=True, exist_ok=True)
    return {"fig3": llamp.fig3(theirs), "magnetism": llamp.magnetism(theirs)}


def asked(
    part: str,
    questions: Sequence[MaterialsQuestion],
    systems: Sequence[tuple[str, bool]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """The questions, of each system; with what the goals are set for."""
    found: dict[str, list[Verdict]] = {}
    report: dict[str, Any] = {"n": len(questions), "systems": {}}
    how = argparse.Namespace(adapter=options.adapter, to=options.to / part, max_seconds=None)
    for name, team in systems:
        label = f"{name}, team" if team else name
        found[label] = measure(name, {0: list(questions)}, team=team, options=how)
        report["systems"][label] = {
            **table(f"{part}: {label}", found[label]),
            "goals": goals(questions, found[label]),
            "errors": errors(found[label]),
        }
    report["against"] = comparisons(found)
    return report


def goals(questions: Sequence[MaterialsQuestion], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The shares right where something is held, and where a refusal is right; intervals."""
    held = [bool(each.truth.facts or each.truth.material_ids) for each in questions]
    shares: dict[str, Any] = {}
    for name, wanted in (("right where held", True), ("refused where not", False)):
        right = [float(v.correct) for v, h in zip(verdicts, held, strict=True) if h is wanted]
        share, (low, high) = sum(right) / len(right), bootstrap_interval(right)
        shares[name] = {"n": len(right), "share": share, "interval": [low, high]}
        print(f"{name}: {share:.3f} ({low:.3f} to {high:.3f}) of {len(right)}")
    shares["ungrounded numbers"] = sum(each.ungrounded for each in verdicts)
    print(f"ungrounded numbers: {shares['ungrounded numbers']}")
    return shares


def errors(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The most frequent errors: kind, what is wrong without its names and numbers, how often."""
    tally = Counter((each.kind, _class_of(each.why)) for each in verdicts if each.why)
    found = [{"kind": k, "why": why, "n": n} for (k, why), n in tally.most_common(_MOST_ERRORS)]
    for each in found:
        print(f"  {each['n']:3} {each['kind']}: {each['why']}")
    return found


def _class_of(why: str) -> str:
    without_ids = re.sub(r"\bmp-\d+(, mp-\d+)*", "…", why)
    if " is wrong beside it" in why:
        return "a wrong value beside the right one"
    return re.sub(r"(?<![\w-])-?\d[\d.e+-]*", "…", without_ids)


if __name__ == "__main__":
    main()
