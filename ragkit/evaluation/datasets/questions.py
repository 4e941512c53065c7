"""Questions with their paragraphs: SQuAD, HotpotQA, 2WikiMultihopQA, MuSiQue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets.faults import Faults, Malformed, Place
from ragkit.evaluation.datasets.passages import Passages, content_id, title_id
from ragkit.evaluation.datasets.reading import (
    Source,
    identifier,
    items,
    json_members,
    json_values,
    mapping,
    once,
    pair,
    query_text,
    text,
    texts,
    whole_number,
    whole_text,
)
from ragkit.evaluation.datasets.shapes import QASet, Question


def read_squad(path: str | Path, *, lenient: bool = False) -> QASet:
    """SQuAD 1.1 or 2.0, and sets in its format (XQuAD).

    A passage's id is its article's title and its number in it ("Super_Bowl_50#0"). Answers keep
    their offsets in `metadata["starts"]`; a question of version 2.0 without an answer has none.

    Args:
        path: The JSON file.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed, or an answer does not stand at its offset.

    Source:
        Rajpurkar et al. 2016, 2018, https://rajpurkar.github.io/SQuAD-explorer/.
    """
    faults = Faults(lenient=lenient)
    source = Source(Path(path))
    passages = Passages()
    questions: dict[str, Question] = {}
    for place, key, row in _squad_paragraphs(source, faults, passages):
        for number, value in enumerate(items(row, "qas")):
            with faults.at(Place(place.file, f"{place.spot}.qas[{number}]")):
                question = _squad_question(mapping(value), row["context"], key)
                once(questions, question.id, "question")
                questions[question.id] = question
    name = _stem(source)
    return QASet(name, "all", passages.all(), tuple(questions.values()), faults.losses())


def _squad_paragraphs(
    source: Source, faults: Faults, passages: Passages
) -> Iterator[tuple[Place, str, dict[str, Any]]]:
    """Each paragraph's place, passage id and record."""
    file = str(source)
    articles: list[Any] = []
    with faults.at(Place(file, "data")):
        articles = items(mapping(_whole_json(source, faults)), "data")
    for a, article in enumerate(articles):
        spot = f"data[{a}]"
        rows: list[Any] = []
        title = ""
        with faults.at(Place(file, spot)):
            title = text(mapping(article), "title", str(len(articles)))
            rows = items(article, "paragraphs")
        for p, value in enumerate(rows):
            place = Place(file, f"{spot}.paragraphs[{p}]")
            with faults.at(place):
                row = mapping(value)
                items(row, "qas")
                key = f"{title_id(title)}#{p}"
                passages.add(key, text(row, "context"), title.replace("_", " "))
                yield place, key, row


def _squad_question(row: dict[str, Any], context: str, gold: str) -> Question:
    starts: dict[str, int] = {}
    for value in items(row, "answers"):
        answer = mapping(value)
        words, start = (
            text(answer, "text"),
            whole_number(answer.get("answer_start"), "answer_start"),
        )
        if start < 0 or not context.startswith(words, start):
            problem = f"answer {words!r} does not stand at {start} of its paragraph"
            raise Malformed(problem, "offsets count the code points of the context")
        starts.setdefault(words, start)
    metadata: dict[str, Any] = {"starts": tuple(starts.values())}
    if row.get("is_impossible"):
        metadata["answerable"] = False
    question = query_text(row, "question")
    return Question(identifier(row, "id"), question, tuple(starts), (gold,), metadata)


def _whole_json(source: Source, faults: Faults) -> Any:
    try:
        return json.loads(whole_text(source, faults))
    except json.JSONDecodeError as error:
        problem = f"no whole JSON value ({error})"
        raise Malformed(problem, "the file is cut off or damaged: fetch it again") from error
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no JSON that can be read ({error})", "fetch the file again") from error


