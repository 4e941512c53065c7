# ruff: noqa: RUF001 - signs of other scripts are what these tests are about
from ragkit.documents.html.reader import convert_page, to_markdown
from ragkit.markdown import find_tables, split_row


def text_of(page: str) -> str:
    return to_markdown(page)[1]


def cells_of(page: str) -> list[list[str]]:
    """Return the cells of the only table of a page, and of its header."""
    lines = text_of(page).split("\n")
    assert set(lines[1]) == set("| -"), lines
    return [split_row(line) for line in (lines[0], *lines[2:])]


def test_html_table_when_it_has_a_header_then_a_markdown_table():
    table = "<table><tr><th>valve<th>bar<tr><td>V-0<td>1<tr><td>V-1<td>2</table>"
    assert text_of(f"<p>Text{table}after") == (
        "Text\n\n| valve | bar |\n| --- | --- |\n| V-0 | 1 |\n| V-1 | 2 |\n\nafter"
    )
    [found] = find_tables(text_of(table))
    assert (found.header, len(found.rows)) == ("| valve | bar |", 2)


def test_html_table_when_it_has_a_caption_or_stands_in_a_list_then_both_are_read():
    table = "<table><caption>Table 1</caption><tr><th>a<th>b<tr><td>1<td>2</table>"
    rows = "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert text_of(table) == f"Table 1\n\n{rows}"
    assert text_of(f"<ul><li>One{table}</li><li>Two</ul>") == f"- One\n\nTable 1\n\n{rows}\n\n- Two"
    title = table.replace("<tr>", "<tr><th colspan=2>Title<tr>", 1)
    assert text_of(title) == f"Table 1\n\nTitle\n\n{rows}"


def test_html_table_when_cells_span_then_they_are_repeated_and_keep_their_columns():
    page = """<table>
      <tr><th rowspan=2>steel</th><th colspan=2>Yield</th></tr>
      <tr><th>MPa</th><th>ksi</th></tr>
      <tr><td rowspan="2">A</td><td>250</td><td>36</td></tr>
      <tr><td></td><td>37</td></tr>
      <tr><td colspan=2>none</td><td>38</td></tr>
      <tr><th colspan=3>Others</th></tr>
      <tr><td>B</td><td rowspan=0>9</td></tr><tr><td>C</table>"""
    assert cells_of(page) == [
        ["steel", "Yield / MPa", "Yield / ksi"],
        ["A", "250", "36"],
        ["A", "", "37"],
        ["none", "none", "38"],
        ["Others", "", ""],
        ["B", "9"],
        ["C", "9"],
    ]


def test_html_table_when_spans_are_hostile_then_the_text_stays_small():
    rows = "<tr>" + "<td colspan=1000000 rowspan=1000000>some words" * 50
    page = f"<table><tr><th>a<th>b{rows * 50}</table>"
    text = text_of(page)
    assert text.count("some words") >= 2500
    assert len(text) < 10 * len(page)
    gaps = "<table><tr>" + "<td>x" * 5000 + "<td rowspan=60000>y" + "<tr><td>z" * 5000 + "</table>"
    assert len(text_of(gaps)) < 10 * len(gaps)


def test_html_table_when_no_cell_is_a_header_then_no_row_of_data_becomes_one():
    def page(*rows: str) -> str:
        return "<table>" + "".join(f"<tr><td>{'<td>'.join(row.split())}" for row in rows)

    cases = {
        page("Mass 5", "Age 7"): ["", ""],
        page("Iron hard", "Lead soft"): ["", ""],
        page("valve bar", "V-0 1", "V-1 2"): ["valve", "bar"],
        page("<b>name</b> <b>kind</b>", "Iron metal"): ["name", "kind"],
        page("<b>Iron</b> <b>metal</b>", "<b>Lead</b> <b>metal</b>"): ["", ""],
        "<table><thead><tr><td>a<td>b<tbody><tr><td>c<td>d<tr><td>e<td>f": ["a", "b"],
        "<table><tr><th>Mass<td>5<tr><th>Age<td>7": ["", ""],
        "<table><tr><th>a<th>b<tr><th>c<th>d": ["a", "b"],
    }
    for table, header in cases.items():
        assert cells_of(table)[0] == header, table
    assert cells_of(page("Iron hard", "Lead soft"))[1:] == [["Iron", "hard"], ["Lead", "soft"]]


