"""Readers of questions with paragraphs: SQuAD, HotpotQA, 2WikiMultihopQA, MuSiQue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.faults import Faults, Location, Malformed
from ragkit.evaluation.datasets.passages import Passages, content_id, title_id
from ragkit.evaluation.datasets.reading import (
    Source,
    as_integer,
    as_object,
    as_pair,
    as_strings,
    check_unique,
    get_id,
    get_list,
    get_query,
    get_string,
    json_members,
    json_values,
    read_text,
)
from ragkit.evaluation.datasets.shapes import QASet, Question


def read_squad(path: str | Path, *, lenient: bool = False) -> QASet:
    """Read SQuAD 1.1 or 2.0, or a data set in its format (XQuAD).

    The id of a passage is its article's title and its number in it ("Super_Bowl_50#0"). Answers
    keep their offsets in `metadata["starts"]`; unanswerable questions of version 2.0 have none.

    Args:
        path: The JSON file.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed, or an answer is not at its offset.

    Source:
        Rajpurkar et al. 2016, 2018, https://rajpurkar.github.io/SQuAD-explorer/.
    """
    faults = Faults(lenient=lenient)
    source = Source(Path(path))
    passages = Passages()
    questions: dict[str, Question] = {}
    for location, key, row in _squad_paragraphs(source, faults, passages):
        for number, value in enumerate(get_list(row, "qas")):
            with faults.at(Location(location.file, f"{location.position}.qas[{number}]")):
                question = _squad_question(as_object(value), row["context"], key)
                check_unique(questions, question.id, "question")
                questions[question.id] = question
    name = _stem(source)
    return QASet(name, "all", passages.all(), tuple(questions.values()), faults.losses())


def _squad_paragraphs(
    source: Source, faults: Faults, passages: Passages
) -> Iterator[tuple[Location, str, dict[str, Any]]]:
    """Yield the location, the passage id and the record of each paragraph."""
    file = str(source)
    articles: list[Any] = []
    with faults.at(Location(file, "data")):
        articles = get_list(as_object(_whole_json(source, faults)), "data")
    for a, article in enumerate(articles):
        position = f"data[{a}]"
        rows: list[Any] = []
        title = ""
        with faults.at(Location(file, position)):
            title = get_string(as_object(article), "title", str(len(articles)))
            rows = get_list(article, "paragraphs")
        for p, value in enumerate(rows):
            location = Location(file, f"{position}.paragraphs[{p}]")
            with faults.at(location):
                row = as_object(value)
                get_list(row, "qas")
                key = f"{title_id(title)}#{p}"
                passages.add(key, get_string(row, "context"), title.replace("_", " "))
                yield location, key, row


def _squad_question(row: dict[str, Any], context: str, gold: str) -> Question:
    starts: dict[str, int] = {}
    for value in get_list(row, "answers"):
        answer = as_object(value)
        words, start = (
            get_string(answer, "text"),
            as_integer(answer.get("answer_start"), "answer_start"),
        )
        if start < 0 or not context.startswith(words, start):
            problem = f"answer {words!r} is not at offset {start} of its paragraph"
            raise Malformed(problem, "offsets count the code points of the context")
        starts.setdefault(words, start)
    metadata: dict[str, Any] = {"starts": tuple(starts.values())}
    if row.get("is_impossible"):
        metadata["answerable"] = False
    question = get_query(row, "question")
    return Question(get_id(row, "id"), question, tuple(starts), (gold,), metadata)


def _whole_json(source: Source, faults: Faults) -> Any:
    try:
        return json.loads(read_text(source, faults))
    except json.JSONDecodeError as error:
        problem = f"incomplete or invalid JSON ({error})"
        remedy = "the file is truncated or damaged: download it again"
        raise Malformed(problem, remedy) from error
    except (ValueError, RecursionError) as error:
        raise Malformed(f"unreadable JSON ({error})", "download the file again") from error


def read_hotpot(
    path: str | Path, *, corpus: str | Path | None = None, lenient: bool = False
) -> QASet:
    """Read HotpotQA with its paragraphs (the "distractor" setting).

    The id of a passage is its title with underscores. Gold passages are those with a supporting
    fact; the facts (title, sentence number) are in `metadata["supporting_facts"]`.

    Args:
        path: The JSON file.
        corpus: A JSON object of title → sentences with additional passages.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed, or a supporting fact is not in the context.

    Source:
        Yang et al. 2018, https://hotpotqa.github.io/.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    if corpus is not None:
        for location, title, sentences in json_members(Source(Path(corpus)), faults):
            with faults.at(location):
                _add_sentences(passages, title, sentences, "")
    questions = _hotpot_questions(Source(Path(path)), faults, passages, "")
    return QASet(_stem(Source(Path(path))), "all", passages.all(), questions, faults.losses())


