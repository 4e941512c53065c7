"""SQLite's write-ahead log: what SQLite itself does not say about a damaged one.

A log is left by a writer that was killed. SQLite reads it up to the first frame whose checksum is
wrong, and takes what comes after for the rest of an older log: committed generations vanish without
a word. Source: sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER, _FRAME_HEADER = 32, 24
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # and the byte order of the checksums


def log_fault(path: Path) -> str | None:
    """What is wrong with the log beside a database, or None.

    A log that another process is writing may look torn for an instant; look again.
    """
    log = path.with_name(path.name + "-wal")
    try:
        stream = log.open("rb")
    except FileNotFoundError:
        return None
    with stream:
        header = stream.read(_HEADER)
        if len(header) < _HEADER:
            return None  # empty, or cut before anything was committed
        magic, _, page = struct.unpack_from(">3I", header)
        order = _MAGIC.get(magic)
        if order is None or not 512 <= page <= 65536:
            return f"{log.name}: its header is damaged; what was committed last is lost"
        sums = _checksum(order, header[:24], (0, 0))
        if sums != struct.unpack_from(">2I", header, 24):
            return f"{log.name}: its header is damaged; what was committed last is lost"
        number, damaged = 0, None
        while len(frame := stream.read(_FRAME_HEADER + page)) == _FRAME_HEADER + page:
            salts = frame[8:12] == header[16:20], frame[12:16] == header[20:24]
            if not any(salts):
                break  # left over from before the log was last begun anew
            sums = _checksum(order, frame[:8] + frame[_FRAME_HEADER:], sums)
            stored = struct.unpack_from(">2I", frame, 16)
            if damaged is None and (not all(salts) or sums != stored):
                damaged = number
            # What a transaction leaves that failed has no frame that commits.
            if damaged is not None and struct.unpack_from(">I", frame, 4)[0]:
                return f"{log.name}: frame {damaged} is damaged; what was committed in it is lost"
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
