"""Convert an e-book to Markdown. Runs in the worker process."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote, urldefrag
from xml.etree.ElementTree import Element

from ragkit.documents.html.reader import read_html
from ragkit.documents.losses import LossList, LossTally
from ragkit.documents.office.drawings import NO_ALT, WHY_NO_ALT
from ragkit.documents.office.ooxml import Package, PackageError, local
from ragkit.documents.text import Extract, clean, to_metadata
from ragkit.errors import DocumentError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = frozenset({"application/xhtml+xml", "text/html", "text/x-oeb1-document"})
_FIELDS = {  # of the package: label in the text
    "title": "Title",
    "creator": "Author",
    "contributor": "Contributor",
    "publisher": "Publisher",
    "date": "Date",
    "language": "Language",
    "identifier": "Identifier",
    "subject": "Subject",
    "description": "Description",
    "rights": "Rights",
}
_PICTURE = re.compile(rb"<img\b[^<>]*>", re.IGNORECASE)
_ALT = re.compile(rb"""\balt\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_MAX_FIELD = 2_000  # characters


class _Item(NamedTuple):
    """A file of the book."""

    path: str
    media_type: str


def read_epub(data: bytes, name: str) -> Extract:
    """Convert an e-book to Markdown: its title and authors, then its pages in reading order.

    Raises:
        DocumentError: Its pages are encrypted.
        PackageError: It has no list of its files.
    """
    archive, tally = Package(data), LossTally(name)
    package, folder = _find_package(archive)
    fields = _fields(package)
    items, spine = _items(package, folder)
    pages = [items[key] for key in dict.fromkeys(spine) if key in items]
    _refuse_encrypted(archive, name, {page.path for page in pages})
    if len(pages) < len(set(spine)):
        n = len(set(spine)) - len(pages)
        tally.count("pages", "the book's list of files does not have them", n=n)
    extracts = [_read_page(archive, page, name, tally) for page in pages]
    texts = [extract.text.strip() for extract in extracts]
    head = "\n".join(f"{_FIELDS[key]}: {', '.join(values)}" for key, values in fields.items())
    title = fields.get("title", [""])[0]
    text = "\n\n".join(filter(None, [head, *texts])) if any(texts) else ""
    metadata = to_metadata({key: ", ".join(values) for key, values in fields.items()})
    metadata.pop("title_", None)
    losses = LossList(name)
    for loss in (*tally.all(), *(loss for extract in extracts for loss in extract.losses)):
        losses.add(loss)
    return Extract(clean(text), clean(title), {**metadata, "format": "markdown"}, losses.all())


def _find_package(archive: Package) -> tuple[Element, str]:
    """Return the package document, and the folder to which its paths belong."""
    for item in archive.xml(_CONTAINER).iter():
        path = item.get("full-path", "")
        if local(item.tag) == "rootfile" and path in archive:
            return archive.xml(path), posixpath.dirname(path)
    raise PackageError("its package document is missing")


def _fields(package: Element) -> dict[str, list[str]]:
    """Return the values of the book's description by name."""
    found: dict[str, list[str]] = {name: [] for name in _FIELDS}
    for item in package.iter():
        name = local(item.tag)
        text = " ".join((item.text or "").split())[:_MAX_FIELD]
        if name in found and text and text not in found[name]:
            found[name].append(text)
    return {name: values for name, values in found.items() if values}


def _items(package: Element, folder: str) -> tuple[dict[str, _Item], list[str]]:
    """Return the files of the book by id, and the ids of its pages in reading order."""
    items: dict[str, _Item] = {}
    spine: list[str] = []
    for item in package.iter():
        if local(item.tag) == "item":
            href = unquote(urldefrag(item.get("href", "")).url)
            path = posixpath.normpath(posixpath.join("/", folder, href)).lstrip("/")
            items[item.get("id", "")] = _Item(path, item.get("media-type", ""))
        elif local(item.tag) == "itemref":
            spine.append(item.get("idref", ""))
    return items, spine


def _read_page(archive: Package, page: _Item, name: str, tally: LossTally) -> Extract:
    place = page.path[:100]
    if page.path not in archive:
        tally.count("pages", "the file does not have them", place)
    elif page.media_type not in _PAGES and not page.path.endswith(("htm", "html")):
        tally.count("pages", "they are pictures or in another format than HTML", place)
    else:
        data = archive.read(page.path)
        n_bare = sum(not _ALT.search(picture) for picture in _PICTURE.findall(data))
        tally.count(NO_ALT, WHY_NO_ALT, place, n=n_bare)
        return read_html(_PICTURE.sub(_description, data), f"{name} {place}")
    return Extract("")


def _description(picture: re.Match[bytes]) -> bytes:
    """Return the alternative text of a picture, still in HTML."""
    found = _ALT.search(picture[0])
    return (found[1] or found[2] or b"") if found else b""


def _refuse_encrypted(archive: Package, name: str, pages: set[str]) -> None:
    """Raise an error if a page is encrypted; fonts often are."""
    for item in _encrypted_files(archive):
        if unquote(item.get("URI", "")).lstrip("/") in pages:
            raise DocumentError(f"{name}: encrypted: it is protected; get a copy that is not")


def _encrypted_files(archive: Package) -> Iterator[Element]:
    if _ENCRYPTION in archive:
        for item in archive.xml(_ENCRYPTION).iter():
            if local(item.tag) == "CipherReference":
                yield item
