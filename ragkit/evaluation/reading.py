"""Evaluation of answers, end to end: a question goes in, and what comes out is scored.

Each system is a retriever with a reader. Measures of a question:

- `right`: the first quote holds an answer: it overlaps a gold span where the data have them, and
  else contains one of the answers. A refusal is not right.
- `F1`, `EM`: of the short answer (the first of `Answer.spans`, else the whole text), where the
  data have answers of at most eight words.
- `citation P`, `citation R`: over characters of gold spans, or else over gold passages.
- `answered`: share of the answerable questions that are answered.
- `refused`: share of the questions without an answer that are refused.
- `risk`: of what is answered, the share without a right first quote.
- `supported`: of the sentences shown, the share that the check holds for supported.
- `seconds`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.digests import text_digest
from ragkit.durable import replace_text
from ragkit.evaluation.comparison import compare_systems, format_rows, rows_html
from ragkit.evaluation.datasets import QASet, Question
from ragkit.evaluation.experiment import file_name
from ragkit.evaluation.measures import (
    accuracy,
    citation_precision,
    citation_recall,
    exact_match,
    risk_coverage,
    token_f1,
)
from ragkit.evaluation.runs import OnQuery, append_rows, resume_rows
from ragkit.pipeline import QA
from ragkit.types import SUPPORTED, Answer

_SHORT = 8  # words of an answer that F1 and EM are computed for


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a system answered to one question.

    Attributes:
        question: Id of the question.
        text: The answer's text; empty for a refusal.
        short: The first short answer, else the text without marks; empty for a refusal.
        citations: Document id, start, end and quote of each citation.
        support: The state of each sentence.
        likelihood: Of the first sentence; None if the reader gives none.
        refusal: Reason of a refusal, or "".
        seconds: Time from question to answer.
    """

    question: str
    text: str
    short: str
    citations: tuple[tuple[str, int, int, str], ...]
    support: tuple[str, ...]
    likelihood: float | None
    refusal: str
    seconds: float


def outcome_of(question: Question, answer: Answer, seconds: float) -> Outcome:
    """Return what is kept of an answer."""
    first = answer.sentences[0] if answer.sentences else None
    quotes = " ".join(citation.quote for citation in answer.citations)
    plain = quotes if all(s.support == "quoted" for s in answer.sentences) else answer.text
    return Outcome(
        question.id,
        answer.text,
        answer.spans[0].text if answer.spans else plain,
        tuple((c.doc_id, c.start, c.end, c.quote) for c in answer.citations),
        tuple(sentence.support for sentence in answer.sentences),
        first.probability if first else None,
        answer.refusal.reason if answer.refusal else "",
        seconds,
    )


def score_outcome(question: Question, outcome: Outcome) -> dict[str, float]:
    """Return the measures of one question; those without a value are left out."""
    spans = tuple(question.metadata.get("spans", ()))
    answerable = bool(question.answers or spans)
    scores = {"seconds": outcome.seconds}
    if outcome.support:
        scores["supported"] = float(np.mean([s in SUPPORTED for s in outcome.support]))
    if not answerable:
        scores["refused"] = float(bool(outcome.refusal))
        return scores if outcome.refusal else scores | {"risk": 1.0}
    scores["answered"] = float(not outcome.refusal)
    scores["right"] = float(_is_right(question, spans, outcome))
    if not outcome.refusal:
        scores["risk"] = 1 - scores["right"]
    short = [answer for answer in question.answers if len(answer.split()) <= _SHORT]
    if short:
        scores["F1"], scores["EM"] = (
            token_f1(outcome.short, short),
            exact_match(outcome.short, short),
        )
    cited = [(doc, start, end) for doc, start, end, _ in outcome.citations]
    gold = [(str(doc), int(start), int(end)) for doc, start, end in spans]
    if not gold and question.gold:  # passages: any place of one counts
        cited = [(doc, 0, 1) for doc in {doc for doc, _, _ in cited}]
        gold = [(doc, 0, 1) for doc in question.gold]
    for name, measure in (("citation P", citation_precision), ("citation R", citation_recall)):
        value = measure(cited, gold).value
        if value is not None:
            scores[name] = value
    return scores


def _is_right(question: Question, spans: Sequence[Any], outcome: Outcome) -> bool:
    if outcome.refusal:
        return False
    if spans and outcome.citations:
        doc, start, end, _ = outcome.citations[0]
        return any(d == doc and s < end and start < e for d, s, e in spans)
    quote = outcome.citations[0][3] if outcome.citations else outcome.text
    return accuracy(quote, question.answers) == 1.0


