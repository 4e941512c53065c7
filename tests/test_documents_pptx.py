"""Slides: titles, texts, tables, charts, notes, and what is lost."""

from __future__ import annotations

import io

import pptx
from office_files import RELATIONS, SPACE, read, relations, zip_files
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

P = f"{SPACE}/presentationml/2006/main"
_SPACES = (
    f'xmlns:p="{P}" xmlns:a="{SPACE}/drawingml/2006/main" xmlns:r="{RELATIONS}" '
    f'xmlns:m="{SPACE}/officeDocument/2006/math" xmlns:dgm="{SPACE}/drawingml/2006/diagram" '
    'xmlns:a14="http://schemas.microsoft.com/office/drawing/2010/main" '
    f'xmlns:mc="{SPACE}/markup-compatibility/2006"'
)


def _saved(deck) -> bytes:
    buffer = io.BytesIO()
    deck.save(buffer)
    return buffer.getvalue()


def _read(data: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Return the text, and what is lost and where."""
    extract = read(data, "pptx")
    losses = [(loss.lost, loss.why.partition("places: ")[2]) for loss in extract.losses]
    return extract.text, losses


def _shape(content: str, kind: str = "", properties: str = "") -> str:
    mark = f'<p:ph type="{kind}"/>' if kind else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="1" name="x" {properties}/><p:nvPr>{mark}</p:nvPr></p:nvSpPr>'
        f"<p:txBody>{content}</p:txBody></p:sp>"
    )


def _p(text: str, properties: str = "") -> str:
    runs = text if text.startswith("<") else f"<a:r><a:t>{text}</a:t></a:r>"
    return f"<a:p>{properties}{runs}</a:p>"


def _deck(*slides: str, files: dict[str, str] | None = None, top: str = "") -> bytes:
    """Write slides of the XML of their shapes; `files` are further parts, relations included."""
    numbers = range(1, len(slides) + 1)
    listed = "".join(f'<p:sldId r:id="slide{number}"/>' for number in numbers)
    pages = {
        f"ppt/slide{number}.xml": slide
        if slide.startswith("<p:sld ")
        else f"<p:sld {_SPACES}><p:cSld><p:spTree>{slide}</p:spTree></p:cSld></p:sld>"
        for number, slide in zip(numbers, slides, strict=True)
    }
    targets = {f"slide{number}": f"slide{number}.xml" for number in numbers}
    authors = {"commentAuthors": "authors.xml"} if files and "ppt/authors.xml" in files else {}
    return zip_files(
        {
            "_rels/.rels": relations({"officeDocument": "ppt/presentation.xml"}),
            "ppt/presentation.xml": f"<p:presentation {_SPACES}><p:sldIdLst>{listed}{top}"
            "</p:sldIdLst></p:presentation>",
            "ppt/_rels/presentation.xml.rels": relations(targets | authors),
            **pages,
            **(files or {}),
        }
    )


def test_pptx_when_a_program_wrote_it_then_titles_tables_groups_and_charts_are_read():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Sales"
    table = slide.shapes.add_table(3, 2, 0, 0, Inches(3), Inches(1)).table
    for row, texts in enumerate([["land", "n"], ["north\nside", "1|2"], ["", "3"]]):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 9, 9).text_frame.text = "in a group"
    data = CategoryChartData()
    data.categories = ["Q1", "Q2"]
    data.add_series("North", (1.5, 2))
    data.add_series("South", (3, None))
    chart = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, 9, 9, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "By quarter"
    points = XyChartData()
    series = points.add_series("Track")
    series.add_data_point(0.5, 7)
    series.add_data_point(0.7, 8)
    slide.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER, 0, 0, 9, 9, points)
    assert _read(_saved(deck)) == (
        "# Slide 1: Sales\n\n| land | n |\n| --- | --- |\n| north side | 1\\|2 |\n"
        "| north side | 3 |\n\nin a group\n\nChart: By quarter\n\n"
        "|  | North | South |\n| --- | --- | --- |\n"
        "| Q1 | 1.5 | 3 |\n| Q2 | 2 |  |\n\nChart\n\n|  | Track |\n| --- | --- |\n"
        "| 0.5 | 7 |\n| 0.7 | 8 |",
        [],
    )


def test_pptx_when_slides_or_shapes_are_hidden_then_losses_and_numbers_stay():
    tree = f"<p:cSld><p:spTree>{_shape(_p('no'))}</p:spTree></p:cSld>"
    hidden = f'<p:sld {_SPACES} show="0">{tree}</p:sld>'
    shape = _shape(_p("neither"), properties='hidden="1"')
    data = _deck(
        _shape(_p("Start"), "ctrTitle"),
        hidden,
        shape + _shape(_p("seen")),
        top='<p:sldId r:id="x"/>',
    )
    assert _read(data) == (
        "# Slide 1: Start\n\n# Slide 3\n\nseen",
        [("1 slides", "slide 2"), ("1 shapes", "slide 3"), ("1 slides", "slide 4")],
    )
    assert read(data, "pptx").title == "Start"


def test_pptx_when_paragraphs_have_numbers_levels_and_scripts_then_as_they_look():
    def number(kind: str, level: int = 0, start: str = "") -> str:
        mark = f'<a:buAutoNum type="{kind}"{start}/>'
        return f'<a:pPr lvl="{level}">{mark}</a:pPr>'

    body = (
        _p("one", number("arabicPeriod"))
        + _p("inner", number("alphaLcParenBoth", 1))
        + _p("two", number("arabicPeriod"))
        + _p("again", number("alphaLcParenBoth", 1))
        + _p("plain")
        + _p("new", number("romanUcParenR", 0, ' startAt="4"'))
        + _p("level", '<a:pPr lvl="1"/>')
        + _p("deep", '<a:pPr lvl="2"/>')
        + _p(
            '<a:r><a:t>m</a:t></a:r><a:r><a:rPr baseline="30000"/><a:t>2</a:t></a:r>'
            '<a:r><a:rPr baseline="-25000"/><a:t>0</a:t></a:r><a:br/><a:fld><a:t>May</a:t></a:fld>'
            '<a:r><a:rPr strike="sngStrike"/><a:t>old</a:t></a:r>'
        )
        + _p(
            '<mc:AlternateContent><mc:Choice Requires="a14"><a14:m><m:oMath>'
            "<m:r><m:t>x=1</m:t></m:r></m:oMath></a14:m></mc:Choice><mc:Fallback><a:r><a:t>no</a:t></a:r></mc:Fallback>"
            "</mc:AlternateContent>"
        )
    )
    text, losses = _read(_deck(_shape(body)))
    assert text.split("\n") == [
        *("# Slide 1", "", "1. one", "(a) inner", "2. two", "(a) again", "plain", "IV) new"),
        *("- level", "  - deep", "m²₀", "May~~old~~", "x=1"),
    ]
    assert losses == []


def test_pptx_when_notes_comments_footers_and_layouts_then_each_is_read():
    slide = _shape(_p("Head"), "title") + _shape(_p("ACME"), "ftr") + _shape(_p("3"), "sldNum")
    notes = _shape(_p("Say"), "body") + _shape(_p("this.")) + _shape(_p("2"), "sldNum")
    master = _shape(_p("Click to edit"), "title") + _shape(_p("Confidential"))
    tree = f"<p:x {_SPACES}><p:spTree>{{}}</p:spTree></p:x>"
    comments = (
        f'<p:cmLst {_SPACES}><p:cm authorId="0"><p:text>too long</p:text></p:cm>'
        f'<p:cm authorId="9"><p:txBody>{_p("new kind")}</p:txBody></p:cm></p:cmLst>'
    )
    links = {"notesSlide": "notes.xml", "slideLayout": "layout.xml", "comments": "comments.xml"}
    files = {
        "ppt/_rels/slide1.xml.rels": relations(links),
        "ppt/_rels/slide2.xml.rels": relations(links),
        "ppt/notes.xml": tree.format(notes),
        "ppt/layout.xml": tree.format(_shape(_p("ACME"))),
        "ppt/_rels/layout.xml.rels": relations({"slideMaster": "master.xml"}),
        "ppt/master.xml": tree.format(master),
        "ppt/comments.xml": comments,
        "ppt/authors.xml": f'<p:l {_SPACES}><p:cmAuthor id="0" name="Ann Li"/></p:l>',
    }
    said = "Notes:\nSay\nthis.\n\nComment by Ann Li: too long\n\nComment: new kind"
    assert _read(_deck(slide, slide, files=files)) == (
        f"# Slide 1: Head\n\n{said}\n\n# Slide 2: Head\n\n{said}\n\n"
        "Slide footer: ACME\n\nSlide footer: Confidential",
        [],
    )


def _frame(content: str) -> str:
    names = '<p:nvGraphicFramePr><p:cNvPr id="1" name="x"/><p:nvPr/></p:nvGraphicFramePr>'
    return f"<p:graphicFrame>{names}<a:graphic>{content}</a:graphic></p:graphicFrame>"


def _picture(description: str, media: str = "") -> str:
    names = f'<p:cNvPr id="1" name="x" descr="{description}"/><p:nvPr>{media}</p:nvPr>'
    return f"<p:pic><p:nvPicPr>{names}</p:nvPicPr></p:pic>"


def test_pptx_when_pictures_objects_and_diagrams_then_read_or_lost():
    slide = (
        _picture("A barn")
        + _picture("")
        + _picture("", '<a:videoFile r:link="x"/>')
        + _frame('<p:oleObj progId="X"/>')
        + _frame('<dgm:relIds r:dm="diagramData"/>')
        + _frame('<dgm:relIds r:dm="none"/>')
        + '<p:contentPart><p:nvContentPartPr><p:cNvPr id="1"/></p:nvContentPartPr></p:contentPart>'
    )
    point = "<dgm:pt><dgm:t>{}</dgm:t></dgm:pt>"
    points = point.format(_p("Plan")) + point.format("") + point.format(_p("Do") + _p("it"))
    files = {
        "ppt/_rels/slide1.xml.rels": relations({"diagramData": "data.xml"}),
        "ppt/data.xml": f"<dgm:dataModel {_SPACES}><dgm:ptLst>{points}</dgm:ptLst></dgm:dataModel>",
    }
    assert _read(_deck(slide, files=files)) == (
        "# Slide 1\n\nA barn\n\n- Plan\n- Do it",
        [
            ("1 pictures without alternative text", "slide 1"),
            ("1 media", "slide 1"),
            ("1 embedded objects", "slide 1"),
            ("1 diagrams", "slide 1"),
            ("1 drawings in ink", "slide 1"),
        ],
    )
