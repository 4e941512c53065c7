"""Results that take long, kept one by one, so that a job goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ragkit.durable import replace_text


class KeptLines:
    """Results by name, in a file that grows by a line each.

    A last line that was cut off is left out, and a file of another job is begun anew.

    Args:
        file: Where they are.
        job: Of everything the results depend on.
    """

    def __init__(self, file: Path, job: str) -> None:
        self._file = file
        self._found: dict[str, Any] = {}
        lines = file.read_text("utf-8").splitlines(keepends=True) if file.is_file() else []
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        if whole and whole[0] == {"job": job}:
            self._found = dict(whole[1:])
        rows = [{"job": job}, *([name, value] for name, value in self._found.items())]
        replace_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """A result, plain data of JSON; made and written now if it is not there."""
        if name not in self._found:
            value = json.loads(json.dumps(make()))
            with self._file.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(json.dumps([name, value], ensure_ascii=False) + "\n")
            self._found[name] = value
        return self._found[name]
