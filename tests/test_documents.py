"""Loading of single files: text, Markdown, HTML, tables and records."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.digests import file_digest
from ragkit.documents import SUPPORTED, SourceFile, load_file, read_stream
from ragkit.documents.html.reader import to_markdown
from ragkit.documents.tables import parse
from ragkit.documents.text import clean
from ragkit.errors import DocumentError
from ragkit.types import Document


def _load(folder: Path, name: str, content: str | bytes):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_file(SourceFile(name, path, folder))


def test_text_file_when_loaded_then_one_document_with_digest(tmp_path):
    result = _load(tmp_path, "a.txt", "one\r\ntwo\rthree\n")
    assert tuple(result.documents) == (
        Document("a.txt", "one\ntwo\nthree\n", "", "a.txt", {"format": "text"}),
    )
    assert result.losses == ()
    assert result.digest == file_digest(tmp_path / "a.txt")


def test_clean_when_nul_and_surrogates_then_same_length():
    assert clean("a\0b\ud800c\udcffd") == "a\ufffdb\ufffdc\ufffdd"


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_with_byte_order_mark_when_loaded_then_decoded(tmp_path, codec):
    assert (
        _load(tmp_path, "a.txt", "Größe 漢字\n".encode(codec)).documents[0].text == "Größe 漢字\n"
    )


def test_western_text_when_not_utf8_then_guessed_with_loss(tmp_path):
    result = _load(tmp_path, "a.txt", "café at 25 °C, “naïve”".encode("cp1252"))
    assert result.documents[0].text == "café at 25 °C, “naïve”"
    assert "read as cp1252, a guess" in result.losses[0].why


def test_utf8_when_a_character_is_cut_then_only_its_bytes_are_lost(tmp_path):
    result = _load(tmp_path, "a.txt", "déjà vu à Paris ".encode() + "5 €".encode()[:-1])
    assert result.documents[0].text == "déjà vu à Paris 5 \ufffd"
    assert [loss.lost for loss in result.losses] == ["the bytes shown as U+FFFD"]


MARKDOWN = """---
title: "My notes"
year: 2021
share: 0.5
draft: false
code: 007
format: octavo
tags: [a, b]
authors:
  - Ann
  - {"name": "Bo"}
# a comment
nested:
  deep: value
---

# First
body
"""


def test_markdown_front_matter_when_loaded_then_metadata(tmp_path):
    result = _load(tmp_path, "a.md", MARKDOWN)
    (document,) = result.documents
    assert document.text == "# First\nbody\n"
    assert document.title == "My notes"
    assert document.metadata == {
        "year": 2021,
        "share": 0.5,
        "draft": False,
        "code": "007",
        "format_": "octavo",
        "tags": ["a", "b"],
        "authors": ["Ann", {"name": "Bo"}],
        "nested.deep": "value",
        "format": "markdown",
    }
    assert result.losses == ()


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("intro\n# One #\n# Two", "One"),
        ("```\n# code\n```\n# Real", "Real"),
        ("# C#", "C#"),
        ("## Second level only", ""),
        ("# \n#hash\n", ""),
        ("---\nno front matter\n---\n# T", "T"),
        ("---\nkey: never closed\n# T", "T"),
    ],
)
def test_markdown_title_when_no_front_matter_then_first_heading(text, title):
    (document,) = read_stream(text, format="markdown").documents
    assert (document.title, document.text) == (title, text)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "empty"),
        ("a.md", b" \n\t\n", "empty"),
        ("a.pdf", b"", "empty"),
        ("a.html", b"<script>var x = 1</script>", "empty"),
        ("a.csv", b"only,a,header\n", "empty"),
        ("a.txt", b"ab\0cd", "binary"),
        ("a.md", b"%PDF-1.7 text all the same", "binary"),
        ("a.csv", bytes(range(1, 32)) * 9, "binary"),
        ("a.json", b"{", "broken"),
        ("a.json", b"3", "broken"),
        ("a.json", b"[" * 100_000, "broken"),
        ("a.eml", b"no headers here", "broken"),
        ("a.pdf", b"%PDF-1.7\nrubbish", "broken"),
        ("a.docx", b"PK\x03\x04rubbish", "broken"),
        ("a.xyz", b"text", "unsupported type .xyz"),
        ("README", b"text", "unsupported type"),
    ],
)
def test_bad_file_when_loaded_then_the_reason_is_named(tmp_path, name, data, reason):
    with pytest.raises(DocumentError) as caught:
        _load(tmp_path, name, data)
    assert str(caught.value).startswith(f"{name}: {reason}")


def test_file_when_always_changing_then_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 30_000_000)
    done = threading.Event()

    def touch():
        moment = 0
        while not done.is_set():
            moment += 1
            os.utime(path, ns=(moment, moment))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(DocumentError, match="changed while it was read"):
            load_file(SourceFile("a.txt", path, tmp_path))
    finally:
        done.set()
        thread.join()


def test_html_when_loaded_then_markdown_with_its_title(tmp_path):
    page = b"""<!DOCTYPE html><html><head><meta charset="iso-8859-1"><title>The
      title</title><style>p {}</style></head><body><nav><a>Home</a></nav>
      <h1>Caf\xe9 <i>noir</i></h1><p>One &amp; two&nbsp;&lt;3<br>next   line
      <script>x("<p>")</script>
      <ul><li>first<li>second<ol><li><p>inner</p></ol></ul>
      <table><tr><th>a<th>b<tr><td>1<td></td><td><p>x<p>y</table>
      <pre>\n# kept\n   as is</pre><svg><title>no</title></svg><template>t</template>end"""
    (document,) = _load(tmp_path, "a.html", page).documents
    assert document.title == "The title"
    assert document.metadata == {"format": "markdown"}
    assert document.text == (
        "# Café noir\n\nOne & two\xa0<3\nnext line\n\n- first\n- second\n  1. inner\n\n"
        "| a | b |  |\n| --- | --- | --- |\n| 1 |  | x y |\n\n```\n# kept\n   as is\n```\n\nend"
    )


