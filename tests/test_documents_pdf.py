"""PDF: small files written here, and the shared sample."""

from __future__ import annotations

import io
import os
import re
import zlib
from functools import cache
from pathlib import Path

import pytest
from tiers import smoke

from ragkit.documents import SandboxLimits, SourceFile, load_file
from ragkit.documents.pdf import read_pdf
from ragkit.errors import DocumentError

DATA = Path(os.environ.get("RAGKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
SAMPLES = DATA / "office_docs"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"{SAMPLES} is absent")


def _load(folder: Path, name: str, data: bytes, limits: SandboxLimits | None = None):
    path = folder / name
    path.write_bytes(data)
    return load_file(SourceFile(name, path, folder), limits=limits)


def _pdf(pages, title="A report"):
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.setTitle(title)
    for lines in pages:
        for number, line in enumerate(lines):
            canvas.drawString(72, 720 - 14 * number, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def test_pdf_when_loaded_then_pages_are_found_by_their_offsets(tmp_path):
    pages = [["First page", "of hyphen-", "ation"], [], ["Third page"]]
    (document,) = _load(tmp_path, "a.pdf", _pdf(pages)).documents
    assert document.title == "A report"
    assert document.text == "First page of hyphenation\n\n\n\nThird page"
    assert document.metadata == {"format": "pdf", "n_pages": 3, "pages": [0, 27, 29]}
    assert document.text[29:] == "Third page"


@pytest.mark.parametrize("title", ["Microsoft Word - thesis final", "paper.dvi", "(anonymous)"])
def test_pdf_title_when_a_program_wrote_it_then_ignored(title):
    assert read_pdf(_pdf([["x"]], title), "a.pdf").title == ""


def test_pdf_when_without_text_layer_then_refused(tmp_path):
    with pytest.raises(DocumentError, match=r"^a\.pdf: no text layer: 2 pages"):
        _load(tmp_path, "a.pdf", _pdf([[], []]))


def test_pdf_when_a_page_is_a_scan_then_loss(tmp_path):
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    image = pytest.importorskip("PIL.Image").new("RGB", (8, 8))
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 720, "text")
    canvas.showPage()
    canvas.drawImage(ImageReader(image), 0, 0, 100, 100)
    canvas.showPage()
    canvas.save()
    (loss,) = _load(tmp_path, "a.pdf", buffer.getvalue()).losses
    assert (loss.lost, loss.kept) == ("1 pages", "1 pages")
    assert "page 2" in loss.why


def _encrypted(password):
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=StandardEncryption(password, ownerPassword="owner"))
    canvas.drawString(72, 720, "secret text")
    canvas.save()
    return buffer.getvalue()


def test_pdf_when_encrypted_then_only_an_empty_password_opens_it(tmp_path):
    assert _load(tmp_path, "a.pdf", _encrypted("")).documents[0].text == "secret text"
    with pytest.raises(DocumentError, match=r"^b\.pdf: encrypted: it needs a password"):
        _load(tmp_path, "b.pdf", _encrypted("s3cret"))


def test_pdf_when_pages_exceed_the_cap_then_loss(monkeypatch):
    monkeypatch.setattr("ragkit.documents.pdf.MAX_PAGES", 2)
    extract = read_pdf(_pdf([["a"], ["b"], ["c"]]), "a.pdf")
    assert (extract.text, extract.metadata["n_pages"]) == ("a\n\nb", 3)
    assert [(loss.lost, loss.kept) for loss in extract.losses] == [("1 pages", "2 pages")]


def _raw_pdf(*objects: bytes, trailer: str = "") -> bytes:
    """Build a PDF of objects, the first being its catalog.

    PLACE in the trailer is replaced by the offset of the cross-reference table.
    """
    out, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    start = len(out)
    rest = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n"
    rest += f"<< /Size {len(objects) + 1} /Root 1 0 R {trailer.replace('PLACE', str(start))} >>\n"
    return out + f"{rest}startxref\n{start}\n%%EOF".encode()


def _stream(content: bytes, fields: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), fields, content)


