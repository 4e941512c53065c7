"""Workbooks: values as the sheet shows them, the tables of a sheet, and what is lost."""

from __future__ import annotations

import datetime
import io

import openpyxl
import pytest
from office_files import RELATIONS, SPACE, S, read, relations, xlsx
from openpyxl.comments import Comment
from openpyxl.styles import Font
from openpyxl.worksheet.table import Table

from ragkit.documents.office.number_formats import format_value

FORMATS = [  # stored number, format, what is shown
    ("0.12", "0%", "12%"),
    ("0.125", "0.0%", "12.5%"),
    ("0.125", "0.0 %", "12.5 %"),
    ("1234567.891", "#,##0.00", "1,234,567.89"),
    ("1234567.891", "#,##0", "1,234,568"),
    ("1234.5", "General", "1234.5"),
    ("0.30000000000000004", "General", "0.3"),
    ("1E-3", "General", "0.001"),
    ("1.5E-12", "General", "1.5E-12"),
    ("42", "@", "42"),
    ("42", 'General" pieces"', "42 pieces"),
    ("2.5", "0.00", "2.50"),
    ("2.5", "0.0#", "2.5"),
    ("2.675", "0.00", "2.68"),
    ("1.005", "0.00", "1.01"),
    ("-2.5", "0.00", "-2.50"),
    ("-0.001", "0.00", "0.00"),
    ("0.5", "#.00", ".50"),
    ("7", "00000", "00007"),
    ("1234.5", '"$"#,##0.00', "$1,234.50"),
    ("1234.5", "[$€-407] #,##0.00", "€ 1,234.50"),
    ("1234.5", '#,##0.00 "€"', "1,234.50 €"),
    ("1234.5", "#,##0.00\\ [$CHF-807]", "1,234.50 CHF"),
    ("-1234.5", "#,##0;[Red](#,##0)", "(1,235)"),
    ("-1234.5", '_-* #,##0.00 "€"_-;-* #,##0.00 "€"_-;_-* "-"?? "€"_-', "-1,234.50 €"),
    ("0", '_-* #,##0.00 "€"_-;-* #,##0.00 "€"_-;_-* "-"?? "€"_-', "- €"),
    ("1234567", '0.0,,"M"', "1.2M"),
    ("1234567", "#,##0,", "1,235"),
    ("123456", "0.00E+00", "1.23E+05"),
    ("0.00012", "0.0E+0", "1.2E-4"),
    ("3", '"yes";"yes";"no"', "yes"),
    ("0", '"yes";"yes";"no"', "no"),
    ("5", ";;;", ""),
    # Not supported: all the digits.
    ("0.375", "# ?/?", "0.375"),
    ("5551234", "000-0000", "5551234"),
    ("123.456", "[>100]0.0;0.00", "123.456"),
    ("1234.5", "##0.0E+0", "1234.5"),
    # Dates and times.
    ("45292", "dd/mm/yyyy", "2024-01-01"),
    ("45292", "d. mmm yy", "2024-01-01"),
    ("45292", "[$-F800]dddd, mmmm dd, yyyy", "2024-01-01"),
    ("45292", "[$-407]d. mmmm yyyy;@", "2024-01-01"),
    ("45292", "mmm yyyy", "2024-01-01"),
    ("45292.75", "m/d/yy h:mm", "2024-01-01 18:00"),
    ("45292.7505", "yyyy-mm-dd hh:mm:ss", "2024-01-01 18:00:43.2"),
    ("45292.75", "yyyy-mm-dd", "2024-01-01"),
    ("0.75", "h:mm AM/PM", "18:00:00"),
    ("1.5", "[h]:mm", "36:00:00"),
    ("-0.5", "[h]:mm", "-12:00:00"),
    ("0.002", "mm:ss.0", "00:02:52.8"),
    ("1", "yyyy-mm-dd", "1900-01-01"),
    ("59", "yyyy-mm-dd", "1900-02-28"),
    ("60", "yyyy-mm-dd", "1900-02-29"),
    ("61", "yyyy-mm-dd", "1900-03-01"),
    ("2958465", "yyyy-mm-dd", "9999-12-31"),
    ("45291.9999999999", "yyyy-mm-dd hh:mm", "2024-01-01 00:00"),
    ("-1", "yyyy-mm-dd", "-1"),
    ("99999999", "yyyy-mm-dd", "99999999"),
    # Damaged.
    ("x", "0.00", "x"),
    ("NaN", "0.00", "NaN"),
    ("1e999999999", "0.00", "1e999999999"),
    ("12", '"' + "x" * 2000, "x" * 999),
]


