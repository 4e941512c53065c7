"""Lines and boxes of documents with pages: packed, stored, searched, cited, verified."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, replace

import pytest

from ragkit import Collection, Document
from ragkit.cli.ask import _show_sources
from ragkit.collection.collection import Settings
from ragkit.errors import CorruptCollection
from ragkit.layout import boxes, fault, pack, unpack
from ragkit.readers import ExtractiveReader
from ragkit.readers.citations import cite
from ragkit.readers.verification import answer_json, verify_answer
from ragkit.testing import HashEmbedder
from ragkit.types import Box, Chunk, Citation, Hit, Line

TEXT = "Iron melts at 1811 kelvin.\n\nThe gap of silicon is indirect and small."
LINES = (
    Line(0, 26, 1, 72.0, 100.5, 210.3, 112.0),
    Line(28, 53, 2, 72.0, 80.0, 200.0, 92.0),
    Line(54, 69, 2, 72.0, 94.0, 150.0, 106.0),
)
PAPER = Document("paper.pdf", TEXT, "Paper", metadata={"pages": [0, 28]}, layout=LINES)
BOXES = (Box(2, 72.0, 80.0, 200.0, 92.0), Box(2, 72.0, 94.0, 150.0, 106.0))


@pytest.fixture
def papers(tmp_path):
    with Collection(tmp_path / "c.rag", embedder=HashEmbedder()) as made:
        made.add([PAPER, Document("plain", "Zinc has no pages.")])
        yield made


def test_lines_when_packed_come_back():
    data = pack(LINES)
    assert len(data) == 28 * 3
    assert unpack(data) == LINES
    assert unpack(pack([])) == ()
    assert unpack(bytes(28)) == (Line(0, 0, 0, 0.0, 0.0, 0.0, 0.0),)
    assert unpack(data, 26, 28) == ()
    assert unpack(data, 25, 29) == LINES[:2]
    assert unpack(data, 53) == LINES[2:]
    with pytest.raises(ValueError, match="27 bytes are not packed lines"):
        unpack(data[:27])


def test_lines_when_they_do_not_fit_the_text_have_a_fault():
    first, second, _ = LINES
    assert fault(LINES, len(TEXT)) == ""
    assert fault((), 0) == ""
    assert fault(LINES, 68) == "a line is outside the text"
    assert fault([second, first], 100) == "its lines overlap or are not in order"
    assert fault([first._replace(end=29), second], 100) == "its lines overlap or are not in order"
    assert fault([first._replace(end=0)], 100) == "a line is outside the text"
    for wrong in (first._replace(page=0), first._replace(x0=float("nan"))):
        assert fault([wrong], 100) == "a line has no page or no box"


def test_boxes_when_a_span_touches_lines_are_theirs():
    assert boxes(LINES, 28, 69) == BOXES
    assert boxes(LINES, 25, 29) == (Box(1, *LINES[0][3:]), BOXES[0])
    assert boxes(LINES, 26, 28) == ()
    assert boxes((), 0, 9) == ()


def test_document_when_stored_keeps_its_layout(papers, tmp_path):
    assert papers.document("paper.pdf").layout == LINES
    assert papers.document("plain").layout == ()
    assert papers.verify().ok
    papers.compact()
    papers.repair()
    assert papers.document("paper.pdf").layout == LINES
    with Collection(tmp_path / "c.rag", embedder=HashEmbedder()) as again:
        assert again.document("paper.pdf").layout == LINES


def test_document_when_only_its_layout_changes_is_written_again(papers):
    assert papers.add(PAPER).unchanged == 1
    moved = replace(PAPER, layout=(LINES[0]._replace(x0=80.0), *LINES[1:]))
    assert papers.add(moved).changed == 1
    assert papers.document("paper.pdf").layout == moved.layout


def test_document_when_its_layout_does_not_fit_its_text_is_rejected(papers):
    report = papers.add(Document("bad", "Short.", layout=LINES))
    assert report.failed == 1
    (loss,) = report.losses
    assert loss.why == "its layout does not fit its text: a line is outside the text"


def test_verify_when_a_stored_layout_changes_finds_it(papers, tmp_path):
    _change(tmp_path, pack([LINES[0]]))
    (found,) = papers.verify().faults
    assert found.startswith(
        "store.db: id, source, title, metadata, layout or chunks of 'paper.pdf'"
    )
    _change(tmp_path, b"x" * 27)
    with pytest.raises(CorruptCollection, match="a layout is damaged: 27 bytes"):
        papers.document("paper.pdf")


def _change(folder, data):
    with sqlite3.connect(folder / "c.rag" / "store.db") as connection:
        update = "UPDATE documents SET layout = ? WHERE id = 'paper.pdf'"
        assert connection.execute(update, [data]).rowcount == 1
    connection.close()


def test_layout_when_its_document_is_deleted_is_deleted_later(papers, tmp_path):
    papers.delete(["paper.pdf"])
    for n in range(4):
        papers.add(Document(f"d{n}", "More zinc."))
    with sqlite3.connect(tmp_path / "c.rag" / "store.db") as connection:
        rows = connection.execute("SELECT layout FROM documents WHERE id = 'paper.pdf'").fetchall()
    connection.close()
    assert rows == [(b"",)]


@pytest.mark.parametrize("name", ["dense", "bm25", "hybrid"])
def test_chunk_when_found_has_its_own_lines(tmp_path, name):
    settings = Settings(chunk_tokens=8)
    with Collection(tmp_path / "small.rag", embedder=HashEmbedder(), settings=settings) as small:
        small.add([PAPER, Document("plain", "The gap of zinc is none.")])
        (run,) = small.retriever(name).retrieve(["gap of silicon"], 9)
        assert len(run) >= 2
        for hit in run:
            chunk = hit.chunk
            lines = LINES if chunk.doc_id == "paper.pdf" else ()
            touched = [x for x in lines if x.start < chunk.end and chunk.start < x.end]
            assert chunk.layout == tuple(touched)


def test_citation_when_its_chunk_has_lines_has_page_and_boxes():
    chunk = Chunk("c", "d", TEXT[28:], 28, len(TEXT), {"digest": "x"}, LINES[1:])
    assert cite(Hit(chunk, 1.0), 0, 7) == Citation("d", "c", 28, 35, "The gap", "x", 2, BOXES[:1])
    assert cite(Hit(chunk, 1.0), 0, 41).boxes == BOXES
    web = replace(chunk, layout=(), metadata={"url": "https://a.b/c", "time": "2026-01-02T03:04Z"})
    wanted = Citation(
        "d", "c", 28, 35, "The gap", "", None, (), "https://a.b/c", "2026-01-02T03:04Z"
    )
    assert cite(Hit(web, 1.0), 0, 7) == wanted


@pytest.fixture
def answer(papers):
    reader = ExtractiveReader(HashEmbedder(), threshold=0.0)
    return (papers.retriever("hybrid") >> reader).ask("What is the gap of silicon?")


def test_answer_when_cited_from_a_pdf_verifies_with_page_and_boxes(papers, answer):
    first = answer.citations[0]
    assert (first.quote, first.page, first.boxes) == (TEXT[28:], 2, BOXES)
    saved = json.loads(answer_json(answer))
    assert saved["citations"][0]["page"] == 2
    assert saved["citations"][0]["boxes"] == [asdict(box) for box in BOXES]
    assert {check.state for check in verify_answer(saved, papers)} == {"valid"}
    assert {check.state for check in verify_answer(answer, papers)} == {"valid"}


def test_answer_when_saved_before_pages_were_known_verifies(papers, answer):
    saved = json.loads(answer_json(answer))
    for citation in saved["citations"]:
        for name in ("page", "boxes", "url", "time"):
            del citation[name]
    assert {check.state for check in verify_answer(saved, papers)} == {"valid"}


def test_answer_when_its_page_or_boxes_are_wrong_is_broken(papers, answer):
    saved = json.loads(answer_json(replace(answer, citations=answer.citations[:1])))
    citation = saved["citations"][0]
    (check,) = verify_answer({"citations": [{**citation, "page": 1}]}, papers)
    assert (check.state, check.why) == ("broken", "the quote is on page 2, not on page 1")
    wrong = [{**citation["boxes"][0], "x0": 0.0}, *citation["boxes"][1:]]
    (check,) = verify_answer({"citations": [{**citation, "boxes": wrong}]}, papers)
    assert (check.state, check.why) == ("broken", "the boxes are not those of the quote")


def test_sources_when_a_citation_has_a_page_show_it(capsys, answer):
    _show_sources(replace(answer, citations=answer.citations[:1]))
    printed = capsys.readouterr().out
    assert printed == f"  [1] paper.pdf:28-{len(TEXT)}, page 2  “{TEXT[28:]}”\n"
