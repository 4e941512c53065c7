"""Detect damage to SQLite's write-ahead log, which SQLite itself does not report.

A killed writer leaves its log behind. SQLite reads it up to the first frame with a wrong checksum
and ignores the rest as that of an older log, so committed generations are lost silently. Source:
sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER, _FRAME_HEADER = 32, 24
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # magic number -> byte order of the checksums


def log_fault(path: Path) -> str | None:
    """Describe the damage to a database's log, or return None if it is intact.

    A log that another process is writing may look damaged for a moment, so check again.
    """
    log = path.with_name(path.name + "-wal")
    try:
        stream = log.open("rb")
    except FileNotFoundError:
        return None
    with stream:
        header = stream.read(_HEADER)
        if len(header) < _HEADER:
            return None  # empty, or truncated before the first commit
        magic, _, page = struct.unpack_from(">3I", header)
        order = _MAGIC.get(magic)
        if order is None or not 512 <= page <= 65536:
            return f"{log.name}: its header is damaged; the last commits are lost"
        sums = _checksum(order, header[:24], (0, 0))
        if sums != struct.unpack_from(">2I", header, 24):
            return f"{log.name}: its header is damaged; the last commits are lost"
        number, damaged = 0, None
        while len(frame := stream.read(_FRAME_HEADER + page)) == _FRAME_HEADER + page:
            salts = frame[8:12] == header[16:20], frame[12:16] == header[20:24]
            if not any(salts):
                break  # a frame from before the log was last restarted
            sums = _checksum(order, frame[:8] + frame[_FRAME_HEADER:], sums)
            stored = struct.unpack_from(">2I", frame, 16)
            if damaged is None and (not all(salts) or sums != stored):
                damaged = number
            # The frames of a failed transaction do not include a commit frame.
            if damaged is not None and struct.unpack_from(">I", frame, 4)[0]:
                return f"{log.name}: frame {damaged} is damaged; the commits from it on are lost"
            sums = stored
            number += 1
    return None


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for i in range(0, len(words), 2):
        first = (first + words[i] + second) & 0xFFFFFFFF
        second = (second + words[i + 1] + first) & 0xFFFFFFFF
    return first, second
