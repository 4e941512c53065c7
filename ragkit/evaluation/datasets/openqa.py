"""Open questions: Natural Questions, PubMedQA, StrategyQA, FEVER, LLaMP's magnetism."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.faults import Faults, Malformed, Place
from ragkit.evaluation.datasets.pairs import csv_rows
from ragkit.evaluation.datasets.passages import Passages, content_id
from ragkit.evaluation.datasets.reading import (
    Source,
    identifier,
    items,
    json_members,
    json_values,
    mapping,
    once,
    query_text,
    short,
    text,
    texts,
)
from ragkit.evaluation.datasets.shapes import QASet, Question

Record = Callable[[Place, dict[str, Any], Passages], Question]


def read_nq_open(path: str | Path, *, lenient: bool = False) -> QASet:
    """Closed-book questions: JSON Lines of `question` and `answer`, a string or a list of them.

    A question's id is the number of its line.

    Args:
        path: The file; a JSON array will do (HotpotQA as ReAct simplified it).
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Lee et al. 2019, https://github.com/google-research-datasets/natural-questions.
    """
    return _read(Path(path), _open_question, lenient=lenient)


def read_litm(path: str | Path, *, lenient: bool = False) -> QASet:
    """Natural Questions with passages, gold and others, of "Lost in the middle".

    Ids of passages follow from their content, so that the files with 1, 10, 20 and 30 passages
    agree; a question's id is the number of its line. The order in which the passages were
    published is in `metadata["order"]`.

    Args:
        path: JSON Lines; .gz is unpacked.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Liu et al. 2024, https://github.com/nelson-liu/lost-in-the-middle.
    """
    return _read(Path(path), _litm_question, lenient=lenient)


def read_strategyqa(path: str | Path, *, lenient: bool = False) -> QASet:
    """StrategyQA; the facts are the passages, the answer is "yes" or "no".

    Args:
        path: The JSON file.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Geva et al. 2021, https://github.com/eladsegal/strategyqa.
    """
    return _read(Path(path), _strategy_question, lenient=lenient)


def read_fever(path: str | Path, *, lenient: bool = False) -> QASet:
    """FEVER claims; the answer is the label, `gold` are the titles of the evidence pages.

    Args:
        path: JSON Lines.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Thorne et al. 2018, https://fever.ai/dataset/fever.html.
    """
    return _read(Path(path), _fever_question, lenient=lenient)


def read_pubmedqa(path: str | Path, *, lenient: bool = False) -> QASet:
    """PubMedQA; the passages are the abstracts without their conclusions.

    The answer is "yes", "no" or "maybe". `metadata` has the conclusion ("long_answer"), the year,
    MeSH terms and the labels of the abstract's sections, which are its lines.

    Args:
        path: A JSON object of PubMed id → record.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Jin et al. 2019, https://github.com/pubmedqa/pubmedqa.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    questions: dict[str, Question] = {}
    for place, key, value in json_members(Source(Path(path)), faults):
        with faults.at(place):
            row = mapping(value)
            once(questions, key, "question")
            sections = items(row, "CONTEXTS")
            texts(sections, "CONTEXTS")
            metadata = {
                "labels": _strings(items(row, "LABELS"), "LABELS"),
                "year": row.get("YEAR"),
                "meshes": texts(items(row, "MESHES"), "MESHES"),
                "long_answer": text(row, "LONG_ANSWER", ""),
            }
            question = query_text(row, "QUESTION")
            passages.add(key, "\n".join(" ".join(part.split()) for part in sections), "")
            answer = text(row, "final_decision")
            questions[key] = Question(key, question, (answer,), (key,), metadata)
    asked = tuple(questions.values())
    return QASet(Path(path).stem, "all", passages.all(), asked, faults.losses())