def read_2wiki(
    path: str | Path | None = None, *, corpus: str | Path | None = None, lenient: bool = False
) -> QASet:
    """Read 2WikiMultihopQA: HotpotQA's format with `evidences`, which become metadata.

    Args:
        path: The JSON file of questions; None for the corpus alone.
        corpus: A JSON array of {title, text} with additional passages.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed, or a supporting fact is not in the context.

    Source:
        Ho et al. 2020, https://github.com/Alab-NII/2wikimultihop.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    if corpus is not None:
        for location, value in json_values(Source(Path(corpus)), faults):
            with faults.at(location):
                row = as_object(value)
                title = get_string(row, "title")
                passages.add(title_id(title), get_string(row, "text"), title)
    questions: tuple[Question, ...] = ()
    if path is not None:
        questions = _hotpot_questions(Source(Path(path)), faults, passages, " ")
    name = _stem(Source(Path(path or corpus or "2wiki")))
    return QASet(name, "all", passages.all(), questions, faults.losses())


_HOTPOT_EXTRAS = ("type", "level", "evidences")


def _add_sentences(passages: Passages, title: Any, sentences: Any, space: str) -> str:
    row = {"title": title, "sentences": sentences}
    words = get_string(row, "title")
    pieces = get_list(row, "sentences")
    as_strings(pieces, "sentences")
    return passages.add(title_id(words), space.join(pieces).strip(), words)


def _hotpot_questions(
    source: Source, faults: Faults, passages: Passages, space: str
) -> tuple[Question, ...]:
    questions: dict[str, Question] = {}
    for location, value in json_values(source, faults):
        with faults.at(location):
            row = as_object(value)
            key = get_id(row, "_id", "id")
            check_unique(questions, key, "question")
            for item in get_list(row, "context"):
                title, sentences = as_pair(item, "a context paragraph")
                _add_sentences(passages, title, sentences, space)
            facts = tuple(
                (get_string({"title": title}, "title"), as_integer(number, "a sentence number"))
                for title, number in (
                    as_pair(fact, "a supporting fact") for fact in get_list(row, "supporting_facts")
                )
            )
            gold = tuple(dict.fromkeys(title_id(title) for title, _ in facts))
            passages.check(gold)
            metadata: dict[str, Any] = {n: row[n] for n in _HOTPOT_EXTRAS if n in row}
            metadata["supporting_facts"] = facts
            answers = (get_string(row, "answer"),)
            question = get_query(row, "question")
            questions[key] = Question(key, question, answers, gold, metadata)
    return tuple(questions.values())


def read_musique(
    path: str | Path, *, corpus: str | Path | None = None, lenient: bool = False
) -> QASet:
    """Read MuSiQue with its paragraphs; passage ids are derived from the content.

    The answer comes first, then its aliases; an unanswerable question has no answers. The single
    hops are in `metadata["decomposition"]`.

    Args:
        path: JSON Lines as published, or a JSON array.
        corpus: A JSON array of {title, text} with additional passages.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Trivedi et al. 2022, https://github.com/StonyBrookNLP/musique.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    if corpus is not None:
        for location, value in json_values(Source(Path(corpus)), faults):
            with faults.at(location):
                row = as_object(value)
                _add_musique(passages, get_string(row, "title"), get_string(row, "text"))
    questions: dict[str, Question] = {}
    source = Source(Path(path))
    for location, value in json_values(source, faults):
        with faults.at(location):
            question = _musique_question(as_object(value), passages)
            check_unique(questions, question.id, "question")
            questions[question.id] = question
    unique_questions = tuple(questions.values())
    return QASet(_stem(source), "all", passages.all(), unique_questions, faults.losses())


def _add_musique(passages: Passages, title: str, words: str) -> str:
    return passages.add(content_id("musique", title, words), words, title)


def _musique_question(row: dict[str, Any], passages: Passages) -> Question:
    gold = []
    for value in get_list(row, "paragraphs"):
        paragraph = as_object(value)
        key = _add_musique(
            passages, get_string(paragraph, "title"), get_string(paragraph, "paragraph_text")
        )
        if paragraph.get("is_supporting"):
            gold.append(key)
    answerable = row.get("answerable", True) is not False
    answers = as_strings(
        [get_string(row, "answer"), *get_list(row, "answer_aliases")], "answer_aliases"
    )
    metadata = {
        "answerable": answerable,
        "decomposition": tuple(get_list(row, "question_decomposition")),
    }
    return Question(
        get_id(row, "id"),
        get_query(row, "question"),
        answers if answerable else (),
        tuple(dict.fromkeys(gold)),
        metadata,
    )


def _stem(source: Source) -> str:
    return source.path.name.removesuffix(".gz").rsplit(".", 1)[0]
