"""The LLaMP paper's questions, asked of our planners, beside the answers its authors published.

    python benchmarks/llamp.py --planner trained rules [--only fig3|magnetism] [--n 300]

fig3: four properties of ten materials each, one question a material, five trials at temperature
0.7; MAE over the answers with a number, how many have one, and SCoR (std in the property's unit, as
published). The published trials are scored by the same code, so "llamp" is that paper's agent with
GPT-4. magnetism: the orderings of materials that no model was trained on, one greedy answer each; a
published answer without an ordering counts as wrong. p is a paired permutation test against LLaMP's
column.

The references are the Materials Project's of 2024; ours come from the shipped snapshot, which holds
what LLaMP's notebooks printed and the orderings of these very files: the agent is measured, and not
the data. There are 206 materials of the test split; the development split, on whose loss adapters
are chosen, fills up to --n. "llamp" is the run of 6_eval_dataset.csv (beside GPT-3.5), "llamp,
second run" that of the file beside GPT-4. Answers are kept in the folder --to, so that the command
goes on after a stop.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import BENCHMARKS, data_root, heading

from ragkit.agents.definition import AgentOptions, load_agent, load_definition
from ragkit.agents.ledger import Quantity
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.agents.react import ReAct
from ragkit.agents.trained import adapter_of, trained_planner
from ragkit.digests import file_digest, text_digest
from ragkit.evaluation.materials.data import reduced_or_none
from ragkit.evaluation.measures import scor
from ragkit.evaluation.splits import split_of
from ragkit.evaluation.statistics import bootstrap_interval, paired_permutation_test
from ragkit.finetune.jsonl_cache import JsonlCache
from ragkit.finetune.planner.demonstrations import VERSION

PROPERTIES = {
    "3a bulk modulus": ("k_vrh", "What is the bulk modulus of {}?"),
    "3b formation energy": (
        "formation_energy_per_atom", "What is the formation energy per atom of {}?",
    ),
    "3c band gap": ("band_gap", "What is the band gap of {}?"),
    "3d band gap multiele": ("band_gap", "What is the band gap of {}?"),
}  # fmt: skip
PEERS = ("llamp", "gpt4", "gpt35", "gemini", "llama3", "structchem_gpt4", "structchem_gpt35")
TRIALS, TEMPERATURE = 5, 0.7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--planner", nargs="+", default=["trained", "rules"])
    parser.add_argument("--adapter", type=Path, help='of the planner "trained"')
    parser.add_argument("--only", choices=("fig3", "magnetism"))
    parser.add_argument("--n", type=int, default=300, help="questions on magnetism")
    parser.add_argument("--to", type=Path, default=Path(".bench/llamp"), help="answers are kept")
    parser.add_argument("--out", type=Path, help="default: results/<date>-llamp.json")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    result = heading()
    if options.only != "magnetism":
        result["fig3"] = fig3(options)
    if options.only != "fig3":
        result["magnetism"] = magnetism(options)
    out = options.out or BENCHMARKS / "results" / f"{result['date']}-llamp.json"
    out.write_text(json.dumps(result, indent=1) + "\n")


def agent_of(planner: str, options: argparse.Namespace) -> ReAct:
    """The agent, with the planner of that name."""
    if planner == "trained":
        found = trained_planner(load_definition("materials"), options.adapter)
        return load_agent("materials", AgentOptions(llm=found))
    return load_agent("materials", AgentOptions(llm=planner))


class Kept:
    """Answers of one planner, in a file that grows."""

    def __init__(self, planner: str, options: argparse.Namespace) -> None:
        self._agent = agent_of(planner, options)
        adapter = options.adapter or adapter_of(load_definition("materials"))
        weights = adapter / "adapter_model.safetensors"
        used = file_digest(weights) if planner == "trained" else ""
        job = text_digest(repr((planner, used, file_digest(default_path()), VERSION)))
        self._kept = JsonlCache(options.to / f"{planner}.jsonl", job)

    def ask(self, question: str, *, seed: int = 0, temperature: float = 0.0) -> list[Any]:
        """The rows of the answer: [property, value, unit, formula, material id]."""

        def run() -> dict[str, Any]:
            made = replace(self._agent, seed=seed, temperature=temperature).run(question)
            rows = [
                [row.property, row.value, row.unit, row.subject, row.subject_id]
                for row in made.final.rows.values()
                if isinstance(row, Quantity)
            ]
            return {"rows": rows, "text": made.text, "seconds": made.seconds}

        return list(self._kept.get(f"{seed} {temperature} {question}", run)["rows"])


def fig3(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Figure 3: ours and the published trials."""
    path = data_root() / "llamp_fig3" / "llamp_fig3_benchmark.json"
    panels = json.loads(path.read_text())["panels"]
    rows = []
    kept = {planner: Kept(planner, options) for planner in options.planner}
    print(f"{'panel':22} {'system':18} {'answered':>8} {'MAE':>8} {'SCoR':>6}")
    for panel in panels:
        systems: dict[str, list[list[float | None]]] = {
            planner: list(_trials(kept[planner], panel, planner)) for planner in options.planner
        }
        systems |= {peer: panel[peer] for peer in PEERS if panel.get(peer)}
        for name, trials in systems.items():
            row = {"panel": panel["panel"], "system": name} | scored(trials, panel["ref"])
            rows.append(row)
            mae = "" if row["mae"] is None else f"{row['mae']:.3f}"
            print(f"{row['panel']:22} {name:18} {row['answered']:8.2f} {mae:>8} {row['scor']:6.3f}")
    return rows


