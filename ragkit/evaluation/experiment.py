"""Comparison of systems on the same queries: means, intervals, paired tests against a baseline."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.durable import replace_text
from ragkit.evaluation.comparison import compare_systems, format_rows, rows_html
from ragkit.evaluation.measures import Measure, Qrels, score_run
from ragkit.evaluation.runs import OnQuery, SystemRun, make_run
from ragkit.types import Retriever


class Experiment:
    """Runs of several systems, their scores, and their comparison.

    Args:
        runs: One run per system.
        qrels: Query id → document id → relevance.
        measures: The measures to compute.
        baseline: System to compare the others with; default: the first.
        name: Title of the table.
        k: Number of documents retrieved per query; None if not known.

    Raises:
        ValueError: There are no runs or measures, two systems have the same name, the baseline is
            unknown, or fewer than two queries are judged.
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
        self.rows = compare_systems(self.scores, self.baseline)

    def values(self, system: str, measure: str) -> np.ndarray:
        """Return a system's scores in the order of the qrels' query ids: float64 (queries,)."""
        scores = self.scores[system][measure]
        return np.array([scores[query] for query in sorted(scores)])

    def milliseconds(self, system: str) -> float:
        """Return the median time per query, in batches of 16."""
        return 1000 * float(np.median(list(self.runs[system].seconds.values()) or [0.0]))

    def table(self) -> str:
        """Format the rows for a terminal; * marks differences with a corrected p below 0.05."""
        n_queries = len(next(iter(next(iter(self.scores.values())).values())))
        title = f"{self.name + ': ' if self.name else ''}{n_queries} queries"
        return format_rows(self.rows, self.baseline, title)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return rows_html(self.rows, self.baseline)

    def to_dict(self) -> dict[str, Any]:
        """Return rows, scores by query, times and manifests as a JSON object."""
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
        """Write `experiment.json` and one TREC run file per system (`NAME.run`) into a folder.

        Raises:
            ValueError: An id has white space, which a run file cannot hold; the JSON is written
                nonetheless.
        """
        from ragkit.evaluation.datasets import write_run

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        replace_text(target / "experiment.json", json.dumps(self.to_dict(), indent=1) + "\n")
        for name, run in self.runs.items():
            plain = file_name(name)
            write_run(target / f"{plain}.run", run.run, plain)


def experiment(  # noqa: PLR0913 - independent settings of one comparison
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
    """Search with every system, compute the measures and compare the systems.

    Queries without judgements are left out. With a folder, results are saved there while the
    search runs, so that the same call resumes after a crash; the final result is saved there too.

    Args:
        systems: Name → retriever.
        queries: Query id → text.
        qrels: Query id → document id → relevance.
        measures: Measures such as `nDCG @ 10`; see `ragkit.evaluation.measures`.
        k: Number of documents to retrieve per query.
        baseline: System to compare with; default: the first.
        name: Title of the table.
        folder: Folder for intermediate and final results.
        on_query: Called with the number of queries done and their total over all systems.

    Raises:
        ValueError: No query has a judgement, k is below the cutoff of a measure, or as for
            `Experiment`.
    """
    judged_queries = {query: queries[query] for query in sorted(queries) if query in qrels}
    if not judged_queries:
        raise ValueError(
            f"none of the {len(queries)} queries has a judgement in the qrels "
            f"({len(qrels)} queries); their ids must be the same"
        )
    judged_qrels = {query: qrels[query] for query in judged_queries}
    check_comparison(list(systems), judged_qrels, measures, baseline)
    max_cutoff = max(measure.cutoff or 0 for measure in measures)
    if k < max_cutoff:
        raise ValueError(
            f"k is {k}, but a measure has the cutoff {max_cutoff}; raise k or lower the cutoff"
        )
    total = len(judged_queries) * len(systems)
    runs = []
    for number, (system, retriever) in enumerate(systems.items()):

        def show(done: int, of: int, before: int = number * len(judged_queries)) -> None:
            if on_query:
                on_query(before + done, total)

        file = None if folder is None else Path(folder) / f"{file_name(system)}.jsonl"
        runs.append(make_run(system, retriever, judged_queries, k, file=file, on_query=show))
    result = Experiment(runs, judged_qrels, measures, baseline=baseline, name=name, k=k)
    if folder is not None:
        result.save(folder)
    return result


def check_comparison(
    systems: Sequence[str], qrels: Qrels, measures: Sequence[Measure], baseline: str | None
) -> None:
    """Raise ValueError if the systems cannot be compared; called before any search."""
    names = [str(measure) for measure in measures]
    if not systems or not names or len({*systems}) < len(systems) or len({*names}) < len(names):
        raise ValueError(
            f"the systems are {list(systems)} and the measures are {names}; expected at least one "
            "of each, and no name twice"
        )
    if baseline is not None and baseline not in systems:
        raise ValueError(f"the baseline is {baseline!r}; expected one of {', '.join(systems)}")
    if len(qrels) < 2:
        raise ValueError(f"{len(qrels)} queries are judged; expected at least 2 for an interval")


def file_name(system: str) -> str:
    """Return a file name for a system: all but word characters, dots and dashes become "_"."""
    return re.sub(r"[^\w.-]", "_", system).lstrip(".") or "_"
