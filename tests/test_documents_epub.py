"""E-books: reading order, description, and what is lost."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from office_files import read, zip_files

from ragkit.errors import DocumentError

_CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
_XHTML = "application/xhtml+xml"


def _book(
    pages: dict[str, str], spine: str, *, fields: str = "", files: dict | None = None
) -> bytes:
    """Write a book of pages by name; `spine` lists the ids, which are the names."""
    items = "".join(
        f'<item id="{name}" href="text/{quote(name)}.xhtml#top" media-type="{_XHTML}"/>'
        for name in pages
    )
    items += '<item id="art" href="art.svg" media-type="image/svg+xml"/>'
    items += f'<item id="gone" href="gone.xhtml" media-type="{_XHTML}"/>'
    refs = "".join(f'<itemref idref="{name}" linear="no"/>' for name in spine.split(","))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>{fields}</metadata>'
        f"<manifest>{items}</manifest><spine>{refs}</spine></package>"
    )
    texts = {f"OPS/text/{name}.xhtml": page for name, page in pages.items()}
    top = {"META-INF/container.xml": _CONTAINER, "OPS/book.opf": package, "OPS/art.svg": "<svg/>"}
    return zip_files(top | texts | (files or {}))


def test_epub_when_read_then_pages_in_the_order_of_the_spine_below_the_description():
    fields = (
        "<dc:title>A Book</dc:title><dc:title>A Subtitle</dc:title><dc:creator>Ann Li</dc:creator>"
        "<dc:creator>Bo Ek</dc:creator><dc:language>en</dc:language><dc:date> </dc:date>"
    )
    pages = {
        "b b": "<h1>Second</h1><p>x</p>",
        "a": '<?xml version="1.0"?><!DOCTYPE html><html><head><title>T</title></head><body>'
        '<h1>First</h1><p>See <img src="x.png" alt="a &amp; b"/>.<img src="y.png"/></p>'
        "</body></html>",
    }
    data = _book(pages, "a,b b,a", fields=fields)
    extract = read(data, "epub")
    assert extract.title == "A Book"
    assert extract.metadata == {
        "creator": "Ann Li, Bo Ek",
        "language": "en",
        "format": "markdown",
    }
    assert extract.text == (
        "Title: A Book, A Subtitle\nAuthor: Ann Li, Bo Ek\nLanguage: en\n\n"
        "# First\n\nSee a & b.\n\n# Second\n\nx"
    )
    assert [loss.lost for loss in extract.losses] == ["1 pictures without alternative text"]


def test_epub_when_pages_are_missing_or_pictures_then_losses():
    data = _book({"a": "<p>words</p>"}, "a,gone,art,nowhere")
    extract = read(data, "epub")
    assert extract.text == "words"
    assert [(loss.lost, loss.why.partition("places: ")[2]) for loss in extract.losses] == [
        ("1 pages", ""),
        ("1 pages", "OPS/gone.xhtml"),
        ("1 pages", "OPS/art.svg"),
    ]


def test_epub_when_its_pages_are_encrypted_then_refused_but_not_for_fonts():
    entry = '<encryption><EncryptedData><CipherReference URI="{}"/></EncryptedData></encryption>'
    for path, is_refused in [("OPS/text/a.xhtml", True), ("OPS/font.otf", False)]:
        data = _book({"a": "x"}, "a", files={"META-INF/encryption.xml": entry.format(path)})
        if is_refused:
            with pytest.raises(DocumentError, match=r"^a\.epub: encrypted: it is protected"):
                read(data, "epub")
        else:
            assert read(data, "epub").text == "x"


def test_epub_when_its_package_is_missing_then_refused():
    with pytest.raises(DocumentError, match=r"^a\.epub: broken: its package document is missing"):
        read(zip_files({"META-INF/container.xml": _CONTAINER}), "epub")
    with pytest.raises(
        DocumentError, match=r"^a\.epub: broken: its part META-INF/container\.xml is"
    ):
        read(zip_files({"x": "y"}), "epub")


def test_epub_when_pictures_are_never_closed_then_read_in_linear_time():
    text = read(_book({"a": "<img " * 100_000 + "<p>x"}, "a"), "epub").text
    assert isinstance(text, str)


def test_epub_when_a_page_has_wrong_bytes_then_the_loss_names_it():
    data = _book({"a": "x"}, "a", files={"OPS/text/a.xhtml": b"<p>caf\xe9 au lait</p>"})
    extract = read(data, "epub")
    assert extract.text == "café au lait"
    assert [loss.what for loss in extract.losses] == ["a.epub OPS/text/a.xhtml"]