def test_html_table_when_cells_hold_bars_lines_and_lists_then_each_row_is_a_line():
    page = "<table><tr><th>a|b<th>c<tr><td>1<br>2<td><ul><li>x<li>y</ul><tr><td><p>p<p>q<td>\xa0"
    assert text_of(page) == "| a\\|b | c |\n| --- | --- |\n| 1 2 | x y |\n| p q |  |"
    assert cells_of(page)[0] == ["a|b", "c"]


def test_html_table_when_it_is_page_layout_then_its_text_stays_in_paragraphs():
    prose = "<p>" + "word " * 80 + "<p>second"
    menu = "<td><a>Home</a><br><a>News</a>"
    assert text_of(f"<table><tr>{menu}<td>{prose}</table>").endswith("word\n\nsecond")
    inner = "<table><tr><th>a<th>b<tr><td>1<td>2</table>"
    assert text_of(f"<table><tr><td>x<td>y{inner}z</table>") == (
        "x | y\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nz"
    )
    for page, text in {
        "<table><tr><td>one<td>row</table>": "one | row",
        "<table><tr><td>one<tr><td>column</table>": "one\ncolumn",
        "<table role=presentation><tr><th>a<th>b<tr><td>c<td>d</table>": "a | b\nc | d",
        "<table><tr><td><h2>Head</h2>text<td>side<tr><td>a<td>b</table>": (
            "## Head\n\ntext | side\na | b"
        ),
    }.items():
        assert text_of(page) == text


def test_html_superscripts_when_read_then_numbers_keep_their_value():
    for page, text in {
        "3 × 10<sup>5</sup> m<sup>2</sup>": "3 × 10⁵ m²",
        "10<sup>−3</sup>, 10<sup>-12</sup>": "10⁻³, 10⁻¹²",
        "H<sub>2</sub>O, x<sub>1</sub>, <sup>13</sup>C": "H₂O, x₁, ¹³C",
        "10<sup>a+b</sup>, T<sub>max </sub>is": "10^(a+b), T_max is",
        "1<sup>st</sup> and 2<sup>nd</sup>, 25<sup>o</sup>C": "1st and 2nd, 25°C",
        "SO<sub>4</sub><sup>2−</sup> is <b>m<sup>2</sup></b>": "SO₄²⁻ is m²",
        "x<sup>2<sup>n</sup></sup> and <sup> </sup>y": "x^2ⁿ and y",
        "<table><tr><th>a<th>m<sup>2</sup><tr><td>b<td>10<sup>5</sup></table>": (
            "| a | m² |\n| --- | --- |\n| b | 10⁵ |"
        ),
        "<h2>CO<sub>2</sub></h2>": "## CO₂",
        "<pre>x<sup>2</sup></pre>": "```\nx2\n```",
        f"<sup>{'small print ' * 10}</sup>": ("small print " * 10).strip(),
        "a<sup>b<p>paragraph": "ab\n\nparagraph",
    }.items():
        assert text_of(page) == text, page


def test_html_marks_of_notes_when_read_then_no_digits_of_a_number():
    for mark in (
        '<sup><a href="#fn1">1</a></sup>',
        '<a href="#fn1"><sup>1</sup></a>',
        '<a href="#fn1" class="footnote-ref" role="doc-noteref"><sup>1</sup></a>',
        '<a href="#fn1" class="footnote-ref">1</a>',
        "<sup>[1]</sup>",
        '<sup class="reference"><a href="/page#cite_note-1">[1]</a></sup>',
        '<sup class="footnote">1</sup>',
        '<sup id="fnref1">1</sup>',
    ):
        assert text_of(f"in 1995{mark}, it") == "in 1995[1], it", mark
    assert text_of('steel<sup><a href="#n">*</a></sup>') == "steel*"
    assert text_of('A note. <a href="#fnref1" class="footnote-back">↩</a>') == "A note."


def test_html_hidden_and_deleted_text_when_read_then_dropped_with_a_loss():
    for part in (
        "<p hidden>gone 1</p>",
        '<div style="color: red; DISPLAY : none">gone<b>1</b></div>',
        "<span style='visibility:hidden'>gone1</span>",
        '<span aria-hidden="true">gone1</span>',
        "<ul hidden><li>gone</li><li>1</li></ul>",
    ):
        title, text, [loss] = convert_page(f"<p>a</p>{part}<p>b</p>", "x.html")
        assert (title, text) == ("", "a\n\nb"), part
        assert (loss.what, loss.why.split()[0]) == ("x.html", "hidden"), part
    for tag in ("del", "s", "strike"):
        page = f"<p>It costs <{tag}>5 euros</{tag}> 6 euros.</p>"
        _, text, [loss] = convert_page(page, "x.html")
        assert (text, loss.lost) == ("It costs 6 euros.", "7 characters")
        assert loss.why == "marked as deleted (<del>, <s>)"


