"""How well does a planner answer questions about materials? Flat, and as a team.

    python benchmarks/agents.py --planner oracle faulty faulty-no-retry rules memory [--team]
    python benchmarks/agents.py --planner smollm2 trained --team [--n-per-kind N] [--written]

Twelve kinds of questions with truths from the shipped database: three of them must be refused.
The tools read the same database, so this measures the agent and not the data. Right is the value
(to 0.1 %), in the right unit, of the right material; the whole set, where a set is asked for; the
right reason, where nothing can be said. A refusal where there is an answer is wrong, and so is a
run that a limit ended. Intervals are bootstrap percentiles (95 %, 10,000 draws), p is a paired
permutation test against the first system, Holm's correction.

"oracle" carries out the right actions, "faulty" spoils 30 % of them and says them again after the
error, "faulty-no-retry" gives up then; "rules" is the planner without a model; "memory" has no
tools; "trained" is SmolLM2 with the agent's adapter (--adapter: another one), and "auto", the
shipped default, asks it where the rules cannot read a question. Anything else is a language model's
name. --written asks the questions that were written by hand instead. Each verdict
is kept in the folder --to, so that the command goes on after a stop (Ctrl-C too).
"""

from __future__ import annotations

import argparse
import json
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import BENCHMARKS, heading
from written import written_questions

from ragkit import __version__, agents
from ragkit.agents.auto import AutoPlanner
from ragkit.agents.definition import (
    AUTO,
    RULES,
    TRAINED,
    AgentOptions,
    load_agent,
    load_definition,
)
from ragkit.agents.materials.question.rules import MaterialsRulePlanner
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.agents.planner import LLMPlanner, Planner, system_prompt
from ragkit.agents.steps import Run
from ragkit.agents.tools import Tool
from ragkit.agents.trained import trained_planner, trained_prompt
from ragkit.digests import file_digest, text_digest
from ragkit.evaluation import materials
from ragkit.evaluation.materials.memory import asked_number, remember
from ragkit.evaluation.materials.oracle import FaultyPlanner, OraclePlanner, tool_assistants
from ragkit.evaluation.materials.questions import MaterialsQuestion, generate
from ragkit.evaluation.materials.scoring import Verdict, judge, summarize
from ragkit.evaluation.measures import scor
from ragkit.evaluation.statistics import holm, paired_permutation_test
from ragkit.llms import load_llm
from ragkit.types import LLM

