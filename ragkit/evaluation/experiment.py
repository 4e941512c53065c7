"""Systems compared on the same queries: means, intervals, paired tests against a baseline."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.durable import replace_text
from ragkit.evaluation.measures import Measure, Qrels, score_run
from ragkit.evaluation.runs import OnQuery, SystemRun, make_run
from ragkit.evaluation.statistics import bootstrap_interval, holm, paired_permutation_test
from ragkit.types import Retriever


@dataclass(frozen=True, slots=True)
class Row:
    """One system and measure.

    Attributes:
        system: The system's name.
        measure: The measure's name.
        mean: Over all judged queries.
        low: Lower end of the 95 % bootstrap interval of the mean.
        high: Its upper end.
        difference: Mean minus the baseline's; None for the baseline.
        p: Two-sided paired permutation test of that difference; None for the baseline.
        p_holm: p after Holm's correction over all comparisons of the table.
    """

    system: str
    measure: str
    mean: float
    low: float
    high: float
    difference: float | None = None
    p: float | None = None
    p_holm: float | None = None


class Experiment:
    """Runs of several systems, their scores, and how they compare.

    Args:
        runs: One a system.
        qrels: Query id → document id → relevance.
        measures: What is measured.
        baseline: The system that others are compared with; default: the first.
        name: What the table is headed with.
        k: How many documents were asked for; None where that is not known.

    Raises:
        ValueError: No runs or measures, two systems of one name, an unknown baseline, or fewer than
            two judged queries.
    """

    def __init__(
        self,
        runs: Sequence[SystemRun],
        qrels: Qrels,
        measures: Sequence[Measure],
        *,
        baseline: str | None = None,
        name: str = "",
        k: int | None = None,
    ) -> None:
        names = [run.name for run in runs]
        check_comparison(names, qrels, measures, baseline)
        self.baseline = names[0] if baseline is None else baseline
        self.name = name
        self.k = k
        self.runs = {run.name: run for run in runs}
        self.qrels = qrels
        self.measures = list(measures)
        self.scores: dict[str, dict[str, dict[str, float]]] = {
            run.name: {str(m): row for m, row in score_run(measures, run.run, qrels).items()}
            for run in runs
        }
        self.rows = self._rows()

    def values(self, system: str, measure: str) -> np.ndarray:
        """float64 (queries,): a system's scores in the order of the qrels' query ids."""
        scores = self.scores[system][measure]
        return np.array([scores[query] for query in sorted(scores)])

    def milliseconds(self, system: str) -> float:
        """Median time of a query, in batches of 16."""
        return 1000 * float(np.median(list(self.runs[system].seconds.values()) or [0.0]))

    def _rows(self) -> list[Row]:
        keys = [(system, str(measure)) for system in self.runs for measure in self.measures]
        compared = [key for key in keys if key[0] != self.baseline]
        p_values = [
            paired_permutation_test(self.values(*key), self.values(self.baseline, key[1]))
            for key in compared
        ]
        adjusted = dict(zip(compared, holm(p_values), strict=True)) if compared else {}
        raw = dict(zip(compared, p_values, strict=True))
        rows = []
        for system, measure in keys:
            values = self.values(system, measure)
            low, high = bootstrap_interval(values)
            row = Row(system, measure, float(values.mean()), low, high)
            if system != self.baseline:
                base = float(self.values(self.baseline, measure).mean())
                key = (system, measure)
                row = Row(
                    *(system, measure, row.mean, low, high),
                    difference=row.mean - base,
                    p=float(raw[key]),
                    p_holm=float(adjusted[key]),
                )
            rows.append(row)
        return rows

    def table(self) -> str:
        """The rows for a terminal; * marks differences with a corrected p below 0.05."""
        width = max(len(name) for name in [*self.runs, "system"])
        wide = max(len(str(measure)) for measure in [*self.measures, "measure"])
        head = f"{'system':{width}}  {'measure':{wide}}  {'mean':>6}  {'95 % interval':15}"
        n_queries = len(next(iter(next(iter(self.scores.values())).values())))
        title = f"{self.name + ': ' if self.name else ''}{n_queries} queries"
        lines = [title, f"{head}  {'vs ' + self.baseline:>12}  {'p (Holm)':>8}"]
        for row in self.rows:
            line = f"{row.system:{width}}  {row.measure:{wide}}  {row.mean:6.4f}  "
            line += f"[{row.low:.4f}, {row.high:.4f}]"
            if row.p_holm is not None:
                star = "*" if row.p_holm < 0.05 else " "
                line += f"  {row.difference:+11.4f}{star}  {row.p_holm:8.4f}"
            lines.append(line)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        from html import escape

        cells = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(value)}</td>"
                for value in (
                    row.system,
                    row.measure,
                    f"{row.mean:.4f}",
                    f"[{row.low:.4f}, {row.high:.4f}]",
                    "" if row.difference is None else f"{row.difference:+.4f}",
                    "" if row.p_holm is None else f"{row.p_holm:.4f}",
                )
            )
            + "</tr>"
            for row in self.rows
        )
        heads = ("system", "measure", "mean", "95 % interval", f"vs {self.baseline}", "p (Holm)")
        head = "".join(f"<th>{escape(name)}</th>" for name in heads)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table>"

    def to_dict(self) -> dict[str, Any]:
        """Rows, scores by query, times and manifests, for JSON."""
        return {
            "name": self.name,
            "baseline": self.baseline,
            "measures": [str(measure) for measure in self.measures],
            "documents_a_query": self.k,
            "rows": [asdict(row) for row in self.rows],
            "scores": self.scores,
            "median_ms": {system: self.milliseconds(system) for system in self.runs},
            "manifests": {name: run.manifest for name, run in self.runs.items()},
        }

    def save(self, folder: str | Path) -> None:
        """Write `experiment.json` and one TREC run file a system (`NAME.run`) into a folder.

        Raises:
            ValueError: An id has white space, which a run file cannot hold; the JSON is written.
        """
        from ragkit.evaluation.datasets import write_run

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        replace_text(target / "experiment.json", json.dumps(self.to_dict(), indent=1) + "\n")
        for name, run in self.runs.items():
            plain = file_name(name)
            write_run(target / f"{plain}.run", run.run, plain)


def experiment(  # noqa: PLR0913 - what is compared, and how: nothing of it belongs together
    systems: Mapping[str, Retriever],
    queries: Mapping[str, str],
    qrels: Qrels,
    measures: Sequence[Measure],
    *,
    k: int = 100,
    baseline: str | None = None,
    name: str = "",
    folder: str | Path | None = None,
    on_query: OnQuery | None = None,
) -> Experiment:
    """Search with every system, measure, compare.

    Queries without judgements are left out. With a folder, what was found is kept there while the
    work goes on, and the same call continues after a crash; the result is saved there as well.

    Args:
        systems: Name → retriever.
        queries: Query id → text.
        qrels: Query id → document id → relevance.
        measures: As `nDCG @ 10`; see `ragkit.evaluation.measures`.
        k: Documents found a query.
        baseline: The system to compare with; default: the first.
        name: What the table is headed with.
        folder: Where to keep it.
        on_query: Called with the queries done and their number, over all systems.

    Raises:
        ValueError: No query has a judgement, k is below a measure's cutoff, or as for `Experiment`.
    """
    judged = {query: queries[query] for query in sorted(queries) if query in qrels}
    if not judged:
        raise ValueError(
            f"none of the {len(queries)} queries has a judgement in the qrels "
            f"({len(qrels)} queries); their ids must be the same"
        )
    relevant = {query: qrels[query] for query in judged}
    check_comparison(list(systems), relevant, measures, baseline)
    deepest = max(measure.cutoff or 0 for measure in measures)
    if k < deepest:
        raise ValueError(
            f"k is {k}, but a measure looks at {deepest} documents; raise k or lower its cutoff"
        )
    total = len(judged) * len(systems)
    runs = []
    for number, (system, retriever) in enumerate(systems.items()):

        def show(done: int, of: int, before: int = number * len(judged)) -> None:
            if on_query:
                on_query(before + done, total)

        file = None if folder is None else Path(folder) / f"{file_name(system)}.jsonl"
        runs.append(make_run(system, retriever, judged, k, file=file, on_query=show))
    result = Experiment(runs, relevant, measures, baseline=baseline, name=name, k=k)
    if folder is not None:
        result.save(folder)
    return result


def check_comparison(
    systems: Sequence[str], qrels: Qrels, measures: Sequence[Measure], baseline: str | None
) -> None:
    """Raise ValueError for what cannot be compared, before any work is done."""
    names = [str(measure) for measure in measures]
    if not systems or not names or len({*systems}) < len(systems) or len({*names}) < len(names):
        raise ValueError(
            f"the systems are {list(systems)} and the measures {names}; expected at least one of "
            "each, and every name once"
        )
    if baseline is not None and baseline not in systems:
        raise ValueError(f"the baseline is {baseline!r}; expected one of {', '.join(systems)}")
    if len(qrels) < 2:
        raise ValueError(f"{len(qrels)} queries are judged; an interval needs at least 2")


def file_name(system: str) -> str:
    """A system's name as the name of its files: what is no word, dot or dash becomes "_"."""
    return re.sub(r"[^\w.-]", "_", system).lstrip(".") or "_"