def read_hotpot(
    path: str | Path, *, corpus: str | Path | None = None, lenient: bool = False
) -> QASet:
    """HotpotQA with its paragraphs ("distractor" setting).

    A passage's id is its title with underscores; gold passages are those with a supporting fact,
    and the facts (title, number of the sentence) are in `metadata["supporting_facts"]`.

    Args:
        path: The JSON file.
        corpus: A JSON object of title → sentences that adds passages.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed, or a supporting fact is not in the context.

    Source:
        Yang et al. 2018, https://hotpotqa.github.io/.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    if corpus is not None:
        for place, title, sentences in json_members(Source(Path(corpus)), faults):
            with faults.at(place):
                _add_sentences(passages, title, sentences, "")
    questions = _hotpot_questions(Source(Path(path)), faults, passages, "")
    return QASet(_stem(Source(Path(path))), "all", passages.all(), questions, faults.losses())


def read_2wiki(
    path: str | Path | None = None, *, corpus: str | Path | None = None, lenient: bool = False
) -> QASet:
    """2WikiMultihopQA: HotpotQA's format with `evidences`, which are kept in the metadata.

    Args:
        path: The JSON file of questions; None for the corpus alone.
        corpus: A JSON array of {title, text} that adds passages.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed, or a supporting fact is not in the context.

    Source:
        Ho et al. 2020, https://github.com/Alab-NII/2wikimultihop.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    if corpus is not None:
        for place, value in json_values(Source(Path(corpus)), faults):
            with faults.at(place):
                row = mapping(value)
                title = text(row, "title")
                passages.add(title_id(title), text(row, "text"), title)
    questions: tuple[Question, ...] = ()
    if path is not None:
        questions = _hotpot_questions(Source(Path(path)), faults, passages, " ")
    name = _stem(Source(Path(path or corpus or "2wiki")))
    return QASet(name, "all", passages.all(), questions, faults.losses())


_HOTPOT_EXTRAS = ("type", "level", "evidences")


def _add_sentences(passages: Passages, title: Any, sentences: Any, space: str) -> str:
    row = {"title": title, "sentences": sentences}
    words = text(row, "title")
    pieces = items(row, "sentences")
    texts(pieces, "sentences")
    return passages.add(title_id(words), space.join(pieces).strip(), words)


def _hotpot_questions(
    source: Source, faults: Faults, passages: Passages, space: str
) -> tuple[Question, ...]:
    questions: dict[str, Question] = {}
    for place, value in json_values(source, faults):
        with faults.at(place):
            row = mapping(value)
            key = identifier(row, "_id", "id")
            once(questions, key, "question")
            for item in items(row, "context"):
                title, sentences = pair(item, "a context paragraph")
                _add_sentences(passages, title, sentences, space)
            facts = tuple(
                (text({"title": title}, "title"), whole_number(number, "a sentence number"))
                for title, number in (
                    pair(fact, "a supporting fact") for fact in items(row, "supporting_facts")
                )
            )
            gold = tuple(dict.fromkeys(title_id(title) for title, _ in facts))
            passages.check(gold)
            metadata: dict[str, Any] = {n: row[n] for n in _HOTPOT_EXTRAS if n in row}
            metadata["supporting_facts"] = facts
            answers = (text(row, "answer"),)
            question = query_text(row, "question")
            questions[key] = Question(key, question, answers, gold, metadata)
    return tuple(questions.values())


def read_musique(
    path: str | Path, *, corpus: str | Path | None = None, lenient: bool = False
) -> QASet:
    """MuSiQue with its paragraphs; ids follow from the paragraphs' content.

    The answer comes first, then its aliases; an unanswerable question has no answers. The single
    hops are in `metadata["decomposition"]`.

    Args:
        path: JSON Lines as published, or a JSON array.
        corpus: A JSON array of {title, text} that adds passages.
        lenient: Skip what is malformed and list it in `losses`.

    Raises:
        DatasetError: A record is malformed.

    Source:
        Trivedi et al. 2022, https://github.com/StonyBrookNLP/musique.
    """
    faults = Faults(lenient=lenient)
    passages = Passages()
    if corpus is not None:
        for place, value in json_values(Source(Path(corpus)), faults):
            with faults.at(place):
                row = mapping(value)
                _add_musique(passages, text(row, "title"), text(row, "text"))
    questions: dict[str, Question] = {}
    source = Source(Path(path))
    for place, value in json_values(source, faults):
        with faults.at(place):
            question = _musique_question(mapping(value), passages)
            once(questions, question.id, "question")
            questions[question.id] = question
    asked = tuple(questions.values())
    return QASet(_stem(source), "all", passages.all(), asked, faults.losses())


def _add_musique(passages: Passages, title: str, words: str) -> str:
    return passages.add(content_id("musique", title, words), words, title)


def _musique_question(row: dict[str, Any], passages: Passages) -> Question:
    gold = []
    for value in items(row, "paragraphs"):
        paragraph = mapping(value)
        key = _add_musique(passages, text(paragraph, "title"), text(paragraph, "paragraph_text"))
        if paragraph.get("is_supporting"):
            gold.append(key)
    answerable = row.get("answerable", True) is not False
    answers = texts([text(row, "answer"), *items(row, "answer_aliases")], "answer_aliases")
    metadata = {
        "answerable": answerable,
        "decomposition": tuple(items(row, "question_decomposition")),
    }
    return Question(
        identifier(row, "id"),
        query_text(row, "question"),
        answers if answerable else (),
        tuple(dict.fromkeys(gold)),
        metadata,
    )


def _stem(source: Source) -> str:
    return source.path.name.removesuffix(".gz").rsplit(".", 1)[0]
