"""Word files: what a reader of the page sees is read, the rest is a loss."""

# ruff: noqa: RUF001 - mathematical signs
from __future__ import annotations

import pytest
from office_files import RELATIONS, SPACE, docx, read, relations, zip_files

from ragkit.documents.office.equations import equation_text
from ragkit.documents.office.numbering import format_number
from ragkit.documents.office.ooxml import parse_xml
from ragkit.errors import DocumentError


def _p(*runs: str, properties: str = "") -> str:
    """Write a paragraph of texts or of XML."""
    inner = "".join(run if run.startswith("<") else f"<w:r><w:t>{run}</w:t></w:r>" for run in runs)
    return f"<w:p><w:pPr>{properties}</w:pPr>{inner}</w:p>"


def _r(text: str, properties: str) -> str:
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"


def _read(body: str, **parts: str) -> tuple[str, list[str]]:
    """Return the text, and what the losses say is lost."""
    extract = read(docx(body, parts), "docx")
    return extract.text, [loss.lost for loss in extract.losses]


_LISTS = """
<w:abstractNum w:abstractNumId="1">
  <w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:pStyle w:val="H1"/>
    <w:lvlText w:val="%1."/></w:lvl>
  <w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:pStyle w:val="H2"/>
    <w:lvlText w:val="%1.%2"/></w:lvl>
  <w:lvl w:ilvl="2"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/>
    <w:lvlText w:val="(%3)"/></w:lvl>
</w:abstractNum>
<w:abstractNum w:abstractNumId="2">
  <w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:lvlText w:val="&#xF0B7;"/></w:lvl>
  <w:lvl w:ilvl="1"><w:numFmt w:val="bullet"/><w:lvlText w:val="o"/></w:lvl>
</w:abstractNum>
<w:abstractNum w:abstractNumId="3">
  <w:lvl w:ilvl="0"><w:start w:val="4"/><w:numFmt w:val="upperRoman"/>
    <w:lvlText w:val="Article %1"/></w:lvl>
  <w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:isLgl/>
    <w:lvlText w:val="%1.%2"/></w:lvl>
</w:abstractNum>
<w:abstractNum w:abstractNumId="4"><w:numStyleLink w:val="Clauses"/></w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>
<w:num w:numId="2"><w:abstractNumId w:val="2"/></w:num>
<w:num w:numId="3"><w:abstractNumId w:val="3"/></w:num>
<w:num w:numId="4"><w:abstractNumId w:val="4"/></w:num>
<w:num w:numId="5"><w:abstractNumId w:val="1"/>
  <w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride></w:num>
"""
_STYLES = """
<w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/>
  <w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="H2"><w:name w:val="heading 2"/><w:basedOn w:val="H1"/>
</w:style>
<w:style w:type="paragraph" w:styleId="Own"><w:name w:val="Section"/>
  <w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Plain"><w:name w:val="x"/><w:basedOn w:val="Own"/>
  <w:pPr><w:outlineLvl w:val="9"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="T"><w:name w:val="Title"/></w:style>
<w:style w:type="numbering" w:styleId="Clauses"><w:name w:val="Clauses"/>
  <w:pPr><w:numPr><w:numId w:val="3"/></w:numPr></w:pPr></w:style>
<w:style w:type="character" w:styleId="Secret"><w:name w:val="s"/><w:rPr><w:vanish/></w:rPr>
</w:style>
<w:style w:type="character" w:styleId="Up"><w:name w:val="u"/>
  <w:rPr><w:vertAlign w:val="superscript"/></w:rPr></w:style>
"""


def _style(name: str) -> str:
    return f'<w:pStyle w:val="{name}"/>'


def _item(number: int, level: int = 0) -> str:
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'


def test_docx_when_headings_and_clauses_are_numbered_then_the_numbers_are_read():
    body = [
        _p("Contract", properties=_style("T")),
        _p("Scope", properties=_style("H1")),
        _p("Services", properties=_style("H2")),
        _p("Fees", properties=_style("H2")),
        _p("first", properties=_item(1, 2)),
        _p("second", properties=_item(1, 2)),
        _p("Text between."),
        _p("third", properties=_item(1, 2)),
        _p("Term", properties=_style("H1")),
        _p("Notice", properties=_style("H2")),
        _p("early", properties=_item(1, 2)),
        _p("Own style", properties=_style("Own")),
        _p("Body", properties=_style("Plain")),
        _p("No number", properties=_style("H1") + '<w:numPr><w:numId w:val="0"/></w:numPr>'),
    ]
    text, lost = _read("".join(body), styles=_STYLES, numbering=_LISTS)
    assert text == (
        "# Contract\n\n# 1. Scope\n\n## 1.1 Services\n\n## 1.2 Fees\n\n(a) first\n(b) second\n\n"
        "Text between.\n\n(c) third\n\n# 2. Term\n\n## 2.1 Notice\n\n(a) early\n\n### Own style\n\n"
        "Body\n\n# No number"
    )
    assert lost == []


