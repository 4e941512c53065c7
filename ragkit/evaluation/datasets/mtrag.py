"""MTRAG: conversations whose last turn has to be answered or rewritten.

Source: Katsis et al. 2025 and Rosenthal et al. 2026, https://github.com/IBM/mt-rag-benchmark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.beir import beir_queries
from ragkit.evaluation.datasets.faults import Faults, Malformed
from ragkit.evaluation.datasets.passages import Passages
from ragkit.evaluation.datasets.reading import (
    Source,
    identifier,
    items,
    json_values,
    mapping,
    once,
    query_text,
    text,
)
from ragkit.evaluation.datasets.shapes import QASet, Question
from ragkit.evaluation.datasets.trec import judgements

DOMAINS = ("clapnq", "cloud", "fiqa", "govt")
_USER = "|user|:"


def read_mtrag_tasks(path: str | Path, *, lenient: bool = False) -> QASet:
    """MTRAG-UN's generation tasks: the last user turn is the question, its contexts are gold.

    `metadata` has the earlier turns ("history": (speaker, text)), "answerability", "types" and
    "domain". The reference reply is the answer, also where it says that there is none.

    Args:
        path: reference.jsonl.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    questions: dict[str, Question] = {}
    source = Source(Path(path))
    for place, value in json_values(source, faults):
        with faults.at(place):
            question = _task(mapping(value), passages)
            once(questions, question.id, "task")
            questions[question.id] = question
    asked = tuple(questions.values())
    return QASet(source.path.stem, "all", passages.all(), asked, faults.losses())


def _task(row: dict[str, Any], passages: Passages) -> Question:
    turns = [mapping(turn) for turn in items(row, "input")]
    if not turns or turns[-1].get("speaker") != "user":
        raise Malformed("the last turn is not the user's", "'input' ends with the question")
    gold = []
    for context in map(mapping, items(row, "contexts")):
        key = identifier(context, "document_id")
        gold.append(passages.add(key, text(context, "text"), text(context, "title", "")))
    metadata = {
        "history": tuple((text(turn, "speaker"), text(turn, "text")) for turn in turns[:-1]),
        "answerability": tuple(items(row, "answerability")),
        "types": tuple(items(row, "Question Type")),
        "domain": text(row, "Collection", ""),
    }
    answers = tuple(text(mapping(target), "text") for target in items(row, "targets"))
    question = query_text(turns[-1], "text")
    return Question(identifier(row, "task_id"), question, answers, tuple(gold), metadata)


def read_mtrag_queries(path: str | Path, *, lenient: bool = False) -> QASet:
    """MTRAG's retrieval tasks: the last turn, with its human rewrite, for query rewriting.

    The text is the last turn as it was typed; `metadata` has the "rewrite", all "questions" of the
    conversation and the "domain". `gold` names passages of corpora that are published apart.

    Args:
        path: The folder with one folder a domain.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A file is missing, or a record is malformed.
    """
    faults = Faults(lenient=lenient)
    questions: list[Question] = []
    for domain in DOMAINS:
        folder = Path(path) / domain
        kinds = {
            kind: beir_queries(Source(folder / f"{domain}_{kind}.jsonl"), faults)
            for kind in ("lastturn", "rewrite", "questions")
        }
        qrels = judgements(Source(folder / "qrels" / "dev.tsv"), faults, queries=kinds["lastturn"])
        for key, words in kinds["lastturn"].items():
            history = kinds["questions"].get(key, "").split(_USER)
            metadata = {
                "rewrite": kinds["rewrite"].get(key, "").removeprefix(_USER).strip(),
                "questions": tuple(turn.strip() for turn in history if turn.strip()),
                "domain": domain,
            }
            question = words.removeprefix(_USER).strip()
            gold = tuple(qrels.get(key, ()))
            questions.append(Question(key, question, (), gold, metadata))
    return QASet("mtrag", "dev", (), tuple(questions), faults.losses())
