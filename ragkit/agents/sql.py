"""Read-only SQL over a SQLite file as a tool.

A model writes the SQL, so SQLite itself enforces read-only access: the file is opened read-only, an
authorizer permits only listed tables and harmless functions, and each statement runs in a separate
process with time and memory limits (`sql_worker`).
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
from ragkit.agents.toolkits import Toolkit, ToolkitSettings
from ragkit.agents.tools import Tool, ToolError, ToolResult, tool
from ragkit.errors import RagkitError

_STARTUP_S = 10.0  # time for a process to start on a busy machine
_SCHEMA_CHARS = 1500
_HINT_CHARS = 400
_NAME_CHARS = 60
_MAX_CITED_CELLS = 200
_STATEMENT_CHARS = 200
_BLOB = re.compile(r"\(blob of \d+ bytes\)")
_HINTS = (
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
# The worker gets no other environment variables, since they may contain secrets.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "SYSTEMROOT")

_Columns = dict[str, list[tuple[str, str]]]


def build(settings: ToolkitSettings) -> Toolkit:
    """Build the toolkit "sql" over one SQLite file.

    Raises:
        RagkitError: The definition does not set `database`.
    """
    if not settings.database:
        raise RagkitError(
            f"the agent {settings.agent!r} uses the sql toolkit but sets no `database`"
        )
    return Toolkit([sql_tool(settings.folder / settings.database, tables=settings.tables or None)])


def sql_tool(
    path: Path | str,
    *,
    tables: Sequence[str] | None = None,
    max_rows: int = 50,
    timeout_s: float = 5.0,
    name: str = "query_table",
) -> Tool:
    """Build a tool that executes one SELECT; its description contains the schema.

    A statement cannot modify the file, and every call ends with rows or with a `ToolError` that
    says what to change. The result reports rows and fields that were left out.

    The first 200 cells can be cited: each becomes a quantity whose property is the column, whose
    method is the statement and whose source is the file name. If exactly one column contains text,
    its value is the `subject` of the other cells in its row. NULLs, blobs and other cells that
    cannot be cited are counted in the result's text.

    Args:
        path: SQLite file.
        tables: Tables that may be read, in the order of the description; None allows all current
            tables and views. A view also needs the tables it reads. "sqlite_schema" must be listed
            explicitly.
        max_rows: Maximum number of rows to return.
        timeout_s: Time limit of a statement in seconds.
        name: Name of the tool.

    Raises:
        ValueError: A listed table does not exist, or a limit is not positive.
        RagkitError: The file is not a SQLite database or cannot be read.
    """
    if max_rows < 1 or not timeout_s > 0:
        raise ValueError(
            f"max_rows is {max_rows} and timeout_s {timeout_s}; expected at least 1 and more than 0"
        )
    file = Path(path).resolve()
    schema = _read_schema(file)
    readable = _select_tables(schema, tables, file)

    def query(sql: str) -> ToolResult:
        """Rows.

        Args:
            sql: One SELECT of SQLite, without a semicolon.
        """
        if len(sql) > SQL_CHARS:
            raise ToolError(
                f"the statement has {len(sql)} characters; expected at most {SQL_CHARS}. Shorten it"
            )
        request = {"sql": sql, "tables": list(readable), "max_rows": max_rows}
        reply = _run_worker(file, {**request, "timeout_s": timeout_s})
        if "error" in reply:
            raise ToolError(_error_message(reply, sql, readable, timeout_s))
        return _tool_result(reply, sql, file)

    query_tool = tool(query, name=name, timeout_s=timeout_s + _STARTUP_S + 1.0)
    return replace(query_tool, description=_description(readable, max_rows))


def _run_worker(file: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request to a worker process and return its reply, or an error if it died."""
    payload = json.dumps({**request, "address": _database_uri(file)}).encode()
    command = [sys.executable, "-I", "-S", sql_worker.__file__]
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    try:
        process = subprocess.run(
            command,
            input=payload,
            capture_output=True,
            timeout=request["timeout_s"] + _STARTUP_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": "time", "message": ""}
    if process.returncode == 0:
        reply: dict[str, Any] = json.loads(process.stdout)
        return reply
    if b"MemoryError" in process.stderr:
        return {"error": "memory", "message": ""}
    if process.returncode < 0:
        return {
            "error": "time" if process.returncode == -signal.SIGALRM else "memory",
            "message": "",
        }
    return {"error": "sqlite", "message": process.stderr.decode(errors="replace").strip()[-200:]}


def _database_uri(file: Path) -> str:
    # To read a WAL database SQLite must be able to create a -shm file, unless the database is
    # declared immutable; but then it ignores the log that a killed writer left behind.
    wal = file.with_name(file.name + "-wal")
    has_wal = wal.exists() and wal.stat().st_size > 0
    immutable = "" if has_wal or os.access(file.parent, os.W_OK) else "&immutable=1"
    return f"file:{quote(str(file))}?mode=ro{immutable}"


def _read_schema(file: Path) -> _Columns:
    if not file.is_file():
        raise RagkitError(
            f"{str(file)!r} is not a file; expected a SQLite database. Check the path"
        )
    reply = _run_worker(file, {"timeout_s": _STARTUP_S})
    if "error" in reply:
        reason = reply["message"] or reply["error"]
        raise RagkitError(
            f"{str(file)!r} cannot be read as a SQLite database: {reason}. Check the file's format "
            "and permissions"
        )
    return {
        table: [(column, type_name) for column, type_name in columns]
        for table, columns in reply["tables"].items()
    }


def _select_tables(schema: _Columns, tables: Sequence[str] | None, file: Path) -> _Columns:
    if tables is None:
        return schema
    columns = [(column, "") for column in ("type", "name", "tbl_name", "rootpage", "sql")]
    by_name = {plain_name(name): (name, schema[name]) for name in schema}
    by_name |= {name: (name, columns) for name in SCHEMA_TABLES}
    missing = [name for name in tables if plain_name(name) not in by_name]
    if missing:
        raise ValueError(
            f"unknown tables {', '.join(missing)} in {str(file)!r}; expected {', '.join(schema)}"
        )
    return dict(by_name[plain_name(name)] for name in tables)


def _description(tables: _Columns, max_rows: int) -> str:
    """Describe the tables to the model, with types or columns left out if the text is too long."""
    typed = [
        f"{_quote_name(table)}({_columns_text(tables[table], kinds=True)})" for table in tables
    ]
    bare = [f"{_quote_name(table)}({_columns_text(tables[table])})" for table in tables]
    names = [_quote_name(table) for table in tables]
    for tables_text in (typed, bare):
        if sum(map(len, tables_text)) <= _SCHEMA_CHARS:
            break
    else:
        tables_text = names
    return (
        f"Rows of a read-only SQLite database by one SELECT, at most {max_rows}. "
        f"Tables: {_join_up_to(tables_text, _SCHEMA_CHARS, '; ') or 'none'}."
    )


def _columns_text(columns: Iterable[tuple[str, str]], *, kinds: bool = False) -> str:
    return ", ".join(
        f"{_quote_name(name)} {' '.join(kind.split())[:_NAME_CHARS]}".rstrip()
        if kinds
        else _quote_name(name)
        for name, kind in columns
    )


def _quote_name(name: str) -> str:
    """Quote an identifier for SQL, truncated because its length is up to the file."""
    line = " ".join(name.split())[:_NAME_CHARS]
    return line if _WORD.fullmatch(line) else '"{}"'.format(line.replace('"', '""'))


def _join_up_to(items: Sequence[str], limit: int, between: str) -> str:
    """Join the items that fit into `limit` characters and append the number of the others."""
    shown: list[str] = []
    used = 0
    for item in items:
        used += len(item) + len(between)
        if used > limit:
            return f"{between.join(shown)}{between}and {len(items) - len(shown)} more"
        shown.append(item)
    return between.join(shown)


def _error_message(reply: Mapping[str, Any], sql: str, tables: _Columns, timeout_s: float) -> str:
    kind, message = reply["error"], " ".join(str(reply["message"]).split())[:_HINT_CHARS]
    tables_text = _join_up_to([_quote_name(table) for table in tables], _HINT_CHARS, ", ")
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
    for words, remedy in _HINTS:
        if re.search(words, message):
            return f"{message}; {remedy}"
    return f"{message}; expected one SELECT of SQLite that reads {tables_text}"


def _column_hint(sql: str, tables: _Columns) -> str:
    words = {plain_name(word) for word in _WORD.findall(sql)}
    named = [table for table in tables if plain_name(table) in words] or list(tables)
    parts = [
        f"columns of {_quote_name(table)} are {_columns_text(tables[table])}" for table in named
    ]
    return _join_up_to([part[:_HINT_CHARS] for part in parts], 2 * _HINT_CHARS, "; ")


def _tool_result(reply: Mapping[str, Any], sql: str, file: Path) -> ToolResult:
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
    n_uncited = sum(map(len, rows)) - len(cells)
    if n_uncited:
        notes.append(f"without a row id, not to be cited: {n_uncited} cells that are NULL or blobs")
    if len(cells) > _MAX_CITED_CELLS:
        notes.append(
            f"only the first {_MAX_CITED_CELLS} of {len(cells)} cells can be cited; select fewer"
        )
    # An observation counts distinct subjects as rows, but here several rows may share a subject.
    has_subjects = any(cell.subject for cell in cells)
    total = None if reply["more"] or has_subjects else len(rows)
    return ToolResult(cells[:_MAX_CITED_CELLS], "\n".join(notes), rows, total)


def _cells(rows: Sequence[Mapping[str, Any]], sql: str, file: Path) -> list[Quantity]:
    """Convert the cells of the rows to quantities with column, statement and file name."""
    citable = [
        {name: value for name, value in row.items() if value is not None and not _is_blob(value)}
        for row in rows
    ]
    texts = {name for row in citable for name, value in row.items() if isinstance(value, str)}
    subject = texts.pop() if len(texts) == 1 else None
    method = f"SQL: {one_line(sql)[:_STATEMENT_CHARS]}"
    cells = []
    for row in citable:
        subject_text = one_line(str(row.get(subject, ""))) if subject is not None else ""
        cells += [
            Quantity(
                value=value,
                property=one_line(name),
                subject="" if name == subject or len(subject_text) > _NAME_CHARS else subject_text,
                method=method,
                source=one_line(file.name),
            )
            for name, value in row.items()
        ]
    return cells


def _is_blob(value: object) -> bool:
    """Return True for the worker's placeholder of a blob."""
    return isinstance(value, str) and _BLOB.fullmatch(value) is not None
