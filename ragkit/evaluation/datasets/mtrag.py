"""Readers of MTRAG: conversations whose last turn is to be answered or rewritten.

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
    as_object,
    check_unique,
    get_id,
    get_list,
    get_query,
    get_string,
    json_values,
)
from ragkit.evaluation.datasets.shapes import QASet, Question
from ragkit.evaluation.datasets.trec import judgements

DOMAINS = ("clapnq", "cloud", "fiqa", "govt")
_USER = "|user|:"


def read_mtrag_tasks(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read MTRAG-UN's generation tasks: the last user turn is the question, its contexts are gold.

    `metadata` has the earlier turns ("history": (speaker, text)), "answerability", "types" and
    "domain". The reference reply is the answer, even if it says that there is no answer.

    Args:
        path: Path of reference.jsonl.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    questions: dict[str, Question] = {}
    source = Source(Path(path))
    for location, value in json_values(source, faults):
        with faults.at(location):
            question = _task(as_object(value), passages)
            check_unique(questions, question.id, "task")
            questions[question.id] = question
    unique_questions = tuple(questions.values())
    return QASet(source.path.stem, "all", passages.all(), unique_questions, faults.losses())


def _task(row: dict[str, Any], passages: Passages) -> Question:
    turns = [as_object(turn) for turn in get_list(row, "input")]
    if not turns or turns[-1].get("speaker") != "user":
        raise Malformed("the last turn is not the user's", "'input' must end with the question")
    gold = []
    for context in map(as_object, get_list(row, "contexts")):
        key = get_id(context, "document_id")
        gold.append(
            passages.add(key, get_string(context, "text"), get_string(context, "title", ""))
        )
    metadata = {
        "history": tuple(
            (get_string(turn, "speaker"), get_string(turn, "text")) for turn in turns[:-1]
        ),
        "answerability": tuple(get_list(row, "answerability")),
        "types": tuple(get_list(row, "Question Type")),
        "domain": get_string(row, "Collection", ""),
    }
    answers = tuple(get_string(as_object(target), "text") for target in get_list(row, "targets"))
    question = get_query(turns[-1], "text")
    return Question(get_id(row, "task_id"), question, answers, tuple(gold), metadata)


def read_mtrag_queries(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read MTRAG's retrieval tasks: the last turn with its human rewrite, for query rewriting.

    The text is the last turn as typed; `metadata` has the "rewrite", all "questions" of the
    conversation and the "domain". `gold` refers to corpora that are published separately.

    Args:
        path: The folder with one folder per domain.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A file is missing, or a record is malformed.
    """
    faults = Faults(lenient=lenient)
    questions: list[Question] = []
    for domain in DOMAINS:
        folder = Path(path) / domain
        texts = {
            kind: beir_queries(Source(folder / f"{domain}_{kind}.jsonl"), faults)
            for kind in ("lastturn", "rewrite", "questions")
        }
        qrels = judgements(Source(folder / "qrels" / "dev.tsv"), faults, queries=texts["lastturn"])
        for key, words in texts["lastturn"].items():
            history = texts["questions"].get(key, "").split(_USER)
            metadata = {
                "rewrite": texts["rewrite"].get(key, "").removeprefix(_USER).strip(),
                "questions": tuple(turn.strip() for turn in history if turn.strip()),
                "domain": domain,
            }
            question = words.removeprefix(_USER).strip()
            gold = tuple(qrels.get(key, ()))
            questions.append(Question(key, question, (), gold, metadata))
    return QASet("mtrag", "dev", (), tuple(questions), faults.losses())
