"""Read the parts of Office Open XML packages: docx, xlsx and pptx files."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

_MAX_DEPTH = 1_000
_SPACE = "http://schemas.openxmlformats.org"
A = f"{{{_SPACE}/drawingml/2006/main}}"
C = f"{{{_SPACE}/drawingml/2006/chart}}"
MC = f"{{{_SPACE}/markup-compatibility/2006}}"
R = f"{{{_SPACE}/officeDocument/2006/relationships}}"
# ISO 29500 "strict" files have other names for the same elements.
_STRICT = re.compile(rb"""(=["'])http://purl\.oclc\.org/ooxml/(\w+)/""")
_DEFAULT_TITLE = re.compile(
    r"untitled|title|powerpoint[ -]pr.sentation|presentation\d*|document\d*|dokument\d*|book\d*"
    r"|(microsoft )?(word|powerpoint|excel) - .*|.*\.(doc|ppt|xls)[xmt]?"
)


class PackageError(Exception):
    """Raised when a package is broken: a part is missing or is not safe XML."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Link from a part to another part, or to an external target.

    Attributes:
        kind: Last word of its type, such as "image" or "footnotes".
        target: Name of the part, or the external address.
    """

    kind: str
    target: str
    is_external: bool


class Package:
    """Parts of a package; `check_archive` has bounded its unpacked size."""

    def __init__(self, data: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(data))
        # Some programs write other letter cases or "\" in names.
        self._names = {_normal(name): name for name in self._archive.namelist()}
        self._relations: dict[str, dict[str, Relation]] = {}

    def __contains__(self, part: str) -> bool:
        return _normal(part) in self._names

    def read(self, part: str) -> bytes:
        """Return a part's bytes."""
        if part not in self:
            raise PackageError(f"its part {part[:200]} is missing")
        return self._archive.read(self._names[_normal(part)])

    def xml(self, part: str) -> Element:
        """Return a part's root element."""
        return parse_xml(self.read(part))

    def relations(self, part: str) -> dict[str, Relation]:
        """Return the relations of a part by id; those of the package if the name is empty."""
        if part not in self._relations:
            self._relations[part] = self._read_relations(part)
        return self._relations[part]

    def _read_relations(self, part: str) -> dict[str, Relation]:
        folder, base = posixpath.split(part)
        listing = posixpath.join(folder, "_rels", f"{base}.rels")
        if listing not in self:
            return {}
        relations = {}
        for item in self.xml(listing):
            kind = item.get("Type", "").rpartition("/")[2]
            target, is_external = item.get("Target", ""), item.get("TargetMode") == "External"
            if not is_external:
                target = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
            relations[item.get("Id", "")] = Relation(kind, target, is_external)
        return relations

    def related(self, part: str, kind: str) -> list[str]:
        """Return the names of the existing parts to which a part has a relation of a kind."""
        relations = self.relations(part).values()
        return [item.target for item in relations if item.kind == kind and item.target in self]

    @cached_property
    def main_part(self) -> str:
        """Name of the part with the document, workbook or presentation."""
        parts = self.related("", "officeDocument")
        if not parts:
            raise PackageError("its main part is missing")
        return parts[0]

    def title(self) -> str:
        """Return the title of the file's properties, unless it is a program's default."""
        for part in self.related("", "core-properties"):
            for item in self.xml(part):
                title = " ".join((item.text or "").split())
                if local(item.tag) == "title" and not _DEFAULT_TITLE.fullmatch(title.lower()):
                    return title
        return ""

    def has_macros(self) -> bool:
        """Return True if it has programs, which are not read."""
        return any(name.endswith("vbaproject.bin") for name in self._names)


def parse_xml(data: bytes) -> Element:
    """Parse XML without entities of its own.

    Raises:
        PackageError: It declares entities, which could multiply.
        ElementTree.ParseError: It is not well-formed.
    """
    return ElementTree.fromstring(_safe(data))


def iterate(data: bytes, container: str) -> Iterator[Element]:
    """Yield the children of the root, but the children of the `container` elements one by one.

    An element is freed when the next one is asked for, so memory stays small.

    Args:
        data: XML.
        container: Tag with its namespace in braces.
    """
    holder, base, depth = None, 0, 0
    for event, element in ElementTree.iterparse(io.BytesIO(_safe(data)), ("start", "end")):
        if event == "start":
            if holder is None and element.tag == container:
                holder, base = element, depth
            depth += 1
            if depth > _MAX_DEPTH:
                raise PackageError("its elements are nested too deep")
            continue
        depth -= 1
        if holder is None:
            if depth == 1:
                yield element
        elif depth == base + 1:
            yield element
            holder.clear()
        elif depth == base:
            holder = None


def branch(alternatives: Element) -> Element | None:
    """Return the branch of an `mc:AlternateContent` element to read: the first."""
    return next(iter(alternatives), None)


def local(tag: str) -> str:
    """Return a tag without its namespace.

    >>> local("{http://x}p")
    'p'
    """
    return tag.rpartition("}")[2]


def is_on(text: str | None) -> bool:
    """Return True if the value of a switch, whose default is on, is on."""
    return text not in {"0", "false", "off"}


def _normal(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").lower()


def _safe(data: bytes) -> bytes:
    """Refuse declared entities, and give strict files the usual namespaces."""
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entity
    parser.StartElementHandler = _stop
    try:  # declarations stand before the root
        for start in range(0, len(data), 4096):
            parser.Parse(data[start : start + 4096])
    except _RootFound:
        pass
    return _STRICT.sub(rb"\1http://schemas.openxmlformats.org/\2/2006/", data)


class _RootFound(Exception):
    """The root element begins."""


def _refuse_entity(*_: object) -> None:
    raise PackageError("it declares entities")


def _stop(*_: object) -> None:
    raise _RootFound
