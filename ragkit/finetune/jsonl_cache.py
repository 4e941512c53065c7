"""Cache of slow results in a JSON Lines file, so that an interrupted job can be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragkit.durable import replace_text


class JsonlCache:
    """Results by name, appended to a file one line at a time.

    A truncated last line is dropped. A file that was written for another job is overwritten.

    Args:
        file: Path of the cache.
        job: Digest of everything the results depend on.
    """

    def __init__(self, file: Path, job: str) -> None:
        self._file = file
        self._values: dict[str, Any] = {}
        lines = file.read_text("utf-8").splitlines(keepends=True) if file.is_file() else []
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        if entries and entries[0] == {"job": job}:
            self._values = dict(entries[1:])
        rows = [{"job": job}, *([name, value] for name, value in self._values.items())]
        replace_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the cached result of this name, or compute it and append it to the file.

        Results are plain JSON data: what is returned has been through JSON either way.
        """
        if name not in self._values:
            value = json.loads(json.dumps(compute()))
            with self._file.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(json.dumps([name, value], ensure_ascii=False) + "\n")
            self._values[name] = value
        return self._values[name]
