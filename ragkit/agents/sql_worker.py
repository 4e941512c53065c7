"""Execute one SELECT on a SQLite file in a separate process: `python -I -S sql_worker.py`.

A separate process is needed because SQLite calls no callback while it prepares a statement, and
thirty common table expressions that each refer to the previous one twice then exhaust the memory of
the machine. The worker imports only the standard library, so that it starts in milliseconds. It
uses `sqlite3` without SQLAlchemy, whose dialect registers a Python `regexp` function, runs pragmas
and renames columns with a dot: the SQL is untrusted and must go straight to the authorizer.

The JSON request is read from stdin, the JSON reply is written to stdout.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MEMORY_BYTES = 512 << 20
_FILE_BYTES = 1 << 20  # SQLite's -shm file, which readers of a WAL database share
_KILL_S = 0.5  # from interrupting a statement to killing a process that does not react
_PROGRESS_OPS = 1000

SQL_CHARS = 10_000
_FIELD_CHARS = 2_000
_REPLY_CHARS = 64_000
_NAME_CHARS = 100

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * SQL_CHARS,  # bytes
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 50_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 50,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

# None of these reads files, loads code or is nondeterministic (except a date of 'now'). printf is
# excluded because it returns NULL instead of an error when a value exceeds the size limit.
FUNCTIONS = frozenset(
    "-> ->> abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat "
    "concat_ws cos cosh count cume_dist date datetime degrees dense_rank exp first_value floor "
    "glob group_concat hex ifnull iif instr json json_array json_array_length json_each "
    "json_error_position json_extract json_group_array json_group_object json_object json_quote "
    "json_tree json_type json_valid julianday lag last_value lead length like ln log log10 log2 "
    "lower ltrim max min mod nth_value ntile nullif octet_length percent_rank pi pow power "
    "quote radians rank replace round row_number rtrim sign sin sinh sqrt strftime string_agg "
    "substr substring sum tan tanh time timediff total trim trunc typeof unicode unixepoch upper"
    .split()
)  # fmt: skip
_TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})
SCHEMA_TABLES = frozenset({"sqlite_master", "sqlite_schema"})

_OPENING = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(\w*)", re.DOTALL)
_ACTIONS = {
    getattr(sqlite3, name): name.removeprefix("SQLITE_").replace("_", " ")
    for name in dir(sqlite3)
    if re.fullmatch(r"SQLITE_(CREATE|DROP|ALTER)_\w+", name)
} | {
    sqlite3.SQLITE_INSERT: "INSERT",
    sqlite3.SQLITE_UPDATE: "UPDATE",
    sqlite3.SQLITE_DELETE: "DELETE",
    sqlite3.SQLITE_PRAGMA: "PRAGMA",
    sqlite3.SQLITE_ATTACH: "ATTACH",
    sqlite3.SQLITE_DETACH: "DETACH",
    sqlite3.SQLITE_TRANSACTION: "a transaction",
    sqlite3.SQLITE_SAVEPOINT: "SAVEPOINT",
    sqlite3.SQLITE_REINDEX: "REINDEX",
    sqlite3.SQLITE_ANALYZE: "ANALYZE",
}

Reply = dict[str, Any]
_Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]


def plain_name(name: str) -> str:
    """Fold a name as SQLite does for comparison: only ASCII letters are lower-cased."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def answer(request: Mapping[str, Any]) -> Reply:
    """Answer a request with rows, the schema or an error.

    Args:
        request: `address` (a URI) and `timeout_s`; for rows also `sql`, `tables` (names of the
            readable tables) and `max_rows`. Without `sql` the schema is returned.

    Returns:
        `tables` as {name: [[column, type], …]}; or `rows`, `more` (True if rows were left out) and
        `left_out` (number of too long fields by column); or `error`, one of "refused", "time",
        "memory" and "sqlite", with a `message`.
    """
    refused: list[str] = []
    late = False
    deadline: float = time.monotonic() + request["timeout_s"]

    def check_time() -> bool:
        nonlocal late
        late = time.monotonic() > deadline
        return late

    try:
        with contextlib.closing(_open(request["address"], request["timeout_s"])) as connection:
            connection.set_progress_handler(check_time, _PROGRESS_OPS)
            if "sql" not in request:
                return {"tables": _schema(connection)}
            allowed, known = _readable_names(connection, request["tables"])
            for limit, value in _LIMITS.items():
                connection.setlimit(limit, value)
            connection.set_authorizer(_authorizer(allowed, known, refused))
            return _select(connection, request["sql"], request["max_rows"])
    except MemoryError:
        return {"error": "memory", "message": ""}
    except (sqlite3.Error, sqlite3.Warning, UnicodeError, ValueError, OverflowError) as error:
        if late:
            return {"error": "time", "message": ""}
        if refused:
            return {"error": "refused", "message": refused[0]}
        return {"error": "sqlite", "message": str(error)}