class ReadingExperiment:
    """Answers of several systems to the same questions, their scores, and their comparison.

    Args:
        questions: The questions.
        outcomes: System → outcomes, in the order of the questions.
        baseline: System to compare the others with; default: the first.
        name: Title of the table.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        outcomes: Mapping[str, Sequence[Outcome]],
        *,
        baseline: str | None = None,
        name: str = "",
    ) -> None:
        if not outcomes or not questions:
            raise ValueError("there are no systems or no questions; expected at least one of each")
        if baseline is not None and baseline not in outcomes:
            raise ValueError(f"the baseline is {baseline!r}; expected one of {', '.join(outcomes)}")
        self.baseline = baseline or next(iter(outcomes))
        self.name = name
        self.questions = {question.id: question for question in questions}
        self.outcomes = {system: list(rows) for system, rows in outcomes.items()}
        self.scores: dict[str, dict[str, dict[str, float]]] = {}
        for system, rows in self.outcomes.items():
            by_measure: dict[str, dict[str, float]] = {}
            for row in rows:
                for measure, value in score_outcome(self.questions[row.question], row).items():
                    by_measure.setdefault(measure, {})[row.question] = value
            order = [name for name in MEASURES if name in by_measure]
            self.scores[system] = {name: by_measure[name] for name in order}
        self.rows = compare_systems(self.scores, self.baseline)

    def risk_coverage(self, system: str) -> tuple[list[float], list[float]]:
        """Return coverage and risk of a system, from the likeliest answer on."""
        rows = self.outcomes[system]
        right = self.scores[system].get("right", {})
        curve = risk_coverage(
            [-np.inf if row.likelihood is None else row.likelihood for row in rows],
            [1 - right.get(row.question, 0.0) for row in rows],
        )
        n = sum(not row.refusal for row in rows)
        return curve.coverage[:n].tolist(), curve.risk[:n].tolist()

    def __str__(self) -> str:
        title = f"{self.name + ': ' if self.name else ''}{len(self.questions)} questions"
        return format_rows(self.rows, self.baseline, title)

    def _repr_html_(self) -> str:
        return rows_html(self.rows, self.baseline)

    def to_dict(self) -> dict[str, Any]:
        """Return rows, scores by question and outcomes as a JSON object."""
        return {
            "name": self.name,
            "baseline": self.baseline,
            "rows": [asdict(row) for row in self.rows],
            "scores": self.scores,
            "risk_coverage": {
                system: dict(zip(("coverage", "risk"), self.risk_coverage(system), strict=True))
                for system in self.outcomes
            },
            "outcomes": {
                system: [asdict(row) for row in rows] for system, rows in self.outcomes.items()
            },
        }


MEASURES = (
    "right", "F1", "EM", "citation P", "citation R", "answered", "refused", "risk", "supported",
    "seconds",
)  # fmt: skip
"""The measures, in the order of the table."""


def reading_experiment(
    systems: Mapping[str, QA | Callable[[str], Answer]],
    data: QASet,
    *,
    baseline: str | None = None,
    settings: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    on_query: OnQuery | None = None,
) -> ReadingExperiment:
    """Let every system answer every question, score the answers and compare the systems.

    With a folder, each answer is saved there when it is given, so that the same call resumes after
    a crash; the final result is `reading.json`.

    Args:
        systems: Name → a `QA`, or any function from a question to an `Answer`.
        data: Questions; those without answers are to be refused.
        baseline: System to compare with; default: the first.
        settings: What the answers depend on besides names and questions (collection, versions); a
            folder with others is started anew.
        folder: Folder for intermediate and final results.
        on_query: Called with the number of answers and their total over all systems.

    Raises:
        ValueError: There are no systems or questions, or the baseline is unknown.
    """
    outcomes: dict[str, list[Outcome]] = {}
    total = len(systems) * len(data.questions)
    asked = [(question.id, question.text) for question in data.questions]
    for number, (name, system) in enumerate(systems.items()):
        ask = system.ask if isinstance(system, QA) else system
        key = text_digest(json.dumps([name, asked, dict(settings or {})], sort_keys=True))
        file = None if folder is None else Path(folder) / f"{file_name(name)}.answers.jsonl"
        done = (
            {} if file is None else {row["question"]: _read(row) for row in resume_rows(file, key)}
        )
        for i, question in enumerate(data.questions):
            if question.id not in done:
                start = time.perf_counter()
                answer = ask(question.text)
                done[question.id] = outcome_of(question, answer, time.perf_counter() - start)
                if file is not None:
                    append_rows(file, [asdict(done[question.id])])
            if on_query:
                on_query(number * len(data.questions) + i + 1, total)
        outcomes[name] = [done[question.id] for question in data.questions]
    title = f"{data.name} {data.split}".strip()
    result = ReadingExperiment(data.questions, outcomes, baseline=baseline, name=title)
    if folder is not None:
        text = json.dumps(result.to_dict(), ensure_ascii=False, indent=1)
        replace_text(Path(folder) / "reading.json", text + "\n")
    return result


def _read(row: dict[str, Any]) -> Outcome:
    citations = tuple((doc, start, end, quote) for doc, start, end, quote in row["citations"])
    return Outcome(**{**row, "citations": citations, "support": tuple(row["support"])})