def read_llamp(path: str | Path, *, lenient: bool = False) -> QASet:
    """LLaMP's questions on magnetic ordering; id and `gold` are the Materials Project's id.

    The answer is the ordering (FM, FiM, AFM, NM), or none where the Materials Project had none.
    Columns with answers of models are left out.

    Args:
        path: The CSV file.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A column is missing, or a row is malformed.

    Source:
        Chiang et al. 2024, https://github.com/chiang-yuan/llamp; values from the Materials
        Project, CC BY 4.0.
    """
    faults = Faults(lenient=lenient)
    source = Source(Path(path))
    questions: dict[str, Question] = {}
    header: list[str] = []
    for place, cells in csv_rows(source, faults):
        if not header:
            header = cells
            continue
        with faults.at(place):
            if len(cells) != len(header):
                problem = f"{len(cells)} columns"
                raise Malformed(problem, "a row has as many columns as the header")
            row: dict[str, Any] = dict(zip(header, cells, strict=True))
            key = identifier(row, "material_id")
            once(questions, key, "question")
            answers = tuple(filter(None, [text(row, "ordering").strip()]))
            magnetization = text(row, "magnetization_unit", "")
            metadata = {"formula": text(row, "formula"), "magnetization_unit": magnetization}
            questions[key] = Question(key, query_text(row, "prompt"), answers, (key,), metadata)
    return QASet(source.path.stem, "all", (), tuple(questions.values()), faults.losses())


def _read(path: Path, record: Record, *, lenient: bool) -> QASet:
    faults = Faults(lenient=lenient)
    passages = Passages()
    questions: dict[str, Question] = {}
    for number, (place, value) in enumerate(json_values(Source(path), faults), start=1):
        with faults.at(place):
            row = mapping(value)
            question = record(Place(place.file, str(number)), row, passages)
            once(questions, question.id, "question")
            questions[question.id] = question
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return QASet(name, "all", passages.all(), tuple(questions.values()), faults.losses())


def _strings(values: list[Any], name: str) -> tuple[str, ...]:
    """The strings of a list, repeated ones too, or `Malformed`."""
    texts(values, name)
    return tuple(values)


def _open_question(place: Place, row: dict[str, Any], passages: Passages) -> Question:
    given = row.get("answer", row.get("answers"))
    answers = texts(given if isinstance(given, list) else [given], "answer")
    metadata = {"type": row["type"]} if "type" in row else {}
    return Question(place.spot, query_text(row, "question"), answers, (), metadata)


def _litm_question(place: Place, row: dict[str, Any], passages: Passages) -> Question:
    question, answers = query_text(row, "question"), texts(items(row, "answers"), "answers")
    order, gold = [], []
    for value in items(row, "ctxs"):
        passage = mapping(value)
        title, words = text(passage, "title", ""), text(passage, "text")
        order.append(passages.add(content_id("nq", title, words), words, title))
        if passage.get("isgold"):
            gold.append(order[-1])
    if not gold:
        raise Malformed("no passage is gold", "one of the ctxs needs isgold: true")
    metadata = {"order": tuple(order)}
    return Question(place.spot, question, answers, tuple(dict.fromkeys(gold)), metadata)


def _strategy_question(place: Place, row: dict[str, Any], passages: Passages) -> Question:
    key, question = identifier(row, "qid"), query_text(row, "question")
    answer = row.get("answer")
    if not isinstance(answer, bool):
        raise Malformed(f"'answer' is {short(answer)}", "'answer' must be true or false")
    facts = texts(items(row, "facts"), "facts")
    gold = tuple(passages.add(content_id("fact", "", fact), fact, "") for fact in facts)
    metadata = {
        "term": text(row, "term", ""),
        "description": text(row, "description", ""),
        "decomposition": tuple(items(row, "decomposition")),
    }
    return Question(key, question, ("yes" if answer else "no",), gold, metadata)


def _fever_question(place: Place, row: dict[str, Any], passages: Passages) -> Question:
    pages: list[str] = []
    for evidence in items(row, "evidence"):
        for line in items({"evidence": evidence}, "evidence"):
            if not isinstance(line, list) or len(line) != 4:
                remedy = "evidence is [annotation, evidence, page, sentence]"
                raise Malformed(f"evidence {short(line)}", remedy)
            if isinstance(line[2], str):
                pages.append(line[2])
    metadata = {"evidence": tuple(row.get("evidence", ()))}
    gold = tuple(dict.fromkeys(pages))
    claim = query_text(row, "claim")
    return Question(identifier(row, "id"), claim, (text(row, "label"),), gold, metadata)
