"""Readers of KILT: questions with Wikipedia provenance, and its knowledge source.

Source: Petroni et al. 2021, https://github.com/facebookresearch/KILT.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.faults import Faults, Malformed
from ragkit.evaluation.datasets.reading import (
    Source,
    as_object,
    as_strings,
    check_unique,
    get_id,
    get_list,
    get_query,
    get_string,
    json_values,
)
from ragkit.evaluation.datasets.shapes import QASet, Question
from ragkit.types import Document


def read_kilt(
    path: str | Path, *, knowledge: str | Path | None = None, lenient: bool = False
) -> QASet:
    """Read KILT gold or prediction records.

    `gold` are the distinct `wikipedia_id`s of all provenance, and `metadata["outputs"]` the outputs
    as published, which KILT's scorers need: provenance belongs to an answer, and the pages of each
    answer are one evidence set. Predictions may lack `input`; their text is empty.

    Args:
        path: JSON Lines.
        knowledge: The knowledge source, whose pages become the passages; it has 5.9 million.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed, or a page is not in the knowledge source.
    """
    faults = Faults(lenient=lenient)
    passages: tuple[Document, ...] = ()
    if knowledge is not None:
        passages = tuple(_knowledge(Source(Path(knowledge)), faults))
    page_ids = {passage.id for passage in passages}
    questions: dict[str, Question] = {}
    source = Source(Path(path))
    for location, value in json_values(source, faults):
        with faults.at(location):
            question = _question(as_object(value))
            check_unique(questions, question.id, "question")
            for page in question.gold if passages else ():
                if page not in page_ids:
                    problem = f"page {page!r} is not in the knowledge source"
                    raise Malformed(problem, "use the knowledge source of 2019-08-01")
            questions[question.id] = question
    name = source.path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return QASet(name, "all", passages, tuple(questions.values()), faults.losses())


def read_kilt_knowledge(path: str | Path, *, lenient: bool = False) -> Iterator[Document]:
    """Yield the pages of KILT's knowledge source, one at a time; the id is the `wikipedia_id`.

    Args:
        path: JSON Lines; .gz is decompressed.
        lenient: Skip malformed records and report them as losses (see `ragkit.losses`).

    Raises:
        DatasetError: A record is malformed.
    """
    faults = Faults(lenient=lenient)
    yield from _knowledge(Source(Path(path)), faults)
    faults.report()


def _knowledge(source: Source, faults: Faults) -> Iterator[Document]:
    seen: set[str] = set()
    for location, value in json_values(source, faults):
        with faults.at(location):
            row = as_object(value)
            key = get_id(row, "wikipedia_id", "_id")
            check_unique(seen, key, "page")
            seen.add(key)
            paragraphs = get_list(row, "text")
            for paragraph in paragraphs:
                get_string({"text": paragraph}, "text")
            yield Document(key, "".join(paragraphs), get_string(row, "wikipedia_title"))


def _question(row: dict[str, Any]) -> Question:
    answers: list[Any] = []
    pages: list[str] = []
    outputs = get_list(row, "output")
    for output in map(as_object, outputs):
        if output.get("answer") is not None:
            answers.append(output["answer"])
        for provenance in get_list(output, "provenance"):
            pages.append(get_id(as_object(provenance), "wikipedia_id"))
    question = get_query(row, "input") if "input" in row else ""
    metadata = {"outputs": tuple(outputs), **as_object(row.get("meta") or {})}
    gold = tuple(dict.fromkeys(pages))
    return Question(get_id(row, "id"), question, as_strings(answers, "answer"), gold, metadata)
