"""Read-only SQL over a SQLite file as a tool.

A model writes the SQL, so SQLite itself refuses everything but reading: the file is opened
read-only, an authorizer permits listed tables and harmless functions, and the statement runs in a
process of its own that has limits of time and memory (`sql_worker`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ragkit.agents import sql_worker
from ragkit.agents.ledger import Quantity
from ragkit.agents.render import one_line
from ragkit.agents.sql_worker import MEMORY_BYTES, SCHEMA_TABLES, SQL_CHARS, plain_name
from ragkit.agents.tools import Tool, ToolError, ToolResult, tool
from ragkit.errors import RagkitError

_START_S = 10.0  # a process on a busy machine
_SCHEMA_CHARS = 1500
_HINT_CHARS = 400
_NAME_CHARS = 60
_CITED_CELLS = 200
_STATEMENT_CHARS = 200
_BLOB = re.compile(r"\(blob of \d+ bytes\)")
_REMEDIES = (
    ("no function", "use SQLite's functions for numbers, texts, dates, JSON and windows"),
    ("one statement at a time", "these are several: ask one after the other"),
    ("SQL variables", "nothing is bound to ? or :name: write the values out"),
    ("too big", "a value is longer than 1,000,000 bytes: leave that column out"),
    (
        "unable to open|image is malformed|not a database|is locked|disk I/O",
        "the database cannot be used now: use another tool",
    ),
)
_WORD = re.compile(r"[^\W\d]\w*")
# Secrets of the environment are no business of the worker.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "SYSTEMROOT")

_Columns = dict[str, list[tuple[str, str]]]


def sql_tool(
    path: Path | str,
    *,
    tables: Sequence[str] | None = None,
    max_rows: int = 50,
    timeout_s: float = 5.0,
    name: str = "query_table",
) -> Tool:
    """A tool that answers one SELECT with rows; its description holds the schema.

    Whatever a statement tries, the file stays as it is, and the call ends: with rows, or with a
    `ToolError` that says what to change. Rows and fields that are left out are told.

    The first 200 cells can be cited: each is a quantity named by its column, with the statement as
    its method and the file's name as its source. Where exactly one column holds texts, its text
    stands as `formula` (what the value is of) in the other cells of its row. NULL, blobs and what
    else cannot be cited is counted in the result's text.

    Args:
        path: A SQLite file.
        tables: Those that may be read, in the order of the description; None: all tables and views
            there are now. A view needs the tables below it listed too. "sqlite_schema" is never
            among them unless it is named.
        max_rows: How many rows are returned at most.
        timeout_s: Seconds a statement may take.
        name: What the model calls the tool.

    Raises:
        ValueError: A listed table does not exist, or a limit is not positive.
        RagkitError: The file is no SQLite database, or cannot be read.
    """
    if max_rows < 1 or not timeout_s > 0:
        raise ValueError(
            f"max_rows is {max_rows} and timeout_s {timeout_s}; expected at least 1 and more than 0"
        )
    file = Path(path).resolve()
    held = _read_schema(file)
    listed = _listed(held, tables, file)

    def query(sql: str) -> ToolResult:
        """Rows.

        Args:
            sql: One SELECT of SQLite, without a semicolon.
        """
        if len(sql) > SQL_CHARS:
            raise ToolError(
                f"the statement has {len(sql)} characters; expected at most {SQL_CHARS}. Shorten it"
            )
        request = {"sql": sql, "tables": list(listed), "max_rows": max_rows}
        reply = _ask(file, {**request, "timeout_s": timeout_s})
        if "error" in reply:
            raise ToolError(_explain(reply, sql, listed, timeout_s))
        return _result(reply, sql, file)

    made = tool(query, name=name, timeout_s=timeout_s + _START_S + 1.0)
    return replace(made, description=_description(listed, max_rows))


def _ask(file: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's reply; a worker that died is a reply too."""
    sent = json.dumps({**request, "address": _address(file)}).encode()
    command = [sys.executable, "-I", "-S", sql_worker.__file__]
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    try:
        ended = subprocess.run(
            command,
            input=sent,
            capture_output=True,
            timeout=request["timeout_s"] + _START_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": "time", "message": ""}
    if ended.returncode == 0:
        reply: dict[str, Any] = json.loads(ended.stdout)
        return reply
    if b"MemoryError" in ended.stderr:
        return {"error": "memory", "message": ""}
    if ended.returncode < 0:
        return {"error": "time" if ended.returncode == -signal.SIGALRM else "memory", "message": ""}
    return {"error": "sqlite", "message": ended.stderr.decode(errors="replace").strip()[-200:]}


def _address(file: Path) -> str:
    # SQLite reads a WAL database through a file it must be able to make, unless told that nobody
    # writes; but then it does not read the log that a killed writer left.
    log = file.with_name(file.name + "-wal")
    logged = log.exists() and log.stat().st_size > 0
    still = "" if logged or os.access(file.parent, os.W_OK) else "&immutable=1"
    return f"file:{quote(str(file))}?mode=ro{still}"


def _read_schema(file: Path) -> _Columns:
    if not file.is_file():
        raise RagkitError(f"{str(file)!r} is no file; expected a SQLite database. Check the path")
    reply = _ask(file, {"timeout_s": _START_S})
    if "error" in reply:
        said = reply["message"] or reply["error"]
        raise RagkitError(
            f"{str(file)!r} cannot be read as a SQLite database: {said}. Check that it is one, and "
            "its permissions"
        )
    return {
        table: [(column, kind) for column, kind in columns]
        for table, columns in reply["tables"].items()
    }


def _listed(held: _Columns, tables: Sequence[str] | None, file: Path) -> _Columns:
    if tables is None:
        return held
    own = [(column, "") for column in ("type", "name", "tbl_name", "rootpage", "sql")]
    known = {plain_name(name): (name, held[name]) for name in held}
    known |= {name: (name, own) for name in SCHEMA_TABLES}
    missing = [name for name in tables if plain_name(name) not in known]
    if missing:
        raise ValueError(
            f"there is no table {', '.join(missing)} in {str(file)!r}; there are: {', '.join(held)}"
        )
    return dict(known[plain_name(name)] for name in tables)


def _description(tables: _Columns, max_rows: int) -> str:
    """For the model: what there is, as shortly as it must be."""
    typed = [f"{_spell(table)}({_columns(tables[table], kinds=True)})" for table in tables]
    bare = [f"{_spell(table)}({_columns(tables[table])})" for table in tables]
    named = [_spell(table) for table in tables]
    for shown in (typed, bare):
        if sum(map(len, shown)) <= _SCHEMA_CHARS:
            break
    else:
        shown = named
    return (
        f"Rows of a read-only SQLite database by one SELECT, at most {max_rows}. "
        f"Tables: {_some(shown, _SCHEMA_CHARS, '; ') or 'none'}."
    )


def _columns(columns: Iterable[tuple[str, str]], *, kinds: bool = False) -> str:
    return ", ".join(
        f"{_spell(name)} {' '.join(kind.split())[:_NAME_CHARS]}".rstrip() if kinds else _spell(name)
        for name, kind in columns
    )


def _spell(name: str) -> str:
    """A name as it must be written in SQL; it comes from the file, and a long one is cut."""
    line = " ".join(name.split())[:_NAME_CHARS]
    return line if _WORD.fullmatch(line) else '"{}"'.format(line.replace('"', '""'))


def _some(items: Sequence[str], limit: int, between: str) -> str:
    """As many as fit, and how many more there are."""
    shown: list[str] = []
    used = 0
    for item in items:
        used += len(item) + len(between)
        if used > limit:
            return f"{between.join(shown)}{between}and {len(items) - len(shown)} more"
        shown.append(item)
    return between.join(shown)


def _explain(reply: Mapping[str, Any], sql: str, tables: _Columns, timeout_s: float) -> str:
    kind, message = reply["error"], " ".join(str(reply["message"]).split())[:_HINT_CHARS]
    held = _some([_spell(table) for table in tables], _HINT_CHARS, ", ")
    if kind == "time":
        return (
            f"the statement did not finish within {timeout_s:g} s. Narrow it with WHERE, join on "
            "equal columns, and end a recursion"
        )
    if kind == "memory":
        return (
            f"the statement needs more than {MEMORY_BYTES >> 20} MB, or is too complex. Name fewer "
            "tables and columns, and aggregate or filter earlier"
        )
    if "no such column" in message or "ambiguous column" in message:
        return f"{message}; {_column_hint(sql, tables)}"
    for words, remedy in _REMEDIES:
        if re.search(words, message):
            return f"{message}; {remedy}"
    return f"{message}; expected one SELECT of SQLite that reads {held}"


def _column_hint(sql: str, tables: _Columns) -> str:
    words = {plain_name(word) for word in _WORD.findall(sql)}
    named = [table for table in tables if plain_name(table) in words] or list(tables)
    parts = [f"columns of {_spell(table)} are {_columns(tables[table])}" for table in named]
    return _some([part[:_HINT_CHARS] for part in parts], 2 * _HINT_CHARS, "; ")


def _result(reply: Mapping[str, Any], sql: str, file: Path) -> ToolResult:
    rows: list[dict[str, Any]] = reply["rows"]
    notes = []
    if reply["more"]:
        notes.append(
            f"returned {len(rows)} of more than {len(rows)} rows; for others use WHERE, LIMIT and "
            "OFFSET with ORDER BY, or aggregate"
        )
    for name, n_rows in list(reply["left_out"].items())[:10]:
        column = " ".join(name.split())[:_NAME_CHARS]
        notes.append(f"{column} is left out, too long (rows: {n_rows}); substr gives a part of it")
    if len(reply["left_out"]) > 10:
        notes.append(f"{len(reply['left_out'])} columns were left out in all: select fewer")
    if not rows:
        notes.append("no row matches")
    cells = _cells(rows, sql, file)
    n_bare = sum(map(len, rows)) - len(cells)
    if n_bare:
        notes.append(f"without a row id, not to be cited: {n_bare} cells that are NULL or blobs")
    if len(cells) > _CITED_CELLS:
        notes.append(
            f"only the first {_CITED_CELLS} of {len(cells)} cells can be cited; select fewer"
        )
    # An observation counts the subjects of its evidence as rows; here several rows may share one.
    named = any(each.formula for each in cells)
    total = None if reply["more"] or named else len(rows)
    return ToolResult(cells[:_CITED_CELLS], "\n".join(notes), rows, total)


def _cells(rows: Sequence[Mapping[str, Any]], sql: str, file: Path) -> list[Quantity]:
    """The values of the rows, each with its column, its statement and its file."""
    known = [
        {name: each for name, each in row.items() if each is not None and not _is_blob(each)}
        for row in rows
    ]
    texts = {name for row in known for name, value in row.items() if isinstance(value, str)}
    subject = texts.pop() if len(texts) == 1 else None
    method = f"SQL: {one_line(sql)[:_STATEMENT_CHARS]}"
    cells = []
    for row in known:
        of = one_line(str(row.get(subject, ""))) if subject is not None else ""
        cells += [
            Quantity(
                value=value,
                property=one_line(name),
                formula="" if name == subject or len(of) > _NAME_CHARS else of,
                method=method,
                source=one_line(file.name),
            )
            for name, value in row.items()
        ]
    return cells


def _is_blob(value: object) -> bool:
    """Whether it is what the worker writes in place of a blob."""
    return isinstance(value, str) and _BLOB.fullmatch(value) is not None
