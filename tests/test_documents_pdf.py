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
from ragkit.documents.pdf.reader import read_pdf
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
    monkeypatch.setattr("ragkit.documents.pdf.reader.MAX_PAGES", 2)
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
    cells = b"".join(b"BT /F1 8 Tf 1 0 0 1 %d %d Tm (a1) Tj ET " % (40 * (n % 60), 14 * (n // 60))
                     for n in range(12_000))  # fmt: skip
    sheet = _PAGE.replace(b"0 0 99 99", b"0 0 2400 2800")
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
        "many cells": (_raw_pdf(*parts[:2], sheet, _stream(cells), _FONT), "| a1 |"),
        "self reference": (_raw_pdf(*parts[:3], b"4 0 R", _FONT), "a.pdf: no text layer"),
    }


PDFS = [
    *("page tree loop", "page count lie", "deep page tree", "table loop", "form loop"),
    *("outline loop", "stream bomb", "deep array", "many cells", "self reference"),
]


@pytest.mark.parametrize("name", smoke(PDFS))
def test_pdf_when_it_loops_or_grows_then_read_or_refused(tmp_path, name):
    data, expected = _hostile_pdfs()[name]
    limits = SandboxLimits(seconds=30, memory_bytes=1 << 30)
    try:
        outcome = _load(tmp_path, "a.pdf", data, limits).documents[0].text
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


def _page_pdf(content: bytes, *objects: bytes, page: bytes = b"", catalog: bytes = b"") -> bytes:
    """Build a PDF of one page of 300 x 300 points; further objects are numbered from 6."""
    main = b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog
    resources = b"/Resources << /Font << /F1 5 0 R /F2 6 0 R >> /Properties << /L 6 0 R >> >>"
    sheet = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R %s %s >>"
    parts = (main, _PAGES, sheet % (resources, page), _stream(content), _FONT)
    return _raw_pdf(*parts, *objects)


def _read(data: bytes) -> tuple[str, list[str]]:
    """Return the text, and what is lost and why."""
    extract = read_pdf(data, "a.pdf")
    return extract.text, [f"{loss.lost}: {loss.why}" for loss in extract.losses]


_SHOWN = b"BT /F1 12 Tf 20 250 Td (shown) Tj ET "


def _at(y: int, text: bytes, before: bytes = b"") -> bytes:
    return b"BT %s /F1 12 Tf 20 %d Td (%s) Tj ET " % (before, y, text)


def test_pdf_when_text_cannot_be_seen_then_loss():
    unseen = "text of 1 pages that cannot be seen: it has the colour of the page, or its layer is "
    unseen += "switched off: page 1"
    white = b"1 1 1 rg " + _at(200, b"white") + b"0 g "
    assert _read(_page_pdf(_SHOWN + white)) == ("shown", [unseen])
    off = b"/OCProperties << /OCGs [6 0 R] /D << /OFF [6 0 R] >> >>"
    on = b"/OCProperties << /OCGs [6 0 R] /D << >> >>"
    layer = b"/OC /L BDC " + _at(200, b"layer") + b"EMC "
    group = b"<< /Type /OCG /Name (Layer) >>"
    assert _read(_page_pdf(_SHOWN + layer, group, catalog=off)) == ("shown", [unseen])
    assert _read(_page_pdf(_SHOWN + layer, group, catalog=on)) == ("shown\n\nlayer", [])
    outside = "text outside the borders of 1 pages: it is not shown: page 1"
    crop = b"/CropBox [0 100 300 300]"
    assert _read(_page_pdf(_SHOWN + _at(50, b"below"), page=crop)) == ("shown", [outside])
    with pytest.raises(DocumentError, match=r"^a\.pdf: empty: none of its text can be seen"):
        _read(_page_pdf(white))


def test_pdf_when_text_is_light_on_dark_or_of_a_scan_then_read():
    box = b"0 0 0 rg 10 190 200 30 re f 1 1 1 rg " + _at(200, b"light") + b"0 g "
    assert _read(_page_pdf(_SHOWN + box)) == ("shown\n\nlight", [])
    assert _read(_page_pdf(_SHOWN + _at(200, b"recognised", b"3 Tr"))) == (
        "shown\n\nrecognised",
        [],
    )


def test_pdf_when_a_picture_or_shapes_fill_the_page_then_loss():
    lost = "text inside pictures of 1 pages: a picture or drawn shapes fill it, and it has little "
    lost += "text; run OCR on it: page 1"
    image = _stream(b"\x80", b"/Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray"
                             b" /BitsPerComponent 8")  # fmt: skip
    page = b"/Resources << /Font << /F1 5 0 R >> /XObject << /I 6 0 R >> >>"
    drawn = b"q %d 0 0 %d 0 0 cm /I Do Q "
    for width, losses in ((300, [lost]), (90, [])):
        data = _page_pdf(drawn % (width, 280) + _SHOWN, image, page=page)
        data = data.replace(b"/Resources << /Font << /F1 5 0 R /F2", b"/Ignored << /Font << /F2", 1)
        assert _read(data) == ("shown", losses)
    outlines = b"".join(b"%d 50 m %d 60 l %d 70 l S " % (n % 280, n % 270, n % 260)
                        for n in range(1500))  # fmt: skip
    assert _read(_page_pdf(_SHOWN + outlines)) == ("shown", [lost])
    words = b"".join(_at(240 - 12 * n, b"as many words as a page has") for n in range(12))
    assert _read(_page_pdf(words + outlines))[1] == []


def test_pdf_when_a_font_does_not_say_its_characters_then_loss():
    encoding = b"/Encoding << /Type /Encoding /Differences [97 /g1 /g2 /g3] >>"
    font = b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 9 9] /FontMatrix [0.1 0 0 0.1 0 0] %s"
    font += b" /CharProcs << /g1 7 0 R /g2 7 0 R /g3 7 0 R >> /FirstChar 97 /LastChar 99"
    font += b" /Widths [9 9 9] >>"
    glyph = _stream(b"9 0 0 0 9 9 d1 0 0 9 9 re f")
    text = b"BT /F2 12 Tf 20 200 Td (abc) Tj ET"
    text, losses = _read(_page_pdf(_SHOWN + text, font % encoding, glyph))
    assert text.startswith("shown")
    assert losses == [
        "certainty about characters of 1 pages: a font does not say which characters its shapes "
        "are: page 1"
    ]


