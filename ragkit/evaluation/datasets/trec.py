"""Readers and writers of TREC files: judgements (qrels), runs, topics and documents.

Source: the formats of trec_eval (https://github.com/usnistgov/trec_eval) and of the TREC
collections.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Literal

from ragkit.durable import replace_text
from ragkit.evaluation.datasets.faults import Faults, Location, Malformed
from ragkit.evaluation.datasets.reading import Source, check_unique, read_lines
from ragkit.evaluation.datasets.shapes import RetrievalSet
from ragkit.types import Document

_HEADS = {"query-id", "query_id", "queryid", "qid", "query"}
_OPENING = re.compile(r"<(top|topic|doc)\b([^>]*)>", re.IGNORECASE)
_NUMBER = re.compile(r"<num(?:ber)?>\s*(?:number:)?\s*([^\s<]+)", re.IGNORECASE)
_DOCNO = re.compile(r"<docno>\s*(\S+?)\s*</docno>", re.IGNORECASE)
_NUMBER_ATTRIBUTE = re.compile(r"""number\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
_LABEL = re.compile(r"^\s*(?:topic|description|narrative)\s*:", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")

TopicField = Literal["title", "desc", "narr"]


def read_qrels(path: str | Path, *, lenient: bool = False) -> dict[str, dict[str, int]]:
    """Read judgements: query id → document id → relevance.

    TREC's four columns (query, iteration, document, relevance) and BEIR's three (query, document,
    relevance; tab-separated, usually with a header) are accepted.

    Args:
        path: The file; .gz is decompressed.
        lenient: Skip malformed lines and report them as losses (see `ragkit.losses`).

    Raises:
        DatasetError: A line has another number of columns, a relevance that is not an integer, or a
            duplicate judgement.
    """
    faults = Faults(lenient=lenient)
    qrels = judgements(Source(Path(path)), faults)
    faults.report()
    return qrels


def judgements(
    source: Source,
    faults: Faults,
    *,
    documents: Container[str] | None = None,
    queries: Container[str] | None = None,
    document_id: Callable[[str], str] = str,
) -> dict[str, dict[str, int]]:
    """Read judgements as `read_qrels` does, and check their ids.

    Args:
        source: The file.
        faults: Collects malformed lines.
        documents: Ids of the corpus; None skips the check.
        queries: Ids of the queries; None skips the check.
        document_id: Converts a document id of the file to one of the corpus.
    """
    qrels: dict[str, dict[str, int]] = {}
    width = 0
    for location, line in read_lines(source, faults):
        cells = _cells(line)
        if not width and cells[0].lower() in _HEADS and not _is_integer(cells[-1]):
            continue
        with faults.at(location):
            if len(cells) not in (3, 4) or len(cells) != (width or len(cells)):
                remedy = "expected query, 0, document, relevance, or query, document, relevance"
                raise Malformed(f"{len(cells)} columns", remedy)
            width = len(cells)
            query, document = cells[0], document_id(cells[-2])
            if not _is_integer(cells[-1]):
                problem = f"relevance {cells[-1]!r}"
                raise Malformed(problem, "a relevance is an integer")
            check_judgement(qrels.get(query, {}), query, document, documents, queries)
            qrels.setdefault(query, {})[document] = int(cells[-1])
    return qrels


def check_judgement(
    judged: dict[str, int],
    query: str,
    document: str,
    documents: Container[str] | None,
    queries: Container[str] | None,
) -> None:
    """Raise `Malformed` if a judgement is a duplicate, or its query or document is missing."""
    check_unique(judged, document, f"query {query!r}: document")
    if queries is not None and query not in queries:
        problem = f"query {query!r} does not exist"
        raise Malformed(problem, "add the query or delete its judgements")
    if documents is not None and document not in documents:
        problem = f"document {document!r} does not exist"
        raise Malformed(problem, "judge only documents of the corpus: fix or delete the id")


def read_run(path: str | Path, *, lenient: bool = False) -> dict[str, dict[str, float]]:
    """Read a run: query id → document id → score, in file order, best first.

    Each line has six columns: query, Q0, document, rank, score, tag.

    Args:
        path: The file; .gz is decompressed.
        lenient: Skip malformed lines, sort lines that are out of order, and report both as losses.

    Raises:
        DatasetError: A line has another number of columns, a rank or score that is not a number, a
            duplicate document, or a better score or rank than the line above.
    """
    faults = Faults(lenient=lenient)
    run: dict[str, dict[str, float]] = {}
    last: tuple[str, int, float] = ("", 0, 0.0)
    unordered = set()
    for location, line in read_lines(Source(Path(path)), faults):
        with faults.at(location):
            query, document, rank, score = _run_line(line)
            check_unique(run.get(query, {}), document, f"query {query!r}: document")
            problem = _disorder(query, rank, score, last, run)
            if problem:
                remedy = "list each query's documents together, best score first, with their ranks"
                faults.add(location, problem, remedy, done="sorted by score")
                unordered.add(query)
            run.setdefault(query, {})[document] = score
            last = (query, rank, score)
    for query in unordered:
        run[query] = dict(sorted(run[query].items(), key=lambda item: (-item[1], item[0])))
    faults.report()
    return run


def write_run(path: str | Path, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a run that `read_run` and trec_eval can read; scores are restored exactly.

    Documents are sorted by score, ties by id, and ranked from 1. A query without documents has no
    line, since the format cannot express it.

    Args:
        path: The file, replaced atomically.
        run: Query id → document id → score.
        tag: Name of the system, one word.

    Raises:
        ValueError: An id or the tag is not one word, or a score is not finite.
    """
    _check_word(tag, "tag")
    rows = []
    for query, scores in run.items():
        _check_word(query, "query id")
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        for rank, (document, score) in enumerate(ranked, start=1):
            _check_word(document, "document id")
            if not math.isfinite(score):
                raise ValueError(
                    f"query {query!r}, document {document!r}: score {score} is not finite; "
                    "leave the document out"
                )
            rows.append(f"{query} Q0 {document} {rank} {float(score)!r} {tag}\n")
    replace_text(Path(path), "".join(rows))


def read_trec_topics(
    path: str | Path, *, field: TopicField = "title", lenient: bool = False
) -> dict[str, str]:
    """Read topics: topic number → text.

    Accepted are `<top>` with `<num>`, `<title>`, `<desc>`, `<narr>` (closed or not),
    `<topic number=…>` with `<query>`, `<DOC>` with `<DOCNO>` (CACM), and lines of id, tab, text.

    Args:
        path: The file; .gz is decompressed.
        field: Part of a `<top>` to use as the query.
        lenient: Skip malformed topics and report them as losses.

    Raises:
        DatasetError: A topic has no number, no text or no end, or its number is a duplicate.
    """
    faults = Faults(lenient=lenient)
    texts = topics(Source(Path(path)), faults, field=field)
    faults.report()
    return texts


def topics(source: Source, faults: Faults, *, field: TopicField = "title") -> dict[str, str]:
    """Read topics as `read_trec_topics` does."""
    texts: dict[str, str] = {}
    for location, number, text in _topics(source, faults, field):
        with faults.at(location):
            check_unique(texts, number, "topic")
            if not text:
                problem = f"topic {number!r} is empty"
                raise Malformed(problem, "a query must have text: fill it in or delete it")
            texts[number] = text
    return texts


def trec_documents(source: Source, faults: Faults) -> Iterator[Document]:
    """Yield documents from `<DOC>` blocks with `<DOCNO>`; `<TITLE>` becomes the title."""
    seen: set[str] = set()
    for location, head, body in _blocks(read_lines(source, faults, blank=True), faults):
        with faults.at(location):
            number = _DOCNO.search(body)
            if head[0] != "doc" or not number:
                raise Malformed("a block without <DOCNO>", "each <DOC> needs a <DOCNO>")
            check_unique(seen, number[1], "document")
            seen.add(number[1])
            title = _part(body, "title")
            rest = re.sub(r"<title>.*?</title>", "", _DOCNO.sub("", body), flags=re.I | re.S)
            yield Document(number[1], _TAG.sub("", rest).strip(), title)


def read_trec(
    documents: str | Path, queries: str | Path, qrels: str | Path, *, lenient: bool = False
) -> RetrievalSet:
    """Read a TREC collection, such as Vaswani, from its three files.

    Args:
        documents: `<DOC>` blocks with `<DOCNO>`.
        queries: Topics, as for `read_trec_topics`.
        qrels: Judgements, as for `read_qrels`.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A file is missing, or a document, topic or judgement is malformed.
    """
    faults = Faults(lenient=lenient)
    corpus = tuple(trec_documents(Source(Path(documents)), faults))
    topic_texts = topics(Source(Path(queries)), faults)
    ids = {document.id for document in corpus}
    judged = judgements(Source(Path(qrels)), faults, documents=ids, queries=topic_texts)
    name = Path(documents).absolute().parent.name
    return RetrievalSet(name, "all", corpus, topic_texts, judged, faults.losses())


def _cells(line: str) -> list[str]:
    cells = line.split("\t") if "\t" in line else line.split()
    return [cell.strip() for cell in cells]


def _is_integer(cell: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,9}", cell) is not None


def _run_line(line: str) -> tuple[str, str, int, float]:
    cells = line.split()
    if len(cells) != 6:
        remedy = "expected six: query Q0 document rank score tag"
        raise Malformed(f"{len(cells)} columns", remedy)
    query, _, document, rank, score, _ = cells
    if not _is_integer(rank):
        raise Malformed(f"rank {rank!r}", "a rank is an integer")
    try:
        value = float(score)
    except ValueError as error:
        raise Malformed(f"score {score!r}", "a score is a number") from error
    if not math.isfinite(value):
        remedy = "a score is finite: leave the document out or fix the system that wrote it"
        raise Malformed(f"score {score}", remedy)
    return query, document, int(rank), value


def _disorder(
    query: str,
    rank: int,
    score: float,
    last: tuple[str, int, float],
    run: Mapping[str, Mapping[str, float]],
) -> str:
    if query != last[0]:
        return f"lines of query {query!r} are separated by another query" if query in run else ""
    if score > last[2]:
        return f"score {score} after {last[2]}"
    return f"rank {rank} after {last[1]}" if rank <= last[1] else ""


def _check_word(value: str, what: str) -> None:
    if value.split() != [value] or value.startswith("\ufeff"):
        raise ValueError(
            f"{what} {value!r} is empty, has white space in it or starts with a byte order mark, "
            "which a run file cannot hold; rename it"
        )


def _topics(
    source: Source, faults: Faults, field: TopicField
) -> Iterator[tuple[Location, str, str]]:
    numbered = read_lines(source, faults)
    first = next(numbered, None)
    if first is None:
        return
    rest = itertools.chain([first], numbered)
    if not first[1].lstrip().startswith("<"):
        for location, line in rest:
            number, tab, text = line.partition("\t")
            if not tab:
                faults.add(location, "no tab", "each line is id, tab, text")
                continue
            yield location, number.strip(), text.strip()
        return
    for location, (kind, attributes), body in _blocks(rest, faults):
        with faults.at(location):
            yield location, *_topic(kind, attributes, body, field)


def _topic(kind: str, attributes: str, body: str, field: TopicField) -> tuple[str, str]:
    number = {"doc": _DOCNO, "top": _NUMBER}.get(kind, _NUMBER).search(body)
    if kind == "topic":
        number = _NUMBER_ATTRIBUTE.search(attributes) or number
    if not number:
        raise Malformed(f"a <{kind}> without a number", "number each topic")
    if kind == "doc":
        return number[1], " ".join(_TAG.sub("", _DOCNO.sub("", body)).split())
    if kind == "topic" and field == "title":
        return number[1], _part(body, "query") or _part(body, "title")
    return number[1], _part(body, field)


def _blocks(
    numbered: Iterator[tuple[Location, str]], faults: Faults
) -> Iterator[tuple[Location, tuple[str, str], str]]:
    """Yield each `<top>`, `<topic>` or `<doc>`: its location, tag with attributes, content."""
    start: Location | None = None
    head = ("", "")
    inside: list[str] = []
    for location, line in numbered:
        opening = _OPENING.search(line)
        if opening:
            if start:
                faults.add(start, f"<{head[0]}> is not closed", "close each block")
            start, head, inside = location, (opening[1].lower(), opening[2]), []
            line = line[opening.end() :]
        if not start:
            if line.strip() and not line.lstrip().startswith("<"):
                faults.add(location, "text outside of a block", "put it in a block or delete it")
            continue
        before, end, _ = _partition(line, f"</{head[0]}>")
        inside.append(before)
        if end:
            yield start, head, "\n".join(inside)
            start = None
    if start:
        faults.add(start, f"<{head[0]}> is not closed", "the file is truncated: download it again")


def _part(body: str, name: str) -> str:
    """Return the text after `<name>`, up to the next tag, without the label of old topics."""
    match = re.search(rf"<{name}>(.*?)(?=</?[a-z]|\Z)", body, re.IGNORECASE | re.DOTALL)
    return " ".join(_LABEL.sub("", match[1]).split()) if match else ""


def _partition(line: str, mark: str) -> tuple[str, str, str]:
    index = line.lower().find(mark)
    if index < 0:
        return line, "", ""
    return line[:index], mark, line[index + len(mark) :]
