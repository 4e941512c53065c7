"""Office files and e-mails: small files written here, and the shared sample of 55."""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path

import pytest
from office_files import docx, read, xlsx, zip_files

from ragkit.documents import SUPPORTED, SandboxLimits, SourceFile, find_files, load_file
from ragkit.errors import DocumentError

DATA = Path(os.environ.get("RAGKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
SAMPLES = DATA / "office_docs"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"{SAMPLES} is absent")


def _load(folder: Path, name: str, data: bytes, limits: SandboxLimits | None = None):
    path = folder / name
    path.write_bytes(data)
    return load_file(SourceFile(name, path, folder), limits=limits)


def _docx() -> bytes:
    """Write a small Word file with a heading and a paragraph."""
    heading = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>'
    body = f"<w:p>{heading}<w:r><w:t>A head</w:t></w:r></w:p>"
    body += "<w:p><w:r><w:rPr><w:b/></w:rPr><w:t>snake_case</w:t></w:r>"
    body += "<w:r><w:t>, a*b</w:t></w:r></w:p>"
    style = '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    return docx(body, {"styles": style})


def test_docx_when_loaded_then_markdown_without_escapes(tmp_path):
    (document,) = _load(tmp_path, "a.docx", _docx()).documents
    assert document.text == "# A head\n\nsnake_case, a*b"
    assert (document.title, document.metadata) == ("A head", {"format": "markdown"})


def test_pptx_when_loaded_then_slides_with_headings_and_notes(tmp_path):
    import pptx

    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "The title"
    slide.placeholders[1].text = "A point"
    slide.notes_slide.notes_text_frame.text = "Said aside"
    buffer = io.BytesIO()
    deck.save(buffer)
    (document,) = _load(tmp_path, "a.pptx", buffer.getvalue()).documents
    assert document.title == "The title"
    assert document.text == "# Slide 1: The title\n\nA point\n\nNotes:\nSaid aside"


def test_xlsx_when_loaded_then_sheets_with_rows(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "Metals"
    for row in (["name", None, "n"], ["iron", None, 26], [], [None, "x"]):
        book.active.append(row)
    book.create_sheet("Empty")
    buffer = io.BytesIO()
    book.save(buffer)
    (document,) = _load(tmp_path, "a.xlsx", buffer.getvalue()).documents
    assert document.text == (
        "## Metals\n\n| name |  | n |\n| --- | --- | --- |\n| iron |  | 26 |\n\nx"
    )


def test_archive_when_it_is_a_bomb_then_refused_before_unpacking(tmp_path):
    bomb = zip_files({"word/document.xml": b"\0" * 50_000_000})
    with pytest.raises(DocumentError, match=r"^a\.docx: too big when unpacked: 50000000 bytes"):
        _load(tmp_path, "a.docx", bomb)
    with pytest.raises(DocumentError, match="too big when unpacked"):
        _load(tmp_path, "b.docx", _docx(), SandboxLimits(unpacked_bytes=100))


def test_archive_when_its_directory_lies_then_no_more_is_unpacked(tmp_path):
    bomb = zip_files({"word/document.xml": b" " * 50_000_000})
    honest = (50_000_000).to_bytes(4, "little")
    assert bomb.count(honest) == 2
    with pytest.raises(DocumentError, match=r"^a\.docx: broken"):
        _load(tmp_path, "a.docx", bomb.replace(honest, (1000).to_bytes(4, "little")))


def test_archive_when_entities_multiply_then_only_that_file_is_lost(tmp_path):
    entities = '<!ENTITY a0 "lol">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)
    )
    document = f"<!DOCTYPE x [{entities}]><x>&a11;</x>"
    with zipfile.ZipFile(io.BytesIO(_docx())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with pytest.raises(DocumentError, match=r"^a\.docx: (broken|too big|empty)"):
        _load(tmp_path, "a.docx", zip_files({**files, "word/document.xml": document}))
    assert _load(tmp_path, "b.docx", _docx()).documents[0].title == "A head"


def test_archive_when_any_part_declares_entities_then_refused():
    bomb = '<!DOCTYPE x [<!ENTITY a "ha">]>'
    files = {
        "docx": ("word/document.xml", "word/styles.xml", "_rels/.rels"),
        "xlsx": ("xl/workbook.xml", "xl/sheet.xml", "xl/strings.xml", "xl/styles.xml"),
        "epub": ("META-INF/container.xml", "o.opf"),
    }
    valid = {"docx": _docx(), "xlsx": xlsx("<row/>"), "epub": _epub("<p>x")}
    for kind, names in files.items():
        with zipfile.ZipFile(io.BytesIO(valid[kind])) as archive:
            parts = {name: archive.read(name).decode() for name in archive.namelist()}
        for name in names:
            for encoding in ("utf-8", "utf-16"):
                content = (bomb + parts[name]).encode(encoding)
                with pytest.raises(DocumentError, match="broken: it declares entities"):
                    read(zip_files({**parts, name: content}), kind)


def test_office_when_a_suffix_is_a_variant_then_read_or_the_better_one_is_named(tmp_path):
    for suffix, data in [
        *((suffix, _docx()) for suffix in (".docm", ".dotm", ".dotx")),
        *((suffix, xlsx("<row><c><v>1</v></c></row>")) for suffix in (".xlsm", ".xltm", ".xltx")),
    ]:
        assert _load(tmp_path, f"a{suffix}", data).documents[0].text
    variants = {"pptm", "ppsx", "ppsm", "potx", "potm"}
    assert {SUPPORTED[f".{suffix}"] for suffix in variants} == {"pptx"}
    for old, new in [("doc", "docx"), ("ppt", "pptx"), ("xls", "xlsx"), ("xlsb", "xlsx")]:
        with pytest.raises(DocumentError, match=rf"unsupported type \.{old}; save it as \.{new}$"):
            _load(tmp_path, f"a.{old}", b"x")


def test_office_when_encrypted_then_refused(tmp_path):
    old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
    with pytest.raises(DocumentError, match=r"^a\.docx: encrypted: it needs a password"):
        _load(tmp_path, "a.docx", old + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(DocumentError, match=r"^b\.docx: unsupported type: .* before 2007"):
        _load(tmp_path, "b.docx", old)
    locked = bytearray(_docx())
    for match in re.finditer(b"PK\x01\x02", bytes(locked)):
        locked[match.start() + 8] |= 1
    with pytest.raises(DocumentError, match=r"^c\.docx: encrypted"):
        _load(tmp_path, "c.docx", bytes(locked))


def test_mail_when_loaded_then_body_headers_and_attachment_losses(tmp_path):
    from email.message import EmailMessage

    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Größe", "a@b.c", "d@e.f"
    message.set_content("Plain body\n")
    message.add_alternative("<p>Plain <b>body</b></p>", subtype="html")
    message.add_attachment(b"data", maintype="image", subtype="png", filename="x.png")
    result = _load(tmp_path, "a.eml", message.as_bytes())
    (document,) = result.documents
    assert (document.title, document.text) == ("Größe", "Plain body")
    assert document.metadata == {"format": "eml", "from": "a@b.c", "to": "d@e.f"}
    assert [loss.what for loss in result.losses] == ["a.eml: x.png"]


def _workbook() -> dict[str, bytes]:
    import openpyxl

    book, buffer = openpyxl.Workbook(), io.BytesIO()
    book.active["A1"], book.active["A1048576"] = "first", "last"
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.faults
def test_xlsx_when_it_claims_a_million_rows_of_16000_then_its_cells_are_read(tmp_path):
    files, sheet = _workbook(), "xl/worksheets/sheet1.xml"
    claim = re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:XFD1048576"', files[sheet])
    (document,) = _load(tmp_path, "a.xlsx", zip_files({**files, sheet: claim})).documents
    assert document.text == "## Sheet\n\nfirst\n\nlast"
    far = files[sheet].replace(b"1048576", b"99999999999999")
    result = _load(tmp_path, "b.xlsx", zip_files({**files, sheet: far}))
    assert result.documents[0].text == "## Sheet\n\nfirst\n\nlast"
    assert result.losses == ()


def test_archive_when_its_names_climb_then_nothing_is_written_outside(tmp_path):
    names = {"../up.txt": b"x", str(tmp_path / "abs.txt"): b"x", "n\nl": b"x", "a" * 60_000: b"x"}
    (document,) = _load(tmp_path, "a.xlsx", zip_files({**_workbook(), **names})).documents
    assert document.text.startswith("## Sheet")
    assert [path.name for path in tmp_path.iterdir()] == ["a.xlsx"]
    assert not (tmp_path.parent / "up.txt").exists()


def _epub(chapter: str, package: str = "") -> bytes:
    package = package or (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata/><manifest><item id="c" '
        'href="c.xhtml" media-type="application/xhtml+xml"/></manifest><spine>'
        '<itemref idref="c"/></spine></package>'
    )
    container = '<container><rootfiles><rootfile full-path="o.opf"/></rootfiles></container>'
    return zip_files({"META-INF/container.xml": container, "o.opf": package, "c.xhtml": chapter})


@pytest.mark.faults
def test_epub_when_entities_multiply_or_nesting_is_deep_then_only_that_file_is_lost(tmp_path):
    assert _load(tmp_path, "a.epub", _epub("<h1>Head</h1>")).documents[0].text == "# Head"
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "lol">{entities}]><package>&a11;</package>'
    with pytest.raises(DocumentError, match=r"^b\.epub: broken: it declares entities"):
        _load(tmp_path, "b.epub", _epub("x", bomb))
    deep = "<div>" * 100_000 + "word"
    try:
        assert "word" in _load(tmp_path, "c.epub", _epub(deep)).documents[0].text
    except DocumentError as error:
        assert str(error).startswith("c.epub: broken")  # noqa: PT017  either is right


_MAILS = {
    "nested": b"Subject: x\n"
    + b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(10_000)
    ),
    "forwarded": b"Subject: x\n" + b"Content-Type: message/rfc822\n\n" * 10_000,
}


@pytest.mark.faults
@pytest.mark.parametrize("name", _MAILS)
def test_mail_when_nested_10000_deep_then_refused(tmp_path, name):
    with pytest.raises(DocumentError, match=r"^a\.eml: broken: its parts are nested too deeply"):
        _load(tmp_path, "a.eml", _MAILS[name] + b"\nbody\n")


HOSTILE_HEADERS = {
    b"To: " + b"a@b.c, " * 30_000: True,
    b"Subject: " + b"=?utf-8?q?x?= " * 20_000: True,
    b"To: " + b"(" * 4000: False,
    b"From: <<<>>>@@\nDate: Mon, 99 Xxx 99999 99:99:99 +9999": True,
    b"Subject: =?x?q?y?=\nTo: @,;:": True,
}


def test_mail_when_a_header_is_hostile_then_the_body_is_read(tmp_path):
    for header, loses in HOSTILE_HEADERS.items():
        result = _load(tmp_path, "a.eml", header + b"\n\nbody\n", SandboxLimits(seconds=20))
        assert result.documents[0].text == "body"
        assert bool(result.losses) is loses, header[:40]


@pytest.mark.faults
def test_mail_when_it_has_thousands_of_attachments_then_the_losses_are_counted(tmp_path):
    part = b'--b\nContent-Disposition: attachment; filename="x\x01"\n\ny\n'
    head = b'X: y\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n\nbody\n'
    result = _load(tmp_path, "a.eml", head + part * 3000 + b"--b--\n")
    assert result.documents[0].text == "body"
    assert result.losses[0].what.startswith("a.eml: x")
    assert result.losses[-1].lost == "2000 more of its parts"


REFUSED = {
    "markitdown/test.xls": "unsupported type .xls; save it as .xlsx",
    "markitdown/test_outlook_msg.msg": "unsupported type .msg",
    "markitdown/test_rss.xml": "unsupported type .xml",
    "unstructured/eng_spa_mult.rtf": "unsupported type .rtf; save it as .docx",
    "unstructured/fake-email.msg": "unsupported type .msg",
    "unstructured/fake.odt": "unsupported type .odt; save it as .docx",
}


@pytest.fixture(scope="module")
def sample():
    files, losses = find_files([SAMPLES])
    assert losses == []
    loaded, refused = {}, {}
    for file in files:
        try:
            loaded[file.id] = load_file(file)
        except DocumentError as error:
            refused[file.id] = str(error)
    return loaded, refused


@pytest.mark.models
@needs_samples
def test_sample_when_loaded_then_exactly_the_unsupported_are_refused(sample):
    loaded, refused = sample
    assert refused.keys() == REFUSED.keys()
    assert all(refused[name].startswith(f"{name}: {why}") for name, why in REFUSED.items())
    assert len(loaded) + len(refused) == 56  # the 55 and their NOTICE.md


@pytest.mark.models
@needs_samples
def test_sample_when_loaded_then_texts_are_clean_and_pages_fit(sample):
    for result in sample[0].values():
        for document in result.documents:
            assert document.text.strip()
            assert not re.search("[\0\r\ud800-\udfff]", document.text)
            for start in document.metadata.get("pages", ()):
                assert start == 0 or document.text[start - 2 : start] == "\n\n"


@needs_samples
@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("markitdown/test.docx", "# Abstract\n\nAutoGen is an open-source framework"),
        ("markitdown/test.pptx", "# Slide 1: AutoGen: Enabling Next-Gen LLM Applications"),
        ("markitdown/test.xlsx", "| Delta |\n| --- | --- | --- | --- |\n| 89 | 82 | 100 | 12 |"),
        ("markitdown/test.epub", "# Chapter 2: More Content"),
        ("markitdown/equations.docx", "For m=1"),
        ("markitdown/test_mskanji.csv", "名前: 佐藤太郎\n年齢: 30\n住所: 東京"),
        ("markitdown/test_wikipedia.html", "# Microsoft\n"),
        ("markitdown/test_blog.html", "# Does Model and Inference Parameter Matter"),
        ("docling/word_sample.docx", "## Let\u2019s eat\n"),
        ("unstructured/stanley-cups.xlsx", "Blues | STL | 1"),
        ("unstructured/fake-email-attachment.eml", "Here's the attachments!"),
        ("unstructured/winter-sports.epub", "Winter Sports in Switzerland"),
    ],
)
def test_sample_when_loaded_then_its_key_phrase_is_there(name, phrase):
    result = load_file(SourceFile(name, SAMPLES / name, SAMPLES))
    assert phrase in result.documents[0].text