def test_pdf_form_when_filled_then_its_fields_are_lines():
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 720, "A form")
    form = canvas.acroForm
    form.textfield(name="Name", value="Ada Lovelace", x=72, y=600)
    form.textfield(name="Empty", value="", x=72, y=560)
    form.checkbox(name="Member", checked=True, x=72, y=520)
    form.checkbox(name="Guest", checked=False, x=72, y=500)
    form.choice(name="City", value="Paris", options=["London", "Paris"], x=72, y=460)
    form.listbox(name="Metal", value="Iron", options=["Zinc", "Iron"], x=72, y=380)
    for value in ("red", "blue"):
        form.radio(name="Colour", value=value, selected=value == "blue", x=72, y=340)
    canvas.save()
    text, losses = _read(buffer.getvalue())
    assert text.split("\n\n") == [
        *("A form", "Name: Ada Lovelace", "Member: yes", "Guest: no", "City: Paris"),
        *("Metal: Iron", "Colour: blue"),
    ]
    assert losses == []


def _annotation(fields: bytes) -> bytes:
    return b"<< /Type /Annot /Rect [20 100 60 120] %s >>" % fields


def test_pdf_annotations_when_they_have_text_then_read():
    annotations = [
        b"/Subtype /Text /Contents (Check this\nnumber) /T (Ann)",
        b"/Subtype /Highlight /Contents (Doubtful)",
        b"/Subtype /FreeText /Contents (Typed on the page)",
        b"/Subtype /Link /Contents (a link)",
        b"/Subtype /Popup /Contents (Check this number)",
        b"/Subtype /Square",
        b"/Subtype /Text /F 2 /Contents (secret)",
    ]
    numbers = b" ".join(b"%d 0 R" % (6 + n) for n in range(len(annotations)))
    data = _page_pdf(_SHOWN, *map(_annotation, annotations), page=b"/Annots [%s]" % numbers)
    text = "shown\n\nComment by Ann: Check this number\n\nComment: Doubtful\n\nTyped on the page"
    hidden = "hidden comments on 1 pages: they are marked as hidden: page 1"
    assert _read(data) == (text, [hidden])
    (*_, last) = read_pdf(data, "a.pdf").layout
    assert last[2:] == (1, 20.0, 180.0, 60.0, 200.0)


def test_pdf_attachments_and_xfa_when_present_then_loss():
    names = b"/Names << /EmbeddedFiles << /Names [(data.csv) 6 0 R] >> >>"
    spec = b"<< /Type /Filespec /F (data.csv) /UF (data.csv) /EF << /F 7 0 R >> >>"
    data = _page_pdf(_SHOWN, spec, _stream(b"a,b", b"/Type /EmbeddedFile"), catalog=names)
    (loss,) = read_pdf(data, "a.pdf").losses
    assert (loss.what, loss.lost) == ("a.pdf: data.csv", "the attachment")
    pinned = _page_pdf(
        _SHOWN, _annotation(b"/Subtype /FileAttachment /FS 7 0 R"), spec.replace(b"7", b"8"),
        _stream(b"a,b", b"/Type /EmbeddedFile"), page=b"/Annots [6 0 R]",
    )  # fmt: skip
    assert [loss.lost for loss in read_pdf(pinned, "a.pdf").losses] == ["1 attachments"]
    xfa = b"/AcroForm << /Fields [] /XFA 6 0 R >>"
    form = _stream(b"<xdp:xdp xmlns:xdp='http://ns.adobe.com/xdp/'/>")
    assert _read(_page_pdf(_SHOWN, form, catalog=xfa)) == (
        "shown",
        ["the form: an XFA form; print it to PDF"],
    )


def test_pdf_when_losses_are_on_many_pages_then_each_kind_is_one_loss():
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for _ in range(30):
        canvas.drawString(72, 720, "text")
        canvas.drawString(72, 9000, "far away")
        canvas.showPage()
    canvas.save()
    (loss,) = read_pdf(buffer.getvalue(), "a.pdf").losses
    listed = ", ".join(map(str, range(1, 21)))
    assert (loss.lost, loss.why) == (
        "text outside the borders of 30 pages",
        f"it is not shown: page {listed} and 10 more",
    )


def test_pdf_when_loaded_then_its_layout_passes_through_the_worker(tmp_path):
    pages = [["First line"], ["Second page", "in two lines"]]
    (document,) = _load(tmp_path, "a.pdf", _pdf(pages)).documents
    assert document.layout == read_pdf(_pdf(pages), "a.pdf").layout
    places = [(line.page, document.text[line.start : line.end]) for line in document.layout]
    assert places == [(1, "First line"), (2, "Second page"), (2, "in two lines")]
    assert document.layout[0][3:] == pytest.approx((72, 112.3, 117.3, 124.5), abs=0.2)
