"""A table of systems and measures: means, intervals, and paired tests against a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ragkit.evaluation.statistics import bootstrap_interval, holm, paired_permutation_test

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""System → measure → query id → score."""


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one system by one measure.

    Attributes:
        system: Name of the system.
        measure: Name of the measure.
        mean: Mean over the queries.
        low: Lower end of the 95 % bootstrap interval of the mean; None for a single query.
        high: Upper end of the interval.
        difference: Mean minus the baseline's mean; None for the baseline.
        p: p-value of a two-sided paired permutation test of the difference; None for the baseline.
        p_holm: p after Holm's correction over all comparisons of the table.
    """

    system: str
    measure: str
    mean: float
    low: float | None
    high: float | None
    difference: float | None = None
    p: float | None = None
    p_holm: float | None = None


def compare_systems(scores: Scores, baseline: str) -> list[Row]:
    """Return one row per system and measure.

    A difference is taken over the queries that both systems have a score for.

    Args:
        scores: Scores of each system.
        baseline: The system to compare the others with.
    """
    keys = [(system, measure) for system, by_measure in scores.items() for measure in by_measure]
    pairs = {
        key: _paired(scores[key[0]][key[1]], scores[baseline].get(key[1], {}))
        for key in keys
        if key[0] != baseline
    }
    compared = [key for key, (values, _) in pairs.items() if len(values) > 1]
    raw = {key: paired_permutation_test(*pairs[key]) for key in compared}
    adjusted = dict(zip(compared, holm(list(raw.values())), strict=True)) if compared else {}
    rows = []
    for system, measure in keys:
        by_query = scores[system][measure]
        values = np.array([by_query[query] for query in sorted(by_query)])
        low, high = bootstrap_interval(values) if len(values) > 1 else (None, None)
        row = Row(system, measure, float(values.mean()), low, high)
        if (system, measure) in adjusted:
            own, base = pairs[system, measure]
            row = Row(
                *(system, measure, row.mean, low, high),
                difference=float(own.mean() - base.mean()),
                p=float(raw[system, measure]),
                p_holm=float(adjusted[system, measure]),
            )
        rows.append(row)
    return rows


def _paired(own: Mapping[str, float], base: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    shared = sorted(own.keys() & base.keys())
    return np.array([own[q] for q in shared]), np.array([base[q] for q in shared])


def format_rows(rows: Sequence[Row], baseline: str, title: str) -> str:
    """Format rows for a terminal; * marks differences with a corrected p below 0.05."""
    width = max(len(name) for name in [*(row.system for row in rows), "system"])
    measure_width = max(len(name) for name in [*(row.measure for row in rows), "measure"])
    head = f"{'system':{width}}  {'measure':{measure_width}}  {'mean':>6}  {'95 % interval':15}"
    lines = [title, f"{head}  {'vs ' + baseline:>12}  {'p (Holm)':>8}"]
    for row in rows:
        line = f"{row.system:{width}}  {row.measure:{measure_width}}  {row.mean:6.4f}  "
        line += _interval(row)
        if row.p_holm is not None:
            star = "*" if row.p_holm < 0.05 else " "
            line += f"  {row.difference:+11.4f}{star}  {row.p_holm:8.4f}"
        lines.append(line)
    return "\n".join(lines)


def _interval(row: Row) -> str:
    return "-" if row.low is None or row.high is None else f"[{row.low:.4f}, {row.high:.4f}]"


def rows_html(rows: Sequence[Row], baseline: str) -> str:
    """Format rows as an HTML table."""
    cells = "".join(
        "<tr>"
        + "".join(
            f"<td>{escape(value)}</td>"
            for value in (
                row.system,
                row.measure,
                f"{row.mean:.4f}",
                _interval(row),
                "" if row.difference is None else f"{row.difference:+.4f}",
                "" if row.p_holm is None else f"{row.p_holm:.4f}",
            )
        )
        + "</tr>"
        for row in rows
    )
    heads = ("system", "measure", "mean", "95 % interval", f"vs {baseline}", "p (Holm)")
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table>"
