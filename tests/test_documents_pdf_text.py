"""Order, tables, scripts, hyphens and paragraphs of PDF pages: whole texts of pages drawn here."""

from __future__ import annotations

import io

import pytest

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.documents.pdf.reader import read_pdf

LEFT = (
    "The gap of gallium arsenide is",
    "direct, so electrons fall back",
    "with light and without the help",
    "of phonons. Silicon has a gap",
    "that is indirect and emits less.",
)
RIGHT = (
    "Magnetite conducts because its",
    "electrons hop between the ions",
    "of iron. Below the transition of",
    "Verwey they are frozen and the",
    "crystal becomes an insulator.",
)
THIRD = (
    "Diamond is hard since each of",
    "its atoms holds four others in",
    "short and strong bonds. Soot is",
    "of the same element and yet is",
    "soft and black as the night is.",
)
LEFT_TEXT, RIGHT_TEXT, THIRD_TEXT = (" ".join(lines) for lines in (LEFT, RIGHT, THIRD))


def draw(*items, size=10, page_size=(600, 800), rotation=0, shapes=()):
    """Draw (x, y from the top, text[, size]) in this order on one page; return its bytes."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    # reportlab exchanges the sides of a rotated page.
    canvas = Canvas(buffer, pagesize=page_size[::-1] if rotation % 180 else page_size)
    canvas.setPageRotation(rotation)
    for shape in shapes:
        shape(canvas)
    for x, y, text, *rest in items:
        canvas.setFont("Helvetica", rest[0] if rest else size)
        canvas.drawString(x, page_size[1] - y, text)
    canvas.save()
    return buffer.getvalue()


def column(x, lines, y=100, pitch=12):
    return [(x, y + pitch * n, line) for n, line in enumerate(lines)]


def text_of(data):
    return read_pdf(data, "a.pdf").text


def losses_of(data):
    return [(loss.lost, loss.why) for loss in read_pdf(data, "a.pdf").losses]


def interleaved(*columns):
    return [item for row in zip(*columns, strict=True) for item in row]


def test_columns_when_drawn_line_by_line_are_read_one_after_the_other():
    left, right = column(50, LEFT), column(320, RIGHT)
    assert text_of(draw(*interleaved(left, right))) == f"{LEFT_TEXT}\n\n{RIGHT_TEXT}"
    three = [column(40, LEFT), column(230, RIGHT), column(420, THIRD)]
    wanted = f"{LEFT_TEXT}\n\n{RIGHT_TEXT}\n\n{THIRD_TEXT}"
    assert text_of(draw(*interleaved(*three))) == wanted
    assert read_pdf(draw(*interleaved(*three)), "a.pdf").losses == ()


def test_columns_when_drawn_in_any_order_are_read_the_same():
    items = [*column(50, LEFT), *column(320, RIGHT)]
    for order in (items[::-1], items[::2] + items[1::2], [*items[5:], *items[:5]]):
        assert text_of(draw(*order)) == f"{LEFT_TEXT}\n\n{RIGHT_TEXT}"


def test_columns_when_between_full_lines_are_read_between_them():
    title = (150, 60, "A title over both of the columns of the page", 16)
    across = (50, 200, "Figure 1: Between the columns stands a caption as wide as the whole page.")
    items = [
        title,
        *interleaved(column(50, LEFT, 100), column(320, RIGHT, 100)),
        across,
        *interleaved(column(50, THIRD, 240), column(320, LEFT, 240)),
        (295, 760, "7"),
    ]
    wanted = [title[2], LEFT_TEXT, RIGHT_TEXT, across[2], THIRD_TEXT, LEFT_TEXT, "7"]
    assert text_of(draw(*items)) == "\n\n".join(wanted)


def test_columns_when_one_is_a_sidebar_keep_their_words_together():
    main = [f"{line} {line.lower()}" for line in LEFT + RIGHT]
    side = ("Note that the", "bonds of soot", "are as strong", "as these ones.")
    items = [*column(50, main), *[(450, 130 + 9.5 * n, line, 8) for n, line in enumerate(side)]]
    text = text_of(draw(*items))
    assert text == " ".join(main) + "\n\n" + " ".join(side)


def test_columns_when_they_may_be_rows_are_a_loss_that_names_the_page():
    left = ["Acme Metals", "Main Street", "Old Springfield"]
    right = ["Jane Doe", "River Road", "New Shelbyville"]
    data = draw(*column(50, left), *column(300, right))
    assert text_of(data) == "\n".join(f"{a}  {b}" for a, b in zip(left, right, strict=True))
    wanted = ("certainty about the order of the words of 1 pages", "columns or a table: page 1")
    assert losses_of(data) == [wanted]


def test_columns_when_a_sentence_goes_on_in_the_next_one_it_is_not_cut():
    left = [*LEFT[:4], "that is indirect and weak as all"]
    right = ["the others that were mentioned", *RIGHT[1:]]
    text = text_of(draw(*column(50, left), *column(320, right)))
    assert text == " ".join([*left, *right])


def test_columns_when_the_page_or_its_text_is_rotated_are_read_upright():
    items = interleaved(column(50, LEFT), column(320, RIGHT))
    for rotation in (90, 180, 270):
        data = draw(*items, rotation=rotation)
        assert text_of(data) == f"{LEFT_TEXT}\n\n{RIGHT_TEXT}"

    def sideways(canvas):
        canvas.saveState()
        canvas.rotate(90)
        for n, line in enumerate(THIRD):
            canvas.drawString(100, -(20 + 12 * n), line)
        canvas.restoreState()

    stamp = draw(*column(100, LEFT), shapes=[sideways])
    assert sorted(text_of(stamp).split("\n\n")) == sorted([LEFT_TEXT, THIRD_TEXT])


def test_text_when_one_column_is_one_paragraph():
    assert text_of(draw(*column(50, LEFT))) == LEFT_TEXT
    gap = [*column(50, LEFT), *column(50, RIGHT, 100 + 12 * len(LEFT) + 10)]
    assert text_of(draw(*gap)) == f"{LEFT_TEXT}\n\n{RIGHT_TEXT}"
    indented = column(50, [*LEFT, *RIGHT])
    indented[5] = (62, indented[5][1], "Iron rusts because its")
    wanted = f"{LEFT_TEXT}\n\n" + " ".join(["Iron rusts because its", *RIGHT[1:]])
    assert text_of(draw(*indented)) == wanted


def test_lines_when_they_are_a_list_or_short_stay_lines():
    for lines in (
        ["1. Heat the oxide to red heat", "2. Cool it in nitrogen gas", "3. Grind the powder fine"],
        ["• iron and its many alloys", "• copper of the first grade", "• zinc as it comes"],
        ["[1] A. Author, A title, 1999.", "[2] B. Writer, Another, 2001.", "[3] C. Other, 2003."],
        ["Institute of Metals", "Main Street 12", "Springfield"],
    ):
        assert text_of(draw(*column(50, lines))) == "\n".join(lines)


def test_sentences_when_lines_are_narrow_are_whole():
    lines = ["We met the group", "of Marie Curie in", "Paris. She was at", "Radium Hill then."]
    text = text_of(draw(*column(50, lines)))
    spans = RuleSegmenter().sentences(text)
    assert [text[a:b] for a, b in spans] == [
        "We met the group of Marie Curie in Paris.",
        "She was at Radium Hill then.",
    ]


METALS = [
    ("Metal", "Density", "Melts at"),
    ("Iron", "7.87", "1811 K"),
    ("Copper", "8.96", "1358 K"),
    ("Zinc", "7.14", "693 K"),
]
METALS_TABLE = """| Metal | Density | Melts at |
| --- | --- | --- |
| Iron | 7.87 | 1811 K |
| Copper | 8.96 | 1358 K |
| Zinc | 7.14 | 693 K |"""


def cells(rows, xs=(60, 200, 340), y=100, pitch=14):
    return [
        (x, y + pitch * n, cell)
        for n, row in enumerate(rows)
        for x, cell in zip(xs, row, strict=True)
        if cell
    ]


def test_table_when_its_cells_are_aligned_is_written_in_markdown():
    assert text_of(draw(*cells(METALS))) == METALS_TABLE
    by_column = sorted(cells(METALS), key=lambda item: item[0])
    assert text_of(draw(*by_column)) == METALS_TABLE
    prose = draw(*column(60, LEFT), *cells(METALS, y=200), *column(60, RIGHT, 300))
    assert text_of(prose) == f"{LEFT_TEXT}\n\n{METALS_TABLE}\n\n{RIGHT_TEXT}"


def test_table_when_cells_are_empty_keeps_its_columns():
    rows = [METALS[0], ("Iron", "", "1811 K"), ("Copper", "8.96", ""), METALS[3]]
    wanted = """| Metal | Density | Melts at |
