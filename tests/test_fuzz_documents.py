"""Fuzz tests: any bytes yield documents that can be stored, or a DocumentError.

`RAGKIT_FUZZ` sets the number of examples per test, for longer manual runs.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from office_files import zip_files
from properties import examples
from test_documents_office import _docx, _epub

from ragkit.documents import LoadResult, SourceFile, load_file, read_stream
from ragkit.errors import DocumentError

N_EXAMPLES = int(os.environ.get("RAGKIT_FUZZ", "0"))
STREAMED = ("csv", "html", "json", "jsonl", "markdown", "text")
_UNSTORABLE = re.compile("[\0\r\ud800-\udfff]")


def _examples(n: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    asked = examples(n, suppress_health_check=checks)
    return settings(asked, max_examples=N_EXAMPLES) if N_EXAMPLES else asked


def _check_or_refused(load: Callable[[], LoadResult], reason: str) -> None:
    refusal = ""
    try:
        result = load()
    except DocumentError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(reason)
    else:
        _check(result)


def _check(result: LoadResult) -> None:
    documents = list(result.documents)
    assert len(documents) == len(result.documents) > 0
    assert len({document.id for document in documents}) == len(documents)
    for document in documents:
        assert document.text.strip()
        for text in (document.text, document.title, document.id):
            assert not _UNSTORABLE.search(text)
        json.dumps(document.metadata, allow_nan=False, ensure_ascii=False).encode()
        pages = document.metadata.get("pages", [])
        if document.metadata["format"] == "pdf":
            assert pages == sorted(pages)
            assert all(0 <= start <= len(document.text) for start in pages)
    for loss in result.losses:
        f"{loss.what} {loss.lost} {loss.kept} {loss.why}".encode()


PIECES = (
    *("{", "}", "[", "]", ",", ":", '"', "\\", "\n", "\r", " ", "'", ";", "\t", "|", "a", "1"),
    *('"id"', '"text"', '"title"', '"_id"', "null", "NaN", "1e400", "9" * 30, "\\ud800", "\\u0000"),
    *("---\n", "k: ", "- ", "# ", "```", "<!--", "-->", "<p>", "</p>", "<td>", "<pre>", "<title>"),
    *("</title>", "<script>", "</script>", "&amp;", "&#x0;", "<a b='", "/>", "<![CDATA[", "]]>"),
    *("\0", "\ud800", "\ufeff", "\u2028", "\x85", "é", "漢", "stdin#2", "text,title\n", "id;v\n"),
)
NOISE = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=30).map("".join)


@pytest.mark.parametrize("format", [name for name in STREAMED if name != "html"])
@_examples(150)
@given(text=NOISE)
def test_read_stream_when_it_is_noise_then_storable_or_refused(format, text):
    _check_or_refused(lambda: read_stream(text, format=format), "stdin: ")


@_examples(60)
@given(NOISE)
def test_html_when_it_is_noise_then_storable_or_refused(text):
    _check_or_refused(lambda: read_stream(text, format="html"), "stdin: empty")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "_id", "text", "title", "x", "metadata"]), inner)
    ),
    max_leaves=12,
)


@_examples(100)
@given(st.lists(JSON, min_size=1, max_size=6))
def test_json_and_jsonl_when_values_are_any_then_they_agree(values):
    texts = {"json": json.dumps(values), "jsonl": "\n".join(map(json.dumps, values))}
    outcomes = []
    for format, text in texts.items():
        try:
            result = read_stream(text, format=format, name="n")
        except DocumentError:
            outcomes.append([])
            continue
        _check(result)
        outcomes.append([(document.id, document.text) for document in result.documents])
        assert len(result.documents) + len(result.losses) == len(values)
    assert outcomes[0] == outcomes[1]


NAMES = ["first", "second", "third"]
CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('",\n'), max_size=9)


@_examples(150)
@given(st.lists(st.lists(CELL, min_size=3, max_size=3).filter(any), min_size=1, max_size=6))
def test_csv_when_the_csv_module_wrote_it_then_the_cells_come_back(rows):
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([NAMES, *rows])
    documents = list(read_stream(buffer.getvalue(), format="csv").documents)
    wanted = [
        "\n".join(f"{name}: {cell}" for name, cell in zip(NAMES, row, strict=True) if cell)
        for row in rows
    ]
    assert [document.text for document in documents] == wanted


@functools.cache
def _valid(kind: str) -> bytes:
    """Return a small valid file."""
    buffer = io.BytesIO()
    if kind == "pdf":
        from reportlab.pdfgen.canvas import Canvas

        canvas = Canvas(buffer)
        for word in ("one", "two"):
            canvas.drawString(72, 720, word)
            canvas.showPage()
        canvas.save()
    elif kind == "xlsx":
        from openpyxl import Workbook

        book = Workbook()
        book.active.append(["name", 1, None, 2.5])
        book.save(buffer)
    elif kind == "pptx":
        from pptx import Presentation

        deck = Presentation()
        deck.slides.add_slide(deck.slide_layouts[1]).shapes.title.text = "Title"
        deck.save(buffer)
    elif kind == "eml":
        message = EmailMessage()
        message["Subject"], message["To"] = "Größe", "a@b.c"
        message.set_content("Plain ü\n")
        message.add_alternative("<p>HTML</p>", subtype="html")
        message.add_attachment(b"data", maintype="image", subtype="png", filename="x.png")
        return message.as_bytes()
    else:
        return _docx() if kind == "docx" else _epub("<h1>Head</h1><p>word</p>")
    return buffer.getvalue()


CHANGE = st.tuples(st.floats(0, 0.999), st.integers(0, 4), st.binary(max_size=6))


def _mutated(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Replace pieces of the data; a position is a fraction of its length."""
    for position, n_bytes, piece in changes:
        start = int(position * len(data))
        data = data[:start] + piece + data[start + n_bytes :]
    return data


def _mutated_member(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Change one member of the archive, so that the change reaches the parser."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(name for name in files if name.endswith((".xml", ".rels", "html", ".opf")))
    name = names[int(changes[0][0] * len(names))]
    return zip_files({**files, name: _mutated(files[name], changes[1:])})


@pytest.mark.parametrize("kind", ["pdf", "eml", "docx", "xlsx", "pptx", "epub"])
@_examples(25)
@given(changes=st.lists(CHANGE, min_size=2, max_size=6), is_inside=st.booleans())
def test_load_file_when_a_valid_file_is_damaged_then_storable_or_refused(kind, changes, is_inside):
    data = _valid(kind)
    inside = is_inside and data.startswith(b"PK")
    data = _mutated_member(data, changes) if inside else _mutated(data, changes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{kind}")
        path.write_bytes(data)
        file = SourceFile(path.name, path, path.parent)
        _check_or_refused(lambda: load_file(file), f"a.{kind}: ")