def _open(address: str, timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, timeout=timeout_s, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
    for setting in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {setting}")
    for setting in ("temp_store = MEMORY", "mmap_size = 0"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _readable_names(
    connection: sqlite3.Connection, tables: Iterable[str]
) -> tuple[set[str], set[str]]:
    """Return the names that may be read, and all names that are not common table expressions.

    This must run before the limits and the authorizer are set: it reads the schema and makes SQLite
    declare the table functions.
    """
    schema_names = {
        plain_name(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema") if name
    }
    for name in _TABLE_FUNCTIONS - schema_names:
        connection.execute(f"SELECT 1 FROM {name}('[]')").fetchall()
    modules = {plain_name(name) for (name,) in connection.execute("PRAGMA module_list") if name}
    allowed = {plain_name(name) for name in tables} | (_TABLE_FUNCTIONS - schema_names)
    if allowed & SCHEMA_TABLES:
        allowed |= SCHEMA_TABLES
    return allowed, schema_names | modules


def _schema(connection: sqlite3.Connection) -> dict[str, list[list[str]]]:
    """Return tables and views with their columns; an unreadable view has no columns."""
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    ).fetchall()
    schema: dict[str, list[list[str]]] = {}
    for (name,) in tables:
        schema[name] = []
        with contextlib.suppress(sqlite3.OperationalError):
            columns = connection.execute(
                "SELECT name, type FROM pragma_table_xinfo(?) WHERE hidden <> 1", [name]
            )
            schema[name] = [[column, kind] for column, kind in columns]
    return schema


def _authorizer(allowed: set[str], known: set[str], refused: list[str]) -> _Authorizer:
    """Return an authorizer that permits reading `allowed` tables with `FUNCTIONS`.

    Refusals are appended to `refused` as messages.
    """

    def allow(
        action: int, first: str | None, second: str | None, database: str | None, _: str | None
    ) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:
            if _may_read(plain_name(first or ""), bool(second), database, allowed, known):
                return sqlite3.SQLITE_OK
            refused.append(f"the table {first} cannot be read")
        elif action == sqlite3.SQLITE_FUNCTION:
            if plain_name(second or "") in FUNCTIONS:
                return sqlite3.SQLITE_OK
            refused.append(f"there is no function {second} here")
        elif action == sqlite3.SQLITE_UPDATE and plain_name(first or "") in SCHEMA_TABLES:
            # SQLite declares a table function in this way when it is used for the first time.
            refused.append("only tables, json_each and json_tree can be read")
        else:
            refused.append(f"{_ACTIONS.get(action, 'this')} is not permitted")
        return sqlite3.SQLITE_DENY

    return allow


def _may_read(
    table: str, has_column: bool, database: str | None, allowed: set[str], known: set[str]
) -> bool:
    if database in ("main", None) and table in allowed:
        return True
    # For a common table expression of which no column is used, SQLite passes the name as typed.
    is_expression_name = table not in known and not table.startswith(("sqlite_", "pragma_"))
    return is_expression_name and not has_column and database is None


def _select(connection: sqlite3.Connection, sql: str, max_rows: int) -> Reply:
    match = _OPENING.match(sql)
    word = match[1] if match else ""
    if word.upper() not in ("SELECT", "WITH", "VALUES"):
        problem = f"it begins with {word[:40]}" if word else "there is no statement"
        return {"error": "refused", "message": f"only SELECT is permitted, and {problem}"}
    cursor = connection.execute(sql)
    names = _unique_names(column[0] for column in cursor.description)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    used = 0
    for values in cursor:
        remaining = _REPLY_CHARS - used
        row, too_long = _without_long_fields(names, values, _REPLY_CHARS)
        size = len(json.dumps(row, ensure_ascii=False))
        if len(rows) == max_rows or (rows and size > remaining):
            return {"rows": rows, "more": True, "left_out": left_out}
        rows.append(row)
        used += size
        for name in too_long:
            left_out[name] = left_out.get(name, 0) + 1
    return {"rows": rows, "more": False, "left_out": left_out}


def _unique_names(names: Iterable[str]) -> list[str]:
    """Truncate column names, and number duplicates."""
    unique: dict[str, None] = {}
    for name in names:
        prefix = name[:_NAME_CHARS]
        suffix = 1
        while (candidate := prefix if suffix == 1 else f"{prefix}_{suffix}") in unique:
            suffix += 1
        unique[candidate] = None
    return list(unique)


def _without_long_fields(
    names: list[str], values: tuple[Any, ...], limit: int
) -> tuple[dict[str, Any], list[str]]:
    """Return a row without its too long fields, and the names of those fields."""
    row: dict[str, Any] = {}
    too_long = []
    size_used = 2
    for name, value in zip(names, values, strict=True):
        cell = f"(blob of {len(value)} bytes)" if isinstance(value, bytes) else value
        size = len(json.dumps([name, cell], ensure_ascii=False)) + 2
        if (isinstance(cell, str) and len(cell) > _FIELD_CHARS) or size_used + size > limit:
            too_long.append(name)
        else:
            row[name] = cell
            size_used += size
    return row, too_long


def _limit_process(timeout_s: float) -> None:
    """Set limits on memory, file size and run time of this process, where supported."""
    try:
        import resource
    except ImportError:  # Windows, where only the parent's time limit applies
        return
    for resource_kind, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # already lower, or not supported
            resource.setrlimit(resource_kind, (limit, limit))
    # Without a handler the alarm kills the process, even while SQLite prepares a statement.
    signal.setitimer(signal.ITIMER_REAL, timeout_s + _KILL_S)


def main() -> None:
    """Read a request from stdin and write the reply to stdout."""
    request = json.loads(sys.stdin.buffer.read())
    _limit_process(request["timeout_s"])
    sys.stdout.write(json.dumps(answer(request)))


if __name__ == "__main__":
    main()