def test_html_when_the_page_or_nothing_is_hidden_then_read_without_loss():
    for page in (
        '<body style="display:none">a',
        "<html hidden><body>a",
        '<p aria-hidden="false">a',
        '<p hidden="until-found">a',
        '<p data-hidden="x" class="hidden-xs">a',
        '<p>a<span aria-hidden="true">×</span>',
        '<p>a<img hidden alt="b"><input type="hidden" value="c">',
    ):
        assert convert_page(page, "x.html") == ("", "a", ()), page


def test_html_ruby_when_read_then_the_reading_stands_in_parentheses():
    for page in (
        "<ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby>です",
        "<ruby>漢字<rt>かんじ</rt></ruby>です",
        "<ruby><rb>漢字<rt>かんじ</ruby>です",
        "<ruby>漢<rt>かん</rt>字<rt>じ</rt></ruby>です",
    ):
        assert text_of(page) == "漢字(かんじ)です", page


def test_html_images_when_read_then_their_alternative_text_is():
    for page, text in {
        'See <img src=a.png alt="Figure 1: a valve">.': "See Figure 1: a valve .",
        '<img alt=""><img><img alt="IMG_1.JPG">x': "x",
        '<p>x<img alt="logo" aria-hidden="true"></p>': "x",
    }.items():
        assert text_of(page) == text, page


def test_html_formulas_when_read_then_in_a_line_and_once():
    formulas = {
        "<msup><mi>x</mi><mn>2</mn></msup>": "x²",
        "<mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup>": "E = mc²",
        "<mn>3</mn><mo>×</mo><msup><mn>10</mn><mrow><mo>−</mo><mn>5</mn></mrow></msup>": "3 × 10⁻⁵",
        "<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></mfrac>": "(a + b)/2",
        "<msqrt><mn>2</mn></msqrt><mo>&it;</mo>".replace("&it;", "\u2062"): "√2",
        "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>": "xᵢ²",
        "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</munderover>": (
            "∑ᵢ₌₁ⁿ"
        ),
        "<mroot><mi>x</mi><mn>3</mn></mroot>": "x^(1/3)",
    }
    for formula, text in formulas.items():
        annotated = f"<semantics><mrow>{formula}</mrow><annotation>TeX</annotation></semantics>"
        for math in (formula, annotated):
            assert text_of(f"<p>Let <math>{math}</math> be.") == f"Let {text} be.", math
    assert text_of('<math alttext="x^2"></math>') == "x^2"
    wikipedia = (
        '<span class="mwe-math-mathml-inline" style="display: none;"><math><mi>x</mi></math></span>'
        '<img aria-hidden="true" alt="{\\displaystyle x}">'
    )
    assert convert_page(wikipedia, "x.html") == ("", "x", ())
    katex = (
        '<span class="katex-mathml"><math><mi>x</mi></math></span>'
        '<span class="katex-html" aria-hidden="true"><span>x</span></span>'
    )
    assert convert_page(katex, "x.html") == ("", "x", ())
    assert text_of("<p>a<math><mi>x<p>b</p>c") == "ax\n\nb\n\nc"


def test_html_when_lists_are_numbered_then_items_keep_their_numbers():
    pages = {
        "<ol><li>a<li>b</ol>": "1. a\n2. b",
        "<ol start=3><li>a<li value=9>b<ol><li>x</ol><li>c</ol>": "3. a\n9. b\n  1. x\n10. c",
        "<ol><li>a<ul><li>b</ul><li>c</ol><ol><li>d</ol>": "1. a\n  - b\n2. c\n\n1. d",
        "<ol hidden><li>gone</ol><ul><li>a</ul><ol start=x><li>b</ol>": "- a\n\n1. b",
        "<li>a</li><ol><p>b<li>c</ol></ol><li>d": "- a\n\nb\n\n1. c\n\n- d",
        "<ol start=99999999999999999999999><li>a</ol>": "1. a",
    }
    assert {page: to_markdown(page)[1] for page in pages} == pages
