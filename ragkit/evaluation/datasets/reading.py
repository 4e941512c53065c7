"""Files to numbered lines and JSON values, plain, gzipped or inside a zip."""

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
from ragkit.evaluation.datasets.faults import Faults, Malformed, Place

_AGAIN = "the file is cut off or damaged: fetch it again"
_UTF8 = "convert the file to UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
# RuntimeError: an encrypted zip.
_UNREADABLE = (OSError, KeyError, RuntimeError, zipfile.BadZipFile)
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or a member of a zip; a name that ends in .gz is unpacked.

    Attributes:
        path: The file.
        member: Its member, for a zip.
    """

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """The suffix in lower case, without .gz."""
        return Path((self.member or self.path.name).removesuffix(".gz")).suffix.lower()

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The unpacked bytes.

        Raises:
            DatasetError: There is no such file, or it cannot be read.
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
            except _UNREADABLE as error:
                raise DatasetError(f"{self} cannot be read ({error}); check the path") from error
            yield stream


def lines(source: Source, faults: Faults, *, blank: bool = False) -> Iterator[tuple[Place, str]]:
    """The lines without their ends, read one at a time; blank ones only if they are wanted."""
    file, number = str(source), 0
    with source.open() as stream:
        while True:
            number += 1
            place = Place(file, f"line {number}")
            try:
                raw = stream.readline()
            except _BROKEN as error:
                faults.add(place, str(error), _AGAIN, done="the rest skipped")
                return
            if not raw:
                return
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                faults.add(place, _not_utf8(error), _UTF8)
                continue
            if blank or line.strip():
                yield place, line


def whole_text(source: Source, faults: Faults) -> str:
    """All of a file that has no records by line."""
    with source.open() as stream:
        buffer = io.BytesIO()
        try:
            while piece := stream.read(1 << 20):
                buffer.write(piece)
        except _BROKEN as error:
            faults.add(Place(str(source), "end"), str(error), _AGAIN, done="the rest skipped")
    data = buffer.getvalue().removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = Place(str(source), f"line {data.count(10, 0, error.start) + 1}")
        faults.add(place, _not_utf8(error), _UTF8, done="shown as U+FFFD")
        return data.decode(errors="replace")


def json_values(source: Source, faults: Faults) -> Iterator[tuple[Place, Any]]:
    """The values of JSON Lines (.jsonl), of one array, or of values one after another."""
    if source.suffix in (".jsonl", ".ndjson"):
        for place, line in lines(source, faults):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                faults.add(place, f"no whole JSON value ({error})", _AGAIN)
                continue
            yield place, value
        return
    cursor = _Cursor(source, whole_text(source, faults), faults)
    array = cursor.take("[")
    while not cursor.at_end("]" if array else ""):
        place = cursor.place()
        value = cursor.value()
        if cursor.broken:
            return
        yield place, value
        if array:
            cursor.comma("]")


def json_members(source: Source, faults: Faults) -> Iterator[tuple[Place, str, Any]]:
    """The names and values of one JSON object, which may be cut off."""
    cursor = _Cursor(source, whole_text(source, faults), faults)
    if not cursor.take("{"):
        cursor.fail("no JSON object")
        return
    while not cursor.at_end("}"):
        place = cursor.place()
        name = cursor.value()
        if not cursor.broken and not (isinstance(name, str) and cursor.take(":")):
            cursor.fail("no member name with a colon")
        value = cursor.value()
        if cursor.broken:
            return
        yield place, name, value
        cursor.comma("}")


class _Cursor:
    """Goes through a JSON text value by value and knows its line."""

    def __init__(self, source: Source, text: str, faults: Faults) -> None:
        self._file, self._text, self._faults = str(source), text, faults
        self._position = self._counted = 0
        self._line = 1
        self.broken = False
        self._skip()

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._position)
        self._position = found.end() if found else self._position

    def place(self) -> Place:
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        return Place(self._file, f"line {self._line}")

    def fail(self, problem: str) -> None:
        if not self.broken:
            self.broken = True
            self._faults.add(self.place(), problem, _AGAIN, done="the rest skipped")

    def take(self, mark: str) -> bool:
        if self.broken or not self._text.startswith(mark, self._position):
            return False
        self._position += len(mark)
        self._skip()
        return True

    def value(self) -> Any:
        if self.broken:
            return None
        try:
            value, self._position = _DECODER.raw_decode(self._text, self._position)
        except (ValueError, RecursionError) as error:
            self.fail(f"no whole JSON value ({error})")
            return None
        self._skip()
        return value

    def comma(self, end: str) -> None:
        if not self.take(",") and not self._text.startswith(end, self._position):
            self.fail(f"no comma and no {end!r} after a value")

    def at_end(self, mark: str) -> bool:
        if self.broken or (mark and self.take(mark)):
            return True
        if self._position < len(self._text):
            return False
        if mark:
            self.fail(f"no {mark!r} at the end")
        return True


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02x} is not UTF-8"


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object, or `Malformed`."""
    if isinstance(value, dict):
        return value
    raise Malformed(f"{short(value)} is no object", "each record is a JSON object")


def text(row: dict[str, Any], name: str, default: str | None = None) -> str:
    """A string member, or `Malformed`; absent or null, the default if there is one."""
    value = row.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Malformed(f"{name!r} is {short(value)}", f"{name!r} must be a string")
    return sound(value, name)


def sound(value: str, name: str) -> str:
    """The string, or `Malformed` if UTF-8 cannot hold it."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            problem = f"{name!r} holds half of a surrogate pair"
            raise Malformed(problem, "write whole characters") from error
    return value


def identifier(row: dict[str, Any], *names: str) -> str:
    """The first of these members that is there, a string or a whole number, as a string."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            return sound(value, name)
    wanted = " or ".join(map(repr, names))
    raise Malformed(f"no id in {short(sorted(row))}", f"{wanted} must be a string or a number")


def query_text(row: dict[str, Any], name: str) -> str:
    """A string member that is not blank, or `Malformed`."""
    value = text(row, name).strip()
    if not value:
        raise Malformed(f"{name!r} is empty", "a query needs words: fill it in or delete it")
    return value


def items(row: dict[str, Any], name: str) -> list[Any]:
    """A list member, or `Malformed`; absent is empty."""
    value = row.get(name, [])
    if not isinstance(value, list):
        raise Malformed(f"{name!r} is {short(value)}", f"{name!r} must be a list")
    return value


def texts(values: list[Any], name: str) -> tuple[str, ...]:
    """The different strings of a list, in order, or `Malformed`."""
    for value in values:
        if not isinstance(value, str):
            raise Malformed(f"{name!r} holds {short(value)}", f"{name!r} must hold strings")
        sound(value, name)
    return tuple(dict.fromkeys(values))


def whole_number(value: Any, name: str) -> int:
    """A JSON integer, or `Malformed`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Malformed(f"{name} is {short(value)}", f"{name} must be a whole number")
    return value


def pair(value: Any, name: str) -> tuple[Any, Any]:
    """A list of two, or `Malformed`."""
    if not isinstance(value, list) or len(value) != 2:
        raise Malformed(f"{name} is {short(value)}", f"{name} must be a list of two")
    return value[0], value[1]


def once(seen: dict[str, Any] | set[str], key: str, what: str) -> None:
    """`Malformed` if the id was seen before."""
    if key in seen:
        raise Malformed(f"{what} id {key!r} for the second time", "ids must be unique")


def short(value: Any) -> str:
    """A JSON value for a message."""
    try:
        shown = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        shown = f"a deep {type(value).__name__}"
    return shown if len(shown) <= 60 else shown[:57] + "…"
