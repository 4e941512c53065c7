"""Readers of the Glasgow collections: SMART's .I/.T/.A/.W files, and CACM as HTML.

Source: http://ir.dcs.gla.ac.uk/resources/test_collections/.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ragkit.errors import DatasetError
from ragkit.evaluation.datasets.faults import Faults, Location, Malformed
from ragkit.evaluation.datasets.reading import Source, check_unique, read_lines
from ragkit.evaluation.datasets.shapes import RetrievalSet
from ragkit.evaluation.datasets.trec import check_judgement, judgements, topics
from ragkit.types import Document

_HEAD = re.compile(r"\.I\s+(\d+)\s*")
_PART = re.compile(r"\.([ABCKNTWX])\s*")
_NAMES = {"A": "authors", "B": "source", "K": "keywords", "C": "categories", "N": "added"}
_DOCUMENTS = ("*.all", "*.all.*")
_QUERIES = ("*.qry", "query.text")
_QRELS = ("*.rel", "*qrel", "qrels.text")
_LINK = re.compile(r"\d+\t\d+\t\d+")


def read_smart(path: str | Path, *, lenient: bool = False) -> RetrievalSet:
    """Read Cranfield, CISI, MEDLINE or CACM from their .I/.T/.A/.W files.

    Three formats of judgements are recognised: three columns (Cranfield: query, document, code),
    four with 0 in the second (MEDLINE: query, 0, document, 1) and four with 0 in the third (CISI,
    CACM: query, document, 0, 0).

    Cranfield's judgements number the queries by their order and not by .I, so its queries get the
    ids 1, 2, …; its codes are binarised: 1 (a complete answer) to 4 (of minimum interest) are
    relevant, -1 is not.

    Args:
        path: The folder with documents (*.all, *.all.*), queries (*.qry, query.text) and
            judgements (*.rel, *qrel, qrels.text), in any case.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A file is missing, or a record or judgement is malformed.
    """
    folder = Path(path)
    faults = Faults(lenient=lenient)
    corpus = tuple(_documents(_find_file(folder, _DOCUMENTS, "documents"), faults))
    qrels_source = _find_file(folder, _QRELS, "judgements")
    by_order = _is_cranfield(qrels_source)
    queries = _queries(_find_file(folder, _QUERIES, "queries"), faults, by_order=by_order)
    ids = {document.id for document in corpus}
    qrels = _judgements(qrels_source, faults, ids, queries)
    return RetrievalSet(folder.resolve().name, "all", corpus, queries, qrels, faults.losses())


def is_smart(folder: Path) -> bool:
    """Return True if a folder has documents, queries and judgements."""
    return all(_matches(folder, patterns) for patterns in (_DOCUMENTS, _QUERIES, _QRELS))


def read_cacm(path: str | Path, *, lenient: bool = False) -> RetrievalSet:
    """Read CACM in Anserini's format: cacm.tar.gz, topics.cacm.txt and qrels.cacm.txt.

    The first paragraph is the title; the rest is the text (abstract if there is one, date,
    authors, keywords), without the lines of citation links. Document numbers in the judgements are
    padded to four digits, as in the file names.

    Args:
        path: The folder.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A file is missing or damaged, or a topic or judgement is malformed.
    """
    folder = Path(path)
    faults = Faults(lenient=lenient)
    corpus = tuple(_cacm_documents(folder / "cacm.tar.gz", faults))
    queries = topics(Source(folder / "topics.cacm.txt"), faults)
    qrels = judgements(
        Source(folder / "qrels.cacm.txt"),
        faults,
        documents={document.id for document in corpus},
        queries=queries,
        document_id=lambda name: re.sub(r"\d+$", lambda digits: digits[0].zfill(4), name),
    )
    return RetrievalSet("cacm", "all", corpus, queries, qrels, faults.losses())


def _matches(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(p for p in folder.iterdir() if p.is_file())
    return [p for p in files if any(Path(p.name.lower()).match(pattern) for pattern in patterns)]


def _find_file(folder: Path, patterns: tuple[str, ...], what: str) -> Source:
    files = _matches(folder, patterns)
    if len(files) == 1:
        return Source(files[0])
    listed = ", ".join(p.name for p in files) or "none"
    raise DatasetError(
        f"expected one file of {what} in {folder} ({' or '.join(patterns)}), found: {listed}"
    )


def _records(
    source: Source, faults: Faults
) -> Iterator[tuple[Location, str, dict[str, list[str]]]]:
    """Yield the location, the .I number, and the lines by part letter of each record."""
    location, number = Location(str(source), "line 1"), ""
    parts: dict[str, list[str]] = {}
    part: list[str] | None = None
    for line_location, line in read_lines(source, faults, blank=True):
        head, letter = _HEAD.fullmatch(line), _PART.fullmatch(line)
        if head:
            if number:
                yield location, number, parts
            location, number, parts, part = line_location, head[1], {}, None
        elif letter and number:
            part = parts.setdefault(letter[1], [])
        elif part is not None:
            part.append(line.rstrip())
        elif line.strip():
            faults.add(
                line_location, f"{line[:40]!r} outside of a part", "start it with .I n and .T or .W"
            )
    if number:
        yield location, number, parts


def _documents(source: Source, faults: Faults) -> Iterator[Document]:
    seen: set[str] = set()
    for location, number, parts in _records(source, faults):
        with faults.at(location):
            check_unique(seen, number, "document")
            seen.add(number)
            metadata = {
                _NAMES[letter]: _one_line(rows)
                for letter, rows in parts.items()
                if letter in _NAMES and _one_line(rows)
            }
            text = "\n".join(parts.get("W", ())).strip()
            yield Document(number, text, _one_line(parts.get("T", [])), metadata=metadata)


def _queries(source: Source, faults: Faults, *, by_order: bool) -> dict[str, str]:
    queries: dict[str, str] = {}
    for count, (location, number, parts) in enumerate(_records(source, faults), start=1):
        with faults.at(location):
            key = str(count) if by_order else str(int(number))
            check_unique(queries, key, "query")
            text = _one_line([*parts.get("T", ()), *parts.get("W", ())])
            if not text:
                problem = f"query {number!r} is empty"
                raise Malformed(problem, "a query must have text: fill it in or delete it")
            queries[key] = text
    return queries


def _one_line(rows: list[str]) -> str:
    return " ".join(" ".join(rows).split())


def _first_cells(source: Source) -> list[str]:
    first = next(read_lines(source, Faults(lenient=True)), None)
    return first[1].split() if first else []


def _is_cranfield(source: Source) -> bool:
    return len(_first_cells(source)) == 3


def _judgements(
    source: Source, faults: Faults, documents: set[str], queries: dict[str, str]
) -> dict[str, dict[str, int]]:
    first = _first_cells(source)
    columns: Callable[[list[str]], tuple[str, str, str]]
    if len(first) == 3:
        width, columns = 3, lambda cells: (cells[0], cells[1], cells[2])
    elif len(first) == 4 and first[1] == "0":
        width, columns = 4, lambda cells: (cells[0], cells[2], cells[3])
    else:
        width, columns = 4, lambda cells: (cells[0], cells[1], "1")
    qrels: dict[str, dict[str, int]] = {}
    for location, line in read_lines(source, faults):
        with faults.at(location):
            cells = line.split()
            if len(cells) != width or not all(map(_is_number, columns(cells))):
                problem = f"{line.strip()[:40]!r}"
                raise Malformed(problem, f"expected {width} columns of numbers, as in line 1")
            query, document, code = columns(cells)
            query, document = str(int(query)), str(int(document))
            check_judgement(qrels.get(query, {}), query, document, documents, queries)
            qrels.setdefault(query, {})[document] = int(int(code) > 0)
    return qrels


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,9}", cell) is not None


def _cacm_documents(path: Path, faults: Faults) -> Iterator[Document]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member)
                if stream is None:
                    continue
                location = Location(f"{path}:{member.name}", "line 1")
                with faults.at(location):
                    yield _cacm_document(Path(member.name).stem, stream.read())
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); download it again") from error


def _cacm_document(name: str, data: bytes) -> Document:
    try:
        page = data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 ({error})", "convert the file to UTF-8") from error
    rows = re.sub(r"</?(?:html|pre)>", "", page).splitlines()
    text_rows = [row.rstrip() for row in rows if not _LINK.fullmatch(row.strip())]
    title, _, text = "\n".join(text_rows).strip().partition("\n\n")
    return Document(name, text.strip(), " ".join(title.split()))
