"""Write small office files for the tests, part by part."""

from __future__ import annotations

import io
import zipfile

from ragkit.documents.office.reader import read_office
from ragkit.documents.text import Extract

SPACE = "http://schemas.openxmlformats.org"
W = f"{SPACE}/wordprocessingml/2006/main"
S = f"{SPACE}/spreadsheetml/2006/main"
RELATIONS = f"{SPACE}/officeDocument/2006/relationships"
_SPACES = (
    f'xmlns:w="{W}" xmlns:r="{RELATIONS}" xmlns:m="{SPACE}/officeDocument/2006/math" '
    f'xmlns:a="{SPACE}/drawingml/2006/main" xmlns:c="{SPACE}/drawingml/2006/chart" '
    f'xmlns:dgm="{SPACE}/drawingml/2006/diagram" '
    f'xmlns:pic="{SPACE}/drawingml/2006/picture" '
    f'xmlns:wp="{SPACE}/drawingml/2006/wordprocessingDrawing" '
    f'xmlns:mc="{SPACE}/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office"'
)


def zip_files(files: dict[str, str | bytes]) -> bytes:
    """Pack files by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def relations(targets: dict[str, str]) -> str:
    """Write a list of relations: the target of each kind; the id is the kind."""
    items = "".join(
        f'<Relationship Id="{kind}" Type="{RELATIONS}/{kind.rstrip("0123456789")}" '
        f'Target="{target}"/>'
        for kind, target in targets.items()
    )
    return f'<Relationships xmlns="{SPACE}/package/2006/relationships">{items}</Relationships>'


def docx(body: str, parts: dict[str, str] | None = None) -> bytes:
    """Write a Word file.

    Args:
        body: XML of the body.
        parts: Content of other parts by kind, with the prefixes of `_SPACES`: "styles",
            "numbering"; the root element is added.
    """
    files = {
        "_rels/.rels": relations({"officeDocument": "word/document.xml"}),
        "word/document.xml": f"<w:document {_SPACES}><w:body>{body}</w:body></w:document>",
    }
    targets = {}
    for kind, content in (parts or {}).items():
        targets[kind] = f"{kind}.xml"
        files[f"word/{kind}.xml"] = f"<w:{kind} {_SPACES}>{content}</w:{kind}>"
    files["word/_rels/document.xml.rels"] = relations(targets)
    return zip_files(files)


def xlsx(
    rows: str,
    *,
    after: str = "",
    before: str = "",
    strings: str = "",
    styles: str = "",
    files: dict[str, str] | None = None,
) -> bytes:
    """Write a workbook with a sheet "Data", from the XML of its rows and of what is around them."""
    sheet = f"{before}<sheetData>{rows}</sheetData>{after}"
    return zip_files(
        {
            "_rels/.rels": relations({"officeDocument": "xl/workbook.xml"}),
            "xl/workbook.xml": f'<workbook xmlns="{S}" xmlns:r="{RELATIONS}"><sheets>'
            '<sheet name="Data" sheetId="1" r:id="worksheet"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relations(
                {"worksheet": "sheet.xml", "sharedStrings": "strings.xml", "styles": "styles.xml"}
            ),
            "xl/sheet.xml": f'<worksheet xmlns="{S}" xmlns:r="{RELATIONS}">{sheet}</worksheet>',
            "xl/strings.xml": f'<sst xmlns="{S}">{strings}</sst>',
            "xl/styles.xml": f'<styleSheet xmlns="{S}">{styles}</styleSheet>',
            **(files or {}),
        }
    )


def read(data: bytes, kind: str) -> Extract:
    """Read a file in this process."""
    return read_office(data, f"a.{kind}", kind=kind, unpacked_bytes=10**9)
