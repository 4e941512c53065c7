"""Split HTML into tags and texts in linear time.

`html.parser` scans to the end of the page for each comment that is not closed, which takes minutes
for a page of 1 MB, and its results differ between patch releases of Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from string import ascii_letters
from typing import Literal, NamedTuple

Kind = Literal["text", "start", "empty", "end"]

_START = re.compile(
    r"""
    < ([A-Za-z][^ \t\n\r\f/>]*+)
    ((?: [ \t\n\r\f/]*+ [^ \t\n\r\f/>][^ \t\n\r\f/>=]*+
        (?: [ \t\n\r\f]*+ = [ \t\n\r\f]*+
            (?: "[^"]*+" | '[^']*+' | [^ \t\n\r\f>"'][^ \t\n\r\f>]*+ )
        )?+
    )*+)
    ([ \t\n\r\f/]*+) >
    """,
    re.VERBOSE,
)
_START_TO_NEXT_END = re.compile(r"<([A-Za-z][^ \t\n\r\f/>]*+)([^>]*+)()>")
_ATTRIBUTE = re.compile(
    r"""
    ([^ \t\n\r\f/>=][^ \t\n\r\f/>=]*+)
    (?: [ \t\n\r\f]*+ = [ \t\n\r\f]*+
        (?: "([^"]*+)" | '([^']*+)' | ([^ \t\n\r\f>"'][^ \t\n\r\f>]*+) )
    )?+
    """,
    re.VERBOSE,
)
_END = re.compile(r"</([A-Za-z][^ \t\n\r\f/>]*+)[^>]*+>")
_COMMENT_END = re.compile(r"--!?>")
_CDATA_END = re.compile(r"\]\]>")
# Elements whose content is not parsed as HTML, and their end tags.
_RAW_ENDS = {
    name: re.compile(rf"</{name}(?=[ \t\n\r\f/>])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title")
}
_HUGE_REFERENCE = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")


class Token(NamedTuple):
    """Text, or the lower-case name of a tag with its attributes as they are written."""

    kind: Kind
    value: str
    attributes: str = ""


def parse_attributes(attributes: str) -> dict[str, str]:
    """Return the attributes of a tag by lower-case name; the first of each name counts.

    >>> parse_attributes(" hidden CLASS='a &amp; b' id=c class=d")
    {'hidden': '', 'class': 'a & b', 'id': 'c'}
    """
    values: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(attributes):
        name, *forms = match.groups()
        values.setdefault(name.lower(), _unescape(next(filter(None, forms), "")))
    return values


def tokenize(page: str) -> Iterator[Token]:
    """Yield the texts and tags in order; drop comments.

    This follows the HTML standard, except that a comment, tag or title that is never closed is
    treated as text, instead of swallowing the rest of the page. An unclosed script or style does
    swallow the rest.

    >>> [tuple(filter(None, token)) for token in tokenize("&lt;b<BR/><p id='x>y'>c</p")]
    [('text', '<b'), ('empty', 'br'), ('start', 'p', " id='x>y'"), ('text', 'c'), ('text', '<'), \
('text', '/p')]
    """
    ends = _EndFinder(page)
    position = 0
    while (bracket := page.find("<", position)) >= 0:
        if bracket > position:
            yield Token("text", _unescape(page[position:bracket]))
        if match := ends.start_tag(bracket):
            name = match[1].lower()
            position = match.end()
            yield Token("empty" if match[3].endswith("/") else "start", name, match[2])
            if name in _RAW_ENDS and (end := ends.raw(name, position)) > position:
                if name in {"textarea", "title"}:
                    yield Token("text", _unescape(page[position:end]))
                position = end
        elif match := ends.end_tag(bracket):
            position = match.end()
            yield Token("end", match[1].lower())
        else:
            position = ends.declaration(bracket)
            if not position:
                yield Token("text", "<")
                position = bracket + 1
    if position < len(page):
        yield Token("text", _unescape(page[position:]))


class _EndFinder:
    """Finder of tag and comment ends that remembers failed searches, for linear total time."""

    def __init__(self, page: str) -> None:
        self._page = page
        self._last_end = page.rfind(">")
        self._start_pattern = _START
        self._missing: set[object] = set()

    def start_tag(self, position: int) -> re.Match[str] | None:
        if position > self._last_end:
            return None
        match = self._start_pattern.match(self._page, position)
        if match is None and self._page[position + 1] in ascii_letters:
            # A quote is not closed: from here on, match tags without regard to quotes.
            self._start_pattern = _START_TO_NEXT_END
            match = self._start_pattern.match(self._page, position)
        return match

    def end_tag(self, position: int) -> re.Match[str] | None:
        return None if position > self._last_end else _END.match(self._page, position)

    def raw(self, name: str, position: int) -> int:
        """Return the offset at which the content of a raw text element ends, or 0."""
        end = self._find(_RAW_ENDS[name], position)
        if end:
            return end.start()
        return len(self._page) if name in {"script", "style"} else 0

    def declaration(self, position: int) -> int:
        """Return the end of the comment or declaration that starts at a position, or 0."""
        page = self._page
        if position > self._last_end or not page.startswith(("!", "?", "/"), position + 1):
            return 0
        if page.startswith("<!--", position):
            end = self._find(_COMMENT_END, position + 2)
            return end.end() if end else 0
        if page.startswith("<![CDATA[", position) and (end := self._find(_CDATA_END, position)):
            return end.end()
        return page.find(">", position) + 1

    def _find(self, pattern: re.Pattern[str], position: int) -> re.Match[str] | None:
        if pattern in self._missing:
            return None
        match = pattern.search(self._page, position)
        if match is None:
            self._missing.add(pattern)
        return match


def _unescape(text: str) -> str:
    """Resolve the character references in a text."""
    if "&" not in text:
        return text
    try:
        return unescape(text)
    except ValueError:  # more digits than int() accepts
        return unescape(_HUGE_REFERENCE.sub("\ufffd", text))