_CATALOG = b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R >>"
_PAGES = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
_PAGE = b"""<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R /Resources
<< /Font << /F1 5 0 R >> /XObject << /X 6 0 R >> >> >>"""
_TEXT = _stream(b"BT /F1 12 Tf (hello) Tj ET /X Do")
_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
_FORM = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 6 0 R >> >>"


@cache
def _hostile_pdfs() -> dict[str, tuple[bytes, str]]:
    """Return names, contents, and expected prefixes of texts or errors of PDFs."""
    parts = (_CATALOG, _PAGES, _PAGE, _TEXT, _FONT)
    self_kid = b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 2 >>"
    liar = b"<< /Type /Pages /Kids [3 0 R] /Count 1000000000 >>"
    tree = [b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % (n + 3) for n in range(3000)]
    bomb = _stream(zlib.compress(b"\0" * 300_000_000, 1), b"/Filter /FlateDecode")
    deep = b"[" * 100_000 + b"]" * 100_000
    form = _stream(b"/X Do " * 10, _FORM)
    outline = b"<< /First 6 0 R /Next 6 0 R /Last 6 0 R /Title (x) >>"
    return {
        "page tree loop": (_raw_pdf(_CATALOG, self_kid, *parts[2:]), "hello"),
        "page count lie": (_raw_pdf(_CATALOG, liar, *parts[2:]), "hello"),
        "deep page tree": (_raw_pdf(_CATALOG, *tree, _PAGE), "a.pdf: broken"),
        "table loop": (_raw_pdf(*parts, trailer="/Prev PLACE"), "hello"),
        "form loop": (_raw_pdf(*parts, form), "a.pdf: broken: its parser crashed"),
        "outline loop": (_raw_pdf(*parts, outline), "hello"),
        "stream bomb": (_raw_pdf(*parts[:3], bomb, _FONT), "a.pdf: no text layer"),
        "deep array": (_raw_pdf(*parts[:3], deep, _FONT), "a.pdf: no text layer"),
        "self reference": (_raw_pdf(*parts[:3], b"4 0 R", _FONT), "a.pdf: no text layer"),
    }


PDFS = [
    *("page tree loop", "page count lie", "deep page tree", "table loop", "form loop"),
    *("outline loop", "stream bomb", "deep array", "self reference"),
]


@pytest.mark.parametrize("name", smoke(PDFS))
def test_pdf_when_it_loops_or_grows_then_read_or_refused(tmp_path, name):
    data, expected = _hostile_pdfs()[name]
    try:
        outcome = _load(tmp_path, "a.pdf", data, SandboxLimits(seconds=30)).documents[0].text
    except DocumentError as error:
        outcome = str(error)
    assert outcome.startswith(expected)


@pytest.mark.faults
def test_pdf_when_10000_pages_then_the_cap_is_a_loss(tmp_path):
    kids = b"<< /Type /Pages /Kids [" + b"3 0 R " * 10_000 + b"] /Count 10000 >>"
    result = _load(tmp_path, "a.pdf", _raw_pdf(_CATALOG, kids, _PAGE, _TEXT, _FONT))
    (document,) = result.documents
    assert len(document.metadata["pages"]) == 5_000
    assert [(loss.lost, loss.kept) for loss in result.losses] == [("5000 pages", "5000 pages")]


# The order of words depends on the reader, so words are compared, not lines.
@needs_samples
@pytest.mark.parametrize(
    ("source", "expected", "share"),
    [
        ("test.pdf", "test.md", 0.9),
        ("movie-theater-booking-2024.pdf", "movie-theater-booking-2024.md", 0.95),
        ("RECEIPT-2024-TXN-98765_retail_purchase.pdf", "", 0.95),
        ("SPARSE-2024-INV-1234_borderless_table.pdf", "", 0.95),
        ("REPAIR-2022-INV-001_multipage.pdf", "", 0.95),
    ],
)
def test_sample_pdf_when_compared_with_markitdown_then_the_words_agree(source, expected, share):
    expected = expected or source.replace(".pdf", ".md")
    ours = _words(read_pdf((SAMPLES / "markitdown" / source).read_bytes(), "a.pdf").text)
    theirs = _words((SAMPLES / "markitdown" / "expected_outputs" / expected).read_text())
    assert len(ours & theirs) >= share * len(theirs)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
