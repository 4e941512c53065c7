"""HTML to tags and texts in one pass, in a time that grows with the length and no faster.

`html.parser` looks for the end of every comment that has none, to the end of the page each time: a
page of 1 MB then takes minutes. It also changes its mind between patch releases of Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from string import ascii_letters
from typing import Literal

Kind = Literal["text", "start", "empty", "end"]

_START = re.compile(
    r"""
    < ([A-Za-z][^ \t\n\r\f/>]*+)
    (?: [ \t\n\r\f/]*+ [^ \t\n\r\f/>][^ \t\n\r\f/>=]*+
        (?: [ \t\n\r\f]*+ = [ \t\n\r\f]*+
            (?: "[^"]*+" | '[^']*+' | [^ \t\n\r\f>"'][^ \t\n\r\f>]*+ )
        )?+
    )*+
    ([ \t\n\r\f/]*+) >
    """,
    re.VERBOSE,
)
_START_TO_NEXT_END = re.compile(r"<([A-Za-z][^ \t\n\r\f/>]*+)[^>]*+()>")
_END = re.compile(r"</([A-Za-z][^ \t\n\r\f/>]*+)[^>]*+>")
_COMMENT_END = re.compile(r"--!?>")
_CDATA_END = re.compile(r"\]\]>")
# Elements that hold no others, and their end tags.
_RAW_ENDS = {
    name: re.compile(rf"</{name}(?=[ \t\n\r\f/>])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title")
}
_HUGE_REFERENCE = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")


def tokens(page: str) -> Iterator[tuple[Kind, str]]:
    """The texts and the tags' names, lower case, in their order; attributes and comments go.

    As in the HTML standard, but what would swallow the rest of the page is text: a comment, a tag
    or a title that never ends. Only a script or style without an end takes the rest.

    >>> list(tokens("&lt;b<BR/><p class='x>y'>c</p"))
    [('text', '<b'), ('empty', 'br'), ('start', 'p'), ('text', 'c'), ('text', '<'), ('text', '/p')]
    """
    ends = _Ends(page)
    place = 0
    while (mark := page.find("<", place)) >= 0:
        if mark > place:
            yield "text", _plain(page[place:mark])
        if match := ends.start_tag(mark):
            name = match[1].lower()
            place = match.end()
            yield ("empty" if match[2].endswith("/") else "start"), name
            if name in _RAW_ENDS and (end := ends.raw(name, place)) > place:
                if name in {"textarea", "title"}:
                    yield "text", _plain(page[place:end])
                place = end
        elif match := ends.end_tag(mark):
            place = match.end()
            yield "end", match[1].lower()
        else:
            place = ends.declaration(mark)
            if not place:
                yield "text", "<"
                place = mark + 1
    if place < len(page):
        yield "text", _plain(page[place:])


class _Ends:
    """Where things end; what was once sought in vain is not sought again."""

    def __init__(self, page: str) -> None:
        self._page = page
        self._last = page.rfind(">")
        self._start = _START
        self._missing: set[object] = set()

    def start_tag(self, place: int) -> re.Match[str] | None:
        if place > self._last:
            return None
        match = self._start.match(self._page, place)
        if match is None and self._page[place + 1] in ascii_letters:
            # No end outside quotes: from here on, quotes are no help.
            self._start = _START_TO_NEXT_END
            match = self._start.match(self._page, place)
        return match

    def end_tag(self, place: int) -> re.Match[str] | None:
        return None if place > self._last else _END.match(self._page, place)

    def raw(self, name: str, place: int) -> int:
        """Where the content of a script, style, textarea or title ends, or 0."""
        end = self._find(_RAW_ENDS[name], place)
        if end:
            return end.start()
        return len(self._page) if name in {"script", "style"} else 0

    def declaration(self, place: int) -> int:
        """The end of a comment, declaration or the like that begins here, or 0."""
        page = self._page
        if place > self._last or page[place + 1 : place + 2] not in {"!", "?", "/"}:
            return 0
        if page.startswith("<!--", place):
            end = self._find(_COMMENT_END, place + 2)
            return end.end() if end else 0
        if page.startswith("<![CDATA[", place) and (end := self._find(_CDATA_END, place)):
            return end.end()
        return page.find(">", place) + 1

    def _find(self, what: re.Pattern[str], place: int) -> re.Match[str] | None:
        if what in self._missing:
            return None
        match = what.search(self._page, place)
        if match is None:
            self._missing.add(what)
        return match


def _plain(text: str) -> str:
    """The text with its character references resolved."""
    if "&" not in text:
        return text
    try:
        return unescape(text)
    except ValueError:  # a number of more digits than Python reads
        return unescape(_HUGE_REFERENCE.sub("\ufffd", text))