def test_docx_when_lists_restart_and_link_then_numbers_go_on_as_in_word():
    body = [
        _p("one", properties=_item(2)),
        _p("inner", properties=_item(2, 1)),
        _p("a", properties=_item(3)),
        _p("legal", properties=_item(3, 1)),
        _p("linked", properties=_item(4)),
        _p("first", properties=_item(1)),
        _p("new start", properties=_item(5)),
        _p("goes on", properties=_item(5)),
        _p("left out a level", properties=_item(5, 2)),
        _p("no such list", properties=_item(99)),
        _p("no such level", properties=_item(1, 8)),
    ]
    text, _ = _read("".join(body), styles=_STYLES, numbering=_LISTS)
    assert text.split("\n") == [
        *("- one", "  - inner", "Article IV a", "4.1 legal", "Article V linked", "1. first"),
        *("7. new start", "8. goes on", "(a) left out a level", "", "no such list", ""),
        "no such level",
    ]


def test_docx_when_a_level_never_restarts_or_only_after_another_then_its_numbers_go_on():
    def level(index: int, restart: str = "") -> str:
        return (
            f'<w:lvl w:ilvl="{index}"><w:start w:val="1"/><w:numFmt w:val="decimal"/>{restart}'
            f'<w:lvlText w:val="{index}:%{index + 1}"/></w:lvl>'
        )

    levels = (
        level(0) + level(1, '<w:lvlRestart w:val="0"/>') + level(2, '<w:lvlRestart w:val="1"/>')
    )
    lists = f'<w:abstractNum w:abstractNumId="1">{levels}</w:abstractNum>'
    lists += '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    body = [_p("x", properties=_item(1, index)) for index in (0, 1, 2, 1, 2, 0, 1, 2)]
    text, _ = _read("".join(body), numbering=lists)
    assert text.split("\n") == [
        *("0:1 x", "1:1 x", "2:1 x", "1:2 x", "2:2 x", "0:2 x", "1:3 x", "2:1 x"),
    ]


