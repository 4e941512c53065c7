"""Readers of open-domain questions: Natural Questions, CLAP NQ, PubMedQA, StrategyQA, and more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.faults import Faults, Location, Malformed
from ragkit.evaluation.datasets.pairs import csv_rows
from ragkit.evaluation.datasets.passages import Passages, content_id
from ragkit.evaluation.datasets.reading import (
    Source,
    abbreviate,
    as_object,
    as_strings,
    check_unique,
    get_id,
    get_list,
    get_query,
    get_string,
    json_members,
    json_values,
)
from ragkit.evaluation.datasets.shapes import QASet, Question

Record = Callable[[Location, dict[str, Any], Passages], Question]


def read_nq_open(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read questions without passages: JSON Lines of `question` and `answers`.

    `answers` (or `answer`) is a string or a list, empty if a system is to refuse; `gold` names the
    documents with the answer, if known. The id of a question is its line number.

    Args:
        path: The file; a JSON array is accepted too (HotpotQA in ReAct's simplified format).
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Lee et al. 2019, https://github.com/google-research-datasets/natural-questions.
    """
    return _read(Path(path), _open_question, lenient=lenient)


def read_litm(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read Natural Questions of "Lost in the Middle", with gold and other passages.

    Passage ids are derived from the content, so that the files with 1, 10, 20 and 30 passages
    agree; the id of a question is its line number. The published order of the passages is in
    `metadata["order"]`.

    Args:
        path: JSON Lines; .gz is decompressed.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Liu et al. 2024, https://github.com/nelson-liu/lost-in-the-middle.
    """
    return _read(Path(path), _litm_question, lenient=lenient)


def read_clapnq(folder: str | Path, *, lenient: bool = False) -> QASet:
    """Read CLAP NQ: `answerable.jsonl` and `unanswerable.jsonl` (or .gz) of one folder.

    `answers` are the written answers, none if the passage does not answer. `metadata["spans"]` are
    the sentences that annotators chose: (passage id, start, end).

    Args:
        folder: The folder.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Rosenthal et al. 2025, "CLAPnq", https://github.com/primeqa/clapnq.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    questions: dict[str, Question] = {}
    for name in ("answerable", "unanswerable"):
        packed = Path(folder) / f"{name}.jsonl.gz"
        path = packed if packed.exists() else Path(folder) / f"{name}.jsonl"
        for location, value in json_values(Source(path), faults):
            with faults.at(location):
                question = _clap_question(as_object(value), passages)
                check_unique(questions, question.id, "question")
                questions[question.id] = question
    return QASet("clapnq", "all", passages.all(), tuple(questions.values()), faults.losses())


def read_strategyqa(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read StrategyQA; the facts are the passages, the answer is "yes" or "no".

    Args:
        path: The JSON file.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Geva et al. 2021, https://github.com/eladsegal/strategyqa.
    """
    return _read(Path(path), _strategy_question, lenient=lenient)


def read_fever(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read FEVER claims; the answer is the label, `gold` are the titles of the evidence pages.

    Args:
        path: JSON Lines.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Thorne et al. 2018, https://fever.ai/dataset/fever.html.
    """
    return _read(Path(path), _fever_question, lenient=lenient)


def read_pubmedqa(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read PubMedQA; the passages are the abstracts without their conclusions.

    The answer is "yes", "no" or "maybe". `metadata` has the conclusion ("long_answer"), the year,
    the MeSH terms and the labels of the abstract's sections, one section per line.

    Args:
        path: A JSON object of PubMed id → record.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Jin et al. 2019, https://github.com/pubmedqa/pubmedqa.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    questions: dict[str, Question] = {}
    for location, key, value in json_members(Source(Path(path)), faults):
        with faults.at(location):
            row = as_object(value)
            check_unique(questions, key, "question")
            sections = get_list(row, "CONTEXTS")
            as_strings(sections, "CONTEXTS")
            metadata = {
                "labels": _strings(get_list(row, "LABELS"), "LABELS"),
                "year": row.get("YEAR"),
                "meshes": as_strings(get_list(row, "MESHES"), "MESHES"),
                "long_answer": get_string(row, "LONG_ANSWER", ""),
            }
            question = get_query(row, "QUESTION")
            passages.add(key, "\n".join(" ".join(part.split()) for part in sections), "")
            answer = get_string(row, "final_decision")
            questions[key] = Question(key, question, (answer,), (key,), metadata)
    unique_questions = tuple(questions.values())
    return QASet(Path(path).stem, "all", passages.all(), unique_questions, faults.losses())


def read_llamp(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read LLaMP's questions on magnetic ordering; id and `gold` are Materials Project ids.

    The answer is the ordering (FM, FiM, AFM, NM), or empty if the Materials Project had none.
    Columns with answers of models are ignored.

    Args:
        path: The CSV file.
        lenient: Skip malformed records and list them in `losses`.

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
    for location, cells in csv_rows(source, faults):
        if not header:
            header = cells
            continue
        with faults.at(location):
            if len(cells) != len(header):
                problem = f"{len(cells)} columns"
                raise Malformed(problem, "a row must have as many columns as the header")
            row: dict[str, Any] = dict(zip(header, cells, strict=True))
            key = get_id(row, "material_id")
            check_unique(questions, key, "question")
            answers = tuple(filter(None, [get_string(row, "ordering").strip()]))
            magnetization = get_string(row, "magnetization_unit", "")
            metadata = {"formula": get_string(row, "formula"), "magnetization_unit": magnetization}
            questions[key] = Question(key, get_query(row, "prompt"), answers, (key,), metadata)
    return QASet(source.path.stem, "all", (), tuple(questions.values()), faults.losses())


def _read(path: Path, record: Record, *, lenient: bool) -> QASet:
    faults = Faults(lenient=lenient)
    passages = Passages()
    questions: dict[str, Question] = {}
    for number, (location, value) in enumerate(json_values(Source(path), faults), start=1):
        with faults.at(location):
            row = as_object(value)
            question = record(Location(location.file, str(number)), row, passages)
            check_unique(questions, question.id, "question")
            questions[question.id] = question
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return QASet(name, "all", passages.all(), tuple(questions.values()), faults.losses())


def _strings(values: list[Any], name: str) -> tuple[str, ...]:
    """Return the strings of a list including duplicates; raise `Malformed` for other values."""
    as_strings(values, name)
    return tuple(values)


def _open_question(location: Location, row: dict[str, Any], passages: Passages) -> Question:
    answer = row.get("answer", row.get("answers"))
    answers = as_strings(answer if isinstance(answer, list) else [answer], "answer")
    gold = row.get("gold", [])
    gold = as_strings(gold if isinstance(gold, list) else [gold], "gold")
    metadata = {"type": row["type"]} if "type" in row else {}
    return Question(location.position, get_query(row, "question"), answers, gold, metadata)


def _litm_question(location: Location, row: dict[str, Any], passages: Passages) -> Question:
    question, answers = get_query(row, "question"), as_strings(get_list(row, "answers"), "answers")
    order, gold = [], []
    for value in get_list(row, "ctxs"):
        passage = as_object(value)
        title, words = get_string(passage, "title", ""), get_string(passage, "text")
        order.append(passages.add(content_id("nq", title, words), words, title))
        if passage.get("isgold"):
            gold.append(order[-1])
    if not gold:
        raise Malformed("no passage is gold", "one of the ctxs must have isgold: true")
    metadata = {"order": tuple(order)}
    return Question(location.position, question, answers, tuple(dict.fromkeys(gold)), metadata)


def _clap_question(row: dict[str, Any], passages: Passages) -> Question:
    gold, places = [], {}
    for value in get_list(row, "passages"):
        passage = as_object(value)
        sentences = _strings(get_list(passage, "sentences"), "sentences")
        title, words = get_string(passage, "title", ""), " ".join(sentences)
        gold.append(passages.add(content_id("clapnq", title, words), words, title))
        start = 0
        for sentence in sentences:
            places[sentence] = (gold[-1], start, start + len(sentence))
            start += len(sentence) + 1
    outputs = [as_object(value) for value in get_list(row, "output")]
    answers = [get_string(output, "answer", "").strip() for output in outputs]
    chosen = [text for output in outputs for text in get_list(output, "selected_sentences")]
    spans = tuple(dict.fromkeys(places[text] for text in chosen if text in places))
    found = tuple(dict.fromkeys(filter(None, answers)))
    return Question(
        get_id(row, "id"), get_query(row, "input"), found, tuple(gold), {"spans": spans}
    )


def _strategy_question(location: Location, row: dict[str, Any], passages: Passages) -> Question:
    key, question = get_id(row, "qid"), get_query(row, "question")
    answer = row.get("answer")
    if not isinstance(answer, bool):
        raise Malformed(f"'answer' is {abbreviate(answer)}", "'answer' must be true or false")
    facts = as_strings(get_list(row, "facts"), "facts")
    gold = tuple(passages.add(content_id("fact", "", fact), fact, "") for fact in facts)
    metadata = {
        "term": get_string(row, "term", ""),
        "description": get_string(row, "description", ""),
        "decomposition": tuple(get_list(row, "decomposition")),
    }
    return Question(key, question, ("yes" if answer else "no",), gold, metadata)


def _fever_question(location: Location, row: dict[str, Any], passages: Passages) -> Question:
    pages: list[str] = []
    for evidence in get_list(row, "evidence"):
        for line in get_list({"evidence": evidence}, "evidence"):
            if not isinstance(line, list) or len(line) != 4:
                remedy = "evidence must be [annotation, evidence, page, sentence]"
                raise Malformed(f"evidence {abbreviate(line)}", remedy)
            if isinstance(line[2], str):
                pages.append(line[2])
    metadata = {"evidence": tuple(row.get("evidence", ()))}
    gold = tuple(dict.fromkeys(pages))
    claim = get_query(row, "claim")
    return Question(get_id(row, "id"), claim, (get_string(row, "label"),), gold, metadata)
