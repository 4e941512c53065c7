"""Readers of lines and JSON values from files that are plain, gzipped or in a zip."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from ragkit.errors import DatasetError
from ragkit.evaluation.datasets.faults import Faults, Location, Malformed

_DOWNLOAD = "the file is truncated or damaged: download it again"
_UTF8 = "convert the file to UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
# RuntimeError is raised for an encrypted zip.
_OPEN_ERRORS = (OSError, KeyError, RuntimeError, zipfile.BadZipFile)
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Source:
    """A file or a member of a zip; a name that ends in .gz is decompressed.

    Attributes:
        path: Path of the file.
        member: Name of the member, for a zip.
    """

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """Suffix in lower case, without .gz."""
        return Path((self.member or self.path.name).removesuffix(".gz")).suffix.lower()

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the decompressed bytes.

        Raises:
            DatasetError: The file does not exist or cannot be read.
        """
        with ExitStack() as stack:
            try:
                stream: IO[bytes]
                if self.member:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    stream = stack.enter_context(archive.open(self.member))
                else:
                    stream = stack.enter_context(self.path.open("rb"))
                if (self.member or self.path.name).endswith(".gz"):
                    packed = stack.enter_context(gzip.GzipFile(fileobj=stream))
                    stream = cast(IO[bytes], packed)
            except _OPEN_ERRORS as error:
                raise DatasetError(f"{self} cannot be read ({error}); check the path") from error
            yield stream


def read_lines(
    source: Source, faults: Faults, *, blank: bool = False
) -> Iterator[tuple[Location, str]]:
    """Yield lines without their line ends, one at a time; blank lines only if `blank`."""
    file, number = str(source), 0
    with source.open() as stream:
        while True:
            number += 1
            location = Location(file, f"line {number}")
            try:
                raw = stream.readline()
            except _DAMAGED as error:
                faults.add(location, str(error), _DOWNLOAD, done="the rest of the file skipped")
                return
            if not raw:
                return
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                faults.add(location, _not_utf8(error), _UTF8)
                continue
            if blank or line.strip():
                yield location, line


def read_text(source: Source, faults: Faults) -> str:
    """Read a whole file that is not line-based."""
    with source.open() as stream:
        buffer = io.BytesIO()
        try:
            while piece := stream.read(1 << 20):
                buffer.write(piece)
        except _DAMAGED as error:
            faults.add(
                Location(str(source), "end"),
                str(error),
                _DOWNLOAD,
                done="the rest of the file skipped",
            )
    data = buffer.getvalue().removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        location = Location(str(source), f"line {data.count(10, 0, error.start) + 1}")
        faults.add(location, _not_utf8(error), _UTF8, done="shown as U+FFFD")
        return data.decode(errors="replace")


def json_values(source: Source, faults: Faults) -> Iterator[tuple[Location, Any]]:
    """Yield the values of JSON Lines (.jsonl), of one array, or of concatenated JSON values."""
    if source.suffix in (".jsonl", ".ndjson"):
        for location, line in read_lines(source, faults):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                faults.add(location, f"incomplete or invalid JSON ({error})", _DOWNLOAD)
                continue
            yield location, value
        return
    cursor = _Cursor(source, read_text(source, faults), faults)
    array = cursor.take("[")
    while not cursor.at_end("]" if array else ""):
        location = cursor.location()
        value = cursor.value()
        if cursor.failed:
            return
        yield location, value
        if array:
            cursor.comma("]")


def json_members(source: Source, faults: Faults) -> Iterator[tuple[Location, str, Any]]:
    """Yield the names and values of one JSON object, which may be truncated."""
    cursor = _Cursor(source, read_text(source, faults), faults)
    if not cursor.take("{"):
        cursor.fail("not a JSON object")
        return
    while not cursor.at_end("}"):
        location = cursor.location()
        name = cursor.value()
        if not cursor.failed and not (isinstance(name, str) and cursor.take(":")):
            cursor.fail("expected a member name and a colon")
        value = cursor.value()
        if cursor.failed:
            return
        yield location, name, value
        cursor.comma("}")


