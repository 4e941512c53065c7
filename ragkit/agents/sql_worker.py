"""One SELECT on one SQLite file, in a process of its own: `python -I -S sql_worker.py`.

A process, because SQLite expands common table expressions while it prepares a statement, and then
asks no callback: thirty that each name the one before twice fill the memory of the machine. Only
the standard library, because that starts in milliseconds. `sqlite3` without SQLAlchemy, whose
dialect gives each connection a Python `regexp`, runs pragmas and renames columns with a dot: here
a stranger writes the SQL, and nothing may stand between it and the authorizer.

A JSON request comes from stdin, a JSON reply goes to stdout.
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
_KILL_S = 0.5  # between the interruption of a statement and the end of a process that ignores it
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

# Nothing here reads files, loads code, or differs from run to run (except a date of 'now'). No
# printf: what exceeds the limit of a value is NULL there, and no error.
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
    """A name as SQLite compares it: only ASCII letters lose their case."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def answer(request: Mapping[str, Any]) -> Reply:
    """What becomes of a request.

    Args:
        request: `address` (a URI) and `timeout_s`; for rows also `sql`, `tables` (those that may be
            read) and `max_rows`. Without `sql` the schema is read.

    Returns:
        `tables` as {name: [[column, type], …]}; or `rows`, `more` (whether there are more) and
        `left_out` (how often fields of a name were too long); or `error`, one of "refused",
        "time", "memory" and "sqlite", with a `message`.
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
            allowed, known = _names(connection, request["tables"])
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


def _names(connection: sqlite3.Connection, tables: Iterable[str]) -> tuple[set[str], set[str]]:
    """What may be read, and all that a FROM may name without being a common table expression.

    It also reads the schema, to which the limits of statements do not apply, and makes SQLite
    declare the table functions, which no authorizer would permit.
    """
    held = {
        plain_name(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema") if name
    }
    for name in _TABLE_FUNCTIONS - held:
        connection.execute(f"SELECT 1 FROM {name}('[]')").fetchall()
    modules = {plain_name(name) for (name,) in connection.execute("PRAGMA module_list") if name}
    allowed = {plain_name(name) for name in tables} | (_TABLE_FUNCTIONS - held)
    if allowed & SCHEMA_TABLES:
        allowed |= SCHEMA_TABLES
    return allowed, held | modules


def _schema(connection: sqlite3.Connection) -> dict[str, list[list[str]]]:
    """Tables and views with their columns; a view that cannot be read has none."""
    listed = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    ).fetchall()
    found: dict[str, list[list[str]]] = {}
    for (name,) in listed:
        found[name] = []
        with contextlib.suppress(sqlite3.OperationalError):
            columns = connection.execute(
                "SELECT name, type FROM pragma_table_xinfo(?) WHERE hidden <> 1", [name]
            )
            found[name] = [[column, kind] for column, kind in columns]
    return found


def _authorizer(allowed: set[str], known: set[str], refused: list[str]) -> _Authorizer:
    """A callback that permits reading the allowed tables with the functions above.

    The first refusal is appended to `refused`, in words.
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
            # This is how SQLite declares a table function that is used for the first time.
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
    # A common table expression of which no column is used is asked for as it was typed.
    own = table not in known and not table.startswith(("sqlite_", "pragma_"))
    return own and not has_column and database is None


def _select(connection: sqlite3.Connection, sql: str, max_rows: int) -> Reply:
    opening = _OPENING.match(sql)
    word = opening[1] if opening else ""
    if word.upper() not in ("SELECT", "WITH", "VALUES"):
        what = f"it begins with {word[:40]}" if word else "there is no statement"
        return {"error": "refused", "message": f"only SELECT is permitted, and {what}"}
    cursor = connection.execute(sql)
    names = _unique(each[0] for each in cursor.description)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    used = 0
    for values in cursor:
        room = _REPLY_CHARS - used
        row, long = _cut(names, values, _REPLY_CHARS)
        size = len(json.dumps(row, ensure_ascii=False))
        if len(rows) == max_rows or (rows and size > room):
            return {"rows": rows, "more": True, "left_out": left_out}
        rows.append(row)
        used += size
        for name in long:
            left_out[name] = left_out.get(name, 0) + 1
    return {"rows": rows, "more": False, "left_out": left_out}


def _unique(names: Iterable[str]) -> list[str]:
    """Column names, cut and numbered where two are the same."""
    given: dict[str, None] = {}
    for name in names:
        short = name[:_NAME_CHARS]
        number = 1
        while (new := short if number == 1 else f"{short}_{number}") in given:
            number += 1
        given[new] = None
    return list(given)


def _cut(names: list[str], values: tuple[Any, ...], limit: int) -> tuple[dict[str, Any], list[str]]:
    """A row without its long fields, and their names."""
    row: dict[str, Any] = {}
    long = []
    used = 2
    for name, value in zip(names, values, strict=True):
        shown = f"(blob of {len(value)} bytes)" if isinstance(value, bytes) else value
        size = len(json.dumps([name, shown], ensure_ascii=False)) + 2
        if (isinstance(shown, str) and len(shown) > _FIELD_CHARS) or used + size > limit:
            long.append(name)
        else:
            row[name] = shown
            used += size
    return row, long


def _confine(timeout_s: float) -> None:
    """Limit this process, where the platform can: memory, files, and its life."""
    try:
        import resource
    except ImportError:  # Windows; there the parent's time limit remains
        return
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # lower already, or not to be limited
            resource.setrlimit(what, (limit, limit))
    # Without a handler the alarm ends the process, also while SQLite prepares a statement.
    signal.setitimer(signal.ITIMER_REAL, timeout_s + _KILL_S)


def main() -> None:
    """Read a request, write the reply."""
    request = json.loads(sys.stdin.buffer.read())
    _confine(request["timeout_s"])
    sys.stdout.write(json.dumps(answer(request)))


if __name__ == "__main__":
    main()
