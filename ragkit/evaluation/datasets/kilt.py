"""KILT: questions with Wikipedia provenance, and its knowledge source.

Source: Petroni et al. 2021, https://github.com/facebookresearch/KILT.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.faults import Faults, Malformed
from ragkit.evaluation.datasets.reading import (
    Source,
    identifier,
    items,
    json_values,
    mapping,
    once,
    query_text,
    text,
    texts,
)
from ragkit.evaluation.datasets.shapes import QASet, Question
from ragkit.types import Document


def read_kilt(
    path: str | Path, *, knowledge: str | Path | None = None, lenient: bool = False
) -> QASet:
    """KILT gold or prediction records.

    `gold` are the different `wikipedia_id`s of all provenance, and `metadata["outputs"]` the
    records' outputs as published, which KILT's scorers need: provenance belongs to an answer, and
    each answer's pages are one evidence set. Predictions may lack `input`; their text is empty.

    Args:
        path: JSON Lines.
        knowledge: The knowledge source, whose pages become the passages; it has 5.9 million.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed, or a page is not in the knowledge source.
    """
    faults = Faults(lenient=lenient)
    passages: tuple[Document, ...] = ()
    if knowledge is not None:
        passages = tuple(_knowledge(Source(Path(knowledge)), faults))
    known = {passage.id for passage in passages}
    questions: dict[str, Question] = {}
    source = Source(Path(path))
    for place, value in json_values(source, faults):
        with faults.at(place):
            question = _question(mapping(value))
            once(questions, question.id, "question")
            for page in question.gold if passages else ():
                if page not in known:
                    problem = f"page {page!r} is not in the knowledge source"
                    raise Malformed(problem, "use the knowledge source of 2019-08-01")
            questions[question.id] = question
    name = source.path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return QASet(name, "all", passages, tuple(questions.values()), faults.losses())


def read_kilt_knowledge(path: str | Path, *, lenient: bool = False) -> Iterator[Document]:
    """The pages of KILT's knowledge source, one at a time; the id is the `wikipedia_id`.

    Args:
        path: JSON Lines; .gz is unpacked.
        lenient: Skip malformed records and report them as losses (see `ragkit.losses`).

    Raises:
        DatasetError: A record is malformed.
    """
    faults = Faults(lenient=lenient)
    yield from _knowledge(Source(Path(path)), faults)
    faults.report()


def _knowledge(source: Source, faults: Faults) -> Iterator[Document]:
    seen: set[str] = set()
    for place, value in json_values(source, faults):
        with faults.at(place):
            row = mapping(value)
            key = identifier(row, "wikipedia_id", "_id")
            once(seen, key, "page")
            seen.add(key)
            paragraphs = items(row, "text")
            for paragraph in paragraphs:
                text({"text": paragraph}, "text")
            yield Document(key, "".join(paragraphs), text(row, "wikipedia_title"))


def _question(row: dict[str, Any]) -> Question:
    answers: list[Any] = []
    pages: list[str] = []
    outputs = items(row, "output")
    for output in map(mapping, outputs):
        if output.get("answer") is not None:
            answers.append(output["answer"])
        for provenance in items(output, "provenance"):
            pages.append(identifier(mapping(provenance), "wikipedia_id"))
    question = query_text(row, "input") if "input" in row else ""
    metadata = {"outputs": tuple(outputs), **mapping(row.get("meta") or {})}
    gold = tuple(dict.fromkeys(pages))
    return Question(identifier(row, "id"), question, texts(answers, "answer"), gold, metadata)
