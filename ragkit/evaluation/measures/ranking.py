"""Ranking measures, equal to trec_eval's, as values: `nDCG @ 10` prints as "nDCG@10".

Documents are ordered as in trec_eval: by descending score, ties by descending id. Scores are
compared in single precision, as in the trec_eval behind ir-measures (its newest sources use
double). A document is relevant if its grade is 1 or more; unjudged documents and negative grades
count as grade 0. Every query of the qrels gets a score: one without results, or without a relevant
document, scores 0. Queries that are only in the run are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Run = Mapping[str, Mapping[str, float]]
"""Query id to document id to score; the order of the documents does not matter."""

Qrels = Mapping[str, Mapping[str, int]]
"""Query id to document id to grade."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Graded:
    """A run with its documents replaced by grades.

    Attributes:
        gains: float64 (queries, depth): grade at each rank; 0 if there is no document.
        ideal: float64 (queries, width): all grades of a query, descending.
        relevant: float64 (queries,): number of relevant documents.
    """

    gains: _Floats
    ideal: _Floats
    relevant: _Floats

    @property
    def hits(self) -> NDArray[np.bool_]:
        return self.gains > 0  # (queries, depth)


def _ratio(numerator: _Floats, denominator: _Floats) -> _Floats:
    """Divide elementwise; return 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _discounted(gains: _Floats, cutoff: int | None) -> _Floats:
    gains = gains[:, :cutoff]
    discounts = 1 / np.log2(np.arange(2, gains.shape[1] + 2))  # (k,)
    total: _Floats = gains @ discounts  # (queries,)
    return total


def _ndcg(graded: _Graded, cutoff: int | None) -> _Floats:
    """Järvelin & Kekäläinen 2002; gain is the grade, discount log2(rank + 1) as in trec_eval."""
    return _ratio(_discounted(graded.gains, cutoff), _discounted(graded.ideal, cutoff))


def _hit_counts(graded: _Graded, cutoff: int | None) -> _Floats:
    n_hits: _Floats = graded.hits[:, :cutoff].sum(axis=1).astype(np.float64)  # (queries,)
    return n_hits


def _recall(graded: _Graded, cutoff: int | None) -> _Floats:
    """Share of the relevant documents among the first k."""
    return _ratio(_hit_counts(graded, cutoff), graded.relevant)


def _precision(graded: _Graded, cutoff: int | None) -> _Floats:
    """Relevant documents among the first k, divided by k even if fewer were retrieved."""
    if cutoff is None:
        raise ValueError("precision needs a cutoff, such as P@10")
    return _hit_counts(graded, cutoff) / cutoff


def _success(graded: _Graded, cutoff: int | None) -> _Floats:
    """1 if a relevant document is among the first k."""
    return (_hit_counts(graded, cutoff) > 0).astype(np.float64)


def _reciprocal_rank(graded: _Graded, cutoff: int | None) -> _Floats:
    """Voorhees 1999 (TREC-8 QA): 1 over the rank of the first relevant document."""
    hits = graded.hits[:, :cutoff]  # (queries, k)
    return np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0)


def _average_precision(graded: _Graded, cutoff: int | None) -> _Floats:
    """Voorhees & Harman 2005, chapter 3; the sum is over the number of all relevant documents."""
    hits = graded.hits[:, :cutoff]  # (queries, k)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)  # (queries, k)
    return _ratio((precision * hits).sum(axis=1), graded.relevant)


def _r_precision(graded: _Graded, cutoff: int | None) -> _Floats:
    """Voorhees & Harman 2005, chapter 3: precision at the number of relevant documents."""
    in_reach = np.arange(graded.gains.shape[1]) < graded.relevant[:, None]  # (queries, depth)
    return _ratio((graded.hits & in_reach).sum(axis=1).astype(np.float64), graded.relevant)


_FORMULAS: dict[str, Callable[[_Graded, int | None], _Floats]] = {
    "nDCG": _ndcg,
    "R": _recall,
    "MRR": _reciprocal_rank,
    "RR": _reciprocal_rank,
    "MAP": _average_precision,
    "AP": _average_precision,
    "P": _precision,
    "Rprec": _r_precision,
    "Success": _success,
}
_WITH_CUTOFF = frozenset({"R", "P", "Success"})
_WITHOUT_CUTOFF = frozenset({"Rprec"})


@dataclass(frozen=True, slots=True)
class Measure:
    """A ranking measure with an optional cutoff.

    MRR and RR are the same formula, and so are MAP and AP: some write the name of the mean, some
    that of the single query.

    Args:
        name: One of nDCG, R, MRR, RR, MAP, AP, P, Rprec, Success.
        cutoff: Number of top documents that count, at least 1; None for all retrieved documents.
            R, P and Success need a cutoff, Rprec has none.

    Raises:
        ValueError: The name is unknown, or the cutoff is below 1 or not allowed for the measure.

    Source: the formulas of trec_eval 9.0 (m_ndcg_cut, m_recall, m_recip_rank, m_map, m_map_cut,
    m_P, m_Rprec, m_success); papers at the functions. MRR@k, which trec_eval does not have, is its
    recip_rank if the first relevant document is among the first k, else 0.

    >>> measure = nDCG @ 10
    >>> str(measure)
    'nDCG@10'
    >>> (R @ 1).scores({"q": {"a": 2.0, "b": 1.0}}, {"q": {"a": 1, "c": 1}, "empty": {"a": 1}})
    {'q': 0.5, 'empty': 0.0}
    """

    name: str
    cutoff: int | None = None

    def __post_init__(self) -> None:
        if self.name not in _FORMULAS:
            raise ValueError(f"measure is {self.name!r}; expected one of {_names()}")
        if self.cutoff is None:
            return
        if self.name in _WITHOUT_CUTOFF:
            raise ValueError(f"{self.name} takes no cutoff, but got {self.cutoff!r}")
        if not isinstance(self.cutoff, int) or isinstance(self.cutoff, bool) or self.cutoff < 1:
            raise ValueError(f"cutoff of {self.name} is {self.cutoff!r}; expected 1 or more")

    def __matmul__(self, cutoff: int) -> Measure:
        if self.cutoff is not None:
            raise ValueError(f"{self} already has a cutoff")
        return Measure(self.name, cutoff)

    def __str__(self) -> str:
        return self.name if self.cutoff is None else f"{self.name}@{self.cutoff}"

    def scores(self, run: Run, qrels: Qrels) -> dict[str, float]:
        """Return the score of each query of the qrels, in their order, between 0 and 1.

        Queries without results score 0. For several measures `score_run` sorts the run only once.

        Raises:
            ValueError: A score of the run is NaN, or the measure needs a cutoff and has none.
        """
        return score_run([self], run, qrels)[self]


nDCG = Measure("nDCG")
R = Measure("R")
MRR = Measure("MRR")
RR = Measure("RR")
MAP = Measure("MAP")
AP = Measure("AP")
P = Measure("P")
Rprec = Measure("Rprec")
Success = Measure("Success")


def parse_measure(text: str) -> Measure:
    """Parse a measure from its printed form.

    Raises:
        ValueError: There is no such measure, or its cutoff is invalid or missing.

    >>> parse_measure("R@100")
    Measure(name='R', cutoff=100)
    """
    name, at, cutoff = (part.strip() for part in text.partition("@"))
    if name not in _FORMULAS:
        raise ValueError(f"measure is {text!r}; expected one of {_names()}")
    if not at:
        measure = Measure(name)
        _require_cutoff(measure)
        return measure
    if not (cutoff.isascii() and cutoff.isdigit()):
        raise ValueError(f"cutoff of {text!r} is {cutoff!r}; expected a number, such as {name}@10")
    return Measure(name, int(cutoff))


def score_run(
    measures: Iterable[Measure], run: Run, qrels: Qrels
) -> dict[Measure, dict[str, float]]:
    """Return the scores of each measure for each query of the qrels; the run is sorted only once.

    Raises:
        ValueError: A score of the run is NaN, or a measure needs a cutoff and has none.
    """
    unique = list(dict.fromkeys(measures))
    for measure in unique:
        _require_cutoff(measure)
    cutoffs = [measure.cutoff for measure in unique]
    depth = None if None in cutoffs else max((k for k in cutoffs if k is not None), default=1)
    graded = _grade(run, qrels, depth)
    return {
        measure: dict(
            zip(qrels, _FORMULAS[measure.name](graded, measure.cutoff).tolist(), strict=True)
        )
        for measure in unique
    }


def _grade(run: Run, qrels: Qrels, depth: int | None) -> _Graded:
    gains = [
        [judged.get(doc_id, 0) for doc_id in _ranked(query_id, run.get(query_id, {}))[:depth]]
        for query_id, judged in qrels.items()
    ]
    ideal = [sorted(judged.values(), reverse=True) for judged in qrels.values()]
    grades = _matrix(ideal)
    return _Graded(_matrix(gains), grades, (grades > 0).sum(axis=1).astype(np.float64))


def _ranked(query_id: str, scores: Mapping[str, float]) -> list[str]:
    values = np.fromiter(scores.values(), np.float64, len(scores))  # (documents,)
    if np.isnan(values).any():
        doc_id = list(scores)[int(np.isnan(values).argmax())]
        raise ValueError(
            f"the score of document {doc_id!r} for query {query_id!r} is NaN; expected a number"
        )
    with np.errstate(over="ignore"):  # scores beyond single precision tie at infinity
        single = values.astype(np.float32).tolist()
    return [doc_id for _, doc_id in sorted(zip(single, scores, strict=True), reverse=True)]


def _matrix(rows: Sequence[Sequence[int]]) -> _Floats:
    """Stack rows of grades, padded with 0, negative grades raised to 0, in at least one column."""
    matrix = np.zeros((len(rows), max((len(row) for row in rows), default=0) or 1))
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = row
    return np.maximum(matrix, 0)


def _require_cutoff(measure: Measure) -> None:
    if measure.name in _WITH_CUTOFF and measure.cutoff is None:
        raise ValueError(f"{measure} needs a cutoff, such as {measure}@10")


def _names() -> str:
    return ", ".join(f"{name}@k" if name in _WITH_CUTOFF else name for name in _FORMULAS)
