"""Convert HTML to Markdown in one pass, without building a tree."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from ragkit.documents.encodings import find_codec
from ragkit.documents.html.inline import MAX_LENGTH, MAX_OPEN, Inline, InlineKind, is_note
from ragkit.documents.html.mathml import MathWriter
from ragkit.documents.html.tables import TableBuffer
from ragkit.documents.html.tokens import Token, parse_attributes, tokenize
from ragkit.documents.html.writer import Layout, LineWriter
from ragkit.documents.losses import LossList
from ragkit.documents.scalars import to_int
from ragkit.documents.text import Extract, decode
from ragkit.types import Loss

_SKIPPED = frozenset({"iframe", "nav", "noscript", "rp", "script", "style", "svg", "template"})
_DELETED = frozenset({"del", "s", "strike"})
_NEVER_HIDDEN = _SKIPPED | {"body", "html", "main"}
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
_BLOCKS = _PARAGRAPHS | _LINES | frozenset(_HEADINGS)
_TABLE_PARTS = frozenset({"table", "thead", "tbody", "tfoot", "tr", "td", "th"})
_LISTS = frozenset({"menu", "ol", "ul"})
# Start tag -> tags that it closes implicitly if one of them is the innermost open element.
_CLOSERS = {
    "li": {"li"},
    "tr": {"tr"},
    "td": {"td", "th"},
    "th": {"td", "th"},
    "option": {"option"},
    "rt": {"rt", "rp"},
    "rp": {"rt", "rp"},
}
_DEFINITIONS = frozenset({"dt", "dd"})
_INLINE: dict[str, InlineKind] = {"sup": "sup", "sub": "sub", "ruby": "ruby", "rt": "rt"}
_FORMULA_COPY = "katex-html"  # class of what KaTeX shows beside the MathML that is read
_HIDDEN = re.compile(r"hidden|display|visibility", re.IGNORECASE)
_IMAGE_FILE = re.compile(r"\S+\.(?:avif|bmp|gif|ico|jpe?g|png|svg|tiff?|webp)", re.IGNORECASE)
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
    title, body, page_losses = convert_page(text, name)
    return Extract(body, title, {"format": "markdown"}, losses + page_losses)


def _declared_encoding(data: bytes) -> str:
    match = _DECLARED_ENCODING.search(_COMMENT.sub(b"", data[:4096]))
    label = match[1].decode() if match else ""
    # What can be read here as ASCII is not in UTF-16.
    return "utf-8" if find_codec(label).startswith(("utf-16", "utf-32")) else label


def to_markdown(page: str) -> tuple[str, str]:
    """Return the title and the Markdown text of an HTML page, as `convert_page` does.

    >>> to_markdown("<title>T</title><h2>Head</h2><p>one<br>two &amp; <b>10<sup>5</sup></b></p>")
    ('T', '## Head\\n\\none\\ntwo & 10⁵')
    """
    return convert_page(page, "")[:2]


def convert_page(page: str, name: str) -> tuple[str, str, tuple[Loss, ...]]:
    """Return the title, the Markdown text and the losses of an HTML page.

    Drop scripts, styles, navigation and templates, and, with a loss, hidden and deleted text. Write
    headings with `#` marks, list items with `- `, tables of data as Markdown tables, the rows of
    other tables with ` | ` between cells, and `pre` elements as fenced code. Superscripts and
    subscripts are written as in `ragkit.documents.scripts`, marks of notes in brackets, readings of
    ruby in parentheses, formulas in a line, and the alternative texts of images in their places.

    Args:
        page: The page.
        name: Id of the file, for the losses.
    """
    extractor = _Extractor()
    for token in tokenize(page):
        extractor.feed(token)
    return extractor.title(), extractor.text(), extractor.losses(name)


@dataclass(slots=True, eq=False)
class _Element:
    """Open element.

    Attributes:
        tag: Its name.
        is_skipped: Whether its content is dropped.
        inline: Its text, if it is collected.
        is_link: Whether it is a link to a place in the page.
    """

    tag: str
    is_skipped: bool = False
    inline: Inline | None = None
    is_link: bool = False


class _Extractor:
    """Markdown writer for a stream of tokens; its state is counters and a stack of elements."""

    def __init__(self) -> None:
        self._writer = LineWriter()
        self._open: list[_Element] = []
        self._open_counts: Counter[str] = Counter()
        self._numbers: list[int | None] = []  # of the next item of each open list
        self._n_skipped = 0  # number of open elements whose content is dropped
        self._reason = ""  # why the content of the outermost of them is a loss
        self._lost: Counter[str] = Counter()  # characters by reason
        self._n_links = 0  # number of open links to a place in the page
        self._inlines: list[Inline] = []
        self._math: MathWriter | None = None
        self._table: TableBuffer | None = None  # innermost table, while it may hold data
        self._layouts: list[Layout] = []  # states of the writer outside of the open tables
        self._pre: list[str] = []
        self._titles: list[str] = []

    def title(self) -> str:
        return " ".join("".join(self._titles).split()) or self._writer.first_heading

    def text(self) -> str:
        while self._open:
            self._pop()
        return self._writer.text()

    def losses(self, name: str) -> tuple[Loss, ...]:
        losses = LossList(name)
        for reason, n_characters in self._lost.items():
            losses.report(name, reason, lost=f"{n_characters} characters", kept="the other text")
        return losses.all()

    def feed(self, token: Token) -> None:
        """Process the next token of the page."""
        kind, value, attributes = token
        if kind == "text":
            self._handle_text(value)
        elif kind == "end":
            self._handle_end(value)
        elif kind == "start":
            self._handle_start(value, attributes)
        elif value not in _SKIPPED:
            self._handle_start(value, attributes)
            if value not in _VOID:
                self._handle_end(value)

    def _handle_start(self, tag: str, attributes: str) -> None:
        self._close_implied(tag)
        element = _Element(tag)
        is_copy = _FORMULA_COPY in attributes
        if not self._n_skipped:
            self._reason = "" if is_copy else _reason_to_drop(tag, attributes)
        if tag in _SKIPPED or is_copy or self._reason:
            element.is_skipped = True
        elif not self._n_skipped:
            self._open_element(element, attributes)
        if tag not in _VOID:
            self._n_skipped += element.is_skipped
            self._open.append(element)
            self._open_counts[tag] += 1

    def _handle_end(self, tag: str) -> None:
        """Close an element and those still open inside it; ignore a tag that is not open."""
        if tag == "br":
            self._handle_start(tag, "")
        if self._open_counts[tag]:
            while self._pop() != tag:
                pass

    def _handle_text(self, data: str) -> None:
        if self._n_skipped:
            if self._reason and any(map(str.isalnum, data)):
                self._lost[self._reason] += len(data.strip())
        elif self._open_counts["title"]:
            self._titles.append(data)
        elif self._open_counts["pre"]:
            self._pre.append(data)
        elif self._math:
            self._math.write(data)
        else:
            self._write(data)

    def _close_implied(self, tag: str) -> None:
        top = self._open[-1].tag if self._open else ""
        block = tag in _BLOCKS
        if (
            (top == "p" and block)
            or top in _CLOSERS.get(tag, ())
            or (top in _DEFINITIONS and tag in _DEFINITIONS)
        ):
            self._pop()
        if (self._math or self._inlines) and (block or tag in _TABLE_PARTS):
            self._end_math()
            self._end_inlines()

    def _pop(self) -> str:
        element = self._open.pop()
        self._open_counts[element.tag] -= 1
        if element.is_skipped:
            self._n_skipped -= 1
        elif not self._n_skipped:
            self._close_element(element)
        return element.tag

    def _open_element(self, element: _Element, attributes: str) -> None:
        tag = element.tag
        if self._math:
            self._math.start(tag)
        elif tag == "math":
            self._math = MathWriter(parse_attributes(attributes).get("alttext", ""))
        elif self._open_counts["pre"]:
            if tag == "br":
                self._pre.append("\n")
        elif tag in _INLINE or tag == "a":
            self._open_inline(element, attributes)
        elif tag in _TABLE_PARTS:
            self._open_table_part(tag, attributes)
        elif tag == "img":
            alternative = parse_attributes(attributes).get("alt", "").strip()
            if not _IMAGE_FILE.fullmatch(alternative):
                self._write(f" {alternative} ")
        else:
            self._open_block(tag, attributes)

    def _open_block(self, tag: str, attributes: str) -> None:
        if tag in _HEADINGS:
            self._break(2, hard=True)
            self._writer.start_heading(_HEADINGS[tag])
        elif tag == "li":
            self._break(1)
            self._writer.start_item(self._list_depth(), self._next_number(attributes))
        else:
            if tag in _LISTS:
                del self._numbers[self._list_depth() :]
                start = to_int(parse_attributes(attributes).get("start", ""), 1)
                self._numbers.append(start if tag == "ol" else None)
            self._break_for(tag)

    def _list_depth(self) -> int:
        return sum(self._open_counts[name] for name in _LISTS)

    def _next_number(self, attributes: str) -> int | None:
        """Return the number of the list item that begins, or None in a list without numbers."""
        del self._numbers[self._list_depth() :]
        if not self._numbers or self._numbers[-1] is None:
            return None
        number = to_int(parse_attributes(attributes).get("value", ""), self._numbers[-1])
        self._numbers[-1] = number + 1
        return number

    def _close_element(self, element: _Element) -> None:
        tag = element.tag
        if self._math:
            self._close_math(tag)
        elif tag == "pre":
            self._write_pre()
        elif self._open_counts["pre"]:
            return
        elif tag in _INLINE or tag == "a":
            self._n_links -= element.is_link
            if element.inline:
                self._close_inline(element.inline)
        elif tag in _TABLE_PARTS:
            self._close_table_part(tag)
        elif tag in _HEADINGS:
            self._writer.end_heading()
            self._break(2, hard=True)
        else:
            self._break_for(tag)
        if tag == "li":
            self._writer.end_item()

    def _break_for(self, tag: str) -> None:
        nested = tag in _LISTS and self._open_counts["li"] > 0
        if tag in _PARAGRAPHS and not nested:
            self._break(2)
        elif tag in _LINES or tag == "br" or nested:
            self._break(1)

    def _break(self, n_lines: int, *, hard: bool = False) -> None:
        if self._inlines:
            self._inlines[-1].write(" ")
        elif self._table and self._table.cell and not hard:
            self._table.cell.end_line(n_lines)
        else:
            if self._table and self._table.cell:
                self._lay_out()
            self._writer.end_line(n_lines, hard=hard)

    def _write(self, data: str) -> None:
        """Write text to the innermost collector: inline element, table cell, or the page."""
        if self._inlines:
            self._inlines[-1].write(data)
            if self._inlines[-1].length > MAX_LENGTH:
                self._end_inlines()
        elif self._table and self._table.cell:
            if self._table.cell.is_layout and not data.isspace():
                self._lay_out()
                self._writer.write(data)
            else:
                bold = self._open_counts["b"] + self._open_counts["strong"] > 0
                self._table.cell.write(data, is_bold=bold)
        else:
            self._writer.write(data)

    def _open_inline(self, element: _Element, attributes: str) -> None:
        """Begin to collect a superscript, subscript, note mark, ruby or its reading."""
        if element.tag == "a" and "#" not in attributes:
            return
        values = parse_attributes(attributes) if attributes else {}
        kind = _INLINE.get(element.tag)
        note = is_note(values)
        if element.tag == "a":
            element.is_link = values.get("href", "").startswith("#")
            self._n_links += element.is_link
            if element.is_link and self._inlines and self._inlines[-1].kind == "sup":
                self._inlines[-1].kind = "note"
            if note and element.is_link and not self._inlines:
                kind = "note"
        elif kind == "sup" and (note or self._n_links):
            kind = "note"
        if kind and len(self._inlines) < MAX_OPEN:
            element.inline = Inline(kind)
            self._inlines.append(element.inline)

    def _close_inline(self, inline: Inline) -> None:
        """Write the collected text of an element, unless that was ended before."""
        if inline not in self._inlines:
            return
        del self._inlines[self._inlines.index(inline) :]
        outer = self._inlines[-1] if self._inlines else None
        if inline.kind == "rt" and outer and outer.kind == "ruby":
            outer.reading.append(inline.text().strip())
        else:
            self._write(inline.text())

    def _end_inlines(self) -> None:
        """Write the collected texts as they are, since they hold a block or are long."""
        inlines, self._inlines = self._inlines, []
        for inline in inlines:
            self._write("".join(inline.parts))

    def _close_math(self, tag: str) -> None:
        if tag == "math" and not self._open_counts["math"]:
            self._end_math()
        elif self._math:
            self._math.end(tag)

    def _end_math(self) -> None:
        math, self._math = self._math, None
        if math:
            self._write(math.text())

    def _open_table_part(self, tag: str, attributes: str) -> None:
        table = self._table
        if tag == "table":
            if table:
                self._lay_out()
            self._layouts.append(self._writer.start_table())
            values = parse_attributes(attributes) if attributes else {}
            is_layout = values.get("role") in {"presentation", "none"} or self._writer.in_heading
            self._table = None if is_layout else TableBuffer()
        elif table:
            table.start_part(tag, parse_attributes(attributes) if attributes else {})
        elif tag not in {"tr", "td", "th"}:
            self._break_for(tag)
        elif tag == "tr":
            self._break(1, hard=True)
            self._writer.start_row()
        else:
            self._writer.start_cell()

    def _close_table_part(self, tag: str) -> None:
        table = self._table
        if tag == "table":
            markdown = table.markdown() if table else None
            if table and markdown is None:
                self._lay_out()
            self._table = None
            self._writer.end_table(self._layouts.pop())
            if markdown:
                self._writer.write_table(*markdown)
        elif table:
            table.end_part(tag)
        elif tag in {"td", "th"}:
            self._writer.end_cell()
        else:
            self._break(1, hard=tag == "tr")

    def _lay_out(self) -> None:
        """Write the rows of the open table as lines: it does not hold data."""
        table, self._table = self._table, None
        if table:
            self._writer.write_rows(table)

    def _write_pre(self) -> None:
        """Write a code block with a fence longer than any run of backticks inside."""
        code = "".join(self._pre).strip("\n")
        self._pre = []
        if not code.strip():
            return
        in_cell = self._writer.in_cell or (self._table and self._table.cell)
        if in_cell and "\n" not in code:
            self._write(code)
            return
        self._end_inlines()
        longest = max((len(run) for run in re.findall("`+", code)), default=0)
        fence = "`" * max(3, longest + 1)
        self._break(2, hard=True)
        self._writer.write_block(f"{fence}\n{code}\n{fence}")


def _reason_to_drop(tag: str, attributes: str) -> str:
    """Return why the content of an element is not read, or an empty string.

    Formulas are read although pages hide them behind their images. A whole page that is hidden
    until its script has run is read.
    """
    if tag in _DELETED:
        return "marked as deleted (<del>, <s>)"
    if not attributes or tag in _NEVER_HIDDEN or not _HIDDEN.search(attributes):
        return ""
    values = parse_attributes(attributes)
    style = "".join(values.get("style", "").lower().split())
    is_hidden = (
        values.get("hidden", "until-found").lower() != "until-found"
        or values.get("aria-hidden", "").lower() == "true"
        or "display:none" in style
        or "visibility:hidden" in style
    )
    if not is_hidden or "math" in values.get("class", "").lower():
        return ""
    return "hidden (`hidden`, `aria-hidden`, `display:none` or `visibility:hidden`)"
