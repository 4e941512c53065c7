"""Write the words of a page as lines of Markdown: headings, list items, rows, paragraphs."""

from __future__ import annotations

import re
from typing import NamedTuple

from ragkit.documents.html.tables import LONG_CELL, TableBuffer

_SPACE = re.compile(r"[ \t\n\r\f]+")


class Layout(NamedTuple):
    """State of the writer outside a table."""

    n_cells: int
    bars: int
    row_started: bool


class LineWriter:
    """Writer of Markdown lines; line ends and spaces are pending until text follows.

    Attributes:
        first_heading: Words of the first heading.
    """

    def __init__(self) -> None:
        self.first_heading = ""
        self._out: list[str] = []
        self._breaks = 0  # line ends to write before the next text
        self._space = False  # whether to write a space before the next text
        self._prefix = ""  # heading or list mark to write before the next text
        self._bars = 0  # cell separators to write before the next text
        self._row_started = False
        self._n_cells = 0  # number of open cells of the innermost table that is page layout
        self._cell_length = 0  # number of characters written in the open cell
        self._heading_start = 0  # index in the output at which the open heading begins
        self._n_headings = 0  # number of open headings

    @property
    def in_cell(self) -> bool:
        """Whether a cell of a layout table is open."""
        return self._n_cells > 0

    @property
    def in_heading(self) -> bool:
        """Whether a heading is open."""
        return self._n_headings > 0

    def text(self) -> str:
        """Return everything written."""
        return "".join(self._out)

    def write(self, data: str) -> None:
        """Write words, after what is pending."""
        words = _SPACE.sub(" ", data)
        if words.startswith(" "):
            self._space = True
        words = words.strip(" ")
        if not words or words.isspace():
            self._space = self._space or bool(data)
            return
        self._flush()
        self._out.append(words)
        self._cell_length += len(words)
        self._space = data[-1] in " \t\n\r\f"

    def write_block(self, block: str) -> None:
        """Write lines as they are, as a paragraph of their own."""
        self._bars = 0  # a block must be at the start of its line
        self._flush()
        self._out.append(block)
        self.end_line(2, hard=True)

    def end_line(self, n_lines: int, *, hard: bool = False) -> None:
        """End the line, and leave a line empty if `n_lines` is 2.

        Unless `hard`, a heading goes on, as does the text of a short cell, and the first paragraph
        of a list item stays on the item's line. A long cell is page layout and has paragraphs.
        """
        in_cell = self._n_cells and self._cell_length < LONG_CELL
        if self._prefix and not hard:
            return
        if (in_cell or self._n_headings) and not hard:
            self._space = True
        else:
            self._breaks = max(self._breaks, n_lines)

    def start_heading(self, mark: str) -> None:
        """Begin a heading with its mark "# "."""
        self._prefix = mark
        self._heading_start = len(self._out)
        self._n_headings += 1

    def end_heading(self) -> None:
        """End the innermost heading."""
        self._n_headings -= 1
        words = " ".join("".join(self._out[self._heading_start :]).split())
        self.first_heading = self.first_heading or words.lstrip("# ")
        self._prefix = ""

    def start_item(self, depth: int, number: int | None) -> None:
        """Begin a list item, with its number if it has one; `depth` is that of its list, from 1."""
        mark = "- " if number is None else f"{number}. "
        self._prefix = "" if self._n_cells else "  " * min(depth - 1, 8) + mark

    def end_item(self) -> None:
        """End a list item."""
        self._prefix = ""

    def start_table(self) -> Layout:
        """Begin a table; return the state for its end."""
        layout = Layout(self._n_cells, self._bars, self._row_started)
        self.end_line(1 if self._n_cells else 2, hard=True)
        self._n_cells, self._bars, self._row_started = 0, 0, False
        return layout

    def end_table(self, layout: Layout) -> None:
        """End a table."""
        self._n_cells, self._bars, self._row_started = layout
        self.end_line(1 if self._n_cells else 2, hard=True)

    def start_row(self) -> None:
        """Begin a row of a layout table."""
        self._bars, self._row_started = 0, False

    def start_cell(self) -> None:
        """Begin a cell of a layout table."""
        self._bars += bool(self._row_started or self._bars)
        self._row_started = True
        self._n_cells += 1
        self._cell_length = 0
        self._space = False

    def end_cell(self) -> None:
        """End a cell of a layout table."""
        self._n_cells = max(0, self._n_cells - 1)

    def write_table(self, titles: str, table: str) -> None:
        """Write a table of data after its title rows."""
        self._prefix, self._space = "", False
        self.end_line(2, hard=True)
        if titles:
            self.write_block(titles)
        self.write_block(table)

    def write_rows(self, table: TableBuffer) -> None:
        """Write the rows of a layout table as lines; its last cell stays open if it is."""
        for row in table.rows:
            self.end_line(1, hard=True)
            self.start_row()
            for cell in row.cells:
                self.start_cell()
                self.write("".join(cell.parts))
                if cell is table.cell and cell.breaks:
                    self.end_line(cell.breaks)
                elif cell is not table.cell:
                    self.end_cell()
        if table.cell is None:
            self.end_line(1, hard=True)

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