def _trials(kept: Kept, panel: Mapping[str, Any], planner: str) -> Iterator[list[float | None]]:
    name, wording = PROPERTIES[panel["panel"]]
    for trial in range(TRIALS if planner != "rules" else 1):  # rules always say the same
        yield [
            _value(kept.ask(wording.format(material), seed=trial, temperature=TEMPERATURE), name)
            for material in panel["materials"]
        ]
        print(f"{planner}: {panel['panel']}, trial {trial + 1}", file=sys.stderr)


def _value(rows: Sequence[Sequence[Any]], name: str) -> float | None:
    return next((float(row[1]) for row in rows if row[0] == name), None)


def scored(trials: Sequence[Sequence[float | None]], truths: Sequence[float]) -> dict[str, Any]:
    """Over the materials: the share of trials with a number, MAE and SCoR, means."""
    columns = [scor([trial[i] for trial in trials], truth) for i, truth in enumerate(truths)]
    answered = [trial[i] is not None for trial in trials for i in range(len(truths))]
    errors = [each.mae.value for each in columns if each.mae.value is not None]
    return {
        "trials": len(trials),
        "answered": sum(answered) / len(answered),
        "mae": statistics.fmean(errors) if errors else None,
        "scor": statistics.fmean(each.scor for each in columns),
    }


def magnetism(options: argparse.Namespace) -> dict[str, Any]:
    """Orderings, and magnetizations where one is given."""
    asked = _asked(options.n)
    published = {
        "llamp": [row["llamp_magnetic_ordering"] for row in asked],
        "llamp, second run": [row["llamp2"] for row in asked],
        "gpt-3.5": [row["gpt_magnetic_ordering"] for row in asked],
        "gpt-4": [row["gpt4"] for row in asked],
    }
    answers: dict[str, list[tuple[str, float | None]]] = {
        name: [(_symbol(each), None) for each in column] for name, column in published.items()
    }
    for planner in options.planner:
        kept = Kept(planner, options)
        answers[planner] = []
        for n, row in enumerate(asked, start=1):
            rows = kept.ask(row["prompt"].split("\n")[0].strip())
            ordering = next((str(each[1]) for each in rows if each[0] == "ordering"), "")
            moment = _value(rows, "total_magnetization_normalized_formula_units")
            answers[planner].append((ordering, moment))
            if n % 20 == 0:
                print(f"{planner}: {n}/{len(asked)}", file=sys.stderr)
    truth = [row["ordering"] for row in asked]
    base = _right(answers["llamp"], truth)
    found = {}
    print(f"\nmagnetic ordering of {len(asked)} materials")
    for name, given in answers.items():
        right = _right(given, truth)
        low, high = bootstrap_interval(right)
        p = None if name == "llamp" else paired_permutation_test(base, right)
        moments = [
            abs(moment - float(row["magnetization_unit"]))
            for (_, moment), row in zip(given, asked, strict=True)
            if moment is not None and row["magnetization_unit"]
        ]
        found[name] = {
            "right": statistics.fmean(right), "interval": [low, high], "p": p,
            "answered": statistics.fmean(bool(ordering) for ordering, _ in given),
            "n_moments": len(moments), "mae_moment": statistics.fmean(moments) if moments else None,
        }  # fmt: skip
        print(f"{name:10} {found[name]}")
    return {"n": len(asked), "systems": found}


def _asked(n: int) -> list[dict[str, str]]:
    """The first rows with a truth, both files' columns; the test split, then the dev split."""
    folder = data_root() / "llamp_eval"
    with (folder / "6_eval_dataset_gpt4.csv").open(newline="") as stream:
        second = {row["material_id"]: row for row in csv.DictReader(stream)}
    with (folder / "6_eval_dataset.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    found: dict[str, list[dict[str, str]]] = {"test": [], "dev": [], "train": []}
    for row in rows:
        if row["ordering"]:
            split = split_of(reduced_or_none(row["formula"]) or "")
            other = second.get(row["material_id"], {})
            more = {"gpt4": "gpt_magnetic_ordering", "llamp2": "llamp_magnetic_ordering"}
            found[split].append(row | {key: other.get(name, "") for key, name in more.items()})
    print(f"{len(found['test'])} of the test split, and of the development split to fill {n}")
    return [*found["test"], *found["dev"]][:n]


def _symbol(said: str) -> str:
    """FM, AFM, FiM or NM of what a column says; as it is where it says none of them."""
    words = {"antiferro": "AFM", "ferri": "FiM", "ferro": "FM", "non": "NM", "dia": "NM"}
    lower = said.strip(" \"'").lower()
    return next((found for word, found in words.items() if lower.startswith(word)), said.strip())


def _right(given: Sequence[tuple[str, float | None]], truth: Sequence[str]) -> list[float]:
    return [float(ordering == true) for (ordering, _), true in zip(given, truth, strict=True)]


if __name__ == "__main__":
    main()