| --- | --- | --- |
| Iron | | 1811 K |
| Copper | 8.96 | |
| Zinc | 7.14 | 693 K |"""
    assert text_of(draw(*cells(rows))) == wanted


def test_table_when_ruled_holds_wrapped_cells_and_bars():
    def grid(canvas):
        canvas.grid([50, 180, 400], [800 - y for y in (85, 105, 140, 175)])

    items = [
        *((60, 98, "Name"), (190, 98, "What it is")),
        *((60, 118, "norm"), (190, 118, "the length |x| of a"), (190, 131, "vector of numbers")),
        *((60, 153, "trace"), (190, 153, "the sum of what stands"), (190, 166, "on the diagonal")),
    ]
    assert text_of(draw(*items, shapes=[grid])) == (
        "| Name | What it is |\n| --- | --- |\n"
        "| norm | the length \\|x\\| of a vector of numbers |\n"
        "| trace | the sum of what stands on the diagonal |"
    )


def test_table_when_in_a_column_stays_in_it():
    rows = [(a, b) for a, b, _ in METALS]
    left = [*column(50, LEFT), *cells(rows, (50, 150), 180), *column(50, THIRD, 260)]
    right = column(320, [*RIGHT, *LEFT, *THIRD], 100, 14)
    table = (
        "| Metal | Density |\n| --- | --- |\n| Iron | 7.87 |\n| Copper | 8.96 |\n| Zinc | 7.14 |"
    )
    wanted = [LEFT_TEXT, table, THIRD_TEXT, " ".join([*RIGHT, *LEFT, *THIRD])]
    assert text_of(draw(*left, *right)) == "\n\n".join(wanted)


def test_table_when_in_doubt_keeps_its_cells_apart_and_is_a_loss():
    rows = [("Alpha one", "Beta", "Gamma"), ("Delta", "Epsilon two", "Zeta"), ("Eta", "Theta", "I")]
    items = [
        (x + 28 * n * k, 100 + 14 * n, cell)
        for n, row in enumerate(rows)
        for k, (x, cell) in enumerate(zip((60, 150, 240), row, strict=True))
    ]
    data = draw(*items)
    assert text_of(data) == "Alpha one  Beta  Gamma\nDelta  Epsilon two  Zeta\nEta  Theta  I"
    ((lost, why),) = losses_of(data)
    assert (lost, why) == (
        "the columns of a table on 1 pages",
        "the cells are not clearly aligned: page 1",
    )


def test_prose_and_lists_when_there_are_gaps_are_no_tables():
    references = [(50, 100 + 24 * n, f"[{n}]") for n in range(1, 5)]
    references += [(80, 100 + 24 * n, f"A. Author, Title {n}, Journal") for n in range(1, 5)]
    references += [(80, 112 + 24 * n, f"of Things 12 (199{n}) 1.") for n in range(1, 5)]
    assert "|" not in text_of(draw(*references))
    stretched = [
        (50 + (95 - 17 * n) * k, 100 + 12 * n, word)
        for n in range(4)
        for k, word in enumerate(f"so wide{n} are its words".split())
    ]
    assert "---" not in text_of(draw(*stretched))


def test_scripts_when_raised_or_lowered_are_in_unicode():
    def written(*parts, size=10):
        """Draw parts of (text, size, rise) one after the other."""
        from reportlab.pdfbase.pdfmetrics import stringWidth

        x, items = 50.0, []
        for part in parts:
            text, height, rise = part if isinstance(part, tuple) else (part, size, 0)
            items.append((x, 100 - rise, text, height))
            x += stringWidth(text, "Helvetica", height)
        return text_of(draw(*items))

    up, down = (7, 4), (7, -2)
    assert written("3 x 10", ("5", *up), " cells") == "3 x 10⁵ cells"
    assert written("10", ("-3", *up), " s") == "10⁻³ s"
    assert written("in 1995", ("1", *up), " it") == "in 1995¹ it"
    assert written("word.", ("12", *up), " Next") == "word.¹² Next"
    assert written("5 m", ("2", *up), "/s") == "5 m²/s"
    assert written("H", ("2", *down), "O is wet") == "H₂O is wet"
    assert written("SO", ("4", *down), ("2-", *up)) == "SO₄²⁻"
    assert written("the ", ("13", *up), "C line") == "the ¹³C line"
    assert written("the 4", ("th", *up), " one") == "the 4th one"
    assert written("E", ("g", *down), " is") == "E_g is"
    assert written("at 25 ", ("o", *up), "C now") == "at 25 °C now"


def test_footnote_numbers_when_they_begin_a_line_stay_with_their_notes():
    notes = ["an estimate of 2021", "measured in 2020"]
    items = [(56, 100 + 20 * n, note) for n, note in enumerate(notes)]
    items += [(50, 96 + 20 * n, str(n + 1), 6) for n in range(2)]
    assert text_of(draw(*items)).split() == f"¹ {notes[0]} ² {notes[1]}".split()


def test_letters_when_drawn_twice_or_with_accents_apart_are_read_once():
    double = [(50, 100, "bold"), (50.3, 100, "bold")]
    assert text_of(draw(*double)) == "bold"
    from reportlab.pdfbase.pdfmetrics import stringWidth

    end = 50 + stringWidth("Schr", "Helvetica", 10)
    accent = [(50, 100, "Schr"), (end + 1, 100, "¨"), (end, 100, "odinger")]
    assert text_of(draw(*accent)) == "Schrödinger"


def test_hyphens_when_words_are_wrapped_are_joined_by_the_other_words():
    def wrapped(first, second, more=""):
        filler = "and then some words follow here"
        return text_of(draw(*column(50, [f"{filler} {first}", f"{second} {filler}", more])))

    before = "and then some words follow here "
    after = " and then some words follow here"
    cases = [
        (("conduc-", "tivity"), "conductivity"),
        (("conduc-", "tivity,"), "conductivity,"),
        (("X-", "ray"), "X-ray"),
        (("COVID-", "19"), "COVID-19"),
        (("Hartree-", "Fock"), "Hartree-Fock"),
        (("state-of-the-", "art"), "state-of-the-art"),
        (("p-", "type"), "p-type"),
        (("3-", "dimensional"), "3-dimensional"),
        (("DNA-", "based"), "DNA-based"),
        (("pre-", "and postwar"), "pre- and postwar"),
        (("here-", "after"), "hereafter"),
        (("l’ex-", "ploitation"), "l’exploitation"),  # noqa: RUF001
        (("conduc\xad", "tivity"), "conductivity"),
    ]
    for parts, joined in cases:
        assert wrapped(*parts) == before + joined + after, parts
    text = wrapped("well-", "known", "It is a well-known fact about words that follow here.")
    assert text.startswith(f"{before}well-known{after}")
    text = wrapped("self-", "made", "A self-consistent cycle of the words that follow here.")
    assert text.startswith(f"{before}self-made{after}")
    text = wrapped("co-", "operate", "They cooperate with the other words that follow here.")
    assert text.startswith(f"{before}cooperate{after}")


def test_right_to_left_text_when_read_is_in_logical_order():
    word = "\u05e9\u05dc\u05d5\u05dd"
    other = "\u05e2\u05d5\u05dc\u05dd"
    codes = {chr(97 + n): char for n, char in enumerate(dict.fromkeys(word + other))}
    back = {char: code for code, char in codes.items()}
    shown = "".join(back[char] for char in f"{word}{other}"[::-1])
    mapping = "".join(f"<{ord(code):02x}> <{ord(char):04x}>\n" for code, char in codes.items())
    visual = f"{shown[:4]} PDF 25 {shown[4:]}"
    text = text_of(mapped_pdf(visual, mapping, len(codes)))
    assert text == f"{word} PDF 25 {other}"


def mapped_pdf(text, mapping, n):
    from test_documents_pdf import _CATALOG, _PAGE, _PAGES, _raw_pdf, _stream

    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "1 begincodespacerange\n<00> <ff>\nendcodespacerange\n"
        f"{n} beginbfchar\n{mapping}endbfchar\nendcmap end end"
    )
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>"
    page = _PAGE.replace(b"/XObject << /X 6 0 R >>", b"").replace(b"0 0 99 99", b"0 0 300 99")
    content = _stream(b"BT /F1 12 Tf 20 50 Td (" + text.encode() + b") Tj ET")
    return _raw_pdf(_CATALOG.replace(b"/Outlines 6 0 R", b""), _PAGES, page, content, font,
                    _stream(cmap.encode()))  # fmt: skip


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_layout_when_the_page_is_rotated_gives_boxes_as_it_is_shown(turn):
    extract = read_pdf(draw((50, 100, "Iron rusts."), rotation=turn), "a.pdf")
    ((start, end, page, *box),) = extract.layout
    assert (extract.text[start:end], page) == ("Iron rusts.", 1)
    x0, y0, x1, y1 = 50, 92, 94.5, 102.2  # of the page that is 600 wide and 800 high
    wanted = {
        0: [x0, y0, x1, y1],
        90: [800 - y1, x0, 800 - y0, x1],
        180: [600 - x1, 800 - y1, 600 - x0, 800 - y0],
        270: [y0, 600 - x1, y1, 600 - x0],
    }
    assert box == pytest.approx(wanted[turn], abs=0.2)


def test_layout_when_text_has_tables_and_joined_lines_covers_each_line():
    extract = read_pdf(draw(*column(50, LEFT), *cells(METALS, y=200)), "a.pdf")
    parts = [extract.text[line.start : line.end] for line in extract.layout]
    assert parts == [*LEFT, *(cell for row in METALS for cell in row)]
    assert [line.x0 for line in extract.layout[5:8]] == [60, 200, 340]
