"""Read files and folders into documents.

    files, losses = find_files(["notes", "paper.pdf"])
    for file in files:
        result = load_file(file)        # DocumentError gives the reason

`metadata["format"]` is "markdown" if lines that begin with `#` are headings (Markdown, HTML, office
files), else the kind of file. `metadata["pages"]` of a PDF lists the text offset of each page, and
`layout` the place of each line. A field of the file whose name ragkit reserves gets an underscore
appended: `format_`.
"""

from __future__ import annotations

from ragkit.documents.files import SourceFile, find_files
from ragkit.documents.load import SUPPORTED, LoadResult, load_file, read_stream
from ragkit.documents.sandbox import SandboxLimits

__all__ = [
    "SUPPORTED",
    "LoadResult",
    "SandboxLimits",
    "SourceFile",
    "find_files",
    "load_file",
    "read_stream",
]