class _Cursor:
    """A position in a JSON text that advances value by value and knows its line."""

    def __init__(self, source: Source, text: str, faults: Faults) -> None:
        self._file, self._text, self._faults = str(source), text, faults
        self._position = self._counted_to = 0
        self._line = 1
        self.failed = False
        self._skip()

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._position)
        self._position = match.end() if match else self._position

    def location(self) -> Location:
        self._line += self._text.count("\n", self._counted_to, self._position)
        self._counted_to = self._position
        return Location(self._file, f"line {self._line}")

    def fail(self, problem: str) -> None:
        if not self.failed:
            self.failed = True
            self._faults.add(
                self.location(), problem, _DOWNLOAD, done="the rest of the file skipped"
            )

    def take(self, mark: str) -> bool:
        if self.failed or not self._text.startswith(mark, self._position):
            return False
        self._position += len(mark)
        self._skip()
        return True

    def value(self) -> Any:
        if self.failed:
            return None
        try:
            value, self._position = _DECODER.raw_decode(self._text, self._position)
        except (ValueError, RecursionError) as error:
            self.fail(f"incomplete or invalid JSON ({error})")
            return None
        self._skip()
        return value

    def comma(self, end: str) -> None:
        if not self.take(",") and not self._text.startswith(end, self._position):
            self.fail(f"expected a comma or {end!r} after a value")

    def at_end(self, mark: str) -> bool:
        if self.failed or (mark and self.take(mark)):
            return True
        if self._position < len(self._text):
            return False
        if mark:
            self.fail(f"expected {mark!r} at the end")
        return True


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02x} is not UTF-8"


def as_object(value: Any) -> dict[str, Any]:
    """Return a JSON object; raise `Malformed` for other values."""
    if isinstance(value, dict):
        return value
    raise Malformed(f"{abbreviate(value)} is not an object", "each record is a JSON object")


def get_string(row: dict[str, Any], name: str, default: str | None = None) -> str:
    """Return a string member. If it is absent or null, return the default.

    Raises:
        Malformed: It is another value, or absent without a default.
    """
    value = row.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Malformed(f"{name!r} is {abbreviate(value)}", f"{name!r} must be a string")
    return check_encodable(value, name)


def check_encodable(value: str, name: str) -> str:
    """Return the string; raise `Malformed` if UTF-8 cannot encode it."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            problem = f"{name!r} contains a lone surrogate"
            raise Malformed(problem, "write complete characters") from error
    return value


def get_id(row: dict[str, Any], *names: str) -> str:
    """Return the first of these members that is a string or an integer, as a string."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            return check_encodable(value, name)
    expected = " or ".join(map(repr, names))
    raise Malformed(
        f"no id in {abbreviate(sorted(row))}", f"{expected} must be a string or a number"
    )


def get_query(row: dict[str, Any], name: str) -> str:
    """Return a string member that is not blank; raise `Malformed` otherwise."""
    value = get_string(row, name).strip()
    if not value:
        raise Malformed(f"{name!r} is empty", "a query must have text: fill it in or delete it")
    return value


def get_list(row: dict[str, Any], name: str) -> list[Any]:
    """Return a list member, empty if absent; raise `Malformed` for other values."""
    value = row.get(name, [])
    if not isinstance(value, list):
        raise Malformed(f"{name!r} is {abbreviate(value)}", f"{name!r} must be a list")
    return value


def as_strings(values: list[Any], name: str) -> tuple[str, ...]:
    """Return the distinct strings of a list, in order; raise `Malformed` for other values."""
    for value in values:
        if not isinstance(value, str):
            raise Malformed(
                f"{name!r} contains {abbreviate(value)}", f"{name!r} must contain strings"
            )
        check_encodable(value, name)
    return tuple(dict.fromkeys(values))


def as_integer(value: Any, name: str) -> int:
    """Return a JSON integer; raise `Malformed` for other values."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Malformed(f"{name} is {abbreviate(value)}", f"{name} must be an integer")
    return value


def as_pair(value: Any, name: str) -> tuple[Any, Any]:
    """Return a list of two values as a tuple; raise `Malformed` for other values."""
    if not isinstance(value, list) or len(value) != 2:
        raise Malformed(f"{name} is {abbreviate(value)}", f"{name} must be a list of two values")
    return value[0], value[1]


def check_unique(seen: dict[str, Any] | set[str], key: str, what: str) -> None:
    """Raise `Malformed` if the id was seen before."""
    if key in seen:
        raise Malformed(f"{what} id {key!r} is a duplicate", "ids must be unique")


def abbreviate(value: Any) -> str:
    """Format a JSON value for a message, in at most 60 characters."""
    try:
        formatted = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        formatted = f"a deeply nested {type(value).__name__}"
    return formatted if len(formatted) <= 60 else formatted[:57] + "…"