TRIALS = 10
NO_TEAM = (RULES, AUTO, "memory")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--planner", nargs="+", default=["oracle", "faulty", "faulty-no-retry"])
    parser.add_argument("--team", action="store_true", help="also as supervisor and assistants")
    parser.add_argument("--n-per-kind", type=int, default=10, help="questions of each kind")
    parser.add_argument("--written", action="store_true", help="questions written by hand")
    parser.add_argument("--adapter", type=Path, help='of the planner "trained"')
    parser.add_argument("--max-questions", type=int, help="at most this many, all kinds in turn")
    parser.add_argument(
        "--max-seconds", type=float, help="of a run; default: the agent's own limit"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of questions and faults")
    parser.add_argument("--split", choices=("train", "dev", "test"), default="test")
    parser.add_argument("--to", type=Path, default=Path(".bench/agents"), help="verdicts are kept")
    parser.add_argument("--out", type=Path, help="default: results/<date>-agents.json")
    options = parser.parse_args()
    result = heading()
    print("truths and tools share one database: this measures the agent, not the data")
    questions = {seed: chosen(options, seed) for seed in options.seeds}
    result |= {"n_questions": sum(map(len, questions.values())), "split": options.split}
    if not options.written:
        asked = [question for each in questions.values() for question in each]
        result["prompt_characters"] = prompt_lengths(asked)
    result["systems"] = {}
    found: dict[str, list[Verdict]] = {}
    try:
        for name in options.planner:
            for team in (False, True) if options.team and name not in NO_TEAM else (False,):
                label = f"{name}, team" if team else name
                found[label] = measure(name, questions, team=team, options=options)
                result["systems"][label] = table(label, found[label])
    except KeyboardInterrupt:
        sys.exit(f"stopped; what was done is in {options.to}, the same command goes on from there")
    result["against"] = comparisons(found)
    result["memory"] = consistency(questions) if "memory" in options.planner else None
    out = options.out or BENCHMARKS / "results" / f"{result['date']}-agents.json"
    out.write_text(json.dumps(result, indent=1, default=str) + "\n")


def chosen(options: argparse.Namespace, seed: int) -> list[MaterialsQuestion]:
    """The questions of a seed, one of each kind after the other."""
    if options.written:
        return written_questions()[: options.max_questions]
    made = generate(default_path(), options.n_per_kind, seed=seed, split=options.split)
    n = options.n_per_kind
    return [made[i] for start in range(n) for i in range(start, len(made), n)][
        : options.max_questions
    ]


def measure(
    name: str,
    questions: dict[int, list[MaterialsQuestion]],
    *,
    team: bool,
    options: argparse.Namespace,
) -> list[Verdict]:
    """The verdicts of a planner, those that are kept and those that are made now."""
    options.to.mkdir(parents=True, exist_ok=True)
    file = options.to / f"{text_digest(name)[:8]}{'-team' if team else ''}.jsonl"
    kept = dict(_kept(file))
    llm = _model(name, options.adapter)
    limits = {"max_seconds": options.max_seconds} if options.max_seconds else {}
    verdicts: list[Verdict] = []
    with file.open("a") as stream:
        for seed, asked in questions.items():
            run, made_by = runner(
                name, asked, llm, AgentOptions(team=team, seed=seed, limits=limits)
            )
            for n, question in enumerate(asked, start=1):
                key = text_digest(json.dumps([made_by, seed, asdict(question)], default=sorted))
                if key not in kept:
                    done = run(question)
                    kept[key] = judge(question, done)
                    line = {"key": key, "verdict": kept[key].to_dict(), "text": done.text}
                    stream.write(json.dumps({"asked": question.text, **line}) + "\n")
                    stream.flush()
                    _progress(f"{name}{', team' if team else ''}", n, len(asked), kept[key])
                verdicts.append(kept[key])
    return verdicts


def _model(name: str, adapter: Path | None) -> LLM | Planner | None:
    """The model or the planner of that name; None for those that need the questions."""
    if name in SCRIPTED:
        return None
    if name in (TRAINED, AUTO):
        definition = load_definition("materials")
        if name == TRAINED:
            return trained_planner(definition, adapter)
        load = partial(trained_planner, definition, adapter)
        return AutoPlanner(MaterialsRulePlanner(), load, partial(trained_prompt, definition))
    return load_llm(name)


def _kept(file: Path) -> Iterator[tuple[str, Verdict]]:
    """The verdicts of a file; a last line that was cut off is left out."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    if lines and not lines[-1].endswith("\n"):
        file.write_text("".join(lines[:-1]))
        lines.pop()
    for line in lines:
        stored = json.loads(line)
        yield stored["key"], Verdict(**stored["verdict"])


def _progress(label: str, n: int, total: int, verdict: Verdict) -> None:
    said = "right" if verdict.correct else f"wrong: {verdict.why}"
    print(f"{label} {n}/{total} {verdict.kind}: {said[:90]} ({verdict.seconds:.1f} s)",
          file=sys.stderr, flush=True)  # fmt: skip


SCRIPTED: dict[str, Callable[[Sequence[MaterialsQuestion], int], Planner | str]] = {
    "oracle": lambda questions, seed: OraclePlanner(questions),
    "faulty": lambda questions, seed: FaultyPlanner(OraclePlanner(questions), seed=seed),
    "faulty-no-retry": lambda questions, seed: FaultyPlanner(
        OraclePlanner(questions), seed=seed, retry=False
    ),
    RULES: lambda questions, seed: RULES,
    "memory": lambda questions, seed: RULES,
}


def runner(
    name: str,
    questions: Sequence[MaterialsQuestion],
    llm: LLM | Planner | None,
    options: AgentOptions,
) -> tuple[Callable[[MaterialsQuestion], Run], str]:
    """What answers a question, and a digest of everything that its answer may depend on."""
    planner = llm if llm is not None else SCRIPTED[name](questions, options.seed)
    agent = load_agent("materials", replace(options, llm=planner))
    flat = load_agent("materials", AgentOptions(llm=RULES))
    definition = load_definition("materials")
    parts = [
        __version__, name, options.team, agent.limits, agent.role,
        definition.prompts, definition.assistants,
        system_prompt(agent.role, agent.offered), [tool.parameters() for tool in flat.offered],
        file_digest(default_path()), sources() if llm is None else "",
        _weights(llm),
    ]  # fmt: skip
    digest = text_digest(repr(parts))
    if name == "memory":
        return lambda question: remember(question, seed=options.seed), digest
    return lambda question: agent.run(question.text), digest


def _weights(llm: LLM | Planner | None) -> str:
    """A digest of a trained planner's weights; another model's are told apart by its name."""
    if isinstance(llm, AutoPlanner):
        model = llm.model()
        assert isinstance(model, LLMPlanner)
        return _weights(model) + sources()
    adapter = getattr(llm.llm, "adapter", None) if isinstance(llm, LLMPlanner) else None
    return "" if adapter is None else file_digest(adapter / "adapter_model.safetensors")


def sources() -> str:
    """A digest of the agents' code, on which planners without a model depend."""
    folders = [Path(package.__file__).parent for package in (agents, materials)]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return text_digest("".join(file_digest(file) for file in files))


def table(label: str, verdicts: list[Verdict]) -> dict[str, Any]:
    """Print and return the accuracies by kind."""
    found = summarize(verdicts)
    print(f"\n{label}: {len(verdicts)} questions")
    print(f"{'kind':12} {'n':>4} {'right':>6} {'95 %':>14} {'refused':>8} {'unfinished':>11} "
          f"{'no number':>10} {'rel. error':>11}")  # fmt: skip
    for kind, row in found.items():
        interval = "" if row.interval is None else f"{row.interval[0]:.2f} to {row.interval[1]:.2f}"
        error = "" if row.relative_error.value is None else f"{row.relative_error.value:.3g}"
        print(f"{kind:12} {row.n:4} {row.accuracy:6.3f} {interval:>14} {row.n_refused:8} "
              f"{row.n_unfinished:11} {row.n_no_number:10} {error:>11}")  # fmt: skip
    units = {unit or "(none)": error for unit, error in found["all"].mae.items()}
    print("MAE: " + ", ".join(f"{error:.4g} {unit}" for unit, error in units.items()))
    cost = costs(verdicts)
    print(", ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in cost.items()))
    sys.stdout.flush()
    return {"kinds": {kind: asdict(row) for kind, row in found.items()}, "cost": cost}


def costs(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Means over questions; what should never happen is counted."""
    names = ("prompt_tokens", "completion_tokens", "seconds", "steps", "parse_failures", "errors")
    means = {f"{name}_each": _mean([getattr(v, name) for v in verdicts]) for name in names}
    return means | {"ungrounded_numbers": float(sum(v.ungrounded for v in verdicts))}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def comparisons(found: dict[str, list[Verdict]]) -> list[dict[str, Any]]:
    """Every system against the first, over the same questions."""
    first, *others = found
    base = [float(v.correct) for v in found[first]]
    values = {name: [float(v.correct) for v in found[name]] for name in others}
    adjusted = holm([paired_permutation_test(base, each) for each in values.values()])
    rows = []
    for name, p in zip(others, adjusted, strict=True):
        difference = _mean(values[name]) - _mean(base)
        print(f"{name} - {first}: {difference:+.3f}, p = {p:.4f}")
        rows.append({"system": name, "base": first, "difference": difference, "p_holm": p})
    return rows


def consistency(questions: dict[int, list[MaterialsQuestion]]) -> dict[str, dict[str, float]]:
    """SCoR and MAE of a memory that is asked ten times, by unit: SCoR alone does not see errors."""
    by_unit: dict[str, list[tuple[float, float, float]]] = {}
    for seed, asked in questions.items():
        for question in asked:
            fact = asked_number(question)
            if fact is None or not fact.value:
                continue
            runs = [remember(question, trial=n, seed=seed) for n in range(TRIALS)]
            said = [float(run.final.rows["r1"].value) for run in runs]  # type: ignore[union-attr]
            true = float(fact.value)
            row = scor(said, true)
            plain = scor(said, true, scale=abs(true))
            assert row.mae.value is not None
            by_unit.setdefault(fact.unit, []).append((row.scor, plain.scor, row.mae.value))
    print(f"\nmemory, {TRIALS} trials\n{'unit':18} {'n':>4} {'SCoR':>6} {'without unit':>13} MAE")
    found = {}
    for unit, rows in sorted(by_unit.items()):
        published, plain_mean, mae = (float(each) for each in np.mean(rows, axis=0))
        found[unit] = {"n": len(rows), "scor": published, "scor_plain": plain_mean, "mae": mae}
        print(f"{unit or '(none)':18} {len(rows):4} {published:6.3f} {plain_mean:13.3f} {mae:.4g}")
    return found


def prompt_lengths(questions: Sequence[MaterialsQuestion]) -> dict[str, float]:
    """Characters of the system prompt, mean over the calls that the right plans make."""
    flat = load_agent("materials", AgentOptions(llm=RULES))
    planner = OraclePlanner(questions)
    team = load_agent("materials", AgentOptions(llm=planner, team=True))
    held = tool_assistants()
    flat_length = len(system_prompt(flat.role, flat.offered))
    supervisor = len(system_prompt(team.role, team.offered))
    assistant = {tool.name: _assistant_length(tool, held[tool.name])
                 for tool in flat.offered if tool.name in held}  # fmt: skip
    calls: list[int] = []
    for question in questions:
        plan = question.plan.calls
        requests = dict.fromkeys(call.request for call in plan if call.request)
        own = sum(not call.request for call in plan)
        calls += [supervisor] * (len(requests) + own + 1)
        calls += [assistant[call.tool] for call in plan if call.request]
        last = {call.request: call.tool for call in plan if call.request}
        calls += [assistant[tool] for tool in last.values()]
    found = {"flat": float(flat_length), "supervisor": float(supervisor), "team_mean": _mean(calls)}
    print(
        "system prompt, characters a call: " + ", ".join(f"{k} {v:.0f}" for k, v in found.items())
    )
    return found


def _assistant_length(tool: Tool, name: str) -> int:
    definition = load_definition("materials")
    role = string.Template(definition.prompts["assistant"]).substitute(
        name=name.replace("_", " "), about=definition.assistants[name].about
    )
    return len(system_prompt(role, [tool]))


if __name__ == "__main__":
    main()
