"""Texts of e-mails that need more than decoding: flowed paragraphs and calendar events."""

from __future__ import annotations

import re
from collections.abc import Iterator

_QUOTES = re.compile(">*")
_PROPERTY = re.compile(r"([A-Za-z0-9-]+)((?:;[^:;\"]*(?:\"[^\"]*\"[^:;\"]*)*)*):(.*)", re.DOTALL)
_TIME_ZONE = re.compile(r";TZID=\"?([^;:\"]+)", re.IGNORECASE)
_COMMON_NAME = re.compile(r";CN=(?:\"([^\"]*)\"|([^;:]*))", re.IGNORECASE)
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)\d\d(Z?))?")
_ESCAPE = re.compile(r"\\([nN,;\\])")
_LABELS = {
    "SUMMARY": "Event",
    "DTSTART": "Start",
    "DTEND": "End",
    "DUE": "Due",
    "DURATION": "Duration",
    "RRULE": "Repeats",
    "LOCATION": "Location",
    "ORGANIZER": "Organizer",
    "ATTENDEE": "Attendee",
    "STATUS": "Status",
    "DESCRIPTION": "Description",
}


def unflow(text: str, *, delete_space: bool) -> str:
    r"""Join the lines of flowed paragraphs.

    Source: RFC 3676: a line that ends with a space continues on the next one with as many quote
    marks; a line's first space after its quote marks is stuffing.

    Args:
        text: Text in the format "flowed".
        delete_space: Whether the space at the end of a flowed line is deleted (DelSp).

    >>> unflow("one \ntwo\n>> three \n>> four\n-- \nAnn", delete_space=False)
    'one two\n>> three four\n-- \nAnn'
    """
    lines: list[list[str]] = []
    open_depth = -1  # of the paragraph that continues on the next line
    for line in text.split("\n"):
        marks = _QUOTES.match(line)
        depth = marks.end() if marks else 0
        body = line[depth:].removeprefix(" ")
        is_signature = body == "-- "
        is_flowed = body.endswith(" ") and not is_signature
        piece = body[:-1] if is_flowed and delete_space else body
        if open_depth == depth and not is_signature:
            lines[-1].append(piece)
        else:
            prefix = ">" * depth + " " if depth else ""
            lines.append([prefix, piece])
        open_depth = depth if is_flowed else -1
    return "\n".join("".join(pieces) for pieces in lines)


def calendar_text(text: str) -> str:
    r"""Return the events of a calendar file (RFC 5545) as lines of text; "" if there are none.

    >>> calendar_text("BEGIN:VEVENT\nSUMMARY:Tea\\, cake\nDTSTART:20240305T140000Z\nEND:VEVENT")
    'Event: Tea, cake\nStart: 2024-03-05 14:00 UTC'
    """
    lines: list[str] = []
    method = ""
    open_parts: list[str] = []
    for name, parameters, value in _properties(text):
        if name == "BEGIN":
            open_parts.append(value.strip().upper())
            if open_parts[-1] in {"VEVENT", "VTODO"} and lines:
                lines.append("")
        elif name == "END" and open_parts:
            open_parts.pop()
        elif name == "METHOD":
            method = value.strip()
        elif name in _LABELS and open_parts and open_parts[-1] in {"VEVENT", "VTODO"}:
            lines.append(f"{_LABELS[name]}: {_value(name, parameters, value)}")
    if method.upper() == "CANCEL" and lines:
        lines.insert(0, "Cancelled")
    return "\n".join(lines)


def _properties(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, parameters and value of the unfolded lines."""
    for line in re.sub(r"\n[ \t]", "", text).split("\n"):
        if match := _PROPERTY.match(line):
            yield match[1].upper(), match[2], match[3]


def _value(name: str, parameters: str, value: str) -> str:
    if name in {"DTSTART", "DTEND", "DUE"}:
        zone = _TIME_ZONE.search(parameters)
        return _DATE.sub(_date, value, count=1) + (f" ({zone[1]})" if zone else "")
    if name in {"ORGANIZER", "ATTENDEE"}:
        common = _COMMON_NAME.search(parameters)
        address = re.sub("^mailto:", "", value.strip(), flags=re.IGNORECASE)
        person = (common[1] or common[2] or "") if common else ""
        return f"{person} <{address}>" if person and person != address else address
    return _ESCAPE.sub(lambda match: "\n" if match[1] in "nN" else match[1], value)


def _date(match: re.Match[str]) -> str:
    year, month, day, hour, minute, zone = match.groups()
    date = f"{year}-{month}-{day}"
    if hour is None:
        return date
    return f"{date} {hour}:{minute}{' UTC' if zone else ''}"
