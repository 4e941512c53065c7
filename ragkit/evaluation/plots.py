"""Plots of experiments; they need the `plots` extra."""

from __future__ import annotations

import io
from typing import Any

from ragkit.errors import require
from ragkit.evaluation.experiment import Experiment
from ragkit.evaluation.reading import ReadingExperiment


def _axes(width: float, height: float) -> Any:
    # Not through pyplot, which keeps global state and may open a window.
    figure = require("matplotlib.figure", extra="plots").Figure

    class Shown(figure):  # type: ignore[misc,valid-type]
        """A figure that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            with io.BytesIO() as file:
                self.savefig(file, format="png")
                return file.getvalue()

    return Shown((width, height), layout="tight").subplots()


def plot_differences(experiment: Experiment, system: str, measure: str) -> Any:
    """Plot a system's score minus the baseline's for each query, sorted, as bars.

    Args:
        experiment: The comparison.
        system: Name of one of its systems.
        measure: Name of one of its measures, such as "nDCG@10".

    Returns:
        A matplotlib `Figure`; `figure.savefig("differences.png")` writes it to a file.
    """
    differences = experiment.values(system, measure) - experiment.values(
        experiment.baseline, measure
    )
    ordered = sorted(differences.tolist(), reverse=True)
    axes = _axes(6, 3)
    colours = ["tab:blue" if value >= 0 else "tab:orange" for value in ordered]
    axes.bar(range(len(ordered)), ordered, color=colours, width=1.0)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("queries, sorted")
    axes.set_ylabel(f"{measure}: {system} - {experiment.baseline}")
    return axes.figure


def plot_latency(experiment: Experiment, measure: str) -> Any:
    """Plot the median time per query against the mean of a measure, one point per system.

    Args:
        experiment: The comparison.
        measure: Name of one of its measures, such as "nDCG@10".

    Returns:
        A matplotlib `Figure`.
    """
    axes = _axes(5, 3.5)
    for row in experiment.rows:
        if row.measure == measure:
            x = experiment.milliseconds(row.system)
            low = row.mean if row.low is None else row.low
            high = row.mean if row.high is None else row.high
            spread = [[row.mean - low], [high - row.mean]]
            axes.errorbar([x], [row.mean], yerr=spread, fmt="o", capsize=3)
            axes.annotate(row.system, (x, row.mean), xytext=(5, 5), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds a query (median, batches of 16)")
    axes.set_ylabel(measure)
    return axes.figure


def plot_risk_coverage(experiment: ReadingExperiment) -> Any:
    """Plot the share of wrong answers against the share of questions answered, for each system.

    From left to right a system answers more questions, the likeliest first.

    Args:
        experiment: The answers.

    Returns:
        A matplotlib `Figure`.
    """
    axes = _axes(5, 3.5)
    for system in experiment.outcomes:
        coverage, risk = experiment.risk_coverage(system)
        axes.step(coverage, risk, where="post", label=system)
    axes.set_xlabel("share of the questions answered")
    axes.set_ylabel("share of the answers that are wrong")
    axes.set_ylim(0, 1)
    axes.set_xlim(0, 1)
    axes.legend()
    return axes.figure