def test_docx_when_a_number_format_is_not_supported_then_digits_and_a_loss():
    lists = (
        '<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:numFmt w:val="hebrew1"/>'
        '<w:lvlText w:val="%1)"/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    )
    text, lost = _read(_p("x", properties=_item(1)), numbering=lists)
    assert (text, lost) == ("1) x", ["1 forms of automatic numbers"])


def test_format_number_when_asked_for_words_formats_then_as_word_writes_them():
    found = [
        format_number(number, kind)
        for number, kind in [
            *((4, "lowerRoman"), (1999, "upperRoman"), (27, "lowerLetter"), (53, "upperLetter")),
            *((7, "decimalZero"), (12, "decimalZero"), (22, "ordinal"), (13, "ordinal")),
            *((3, "none"), (5, "numberInDash"), (0, "upperRoman"), (3, "cardinalText")),
        ]
    ]
    assert found == [
        *("iv", "MCMXCIX", "aa", "AAA", "07", "12", "22nd", "13th", "", "- 5 -", "0", None),
    ]


def test_docx_when_text_is_hidden_then_it_is_a_loss():
    body = [
        _p("seen ", _r("direct", "<w:vanish/>"), _r("style", '<w:rStyle w:val="Secret"/>'), "end"),
        _p(_r("switched on again", '<w:rStyle w:val="Secret"/><w:vanish w:val="0"/>')),
        _p(_r("all hidden", "<w:vanish/>"), properties="<w:rPr><w:vanish/></w:rPr>" + _item(1)),
        _p("first", properties=_item(1)),
    ]
    text, lost = _read("".join(body), styles=_STYLES, numbering=_LISTS)
    assert (text, lost) == ("seen end\n\nswitched on again\n\n1. first", ["3 hidden texts"])


def test_docx_when_changes_are_tracked_then_read_as_accepted_with_losses():
    deleted = "<w:del><w:r><w:delText>100</w:delText></w:r></w:del>"
    mark = "<w:rPr><w:del/></w:rPr>"
    body = [
        _p("costs ", deleted, "<w:ins><w:r><w:t>120</w:t></w:r></w:ins>", " euros"),
        _p("joined ", properties=mark),
        _p("with this"),
        _p(
            "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>",
            properties="<w:rPr><w:moveFrom/></w:rPr>",
        ),
        _p("<w:moveTo><w:r><w:t>moved</w:t></w:r></w:moveTo>"),
        f"<w:del>{_p('whole')}</w:del>",
        _p("last", properties=mark),
        "<w:tbl><w:tr><w:trPr><w:del/></w:trPr><w:tc><w:p/></w:tc></w:tr>"
        f"<w:tr><w:tc>{_p('a')}</w:tc><w:tc>{_p('b')}</w:tc></w:tr></w:tbl>",
    ]
    text, lost = _read("".join(body))
    assert text == (
        "costs 120 euros\n\njoined with this\n\nmoved\n\nlast\n\n|  |  |\n| --- | --- |\n| a | b |"
    )
    assert lost == [
        *("5 tracked deletions", "1 marks of tracked insertions", "1 old places of moved text"),
    ]


def test_docx_when_notes_and_comments_then_they_follow_their_paragraph_with_marks():
    note = '<w:r><w:footnoteReference w:id="2"/></w:r>'
    end = '<w:r><w:endnoteReference w:id="3"/></w:r>'
    remark = '<w:r><w:commentReference w:id="0"/></w:r>'
    body = _p("pure", note, " water", end, remark) + _p("next", note.replace("2", "4"))
    text, lost = _read(
        body,
        footnotes='<w:footnote w:type="separator" w:id="0"><w:p/></w:footnote>'
        f'<w:footnote w:id="2">{_p("<w:r><w:footnoteRef/></w:r>", " 99.9 %")}</w:footnote>'
        f'<w:footnote w:id="4">{_p("two")}{_p("lines")}</w:footnote>',
        endnotes=f'<w:endnote w:id="3">{_p("see page 2")}</w:endnote>',
        comments=f'<w:comment w:id="0" w:author="Ann Li">{_p("is it?")}</w:comment>',
    )
    assert text == (
        "pure[^1] water[^e1]\n\n[^1]: 99.9 %\n\n[^e1]: see page 2\n\nComment by Ann Li: is it?\n\n"
        "next[^2]\n\n[^2]: two lines"
    )
    assert lost == []


def _header(kind: str, target: str, name: str = "header") -> str:
    return f'<w:{name}Reference w:type="{kind}" r:id="{target}"/>'


def test_docx_when_characters_are_special_then_as_they_look():
    symbol = '<w:rFonts w:ascii="Symbol"/>'
    runs = [
        *("H", _r("2", '<w:vertAlign w:val="subscript"/>'), "O, 3 × 10"),
        *(_r("−", '<w:vertAlign w:val="superscript"/>'), _r("5", '<w:rStyle w:val="Up"/>'), ", "),
        *("<w:r><w:t>a</w:t><w:noBreakHyphen/><w:t>b</w:t><w:softHyphen/><w:t>c</w:t></w:r>",),
        "<w:r><w:t>so\u00adft</w:t><w:tab/><w:t>tab</w:t><w:br/><w:t>line</w:t><w:cr/></w:r>",
        '<w:r><w:sym w:font="Symbol" w:char="F061"/></w:r>',
        '<w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r>',
        *(
            _r("\uf0a3 b", symbol),
            " ",
            _r("small caps", "<w:caps/>"),
            " ",
            _r("old", "<w:strike/>"),
        ),
        "<w:r><w:ruby><w:rt><w:r><w:t>とう</w:t></w:r></w:rt>"
        "<w:rubyBase><w:r><w:t>東</w:t></w:r></w:rubyBase></w:ruby></w:r>",
        '<w:r><w:sym w:font="Webdings" w:char="F041"/></w:r>',
    ]
    text, lost = _read(_p(*runs), styles=_STYLES)
    assert text == ("H₂O, 3 × 10⁻⁵, a-bcsoft\ttab\nline\nα☑≤ β small caps ~~old~~東\ufffd")
    assert lost == ["1 characters of symbol fonts"]


def _field(code: str, result: str | None, data: str = "") -> str:
    shown = "" if result is None else f'<w:r><w:fldChar w:fldCharType="separate"/></w:r>{result}'
    return (
        f'<w:r><w:fldChar w:fldCharType="begin">{data}</w:fldChar></w:r>'
        f"<w:r><w:instrText> {code} </w:instrText></w:r>{shown}"
        '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )


def test_docx_when_fields_and_forms_then_their_results_are_read():
    box = '<w:ffData><w:checkBox><w:default w:val="0"/><w:checked/></w:checkBox></w:ffData>'
    choice = (
        '<w:ffData><w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/>'
        '<w:listEntry w:val="blue"/></w:ddList></w:ffData>'
    )
    nested = _field("IF 1 = 1", "<w:r><w:t>yes</w:t></w:r>", "")
    body = [
        _p("see ", _field("REF x", "<w:r><w:t>page 3</w:t></w:r>"), " and ", nested),
        _p(_field("FORMCHECKBOX", None, box), " paid, ", _field("FORMDROPDOWN", None, choice)),
        _p("a", _field("XE index", None), _field("EQ x", None), "b"),
        _p('<w:fldSimple w:instr="DATE"><w:r><w:t>1 May</w:t></w:r></w:fldSimple>'),
        _p('<w:r><w:fldChar w:fldCharType="begin"/><w:instrText>REF y</w:instrText></w:r>'),
        _p("still read"),
        f"<w:sdt><w:sdtPr/><w:sdtContent>{_p('control')}</w:sdtContent></w:sdt>",
        _p("<w:sdt><w:sdtContent><w:r><w:t>inline control</w:t></w:r></w:sdtContent></w:sdt>"),
        _p("<w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink>"),
        "<w:customXml><w:customXmlPr/>"
        + _p("<w:smartTag><w:r><w:t>tag</w:t></w:r></w:smartTag>")
        + "</w:customXml>",
    ]
    text, lost = _read("".join(body))
    assert text.split("\n\n") == [
        *("see page 3 and yes", "☑ paid, blue", "ab", "1 May", "still read", "control"),
        *("inline control", "link", "tag"),
    ]
    assert lost == ["1 results of fields"]


_BOX = "<w:txbxContent>{}</w:txbxContent>"


def test_docx_when_shapes_hold_text_then_it_is_read_once():
    inner = _BOX.format(_p("in the box"))
    alternate = (
        "<w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing><wp:anchor>"
        "<wp:docPr id='1' name='x'/><a:graphic><a:graphicData>"
        f"<wps:wsp><wps:txbx>{inner}</wps:txbx></wps:wsp></a:graphicData></a:graphic></wp:anchor></w:drawing></mc:Choice>"
        f"<mc:Fallback><w:pict><v:shape><v:textbox>{inner}</v:textbox></v:shape></w:pict>"
        "</mc:Fallback></mc:AlternateContent></w:r>"
    )
    box = f"<v:rect><v:textbox>{_BOX.format(_p('old box'))}</v:textbox></v:rect>"
    old = f"<w:r><w:pict>{box}</w:pict></w:r>"
    art = "<w:r><w:pict><v:shape><v:textpath string='DRAFT'/></v:shape></w:pict></w:r>"
    text, lost = _read(_p("anchor", alternate) + _p(old) + _p(art))
    assert (text, lost) == ("anchor\n\nin the box\n\nold box\n\nDRAFT", [])


def _picture(properties: str) -> str:
    return (
        f"<w:r><w:drawing><wp:inline>{properties}<a:graphic><a:graphicData><pic:pic><pic:nvPicPr>"
        "<pic:cNvPr id='0' name='p'/></pic:nvPicPr></pic:pic></a:graphicData></a:graphic>"
        "</wp:inline></w:drawing></w:r>"
    )


def test_docx_when_pictures_and_objects_then_descriptions_are_read_and_the_rest_is_a_loss():
    decorative = (
        '<wp:docPr id="1"><a:extLst><a:ext><d:decorative xmlns:d="http://schemas.microsoft.com/'
        'office/drawing/2017/decorative" val="1"/></a:ext></a:extLst></wp:docPr>'
    )
    body = [
        _p(_picture('<wp:docPr id="1" descr="A red&#10;barn"/>')),
        _p(_picture('<wp:docPr id="1"/>'), "x", "<w:r><w:pict><v:imagedata/></w:pict></w:r>"),
        _p(_picture(decorative)),
        _p(
            "<w:r><w:object><v:shape><v:imagedata/></v:shape>"
            "<o:OLEObject ProgID='X'/></w:object></w:r>",
        ),
    ]
    text, lost = _read("".join(body))
    assert text == "A red barn\n\nx"
    assert lost == ["2 pictures without alternative text", "1 embedded objects"]


def _m(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


def _e(text: str, name: str = "e") -> str:
    return f"<m:{name}>{_m(text)}</m:{name}>"


EQUATIONS = {
    f"<m:f>{_e('a', 'num')}{_e('b+1', 'den')}</m:f>": "a/(b+1)",
    '<m:f><m:fPr><m:type m:val="noBar"/></m:fPr>'
    f"{_e('n', 'num')}{_e('k', 'den')}</m:f>": "n choose k",
    f"<m:sSup>{_e('E=mc')}{_e('2', 'sup')}</m:sSup>": "E=mc²",
    f"<m:sSub>{_e('x')}{_e('i', 'sub')}</m:sSub>": "xᵢ",
    f"<m:sSubSup>{_e('x')}{_e('1', 'sub')}{_e('n', 'sup')}</m:sSubSup>": "x₁ⁿ",
    f"<m:sPre>{_e('6', 'sub')}{_e('14', 'sup')}{_e('C')}</m:sPre>": "₆¹⁴C",
    f"<m:rad><m:deg/>{_e('x+y')}</m:rad>": "√(x+y)",
    f"<m:rad>{_e('3', 'deg')}{_e('x')}</m:rad>": "∛x",
    f'<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr>{_e("i=1", "sub")}{_e("n", "sup")}'
    f"{_e('i')}</m:nary>": "∑ᵢ₌₁ⁿ i",
    f"<m:nary>{_e('0', 'sub')}{_e('1', 'sup')}{_e('f')}</m:nary>": "∫₀¹ f",
    f"<m:d>{_e('a')}{_e('b')}</m:d>": "(a|b)",
    f'<m:d><m:dPr><m:begChr m:val="["/><m:endChr m:val=")"/></m:dPr>{_e("a")}</m:d>': "[a)",
    f"<m:func>{_e('sin', 'fName')}{_e('x')}</m:func>": "sin x",
    f"<m:limLow>{_e('lim')}{_e('n', 'lim')}</m:limLow>": "limₙ",
    f"<m:acc>{_e('x')}</m:acc>": "x\u0302",
    f'<m:bar><m:barPr><m:pos m:val="top"/></m:barPr>{_e("AB")}</m:bar>': "A\u0305B\u0305",
    f"<m:m><m:mr>{_e('1')}{_e('0')}</m:mr><m:mr>{_e('0')}{_e('1')}</m:mr></m:m>": "[1, 0; 0, 1]",
    f"<m:eqArr>{_e('a&amp;=1')}{_e('b&amp;=2')}</m:eqArr>": "a=1; b=2",
    f"<m:box>{_e('x')}</m:box>{_m('&lt;y')}": "x<y",
    _m("sin\u2061θ"): "sin θ",
}


def test_equation_when_it_has_structure_then_one_line_of_text():
    space = f'xmlns:m="{SPACE}/officeDocument/2006/math"'
    for equation, expected in EQUATIONS.items():
        assert (
            equation_text(parse_xml(f"<m:oMath {space}>{equation}</m:oMath>".encode())) == expected
        )


def test_docx_when_equations_stand_in_and_between_paragraphs_then_they_are_read():
    square = f"<m:oMath><m:sSup>{_e('x')}{_e('2', 'sup')}</m:sSup></m:oMath>"
    body = _p("so ", square, " holds") + _p(f"<m:oMathPara>{square}{square}</m:oMathPara>") + square
    assert _read(body) == ("so x² holds\n\nx²; x²\n\nx²", [])


def _table(*rows: list[str], look: str = "", flag: bool = False) -> str:
    """Write a table of texts, or of cells in XML; `flag` marks the first row as header."""
    lines = []
    for number, row in enumerate(rows):
        cells = (
            cell
            if cell.startswith("<w:tc>")
            else f"<w:tc>{cell if '<' in cell else _p(cell)}</w:tc>"
            for cell in row
        )
        mark = "<w:trPr><w:tblHeader/></w:trPr>" if flag and not number else ""
        lines.append(f"<w:tr>{mark}{''.join(cells)}</w:tr>")
    return f"<w:tbl><w:tblPr>{look}</w:tblPr>{''.join(lines)}</w:tbl>"


def _cell(text: str, properties: str) -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{_p(text)}</w:tc>"


_FLAGGED = "<w:tr><w:trPr><w:tblHeader/></w:trPr><w:tc>"
HEAD = "| a | b |\n| --- | --- |\n| c | d |"
BODY = "|  |  |\n| --- | --- |\n| a | b |\n| c | d |"


def test_docx_table_when_its_header_is_marked_bold_styled_or_above_numbers_then_it_is_the_header():
    style = (
        '<w:style w:type="table" w:styleId="G"><w:tblStylePr w:type="firstRow"/></w:style>'
        '<w:style w:type="table" w:styleId="N"/>'
    )
    bold = [_p(_r(text, "<w:b/>")) for text in "ab"]
    look = '<w:tblStyle w:val="{}"/><w:tblLook w:firstRow="{}" w:val="{}"/>'
    cases = [
        (_table(["a", "b"], ["c", "d"], flag=True), HEAD),
        (_table(["a", "b"], ["c", "d"], flag=True).replace("<w:tr><w:tc>", _FLAGGED), BODY),
        (
            _table(
                [_cell("a", '<w:gridSpan w:val="2"/>')], ["b", "c"], ["1", "2"], flag=True
            ).replace("<w:tr><w:tc>", _FLAGGED, 1),
            "| a b | a c |\n| --- | --- |\n| 1 | 2 |",
        ),
        (_table(bold, ["c", "d"]), HEAD),
        (_table(bold, [_p(_r(text, "<w:b/>")) for text in "cd"]), BODY),
        (_table(["a", "b"], ["c", "d"], look=look.format("G", "1", "0000")), HEAD),
        (_table(["a", "b"], ["c", "d"], look=look.format("G", "0", "0020")), BODY),
        (_table(["a", "b"], ["c", "d"], look=look.format("N", "1", "0020")), BODY),
        (_table(["a", "b"], ["c", "d"]), BODY),
        (_table(["a", "b"], ["c", "5"]), HEAD.replace("d", "5")),
        (_table(["a", "4"], ["c", "5"]), BODY.replace("b", "4").replace("d", "5")),
        (
            _table(["", "2023", "2024"], ["x", "1", "2"]),
            "|  | 2023 | 2024 |\n| --- | --- | --- |\n| x | 1 | 2 |",
        ),
    ]
    for table, expected in cases:
        assert _read(table, styles=style) == (expected, [])


def test_docx_table_when_cells_are_merged_or_odd_then_every_column_keeps_its_values():
    wide, start, on = '<w:gridSpan w:val="2"/>', '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    cases = [
        (
            _table([_cell("x", wide), "y"], ["1", "", "a|b"]),
            "|  |  |  |\n| --- | --- | --- |\n| x | x | y |\n| 1 |  | a\\|b |",
        ),
        (
            _table([_cell("x", start), "1"], [_cell("", on), "2"]),
            "|  |  |\n| --- | --- |\n| x | 1 |\n| x | 2 |",
        ),
        (
            _table(["1"], ["1", "2", "3"]),
            "|  |  |  |\n| --- | --- | --- |\n| 1 |  |  |\n| 1 | 2 | 3 |",
        ),
        (
            _table([_p("two") + _p("lines"), "x"], ["1", "2"]),
            "| two lines | x |\n| --- | --- |\n| 1 | 2 |",
        ),
        (
            _table([_table(["a", "b"], ["c", "d"]) + "<w:p/>", "2"], ["1", "2"]),
            "|  |  |\n| --- | --- |\n| a, b; c, d | 2 |\n| 1 | 2 |",
        ),
        (_table(["frame"], [_table(["1", "2"])]), "frame\n\n|  |  |\n| --- | --- |\n| 1 | 2 |"),
        (
            '<w:tbl><w:tr><w:trPr><w:gridBefore w:val="1"/></w:trPr><w:tc><w:p/></w:tc>'
            f"<w:tc>{_p('x')}</w:tc></w:tr></w:tbl>",
            "|  |  |  |\n| --- | --- | --- |\n|  |  | x |",
        ),
        (_table(["", ""], ["", ""]), ""),
        (
            "<w:tbl><w:sdt><w:sdtContent><w:tr><w:sdt><w:sdtContent>"
            f"<w:tc>{_p('1')}</w:tc></w:sdtContent></w:sdt><w:tc>{_p('2')}</w:tc></w:tr></w:sdtContent>"
            "</w:sdt></w:tbl>",
            "|  |  |\n| --- | --- |\n| 1 | 2 |",
        ),
    ]
    for table, expected in cases:
        assert _read(table + _p("."))[0] == f"{expected}\n\n.".strip()


def test_docx_when_a_note_stands_in_a_table_then_it_follows_the_table():
    note = '<w:r><w:footnoteReference w:id="1"/></w:r>'
    table = _table(["a", "b"], [_p("x", note), "2"])
    text, _ = _read(table, footnotes=f'<w:footnote w:id="1">{_p("why")}</w:footnote>')
    assert text == "| a | b |\n| --- | --- |\n| x[^1] | 2 |\n\n[^1]: why"


def _package(body: str, files: dict[str, str], targets: dict[str, str], top: str = "") -> bytes:
    """Write a Word file with parts of any name."""
    space = f'xmlns:w="{SPACE}/wordprocessingml/2006/main" xmlns:r="{RELATIONS}"'
    head = {"officeDocument": "word/document.xml"} | (
        {"core-properties": "core.xml"} if top else {}
    )
    return zip_files(
        {
            "_rels/.rels": relations(head),
            "core.xml": f'<p xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{top}</dc:title></p>',
            "word/document.xml": f"<w:document {space}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations(targets),
            **{f"word/{name}": content for name, content in files.items()},
        }
    )


def test_docx_when_pages_have_headers_and_footers_then_each_is_read_once_at_the_end():
    space = f'xmlns:w="{SPACE}/wordprocessingml/2006/main"'
    box = f"<w:r><w:pict>{_BOX.format(_p('ACME'))}</w:pict></w:r>"
    files = {
        "h1.xml": f"<w:hdr {space}>{_p('Draft 3', box)}{_table(['1', '2'])}</w:hdr>",
        "h2.xml": f"<w:hdr {space}>{_p('Title page')}</w:hdr>",
        "h3.xml": f"<w:hdr {space}>{_p('Even pages')}</w:hdr>",
        "f1.xml": f"<w:ftr {space}>{_p('ACME, page ', '1')}</w:ftr>",
        "f2.xml": f"<w:ftr {space}>{_p('7')}</w:ftr>",
        "settings.xml": f"<w:settings {space}/>",
    }
    targets = {"header1": "h1.xml", "header2": "h2.xml", "header3": "h3.xml"}
    targets |= {"footer1": "f1.xml", "footer2": "f2.xml", "settings": "settings.xml"}
    references = _header("default", "header1") + _header("first", "header2")
    references += _header("even", "header3") + _header("default", "footer1", "footer")
    body = _p("one", properties=f"<w:sectPr>{references}</w:sectPr>") + _p("two")
    last = f"<w:sectPr>{references}{_header('default', 'footer2', 'footer')}{{}}</w:sectPr>"
    ends = "Page footer: ACME, page 1"
    text = read(_package(body + last.format(""), files, targets), "docx").text
    assert text == f"one\n\ntwo\n\nPage header: Draft 3 1, 2 ACME\n\n{ends}"
    files["settings.xml"] = f"<w:settings {space}><w:evenAndOddHeaders/></w:settings>"
    text = read(_package(body + last.format("<w:titlePg/>"), files, targets), "docx").text
    heads = "Page header: Draft 3 1, 2 ACME\n\nPage header: Even pages\n\nPage header: Title page"
    assert text == f"one\n\ntwo\n\n{heads}\n\n{ends}"


def test_docx_when_other_documents_are_embedded_then_html_is_read_and_others_are_losses():
    body = "".join(f'<w:altChunk r:id="aFChunk{n}"/>' for n in range(3)) + '<w:subDoc r:id="s"/>'
    files = {"a.html": "<h1>In HTML</h1>", "b.txt": b"caf\xe9 au lait", "c.rtf": "{}"}
    targets = {"aFChunk0": "a.html", "aFChunk1": "b.txt", "aFChunk2": "c.rtf"}
    extract = read(_package(body, files, targets), "docx")
    assert extract.text == "# In HTML\n\ncafé au lait"
    assert extract.losses[0].lost == "2 embedded documents"
    assert [loss.what for loss in extract.losses] == ["a.docx", "a.docx word/b.txt"]


def test_docx_title_when_the_properties_have_one_then_unless_it_is_a_programs_default():
    style = '<w:style w:styleId="H"><w:name w:val="heading 1"/></w:style>'
    space = f"{SPACE}/wordprocessingml/2006/main"
    files = {"styles.xml": f'<w:styles xmlns:w="{space}">{style}</w:styles>'}
    body = _p("The heading", properties=_style("H"))
    for title, expected in [
        ("Annual report", "Annual report"),
        ("Microsoft Word - a.doc", "The heading"),
        ("Document1", "The heading"),
        (" ", "The heading"),
    ]:
        data = _package(body, files, {"styles": "styles.xml"}, title)
        assert read(data, "docx").title == expected


def test_docx_when_it_is_in_the_strict_form_or_has_macros_then_read():
    data = _package(_p("words"), {"vbaProject.bin": "x"}, {})
    assert [loss.lost for loss in read(data, "docx").losses] == ["1 programs"]
    for form in (SPACE, "http://purl.oclc.org/ooxml"):
        year = "" if form != SPACE else "2006/"
        space = f"{form}/wordprocessingml/{year}main"
        office = f"{form}/officeDocument/{year}relationships/officeDocument"
        files = {
            "_rels/.rels": f'<R><Relationship Type="{office}" Target="/Word\\Document.xml"/></R>',
            "word/document.xml": f'<w:document xmlns:w="{space}"><w:body>{_p("words")}'
            "</w:body></w:document>",
        }
        assert read(zip_files(files), "docx").text == "words"


def test_docx_when_a_loss_is_found_then_it_says_where_and_what_to_do():
    styles = '<w:style w:styleId="H"><w:name w:val="heading 1"/></w:style>'
    body = _p("2 Prices", properties=_style("H")) + _p(_r("secret", "<w:vanish/>"), "open")
    (loss,) = read(docx(body, {"styles": styles}), "docx").losses
    assert (loss.what, loss.lost, loss.kept) == ("a.docx", "1 hidden texts", "the other text")
    assert loss.why == (
        'hidden text is not read; show it in Word to have it read; places: "2 Prices"'
    )


def test_docx_when_nested_deep_then_read_or_refused():
    for start, end in [
        ("<w:sdt><w:sdtContent>", "</w:sdtContent></w:sdt>"),
        ("<w:tbl><w:tr><w:tc>", "</w:tc></w:tr></w:tbl>"),
    ]:
        assert _read(start * 50 + _p("x") + end * 50) == ("x", [])
        with pytest.raises(DocumentError, match=r"^a\.docx: broken: .* nested too deep"):
            read(docx(start * 50_000 + end * 50_000), "docx")


def test_docx_when_spans_styles_and_references_are_hostile_then_read():
    wide = _cell("x" * 300, '<w:gridSpan w:val="999999999"/>')
    text, _ = _read(_table([wide, "1"], ["1", "2"]))
    assert len(text) < 20_000
    loop = '<w:style w:styleId="A"><w:basedOn w:val="B"/></w:style>'
    loop += '<w:style w:styleId="B"><w:basedOn w:val="A"/></w:style>'
    lists = '<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="999999999"/></w:abstractNum>'
    lists += '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    note = '<w:r><w:footnoteReference w:id="1"/></w:r>'
    body = _p("x", properties=_style("A") + _item(1, 999999999)) + _p(*[note] * 1000)
    text, _ = _read(
        body,
        styles=loop,
        numbering=lists,
        footnotes=f'<w:footnote w:id="1">{_p("n", note)}</w:footnote>',
    )
    assert text.count("[^1]: n") == 1


def test_docx_when_20000_paragraphs_then_read():
    text, _ = _read("<w:p><w:r><w:t>a</w:t></w:r></w:p>" * 20_000)
    assert text == "\n\n".join("a" * 20_000)


def test_docx_when_it_shows_charts_and_diagrams_then_their_data_is_read_once():
    space = f'xmlns:c="{SPACE}/drawingml/2006/chart" xmlns:a="{SPACE}/drawingml/2006/main"'
    point = '<c:pt idx="0"><c:v>{}</c:v></c:pt>'
    points = f"<c:cat>{point.format('Q1')}</c:cat><c:val>{point.format(5)}</c:val>"
    chart = f"<c:chartSpace {space}><c:chart><c:plotArea><c:pieChart><c:ser>{points}</c:ser>"
    chart += "</c:pieChart></c:plotArea></c:chart></c:chartSpace>"
    diagram = f'xmlns:dgm="{SPACE}/drawingml/2006/diagram"'
    text = "<dgm:t><a:p><a:r><a:t>Plan</a:t></a:r></a:p></dgm:t>"
    files = {
        "c.xml": chart,
        "d.xml": f"<dgm:dataModel {diagram} {space}><dgm:pt>{text}</dgm:pt></dgm:dataModel>",
    }
    show = f"<w:r><w:drawing><c:chart {space} r:id='chart'/></w:drawing></w:r>"
    body = _p("see", show, f"<w:r><w:drawing><dgm:relIds {diagram} r:dm='data'/></w:drawing></w:r>")
    extract = read(_package(body + _p(show), files, {"chart": "c.xml", "data": "d.xml"}), "docx")
    assert extract.text == ("see\n\nChart\n\n|  | Series 1 |\n| --- | --- |\n| Q1 | 5 |\n\n- Plan")
    assert [loss.lost for loss in extract.losses] == ["1 charts"]
