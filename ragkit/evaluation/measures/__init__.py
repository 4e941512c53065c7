"""Evaluation measures, each with its source.

- `ranking`: nDCG, R, MRR, MAP, P, Rprec, Success, as values with operators: `nDCG @ 10`.
- `answers`: exact match, token F1, accuracy, ROUGE-L.
- `kilt`: answers that count only if the retrieved pages are right.
- `spans`: precision and recall of cited spans against gold spans.
- `answerability`: precision and recall of answering, the risk-coverage curve, AUROC.
- `consistency`: SCoR, always with the mean absolute error.
- `correlation`: Pearson and Spearman.

Measures that always have a value return a float. Those that can be undefined return a `Score`: a
number or a cause, never NaN.
"""

from ragkit.evaluation.measures.answerability import (
    Answerability,
    RiskCoverage,
    answerability,
    auroc,
    risk_coverage,
)
from ragkit.evaluation.measures.answers import (
    accuracy,
    exact_match,
    normalise,
    rouge_l,
    token_f1,
)
from ragkit.evaluation.measures.consistency import Consistency, MeanConsistency, mean_scor, scor
from ragkit.evaluation.measures.correlation import pearson, spearman
from ragkit.evaluation.measures.kilt import kilt_em, kilt_f1, kilt_score, page_r_precision
from ragkit.evaluation.measures.ranking import (
    AP,
    MAP,
    MRR,
    RR,
    Measure,
    P,
    Qrels,
    R,
    Rprec,
    Run,
    Success,
    nDCG,
    parse_measure,
    score_run,
)
from ragkit.evaluation.measures.score import Score
from ragkit.evaluation.measures.spans import Span, citation_precision, citation_recall

__all__ = [
    "AP",
    "MAP",
    "MRR",
    "RR",
    "Answerability",
    "Consistency",
    "MeanConsistency",
    "Measure",
    "P",
    "Qrels",
    "R",
    "RiskCoverage",
    "Rprec",
    "Run",
    "Score",
    "Span",
    "Success",
    "accuracy",
    "answerability",
    "auroc",
    "citation_precision",
    "citation_recall",
    "exact_match",
    "kilt_em",
    "kilt_f1",
    "kilt_score",
    "mean_scor",
    "nDCG",
    "normalise",
    "page_r_precision",
    "parse_measure",
    "pearson",
    "risk_coverage",
    "rouge_l",
    "scor",
    "score_run",
    "spearman",
    "token_f1",
]
