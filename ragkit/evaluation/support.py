"""Evaluation of the support check on statements that people judged, beside plain word overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ragkit.evaluation.datasets import SupportSet
from ragkit.evaluation.measures import auroc
from ragkit.evaluation.splits import sample
from ragkit.indexes.terms import TermAnalyzer
from ragkit.readers.citations import Verdict
from ragkit.readers.support import load_judge
from ragkit.types import SUPPORTED, Chunk, Hit

_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class SupportReport:
    """Error rates of the check on one data set.

    Attributes:
        name: Name of the data set.
        n_supported: Number of statements that the evidence supports.
        n_others: Number of the others.
        kept: Share of the supported ones that count as supported.
        passed: Share of the others that count as supported.
        unsure: Share of all statements that the check is unsure of.
        contradicted: Of those that count as contradicted, the share that is not supported; None if
            there are none.
        precision: Of those that count as supported, the share that is; None if there are none.
        auroc: How often a supported statement's probability is above another one's.
        overlap_auroc: The same of the share of its words in the evidence.
        difference: 95 % bootstrap interval of `auroc` minus `overlap_auroc`.
    """

    name: str
    n_supported: int
    n_others: int
    kept: float | None
    passed: float | None
    unsure: float
    contradicted: float | None
    precision: float | None
    auroc: float | None
    overlap_auroc: float | None
    difference: tuple[float, float] | None

    def __str__(self) -> str:
        def show(value: float | None) -> str:
            return "-" if value is None else f"{value:.3f}"

        lines = [
            f"{self.name}: {self.n_supported} supported statements, {self.n_others} others",
            f"supported ones kept      {show(self.kept)}",
            f"others passed            {show(self.passed)}",
            f"unsure                   {show(self.unsure)}",
            f"precision of supported   {show(self.precision)}",
            f"precision of contradicted {show(self.contradicted)}",
            f"AUROC                    {show(self.auroc)}",
            f"AUROC of word overlap    {show(self.overlap_auroc)}",
        ]
        if self.difference:
            low, high = self.difference
            lines.append(f"difference               [{low:+.3f}, {high:+.3f}] (95 %, bootstrap)")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return asdict(self)


def evaluate_support(
    data: SupportSet,
    *,
    n: int | None = None,
    judge: Callable[[Sequence[Hit]], Any] = load_judge,
    on_statement: Callable[[int, int], None] | None = None,
) -> SupportReport:
    """Judge statements by their evidence, and count the errors.

    Args:
        data: Statements with evidence and labels.
        n: At most this many, drawn with a fixed seed; default: all.
        judge: Returns an object with `judge(statement)` for some hits; default: the reader's.
        on_statement: Called with the number of statements done and their total.
    """
    pairs = sample(data.pairs, n)
    if not pairs:
        raise ValueError(f"{data.name} ({data.split}) has no statements")
    verdicts: list[Verdict] = []
    overlap: list[float] = []
    analyzer = TermAnalyzer()
    for i, pair in enumerate(pairs, start=1):
        hit = Hit(Chunk("evidence", "evidence", pair.evidence, 0, len(pair.evidence)), 1.0)
        verdicts.append(judge([hit]).judge(pair.statement))
        wanted = set(analyzer.terms(pair.statement))
        overlap.append(len(wanted & set(analyzer.terms(pair.evidence))) / max(1, len(wanted)))
        if on_statement:
            on_statement(i, len(pairs))
    labels = [pair.label == "supported" for pair in pairs]
    scores = [verdict.probability for verdict in verdicts]
    states = [verdict.support for verdict in verdicts]
    right = [s in SUPPORTED for s, label in zip(states, labels, strict=True) if label]
    wrong = [s in SUPPORTED for s, label in zip(states, labels, strict=True) if not label]
    opposed = [not label for s, label in zip(states, labels, strict=True) if s == "contradicted"]
    return SupportReport(
        f"{data.name} {data.split}",
        len(right),
        len(wrong),
        _share(right),
        _share(wrong),
        states.count("unsure") / len(states),
        _share(opposed),
        sum(right) / (sum(right) + sum(wrong)) if any(right) or any(wrong) else None,
        auroc(scores, labels).value,
        auroc(overlap, labels).value,
        _difference(np.array(scores), np.array(overlap), np.array(labels)),
    )


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _difference(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray
) -> tuple[float, float] | None:
    draw = np.random.default_rng(0)
    found = []
    for _ in range(_DRAWS):
        rows = draw.integers(0, len(labels), len(labels))
        one = auroc(first[rows].tolist(), labels[rows].tolist()).value
        other = auroc(second[rows].tolist(), labels[rows].tolist()).value
        if one is not None and other is not None:
            found.append(one - other)
    if len(found) < _DRAWS // 2:
        return None
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