def test_html_when_nested_deep_then_read():
    assert to_markdown("<div><b>" * 15_000 + "x" + "</i>" * 30_000)[1] == "x"


def test_html_when_tags_are_left_open_or_crossed_then_nothing_is_swallowed():
    page = "<div><nav>gone</div><p>a<td>b</table><li>c</ul><h2>d<p>e</h2>f<pre>g"
    words = to_markdown(page)[1]
    assert "gone" not in words
    assert all(letter in words for letter in "abcdefg")


def test_html_when_code_stands_in_a_cell_then_its_lines_stay():
    page = "<h3>A <b>b</b>c</h3><table><td>1<td><pre>x<br>  y</pre><td><pre>z</pre></table>"
    assert to_markdown(page) == ("A bc", "### A bc\n\n1\n\n```\nx\n  y\n```\n\n| z")


def test_html_when_a_layout_table_holds_prose_then_its_paragraphs_stay():
    page = f"<table><tr><td>{'word ' * 80}<p>second</p></td></tr></table>"
    assert to_markdown(page)[1].endswith("word\n\nsecond")


WORDS = st.lists(st.text("abc<>&\"'é漢", min_size=1, max_size=5), min_size=1, max_size=4)


@examples(50)
@given(st.lists(st.tuples(st.sampled_from(["p", "li", "h2", "pre", "td"]), WORDS), max_size=6))
def test_html_when_words_are_escaped_in_blocks_then_they_come_back_in_order(blocks):
    escape = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    page, expected = "", []
    for tag, words in blocks:
        line = " ".join(words)
        expected += words
        page += f"<{tag}>{''.join(escape.get(char, char) for char in line)}</{tag}>"
    text = to_markdown(page)[1]
    marks = {"-", "##", "```", "|"}
    assert [word for word in text.split() if word not in marks] == expected


@examples(100)
@given(st.text("<>/!-? =\"'&;apbrtdhul1prescnvt\n", max_size=80))
def test_html_when_it_is_noise_then_it_is_read_all_the_same(page):
    title, text = to_markdown(page)
    assert isinstance(title, str)
    assert "\n\n\n" not in text or "```" in text


def test_csv_when_loaded_then_a_document_a_row(tmp_path):
    table = 'id,name,size,done,zip,format\nx1,"Iron, pure",2.5,TRUE,0123,a\nx2,"two\nlines",7,,,b\n'
    first, second = _load(tmp_path, "t.csv", table).documents
    assert first == Document(
        "t.csv#x1",
        "id: x1\nname: Iron, pure\nsize: 2.5\ndone: TRUE\nzip: 0123\nformat: a",
        "",
        "t.csv",
        {
            "name": "Iron, pure",
            "size": 2.5,
            "done": True,
            "zip": "0123",
            "format_": "a",
            "format": "csv",
        },
    )
    assert (second.id, second.text) == ("t.csv#x2", "id: x2\nname: two\nlines\nsize: 7\nformat: b")


def test_csv_when_ids_repeat_then_rows_are_numbered(tmp_path):
    documents = _load(tmp_path, "t.csv", "id;v\n1;a\n1;b\n").documents
    assert [document.id for document in documents] == ["t.csv#1", "t.csv#2"]
    assert documents[0].metadata == {"id": 1, "v": "a", "format": "csv"}


