"""Files and folders to Documents; a bad file never stops the rest.

    files, losses = find_files(["notes", "paper.pdf"])
    for file in files:
        result = load_file(file)        # raises DocumentError with the reason

`metadata["format"]` is "markdown" exactly where `#` lines are headings (Markdown, HTML, office
files), else the kind of file. `metadata["pages"]` of a PDF holds where each page begins in the
text. A file's own field whose name ragkit uses gets an underscore: `format_`.
"""

from __future__ import annotations

from ragkit.documents.files import SourceFile, find_files
from ragkit.documents.load import SUPPORTED, LoadResult, load_file, read_stream
from ragkit.documents.sandbox import Limits

__all__ = [
    "SUPPORTED",
    "Limits",
    "LoadResult",
    "SourceFile",
    "find_files",
    "load_file",
    "read_stream",
]
