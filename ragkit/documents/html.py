"""Convert HTML to Markdown in one pass, without building a tree."""

from __future__ import annotations

import re
from collections import Counter

from ragkit.documents.encodings import find_codec
from ragkit.documents.html_tokens import Kind, tokenize
from ragkit.documents.text import Extract, decode

_SKIPPED = frozenset({"iframe", "nav", "noscript", "script", "style", "svg", "template"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source"}
    | {"track", "wbr"}
)
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_PARAGRAPHS = frozenset(
    {"article", "aside", "blockquote", "body", "dl", "fieldset", "figure", "footer", "form"}
    | {"header", "hr", "main", "ol", "p", "pre", "section", "table", "ul"}
)
_LINES = frozenset(
    {"address", "caption", "center", "dd", "details", "div", "dt", "figcaption", "legend", "li"}
    | {"option", "summary", "tbody", "tfoot", "thead", "tr"}
)
_LISTS = frozenset({"menu", "ol", "ul"})
# Start tag -> tags that it closes implicitly if one of them is the innermost open element.
_CLOSERS = {
    "li": {"li"},
    "tr": {"tr"},
    "td": {"td", "th"},
    "th": {"td", "th"},
    "option": {"option"},
}
_DEFINITIONS = frozenset({"dt", "dd"})
_MAX_CELL = 300
_SPACE = re.compile(r"[ \t\n\r\f]+")
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
# In an XML declaration or a meta element, not in an attribute such as accept-charset.
_DECLARED_ENCODING = re.compile(
    rb"""(?:\A\s*<\?xml\s[^>]*?\sencoding|<meta\s[^>]*?(?<![\w-])charset)"""
    rb"""\s*=\s*["']?\s*([A-Za-z0-9_:.+()-]+)""",
    re.IGNORECASE,
)


def read_html(data: bytes, name: str, *, declared: str = "", encoding: str = "") -> Extract:
    """Convert a page to Markdown; its title is the `<title>` or the first heading.

    Args:
        data: Content of the file.
        name: Id of the file.
        declared: Encoding that its container declares; it precedes the page's own declaration.
        encoding: Encoding of a page that is not UTF-8 and declares none; guessed if empty.
    """
    declared = declared or _declared_encoding(data)
    text, losses = decode(data, name, declared=declared, encoding=encoding)
    title, body = to_markdown(text)
    return Extract(body, title, {"format": "markdown"}, losses)


def _declared_encoding(data: bytes) -> str:
    match = _DECLARED_ENCODING.search(_COMMENT.sub(b"", data[:4096]))
    label = match[1].decode() if match else ""
    # What can be read here as ASCII is not in UTF-16.
    return "utf-8" if find_codec(label).startswith(("utf-16", "utf-32")) else label


def to_markdown(page: str) -> tuple[str, str]:
    """Return the title and the Markdown text of an HTML page.

    Drop scripts, styles, navigation and templates. Write headings with `#` marks, list items with
    `- `, each table row on one line with ` | ` between cells, and `pre` elements as fenced code.

    >>> to_markdown("<title>T</title><h2>Head</h2><p>one<br>two &amp; <b>three</b></p>")
    ('T', '## Head\\n\\none\\ntwo & three')
    """
    extractor = _Extractor()
    for kind, value in tokenize(page):
        extractor.feed(kind, value)
    return extractor.title(), extractor.text()


class _Extractor:
    """Markdown writer for a stream of tokens; its state is counters and a stack of open tags."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._open: list[str] = []
        self._open_counts: Counter[str] = Counter()
        self._n_skipped = 0  # number of open elements whose content is dropped
        self._breaks = 0  # line ends to write before the next text
        self._space = False  # whether to write a space before the next text
        self._prefix = ""  # heading or list mark to write before the next text
        self._bars = 0  # cell separators to write before the next text
        self._row_started = False
        self._tables: list[tuple[int, int, bool]] = []  # state of the outer tables
        self._n_cells = 0  # number of open cells of the innermost table
        self._cell_length = 0  # number of characters written in the open cell
        self._pre: list[str] = []
        self._titles: list[str] = []
        self._heading_start = 0  # index in the output at which the open heading begins
        self._n_headings = 0  # number of open headings
        self._first_heading = ""

    def title(self) -> str:
        return " ".join("".join(self._titles).split()) or self._first_heading

    def text(self) -> str:
        while self._open:
            self._pop()
        return "".join(self._out)

    def feed(self, kind: Kind, value: str) -> None:
        """Process the next token of the page."""
        if kind == "text":
            self._handle_text(value)
        elif kind == "end":
            self._handle_end(value)
        elif kind == "start":
            self._handle_start(value)
        elif value not in _SKIPPED:
            self._handle_start(value)
            if value not in _VOID:
                self._handle_end(value)

    def _handle_start(self, tag: str) -> None:
        self._close_implied(tag)
        if tag in _SKIPPED:
            self._n_skipped += 1
        elif not self._n_skipped:
            self._open_element(tag)
        if tag not in _VOID:
            self._open.append(tag)
            self._open_counts[tag] += 1

    def _handle_end(self, tag: str) -> None:
        """Close an element and those still open inside it; ignore a tag that is not open."""
        if tag == "br":
            self._handle_start(tag)
        if self._open_counts[tag]:
            while self._pop() != tag:
                pass

    def _handle_text(self, data: str) -> None:
        if self._n_skipped:
            return
        if self._open_counts["title"]:
            self._titles.append(data)
        elif self._open_counts["pre"]:
            self._pre.append(data)
        else:
            self._write(data)

    def _close_implied(self, tag: str) -> None:
        top = self._open[-1] if self._open else ""
        block = tag in _PARAGRAPHS or tag in _LINES or tag in _HEADINGS
        if (
            (top == "p" and block)
            or top in _CLOSERS.get(tag, ())
            or (top in _DEFINITIONS and tag in _DEFINITIONS)
        ):
            self._pop()

    def _pop(self) -> str:
        tag = self._open.pop()
        self._open_counts[tag] -= 1
        if tag in _SKIPPED:
            self._n_skipped -= 1
        elif not self._n_skipped:
            self._close_element(tag)
        return tag

    def _open_element(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._break(2, hard=True)
            self._prefix = _HEADINGS[tag]
            self._heading_start = len(self._out)
            self._n_headings += 1
        elif tag == "li":
            self._break(1)
            depth = sum(self._open_counts[name] for name in _LISTS)
            self._prefix = "" if self._n_cells else "  " * min(depth - 1, 8) + "- "
        elif tag == "tr":
            self._break(1, hard=True)
            self._bars, self._row_started = 0, False
        elif tag in {"td", "th"}:
            self._bars += bool(self._row_started or self._bars)
            self._row_started = True
            self._n_cells += 1
            self._cell_length = 0
            self._space = False
        elif tag == "table":
            self._tables.append((self._n_cells, self._bars, self._row_started))
            self._break(1 if self._n_cells else 2, hard=True)
            self._n_cells, self._bars, self._row_started = 0, 0, False
        else:
            self._break_for(tag)

    def _close_element(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._n_headings -= 1
            words = " ".join("".join(self._out[self._heading_start :]).split())
            self._first_heading = self._first_heading or words.lstrip("# ")
            self._break(2, hard=True)
        elif tag in {"td", "th"}:
            self._n_cells = max(0, self._n_cells - 1)
        elif tag == "table":
            self._n_cells, self._bars, self._row_started = self._tables.pop()
            self._break(1 if self._n_cells else 2, hard=True)
        elif tag == "pre":
            self._write_pre()
        elif tag == "tr":
            self._break(1, hard=True)
        else:
            self._break_for(tag)
        if tag in _HEADINGS or tag == "li":
            self._prefix = ""

    def _break_for(self, tag: str) -> None:
        nested = tag in _LISTS and self._open_counts["li"] > 0
        if tag == "br" and self._open_counts["pre"]:
            self._pre.append("\n")
        elif tag in _PARAGRAPHS and not nested:
            self._break(2)
        elif tag in _LINES or tag == "br" or nested:
            self._break(1)

    def _break(self, n_lines: int, *, hard: bool = False) -> None:
        # Old pages use tables for layout, so a long cell contains paragraphs, not tabular data.
        in_cell = self._n_cells and self._cell_length < _MAX_CELL
        if self._prefix and not hard:
            return  # the first paragraph of a list item stays on the item's line
        if (in_cell or self._n_headings) and not hard:
            self._space = True
        else:
            self._breaks = max(self._breaks, n_lines)

    def _write(self, data: str) -> None:
        words = _SPACE.sub(" ", data)
        if words.startswith(" "):
            self._space = True
        words = words.strip(" ")
        if not words or words.isspace():
            self._space = True
            return
        self._flush()
        self._out.append(words)
        self._cell_length += len(words)
        self._space = data[-1] in " \t\n\r\f"

    def _flush(self) -> None:
        """Write the pending line ends, space, mark and separators."""
        bars = "| " * self._bars
        if self._breaks or not self._out:
            if self._out:
                self._out.append("\n" * self._breaks)
            self._out.append(self._prefix + bars)
        elif bars:
            self._out.append(" " + self._prefix + bars)
        elif self._space:
            self._out.append(" " + self._prefix)
        else:
            self._out.append(self._prefix)
        self._breaks, self._space, self._prefix, self._bars = 0, False, "", 0

    def _write_pre(self) -> None:
        """Write a code block with a fence longer than any run of backticks inside."""
        code = "".join(self._pre).strip("\n")
        self._pre = []
        if not code.strip():
            return
        if self._n_cells and "\n" not in code:
            self._write(code)
            return
        longest = max((len(run) for run in re.findall("`+", code)), default=0)
        fence = "`" * max(3, longest + 1)
        self._break(2, hard=True)
        self._bars = 0  # a fence must be at the start of its line
        self._flush()
        self._out.append(f"{fence}\n{code}\n{fence}")
        self._break(2, hard=True)