def test_format_value_when_given_a_format_then_as_the_sheet_shows_it():
    for text, code, shown in FORMATS:
        assert (text, code, format_value(text, code)) == (text, code, shown)
    assert format_value("43830", "yyyy-mm-dd", is_1904=True) == "2024-01-01"


def _read(data: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Return the text, and what is lost and where."""
    extract = read(data, "xlsx")
    losses = [(loss.lost, loss.why.partition("places: ")[2]) for loss in extract.losses]
    return extract.text, losses


def _rows(*rows: list[str | float | None]) -> str:
    """Write the XML of rows from the first one on, with inline texts."""
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = ""
        for column, value in enumerate(row):
            name = f"{chr(65 + column)}{number}"
            if isinstance(value, str):
                cells += f'<c r="{name}" t="inlineStr"><is><t>{value}</t></is></c>'
            elif value is not None:
                cells += f'<c r="{name}"><v>{value}</v></c>'
        lines.append(f'<row r="{number}">{cells}</row>')
    return "".join(lines)


def _table(*rows: str) -> str:
    """Write the expected text of the sheet: `_table("a b", "1 2")`; "-" is an empty cell."""
    lines = [row.replace("-", "").split(" ") for row in rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def test_xlsx_when_written_by_a_program_then_values_as_it_shows_them():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Data"
    sheet.append(["what", "value"])
    values = [
        ("date", datetime.date(2024, 1, 31), "yyyy-mm-dd"),
        ("time", datetime.time(8, 30), "h:mm"),
        ("moment", datetime.datetime(2024, 1, 31, 8, 30), "d/m/yy h:mm"),
        ("share", 0.12, "0%"),
        ("price", 1234.5, '#,##0.00 "€"'),
        ("true", True, "General"),
        ("error", "#DIV/0!", "General"),
        ("float", 0.1 + 0.2, "General"),
        ("integer", 7.0, "General"),
    ]
    for number, (name, value, code) in enumerate(values, start=2):
        sheet.cell(number, 1, name)
        sheet.cell(number, 2, value).number_format = code
    sheet["B11"] = "link"
    sheet["B11"].hyperlink = "https://example.org"
    buffer = io.BytesIO()
    book.save(buffer)
    assert _read(buffer.getvalue()) == (
        "## Data\n\n| what | value |\n| --- | --- |\n| date | 2024-01-31 |\n| time | 08:30:00 |\n"
        "| moment | 2024-01-31 08:30 |\n| share | 12% |\n| price | 1,234.50 € |\n| true | TRUE |\n"
        "| error | #DIV/0! |\n| float | 0.3 |\n| integer | 7 |\n|  | link |",
        [],
    )


def test_xlsx_when_formulas_have_no_values_then_the_formulas_and_a_loss_that_names_the_cells():
    rows = (
        '<row r="1"><c r="A1"><f>B1*2</f><v>6</v></c><c r="B1"><f>SUM(C1:C3)</f></c>'
        '<c r="C1"><f t="shared" si="0"/></c><c r="D1" t="str"><f>""</f><v></v></c>'
        '<c r="E1" t="str"><f>A1&amp;"x"</f><v>6x</v></c></row>'
    )
    assert _read(xlsx(rows)) == (
        "## Data\n\n" + "|  |  |  |  |  |\n| --- | --- | --- | --- | --- |\n"
        "| 6 | =SUM(C1:C3) |  |  | 6x |",
        [("2 values of formulas", "Data!B1, Data!C1")],
    )


def test_xlsx_when_a_program_wrote_formulas_with_empty_values_then_a_loss():
    import openpyxl

    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for row in (["part", "price"], ["bolt", 2], ["sum", "=SUM(B2:B2)"]):
        book.active.append(row)
    book.save(buffer)
    text, losses = _read(buffer.getvalue())
    assert text.endswith("| part | price |\n| --- | --- |\n| bolt | 2 |\n| sum | =SUM(B2:B2) |")
    assert losses == [("1 values of formulas", "Sheet!B3")]


def test_xlsx_when_texts_are_rich_then_scripts_stay_and_pronunciation_goes():
    strings = (
        "<si><r><t>H</t></r><r><rPr><vertAlign val='subscript'/></rPr><t>2</t></r>"
        "<r><t>O</t></r></si>"
        "<si><t>東京</t><rPh sb='0' eb='2'><t>トウキョウ</t></rPh><phoneticPr fontId='1'/></si>"
        "<si><t xml:space='preserve'> two_x000D_\nlines _x005F_x0041_ </t></si>"
        "<si><r><rPr><strike/></rPr><t>old</t></r></si>"
    )
    cells = "".join(f'<c t="s"><v>{index}</v></c>' for index in range(5))
    styles = "<fonts><font/><font><vertAlign val='superscript'/></font></fonts>"
    styles += '<cellXfs><xf/><xf fontId="1"/></cellXfs>'
    rows = f'<row>{cells}<c s="1" t="str"><v>2</v></c></row>'
    text, losses = _read(xlsx(rows, strings=strings, styles=styles))
    assert text.split("\n")[-1] == "| H₂O | 東京 | two lines _x0041_ | ~~old~~ |  | ² |"
    assert losses == [("1 values", "Data!E1")]


def test_xlsx_when_comments_and_page_headers_then_they_follow_the_tables():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Data"
    sheet["A1"], sheet["B1"] = "a", "b"
    sheet["A1"].comment = Comment("Ann:\nis this right?", "Ann")
    sheet["B1"].comment = Comment(
        "[Threaded comment]\n\nYour version of Excel ...\n\nComment:\n    No.\nReply:\n    Yes.",
        "tc=1",
    )
    sheet.oddHeader.center.text = "Budget &[Page] R&&D"
    sheet.oddFooter.left.text = "&P / &N"
    buffer = io.BytesIO()
    book.save(buffer)
    assert _read(buffer.getvalue()) == (
        "## Data\n\n|  |  |\n| --- | --- |\n| a | b |\n\nPage header: Budget R&D\n\n"
        "Comment on A1 by Ann: is this right?\n\nComment on B1: No. Reply: Yes.",
        [],
    )


def test_xlsx_when_cells_are_merged_then_each_covered_cell_has_the_value():
    cases = [
        (  # a heading over the table is no value of each column
            [["Sales", None, None], ["x", "y", "z"], ["a", 1, 2]],
            "A1:C1",
            "Sales\n\n" + _table("x y z", "a 1 2"),
        ),
        (
            [["kind", "n"], ["a", 1], [None, 2], [None, 3]],
            "A2:A4",
            _table("kind n", "a 1", "a 2", "a 3"),
        ),
        (  # a header of two rows
            [
                ["land", "2023", None, "2024", None],
                [None, "q1", "q2", "q1", "q2"],
                ["a", 1, 2, 3, 4],
            ],
            "B1:C1 D1:E1 A1:A2",
            "| land | 2023 q1 | 2023 q2 | 2024 q1 | 2024 q2 |\n"
            "| --- | --- | --- | --- | --- |\n| a | 1 | 2 | 3 | 4 |",
        ),
        ([["a", 1], ["w" * 300, None], ["b", 2]], "A2:B2", None),
    ]
    for rows, merges, expected in cases:
        items = "".join(f'<mergeCell ref="{ref}"/>' for ref in merges.split())
        text, _ = _read(xlsx(_rows(*rows), after=f"<mergeCells>{items}</mergeCells>"))
        if expected is None:
            assert text.count("w" * 300) == 1
        else:
            assert text == f"## Data\n\n{expected}"


def test_xlsx_when_rows_columns_or_sheets_are_hidden_then_losses_name_them():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Data"
    for row in (["a", "secret", "b"], ["x", 5, 1], ["y", 6, 2], ["z", 7, 3]):
        sheet.append(row)
    sheet.column_dimensions["B"].hidden = True
    sheet.row_dimensions[3].hidden = True
    book.create_sheet("Lists")["A1"] = "hidden"
    book.create_sheet("Deep")["A1"] = "very"
    book["Lists"].sheet_state, book["Deep"].sheet_state = "hidden", "veryHidden"
    buffer = io.BytesIO()
    book.save(buffer)
    assert _read(buffer.getvalue()) == (
        "## Data\n\n" + _table("a b", "x 1", "z 3"),
        [("1 rows", "Data row 3"), ("1 columns", "Data column B"), ("2 sheets", "Lists, Deep")],
    )


LAYOUTS = {
    "title rows": (
        [["Report"], ["of 2024"], ["name", "n"], ["a", 1]],
        "Report\n\nof 2024\n\n" + _table("name n", "a 1"),
    ),
    "two tables below each other": (
        [["name", "n"], ["a", 1], [], ["city", "km"], ["b", 2]],
        _table("name n", "a 1") + "\n\n" + _table("city km", "b 2"),
    ),
    "a gap in a table": (
        [["name", "n"], ["a", 1], [], ["b", 2], ["c", 3]],
        _table("name n", "a 1", "b 2", "c 3"),
    ),
    "other columns below": (
        [["name", "n"], ["a", 1], [], ["b", "c"]],
        _table("name n", "a 1") + "\n\n" + _table("- -", "b c"),
    ),
    "header and values apart": (
        [["name", "n"], [], ["a", 1], ["b", 2]],
        _table("name n", "a 1", "b 2"),
    ),
    "the same header and values apart, twice": (
        [
            *(["in CHF", None, "of 2023"], ["name", "x", "y"], [], ["a", 1, 2], []),
            *(["in CHF", None, "of 2024"], ["name", "x", "y"], [], ["a", 3, 4]),
        ],
        "| in CHF name | x | of 2023 y |\n| --- | --- | --- |\n| a | 1 | 2 |\n\n"
        "| in CHF name | x | of 2024 y |\n| --- | --- | --- |\n| a | 3 | 4 |",
    ),
    "a line of text between values": (
        [["name", "n"], ["a", 1], [], ["of 2022"], [], ["a", 2], ["b", 3]],
        _table("name n", "a 1") + "\n\nof 2022\n\n" + _table("- -", "a 2", "b 3"),
    ),
    "two tables side by side": (
        [["name", "n", None, "city", "km"], ["a", 1, None, "b", 2], ["c", 3, None, "d", 4]],
        _table("name n", "a 1", "c 3") + "\n\n" + _table("city km", "b 2", "d 4"),
    ),
    "an empty column in a table": (
        [["name", None, "x", "y"], ["a", None, 1, 2], ["b", None, 3, 4]],
        _table("name - x y", "a - 1 2", "b - 3 4"),
    ),
    "empty cells": (
        [["name", "x", "y"], ["a", None, 2], [None, 3]],
        _table("name x y", "a - 2", "- 3 -"),
    ),
    "no header": ([["a", 1], ["b", 2]], _table("- -", "a 1", "b 2")),
    "words only": ([["a", "b"], ["c", "d"]], _table("- -", "a b", "c d")),
    "one column": ([["a"], ["b"]], "a\nb"),
    "one row": ([["a", "b"]], _table("- -", "a b")),
    "years": ([["item", 2023, 2024], ["a", 1, 2]], _table("item 2023 2024", "a 1 2")),
    "years as values": (
        [["a", 2023, 2024], ["b", 2021, 2022]],
        _table("- - -", "a 2023 2024", "b 2021 2022"),
    ),
    "a bar in a cell": ([["a|b", "n"], ["c", 1]], "| a\\|b | n |\n| --- | --- |\n| c | 1 |"),
    "a note below": (
        [["name", "n"], ["a", 1], ["Source: the statistical office of the land"]],
        _table("name n", "a 1") + "\n\nSource: the statistical office of the land",
    ),
}


def test_xlsx_when_a_table_begins_below_other_rows_then_its_header_is_its_own():
    rows = _rows(["Report", "of 2024"], ["metal", "sign"], ["iron", "Fe"], ["tin", "Sn"])
    text, _ = _read(xlsx(rows, after='<autoFilter ref="A2:B4"/>'))
    expected = "| Report | of 2024 |\n\n" + _table("metal sign", "iron Fe", "tin Sn")
    assert text == "## Data\n\n|  |  |\n| --- | --- |\n" + expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_xlsx_when_a_sheet_has_a_layout_then_its_tables_are_found(name):
    rows, expected = LAYOUTS[name]
    assert _read(xlsx(_rows(*rows))) == (f"## Data\n\n{expected}", [])


def test_xlsx_when_a_header_is_marked_or_bold_then_it_is_the_header():
    for mark in ("bold", "table", "filter"):
        book = openpyxl.Workbook()
        sheet = book.active
        sheet.title = "Data"
        for row in (["metal", "sign"], ["iron", "Fe"]):
            sheet.append(row)
        if mark == "bold":
            sheet["A1"].font = sheet["B1"].font = Font(bold=True)
        elif mark == "table":
            sheet.add_table(Table(displayName="T", ref="A1:B2"))
        else:
            sheet.auto_filter.ref = "A1:B2"
        buffer = io.BytesIO()
        book.save(buffer)
        assert _read(buffer.getvalue()) == ("## Data\n\n" + _table("metal sign", "iron Fe"), [])


_DRAWING = f"""<d:wsDr xmlns:d="{SPACE}/drawingml/2006/spreadsheetDrawing"
 xmlns:a="{SPACE}/drawingml/2006/main" xmlns:c="{SPACE}/drawingml/2006/chart"
 xmlns:r="{RELATIONS}"><d:twoCellAnchor>{{}}</d:twoCellAnchor></d:wsDr>"""
_SHAPE = "<d:sp><d:txBody><a:p><a:r><a:t>In a shape</a:t></a:r></a:p></d:txBody></d:sp>"
_PICTURE = '<d:pic><d:nvPicPr><d:cNvPr id="1" name="x" descr="{}"/></d:nvPicPr></d:pic>'
_CHART = f"""<c:chartSpace xmlns:c="{SPACE}/drawingml/2006/chart"
 xmlns:a="{SPACE}/drawingml/2006/main"><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>Sales
 </a:t></a:r></a:p></c:rich></c:tx></c:title><c:plotArea>{{}}<c:valAx><c:title><c:tx><c:rich><a:p>
 <a:r><a:t>Euros</a:t></a:r></a:p></c:rich></c:tx></c:title></c:valAx></c:plotArea></c:chart>
 </c:chartSpace>"""


def _cache(*values: object) -> str:
    points = (f'<c:pt idx="{n}"><c:v>{value}</c:v></c:pt>' for n, value in enumerate(values))
    return f"<c:cache>{''.join(points)}</c:cache>"


def _series(name: str, categories: tuple, values: tuple) -> str:
    label = f"<c:tx>{_cache(name)}</c:tx>" if name else ""
    data = f"<c:cat>{_cache(*categories)}</c:cat><c:val>{_cache(*values)}</c:val>"
    return f"<c:ser>{label}{data}</c:ser>"


def test_xlsx_when_sheets_have_charts_shapes_and_pictures_then_read_or_lost():
    quarters = ("Q1", "Q2")
    series = _series("North", quarters, (1, 2)) + _series("", quarters, (3,))
    series += _series("South", ("Q3", "Q4"), (5, 6)) + "<c:ser/>"
    items = _SHAPE + _PICTURE.format("A plan") + _PICTURE.format("")
    items += '<c:chart r:id="chart1"/><c:chart r:id="chart2"/><c:chart r:id="chart1"/>'
    files = {
        "xl/_rels/sheet.xml.rels": relations({"drawing": "drawing.xml"}),
        "xl/drawing.xml": _DRAWING.format(items),
        "xl/_rels/drawing.xml.rels": relations({"chart1": "c1.xml", "chart2": "c2.xml"}),
        "xl/c1.xml": _CHART.format(f"<c:barChart>{series}</c:barChart>"),
        "xl/c2.xml": _CHART.format(""),
    }
    assert _read(xlsx("", after="<oleObjects><oleObject/></oleObjects>", files=files)) == (
        "## Data\n\nIn a shape\n\nA plan\n\nChart: Sales\nAxes: Euros\n\n"
        "|  | North | Series 2 |\n| --- | --- | --- |\n| Q1 | 1 | 3 |\n| Q2 | 2 |  |\n\n"
        "|  | South |\n| --- | --- |\n| Q3 | 5 |\n| Q4 | 6 |",
        [
            ("1 sheets with objects", "Data"),
            ("1 pictures without alternative text", "Data"),
            ("2 charts", "Data"),
        ],
    )


def test_xlsx_when_a_sheet_is_sparse_or_its_numbers_lie_then_read_in_bounds():
    far = '<row r="1"><c r="A1"><v>1</v></c><c r="XFD1"><v>2</v></c><c r="ZZZ1"><v>3</v></c></row>'
    far += '<row r="999999999999"><c r="A999999999999"><v>4</v></c></row><row><c><v>5</v></c></row>'
    assert _read(xlsx(far)) == ("## Data\n\n1\n\n2\n\n4\n5", [("1 values", "Data!ZZZ1")])
    thin = "".join(
        f'<row><c r="{_letters(3 * n % 3000)}1"><v>1</v></c><c r="{_letters(3 * n % 3000 + 3)}1">'
        "<v>2</v></c></row>"
        for n in range(9_000)
    )
    text, _ = _read(xlsx(thin))
    assert text.startswith("## Data\n\n1; 2\n1; 2\n")
    merges = '<mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>' * 1000
    hidden = "<cols>" + '<col min="5" max="16384" hidden="1"/>' * 1000 + "</cols>"
    text, _ = _read(xlsx(_rows(["a", 1], ["b", 2]), after=merges, before=hidden))
    assert text == "## Data\n\n" + _table("- -", "a 1", "b 2")


def _letters(index: int) -> str:
    from ragkit.documents.office.xlsx import column_name

    return column_name(index + 1)


def test_xlsx_when_it_has_too_many_cells_then_the_rest_is_a_loss(monkeypatch):
    monkeypatch.setattr("ragkit.documents.office.xlsx.MAX_CELLS", 4)
    text, losses = _read(xlsx(_rows(["a", 1], ["b", 2], ["c", 3])))
    assert text == "## Data\n\n" + _table("- -", "a 1", "b 2")
    assert losses == [("1 sheets with more rows", "Data")]


def test_xlsx_when_a_sheet_is_missing_then_loss():
    book = (
        f'<workbook xmlns="{S}" xmlns:r="{RELATIONS}"><workbookPr date1904="1"/><sheets>'
        '<sheet name="Gone" r:id="x"/><sheet name="Data" r:id="worksheet"/></sheets></workbook>'
    )
    style = '<cellXfs><xf numFmtId="14"/></cellXfs>'
    data = xlsx(
        '<row><c s="0"><v>43830</v></c></row>', styles=style, files={"xl/workbook.xml": book}
    )
    assert _read(data) == ("## Data\n\n2024-01-01", [("1 sheets", "Gone")])
