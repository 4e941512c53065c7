"""HTML to Markdown, by a parser that keeps no tree: any depth, one pass."""

from __future__ import annotations

import re
from collections import Counter

from ragkit.documents.html_tokens import Kind, tokens
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
# An element that ends the one on the left when it is still open right before it.
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
_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""")


def read_html(data: bytes, name: str) -> Extract:
    """The page as Markdown, its `<title>` or first heading as the title."""
    declared = _DECLARED.search(data[:4096])
    text, losses = decode(data, name, declared=declared[1].decode() if declared else "")
    title, body = to_markdown(text)
    return Extract(body, title, {"format": "markdown"}, losses)


def to_markdown(page: str) -> tuple[str, str]:
    """The title and the text of an HTML page.

    Scripts, styles, navigation and templates are dropped; headings get `#` marks, list items
    `- `, table rows one line each with ` | ` between cells, `pre` a code fence.

    >>> to_markdown("<title>T</title><h2>Head</h2><p>one<br>two &amp; <b>three</b></p>")
    ('T', '## Head\\n\\none\\ntwo & three')
    """
    extractor = _Extractor()
    for kind, value in tokens(page):
        extractor.take(kind, value)
    return extractor.title(), extractor.text()


class _Extractor:
    """Writes text as it is met; all state is counters and one stack of open elements."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._open: list[str] = []
        self._n_open: Counter[str] = Counter()
        self._n_skipped = 0  # open elements whose content is dropped
        self._breaks = 0  # line ends due before the next text
        self._space = False  # a space is due before the next text
        self._prefix = ""  # the mark due before the next text
        self._bars = 0  # cell borders due before the next text
        self._row_began = False
        self._tables: list[tuple[int, int, bool]] = []  # the outer tables' cells, bars, row state
        self._n_cells = 0  # open cells of the innermost table
        self._cell_length = 0  # characters written in the open cell
        self._pre: list[str] = []
        self._titles: list[str] = []
        self._heading_start = 0  # where in the output the open heading begins
        self._n_headings = 0  # open headings
        self._first_heading = ""

    def title(self) -> str:
        return " ".join("".join(self._titles).split()) or self._first_heading

    def text(self) -> str:
        while self._open:
            self._pop()
        return "".join(self._out)

    def take(self, kind: Kind, value: str) -> None:
        """The next token of the page."""
        if kind == "text":
            self._take_text(value)
        elif kind == "end":
            self._close(value)
        elif kind == "start":
            self._begin(value)
        elif value not in _SKIPPED:
            self._begin(value)
            if value not in _VOID:
                self._close(value)

    def _begin(self, tag: str) -> None:
        self._close_implied(tag)
        if tag in _SKIPPED:
            self._n_skipped += 1
        elif not self._n_skipped:
            self._enter(tag)
        if tag not in _VOID:
            self._open.append(tag)
            self._n_open[tag] += 1

    def _close(self, tag: str) -> None:
        """Closes the element and those left open inside; a tag that was never opened is ignored."""
        if tag == "br":
            self._begin(tag)
        if self._n_open[tag]:
            while self._pop() != tag:
                pass

    def _take_text(self, data: str) -> None:
        if self._n_skipped:
            return
        if self._n_open["title"]:
            self._titles.append(data)
        elif self._n_open["pre"]:
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
        self._n_open[tag] -= 1
        if tag in _SKIPPED:
            self._n_skipped -= 1
        elif not self._n_skipped:
            self._leave(tag)
        return tag

    def _enter(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._break(2, hard=True)
            self._prefix = _HEADINGS[tag]
            self._heading_start = len(self._out)
            self._n_headings += 1
        elif tag == "li":
            self._break(1)
            depth = sum(self._n_open[name] for name in _LISTS)
            self._prefix = "" if self._n_cells else "  " * min(depth - 1, 8) + "- "
        elif tag == "tr":
            self._break(1, hard=True)
            self._bars, self._row_began = 0, False
        elif tag in {"td", "th"}:
            self._bars += bool(self._row_began or self._bars)
            self._row_began = True
            self._n_cells += 1
            self._cell_length = 0
            self._space = False
        elif tag == "table":
            self._tables.append((self._n_cells, self._bars, self._row_began))
            self._break(1 if self._n_cells else 2, hard=True)
            self._n_cells, self._bars, self._row_began = 0, 0, False
        else:
            self._break_for(tag)

    def _leave(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._n_headings -= 1
            words = " ".join("".join(self._out[self._heading_start :]).split())
            self._first_heading = self._first_heading or words.lstrip("# ")
            self._break(2, hard=True)
        elif tag in {"td", "th"}:
            self._n_cells = max(0, self._n_cells - 1)
        elif tag == "table":
            self._n_cells, self._bars, self._row_began = self._tables.pop()
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
        nested = tag in _LISTS and self._n_open["li"] > 0
        if tag == "br" and self._n_open["pre"]:
            self._pre.append("\n")
        elif tag in _PARAGRAPHS and not nested:
            self._break(2)
        elif tag in _LINES or tag == "br" or nested:
            self._break(1)

    def _break(self, n_lines: int, *, hard: bool = False) -> None:
        # A long cell is no table's: old pages are laid out by tables, and hold paragraphs in cells.
        in_cell = self._n_cells and self._cell_length < _MAX_CELL
        if self._prefix and not hard:
            return  # a paragraph that begins a list item stays on the item's line
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
        """Writes what is due before a text."""
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
        """Writes a code block, its marks longer than any inside."""
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
        self._bars = 0  # a fence counts only where its line begins
        self._flush()
        self._out.append(f"{fence}\n{code}\n{fence}")
        self._break(2, hard=True)