def test_csv_with_text_and_title_columns_when_loaded_then_others_are_searched_too(tmp_path):
    table = "title\ttext\tsku\nA\tbody\tP-77\nB\t\tP-78\n\t\tP-79\nC\t \t\n\t \t\n"
    result = _load(tmp_path, "t.tsv", table)
    assert [(d.title, d.text, d.metadata.get("sku")) for d in result.documents] == [
        ("A", "body\n\nsku: P-77", "P-77"),
        ("B", "sku: P-78", "P-78"),
        ("", "sku: P-79", "P-79"),
        ("C", "C", None),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiter_when_other_candidates_occur_in_cells_then_found(tmp_path, delimiter):
    rows = [["name", "note", "n"], ["a; b, c", "x|y", "1"], ["d,e;f", "z", "2"]]
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in rows]
    first = _load(tmp_path, "t.csv", "\n".join(lines)).documents[0]
    assert first.metadata == {"name": "a; b, c", "note": "x|y", "n": 1, "format": "csv"}


def test_csv_when_ragged_or_without_header_then_columns_are_numbered(tmp_path):
    assert _load(tmp_path, "t.csv", "1,2\n3,4\n").documents[1].text == "column 1: 3\ncolumn 2: 4"
    documents = _load(tmp_path, "u.csv", "a,a,\n1,2,3,4\n5\n").documents
    assert documents[0].text == "a: 1\na (2): 2\ncolumn 3: 3\ncolumn 4: 4"
    assert documents[1].text == "a: 5"


def test_csv_when_a_cell_has_five_megabytes_then_read(tmp_path):
    cell = "long " * 1_000_000
    (document,) = _load(tmp_path, "t.csv", f'id,text\n7,"{cell}"\n').documents
    assert (document.id, document.text) == ("t.csv#7", cell)


CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), max_size=8)


@given(st.lists(st.lists(CELL, min_size=2, max_size=4), max_size=5), st.sampled_from(",;\t|"))
def test_csv_parse_when_every_cell_is_quoted_then_it_comes_back(rows, delimiter):
    quoted = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    assert list(parse("\n".join(quoted), delimiter)) == rows


def test_jsonl_of_beir_when_loaded_then_documents(tmp_path):
    lines = [
        '{"_id": "d1", "title": "T", "text": "body", "metadata": {"url": "u"}, "year": 3}',
        "not json",
        "",
        '{"_id": "d1", "text": "again"}',
        "[1]",
        '{"id": 7, "contents": "pyserini", "tags": ["a"], "none": null, "nan": NaN}',
        '{"title": "Only a title", "text": ""}',
        '{"text": "  "}',
        '{"name": "no text", "n": 2, "title": 5}',
    ]
    result = _load(tmp_path, "corpus.jsonl", "\n".join(lines))
    source = "corpus.jsonl"
    assert tuple(result.documents) == (
        Document(f"{source}#d1", "body", "T", source, {"url": "u", "year": 3, "format": "jsonl"}),
        Document(f"{source}#7", "pyserini", "", source, {"tags": ["a"], "format": "jsonl"}),
        Document(f"{source}@7", "Only a title", "Only a title", source, {"format": "jsonl"}),
        Document(
            f"{source}@9",
            "name: no text\nn: 2\ntitle: 5",
            "",
            source,
            {"name": "no text", "n": 2, "title_": 5, "format": "jsonl"},
        ),
    )
    assert [loss.what for loss in result.losses] == [f"{source} line {n}" for n in (2, 4, 5, 8)]


def test_json_when_array_or_object_then_records(tmp_path):
    assert [
        d.id for d in _load(tmp_path, "a.json", '[{"text": "a"}, {"text": "b"}]').documents
    ] == [
        "a.json#1",
        "a.json#2",
    ]
    (document,) = _load(tmp_path, "b.json", '{"name": "x", "deep": {"y": [1]}}').documents
    assert (document.id, document.text) == ("b.json", 'name: x\ndeep: {"y": [1]}')


RECORD = st.fixed_dictionaries(
    {
        "_id": st.integers().map(str),
        "text": st.text(min_size=1).filter(lambda text: clean(text).strip()),
    },
    optional={"n": st.integers(-(2**70), 2**70), "flag": st.booleans(), "word": st.text()},
)


@given(st.lists(RECORD, min_size=1, max_size=5, unique_by=lambda record: record["_id"]))
def test_jsonl_when_written_by_json_then_texts_come_back_clean(records):
    lines = "\n".join(json.dumps(record) for record in records)
    documents = read_stream(lines, format="jsonl").documents
    assert [document.text for document in documents] == [clean(item["text"]) for item in records]
    for document, item in zip(documents, records, strict=True):
        json.dumps(document.metadata, allow_nan=False).encode()
        assert document.metadata.get("flag") == item.get("flag")


def test_read_stream_when_format_is_unknown_then_value_error():
    with pytest.raises(ValueError, match="expected one of"):
        read_stream("x", format="pdf")
    with pytest.raises(DocumentError, match="empty"):
        read_stream("")


def test_supported_when_read_then_suffixes_are_lower_case():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUPPORTED)
