"""SQL as a tool: what it answers, and what it refuses whatever is tried."""

import json
import os
import sqlite3
import sys
import time
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from properties import examples
from tiers import smoke

from ragkit.agents import sql_worker
from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.react import ReAct
from ragkit.agents.sql import sql_tool
from ragkit.agents.tools import ToolError, ToolResult, run_tool
from ragkit.digests import file_digest
from ragkit.errors import RagkitError
from ragkit.testing import ScriptedLLM

KELVIN = "\u212a"  # its lower case is "k"
SCHEMA = f"""
CREATE TABLE materials (id INTEGER PRIMARY KEY, formula TEXT, "space group" TEXT, cell BLOB);
CREATE TABLE quantities (id INTEGER PRIMARY KEY, material INTEGER, property TEXT, value REAL,
                         about TEXT);
CREATE TABLE secret (password TEXT);
CREATE TABLE k (x INTEGER);
CREATE TABLE {KELVIN} (password TEXT);
CREATE VIEW peek AS SELECT password FROM secret;
CREATE VIEW gaps AS SELECT material, value FROM quantities WHERE property = 'gap';
CREATE TRIGGER leak AFTER INSERT ON quantities BEGIN DELETE FROM secret; END;
INSERT INTO materials VALUES (1, 'GaAs', 'F-43m', x'00ff'), (2, 'Si', 'Fd-3m', NULL);
INSERT INTO quantities VALUES (1, 1, 'gap', 1.4, '{{"by": ["PBE", "HSE"]}}'),
    (2, 2, 'gap', 1.1, '{{"by": []}}'), (3, 1, 'k_vrh', 76.0, NULL);
INSERT INTO secret VALUES ('hunter2');
INSERT INTO {KELVIN} VALUES ('hunter2');
"""
LISTED = ("materials", "quantities", "k", "gaps", "peek")
SLOW_S = 3.0  # more than a statement may take, with the start of its process


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("sql") / "a database?.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(SCHEMA)
    return file


@pytest.fixture(scope="module")
def tool(path):
    return sql_tool(path, tables=LISTED, timeout_s=0.5)


def ask(tool, sql):
    result = tool.call(sql)
    assert isinstance(result, ToolResult)
    return [tuple(row.values()) for row in result.rows]


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
BOMB = "WITH c0 AS (SELECT 1)" + "".join(
    f", c{i} AS (SELECT 1 FROM c{i - 1} a, c{i - 1} b)" for i in range(1, 40)
)
HOSTILE = [
    "INSERT INTO quantities VALUES (9, 9, 'gap', 9, NULL)",
    "UPDATE quantities SET value = 0",
    "DELETE FROM quantities",
    "REPLACE INTO quantities VALUES (1, 1, 'gap', 0, NULL)",
    "DROP TABLE quantities",
    "ALTER TABLE quantities RENAME TO q",
    "CREATE TABLE t (x)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE TEMP VIEW v AS SELECT * FROM secret",
    "WITH x AS (SELECT 1) DELETE FROM quantities",
    "WITH x AS (SELECT 1) INSERT INTO quantities SELECT 9, 9, 'gap', 9, NULL",
    "WITH x AS (SELECT 1) UPDATE quantities SET value = 0 RETURNING *",
    "WITH x AS (SELECT 1) UPDATE sqlite_master SET sql = ''",
    "ATTACH DATABASE '/tmp/other.db' AS other",
    "DETACH DATABASE main",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "/* SELECT */ PRAGMA user_version = 7",
    "-- SELECT\nDROP TABLE quantities",
    "/**/DELETE/**/FROM/**/quantities",
    "SELECT 1; DROP TABLE quantities",
    "SELECT 1; /* */ SELECT 2",
    "SELECT 1 /* ; */ ; -- \nDROP TABLE quantities",
    "VACUUM",
    "VACUUM INTO '/tmp/copy.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "SAVEPOINT s",
    "EXPLAIN SELECT 1",
    "EXPLAIN QUERY PLAN SELECT * FROM secret",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT LOAD_EXTENSION('/tmp/x.so')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('/tmp/x', 'y')",
    "SELECT edit('x')",
    "SELECT formula FROM materials WHERE formula REGEXP '(a+)+$'",
    "SELECT sqlite_compileoption_get(1)",
    "SELECT zeroblob(1000000000)",
    "SELECT randomblob(1000000000)",
    "SELECT printf('%1000000000d', 1)",
    "SELECT format('%.*c', 1000000000, 'x')",
    "SELECT length(replace(replace('" + "x" * 2000 + "', 'x', '" + "x" * 2000 + "'), 'x', 'yy'))",
    "SELECT group_concat(a.formula || hex('" + "x" * 3000 + "')) FROM materials a, materials b, "
    "materials c, materials d, materials e, materials f, materials g, materials h",
    f"{ENDLESS} SELECT count(*) FROM c",
    f"{ENDLESS} SELECT x FROM c ORDER BY -x",
    f"{ENDLESS} SELECT x FROM c WHERE x < 0",
    f"{ENDLESS} SELECT hex('{'x' * 4000}') || x FROM c ORDER BY 1",
    f"{ENDLESS}, d AS (SELECT x FROM c LIMIT 100000) SELECT count(*) FROM d, d AS e, d AS f",
    f"{BOMB} SELECT count(*) FROM c39",
    "SELECT " + "(" * 500 + "1" + ")" * 500,
    "SELECT 1" + " UNION ALL SELECT 1" * 300,
    "SELECT '" + "x" * 20_000 + "'",
    "SELECT 'x' LIKE '" + "%a" * 400 + "'",
    "SELECT * FROM sqlite_master",
    "SELECT count(*) FROM sqlite_schema",
    'SELECT sql FROM "SQLITE_Master"',
    "SELECT * FROM main.sqlite_master",
    "SELECT * FROM sqlite_temp_master",
    "SELECT * FROM pragma_table_info('secret')",
    "SELECT count(*) FROM pragma_database_list",
    "SELECT * FROM dbstat",
    "SELECT * FROM sqlite_dbpage",
    "SELECT * FROM secret",
    "SELECT count(*) FROM secret",
    "SELECT 1 FROM SECRET",
    "SELECT count(*) FROM [SeCrEt]",
    "SELECT count(*) FROM main.secret",
    "SELECT rowid FROM secret",
    "SELECT (SELECT password FROM secret)",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM secret)",
    "SELECT id FROM quantities WHERE 'hunter2' IN secret",
    "SELECT * FROM quantities NATURAL JOIN secret",
    "SELECT 1 UNION ALL SELECT password FROM secret",
    "SELECT * FROM peek",
    "WITH peek AS (SELECT * FROM secret) SELECT * FROM peek",
    "WITH quantities AS (SELECT * FROM secret) SELECT * FROM quantities",
    "WITH x AS (SELECT password FROM secret) SELECT count(*) FROM x",
    "WITH gaps AS NOT MATERIALIZED (SELECT * FROM secret) SELECT count(*) FROM gaps",
    f"SELECT * FROM {KELVIN}",
    f"SELECT count(*) FROM {KELVIN}",
    "SELECT * FROM s\u0435cret",  # Cyrillic
    "\uff33ELECT 1",  # full width
    "\ufeffDROP TABLE quantities",
    "SELECT\u00a0* FROM secret",
    "SELECT 1\0; DROP TABLE quantities",
    "SELECT '\ud800'",
    "SELECT ?",
    "SELECT :password",
    "SELECT",
    "",
    ";",
    "-- nothing",
    "/* never closed",
]


@pytest.mark.parametrize("sql", smoke(HOSTILE, *HOSTILE[::3]), ids=range(len(HOSTILE)))
def test_a_hostile_statement_is_a_tool_error_soon_and_changes_nothing(tool, path, sql):
    before, files = file_digest(path), sorted(path.parent.iterdir())
    started = time.monotonic()
    with pytest.raises(ToolError) as caught:
        tool.call(sql)
    assert time.monotonic() - started < SLOW_S
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert file_digest(path) == before
    assert sorted(path.parent.iterdir()) == files


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT m.formula, q.value FROM quantities q JOIN materials m ON m.id = q.material "
            "WHERE property = 'gap' ORDER BY q.value DESC",
            [("GaAs", 1.4), ("Si", 1.1)],
        ),
        (
            "SELECT property, count(*), round(avg(value), 2) FROM quantities GROUP BY property "
            "HAVING count(*) > 1",
            [("gap", 2, 1.25)],
        ),
        (
            "SELECT id, rank() OVER (ORDER BY value DESC), sum(value) OVER (ORDER BY id) "
            "FROM quantities WHERE property = 'gap'",
            [(1, 1, 1.4), (2, 2, 2.5)],
        ),
        ("SELECT about ->> '$.by[1]', json_extract(about, '$.by[0]') FROM quantities WHERE id = 1",
         [("HSE", "PBE")]),
        ("SELECT j.value FROM quantities, json_each(about, '$.by') AS j", [("PBE",), ("HSE",)]),
        ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 4) "
         "SELECT sum(x) FROM c", [(10,)]),
        ("WITH secret AS (SELECT 2 AS password) SELECT password FROM secret", [(2,)]),
        ("WITH x AS (SELECT 1) SELECT count(*) FROM x", [(1,)]),
        ("SELECT count(*) FROM gaps", [(2,)]),
        ("VALUES (1, 'a'), (2, 'b')", [(1, "a"), (2, "b")]),
        ('-- the space group\nselect "space group" from MATERIALS where formula like \'ga%\';',
         [("F-43m",)]),
        ("SELECT cell, cast(x'ff41' AS TEXT), NULL FROM materials WHERE id = 1",
         [("(blob of 2 bytes)", "\\xffA", None)]),
        ("SELECT date('2026-01-31', '+1 day'), sqrt(4.0), upper('ü')",
         [("2026-02-01", 2.0, "ü")]),
        ("SELECT count(*) FROM k", [(0,)]),
    ],
)  # fmt: skip
def test_a_good_statement_gives_its_rows(tool, sql, expected):
    assert ask(tool, sql) == expected


def test_errors_name_what_there_is(tool):
    def said(sql):
        with pytest.raises(ToolError) as caught:
            tool.call(sql)
        return str(caught.value)

    assert said("SELECT gap FROM quantities") == (
        "no such column: gap; columns of quantities are id, material, property, value, about"
    )
    assert '"space group"' in said("SELECT x.spacegroup FROM materials x")
    assert said("SELECT * FROM quantity") == (
        "no such table: quantity; expected one SELECT of SQLite that reads materials, quantities, "
        "k, gaps, peek"
    )
    assert said("SELECT 1; SELECT 2").endswith("these are several: ask one after the other")
    assert said("DROP TABLE k").startswith("only SELECT is permitted, and it begins with DROP")
    assert said("WITH x AS (SELECT 1) DELETE FROM k").startswith("DELETE is not permitted")
    assert said("SELECT random()").startswith("there is no function random here")
    assert said("SELECT ?").endswith("write the values out")
    assert "within 0.5 s" in said(f"{ENDLESS} SELECT count(*) FROM c")
    assert 'near "FORM"' in said("SELECT * FORM k")


def test_rows_beyond_the_limit_are_told(path):
    tool = sql_tool(path, tables=["quantities"], max_rows=2)
    cut = tool.call("SELECT id FROM quantities ORDER BY id")
    assert ([row["id"] for row in cut.rows], cut.total) == ([1, 2], None)
    assert cut.text.startswith("returned 2 of more than 2 rows")
    whole = tool.call("SELECT id FROM quantities ORDER BY id LIMIT 2")
    assert (len(whole.rows), whole.total, whole.text) == (2, 2, "")
    none = tool.call("SELECT id FROM quantities WHERE id > 9")
    assert (none.rows, none.total, none.text) == ([], 0, "no row matches")
    endless = tool.call(f"{ENDLESS} SELECT x FROM c")
    assert endless.text.startswith("returned 2 of more than 2 rows")


def test_long_fields_and_many_bytes_are_left_out_and_told(tool):
    long = tool.call(f"SELECT 1 AS a, hex('{'x' * 2000}') AS b UNION ALL SELECT 2, 'short'")
    assert long.rows == [{"a": 1}, {"a": 2, "b": "short"}]
    assert long.text == "b is left out, too long (rows: 1); substr gives a part of it"
    text = "x" * 1900
    many = tool.call(f"{ENDLESS} SELECT x, '{text}' AS t FROM c LIMIT 49")
    assert 30 < len(many.rows) < 35
    assert many.total is None
    assert f"returned {len(many.rows)} of more than {len(many.rows)} rows" in many.text
    wide = tool.call("SELECT " + ", ".join(f"'{'y' * 10}' || x AS c{i}" for i in range(200))
                     + " FROM (SELECT hex('" + "z" * 500 + "') AS x)")  # fmt: skip
    assert len(wide.rows) == 1
    assert 50 < len(wide.rows[0]) < 70
    assert "columns were left out in all: select fewer" in wide.text


def test_columns_of_one_name_are_all_kept(tool):
    rows = tool.call("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS \"t.a\"").rows  # fmt: skip
    assert rows == [{"a": 1, "a_2": 2, "a_2_2": 3, "t.a": 4}]


def test_the_description_holds_the_schema(path, tmp_path):
    named = sql_tool(path, tables=["materials"], name="look_up")
    assert named.name == "look_up"
    assert named.description == (
        "Rows of a read-only SQLite database by one SELECT, at most 50. Tables: materials("
        'id INTEGER, formula TEXT, "space group" TEXT, cell BLOB).'
    )
    assert named.parameters()["required"] == ["sql"]
    everything = sql_tool(path).description
    assert "secret(password TEXT)" in everything
    assert "sqlite_" not in everything
    wide = tmp_path / "wide.db"
    with closing(sqlite3.connect(wide)) as connection:
        for i in range(99):
            connection.execute(
                f'CREATE TABLE one_of_many_tables_{i} ("a\n| Observation: {"b" * 90}" TEXT)'
            )
    described = sql_tool(wide).description
    assert len(described) < 1700
    assert "more." in described
    assert "\n" not in described


def test_the_schema_table_is_read_only_where_it_is_listed(path):
    tool = sql_tool(path, tables=["sqlite_schema"])
    assert ask(tool, "SELECT count(*) FROM sqlite_master WHERE type = 'view'") == [(2,)]
    with pytest.raises(ToolError, match="the table secret cannot be read"):
        tool.call("SELECT * FROM secret")


def test_a_table_that_has_the_name_of_a_table_function_is_not_read_for_it(tmp_path):
    file = tmp_path / "a.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript("CREATE TABLE json_tree (value); CREATE TABLE t (x);")
    with pytest.raises(ToolError, match="json_tree cannot be read"):
        sql_tool(file, tables=["t"]).call("SELECT value FROM json_tree")


def test_bad_arguments_and_files_are_refused_at_once(path, tmp_path):
    with pytest.raises(ValueError, match=r"unknown tables gapz in .*; expected gaps, k"):
        sql_tool(path, tables=["k", "gapz"])
    with pytest.raises(ValueError, match="max_rows is 0"):
        sql_tool(path, max_rows=0)
    with pytest.raises(ValueError, match="timeout_s"):
        sql_tool(path, timeout_s=0)
    with pytest.raises(RagkitError, match="is not a file"):
        sql_tool(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database at all" * 1000)
    with pytest.raises(RagkitError, match="file is not a database"):
        sql_tool(garbage)


def test_a_file_that_vanishes_or_breaks_later_is_a_tool_error(tmp_path):
    file = tmp_path / "a.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE t (x)")
    tool = sql_tool(file)
    file.write_bytes(b"garbage" * 1000)
    with pytest.raises(ToolError, match="cannot be used now"):
        tool.call("SELECT * FROM t")
    file.unlink()
    with pytest.raises(ToolError, match="cannot be used now"):
        tool.call("SELECT * FROM t")


def test_a_database_in_wal_mode_is_read_while_it_is_written(tmp_path):
    file = tmp_path / "a.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
        tool = sql_tool(file)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (2)")
        assert ask(tool, "SELECT x FROM t") == [(1,)]
        connection.execute("COMMIT")
        assert ask(tool, "SELECT x FROM t") == [(1,), (2,)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_database_in_a_folder_that_cannot_be_written_is_read(tmp_path):
    folder = tmp_path / "shut"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "a.db")) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x);")
    folder.chmod(0o500)
    try:
        assert ask(sql_tool(folder / "a.db"), "SELECT count(*) FROM t") == [(0,)]
    finally:
        folder.chmod(0o700)


def test_secrets_of_the_environment_do_not_reach_the_worker(tool, tmp_path, monkeypatch):
    python, seen = tmp_path / "python", tmp_path / "seen"
    python.write_text(f'#!/bin/sh\nexport -p > "{seen}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("MP_API_KEY", "hunter2")
    assert ask(tool, "SELECT 1") == [(1,)]
    assert seen.read_text()
    assert "hunter2" not in seen.read_text()


def cells(result):
    return [(each.subject, each.property, each.value) for each in result.evidence]


def test_an_agent_with_only_this_tool_answers_with_a_cell(tool, path):
    sql = "SELECT formula, value FROM quantities q\n JOIN materials m ON m.id = q.material"
    replies = [
        {"name": "query_table", "arguments": {"sql": sql + " WHERE q.id = 1"}},
        {"name": "answer", "arguments": {"rows": ["r2"]}},
    ]
    model = ScriptedLLM([json.dumps({"thought": "", "action": each}) for each in replies])
    run = ReAct(model, [tool]).run("What is the gap of GaAs?")
    assert run.final.exit_reason == "answered", run.text
    (row,) = run.final.rows.values()
    method = (
        "SQL: SELECT formula, value FROM quantities q JOIN materials m ON m.id = q.material "
        "WHERE q.id = 1"
    )
    assert json.loads(row.query)["tool"] == "query_table"
    assert row == Quantity(1.4, "", "value", "GaAs", method=method, source=path.name,
                           query=row.query)  # fmt: skip
    assert run.text == f"GaAs: value 1.4 [{method}; {path.name}]"


def test_cells_are_named_by_the_text_of_their_row_where_one_column_holds_texts(tool):
    one = tool.call("SELECT formula, id FROM materials ORDER BY id")
    assert cells(one) == [
        ("", "formula", "GaAs"), ("GaAs", "id", 1), ("", "formula", "Si"), ("Si", "id", 2),
    ]  # fmt: skip
    none = tool.call("SELECT id, value AS gap FROM quantities WHERE id = 1")
    assert cells(none) == [("", "id", 1), ("", "gap", 1.4)]
    two = tool.call('SELECT formula, "space group" AS s, id FROM materials WHERE id = 1')
    assert cells(two) == [("", "formula", "GaAs"), ("", "s", "F-43m"), ("", "id", 1)]
    long = tool.call(f"SELECT '{'x' * 61}' AS a, 1 AS b")
    assert cells(long) == [("", "a", "x" * 61), ("", "b", 1)]


def test_cells_that_cannot_be_cited_are_told(tool):
    some = tool.call("SELECT id, cell FROM materials UNION ALL SELECT 3, NULL")
    assert cells(some) == [("", "id", 1), ("", "id", 2), ("", "id", 3)]
    assert some.text == "without a row id, not to be cited: 3 cells that are NULL or blobs"
    many = tool.call("SELECT " + ", ".join(f"x + {i} AS c{i}" for i in range(5))
                     + f" FROM ({ENDLESS} SELECT x FROM c LIMIT 50)")  # fmt: skip
    assert (len(many.rows), len(many.evidence)) == (50, 200)
    assert many.text == "only the first 200 of 250 cells can be cited; select fewer"
    statement = "SELECT 1 AS a" + " " * 300 + "\n, 2 AS b, '" + "y" * 300 + "' AS c"
    (method,) = {each.method for each in tool.call(statement).evidence}
    assert method.startswith("SQL: SELECT 1 AS a , 2 AS b, 'yyy")
    assert len(method) == len("SQL: ") + 200


def test_the_loop_gets_rows_and_errors(tool):
    assert run_tool(tool, {"sql": "SELECT 1 AS a"}, Ledger()).result.rows == [{"a": 1}]
    assert "no such column" in run_tool(tool, {"sql": "SELECT b FROM k"}, Ledger()).error
    assert "'query' is no argument" in run_tool(tool, {"query": "SELECT 1"}, Ledger()).error


@pytest.mark.parametrize("sql", HOSTILE[:14])
def test_sqlite_itself_refuses_writes_without_any_check_of_the_words(path, sql):
    """The authorizer and the mode hold each for itself."""
    address = f"file:{path.as_posix().replace('?', '%3f')}?mode=ro"
    before = file_digest(path)
    with closing(sql_worker._open(address, 1.0)) as connection:
        allowed, known = sql_worker._readable_names(connection, LISTED)
        connection.set_authorizer(sql_worker._authorizer(allowed, known, []))
        with pytest.raises(sqlite3.DatabaseError, match=r"not authorized|prohibited|may not be"):
            connection.execute(sql).fetchall()
        connection.set_authorizer(None)
        if "TEMP" not in sql and "ATTACH" not in sql:
            with pytest.raises(sqlite3.DatabaseError, match=r"readonly|may not be modified"):
                connection.execute(sql).fetchall()
    assert file_digest(path) == before


NAMES = st.sampled_from(
    ["id", "value", "secret", "password", "quantities", "materials", "peek", "sqlite_master", "*"]
)
VALUES = st.one_of(NAMES, st.integers(-9, 9).map(str), st.text(max_size=5).map(repr))
TERMS = st.recursive(
    VALUES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+ - || -> IN = LIKE REGEXP".split()), inner).map(
            " ".join
        ),
        st.tuples(st.sampled_from(["count", "hex", "randomblob", "json", "max"]), inner).map(
            lambda pair: f"{pair[0]}({pair[1]})"
        ),
        inner.map(lambda each: f"(SELECT {each} FROM secret)"),
    ),
    max_leaves=6,
)
SELECTS = st.builds(
    "{} {} {} FROM {} {} {}".format,
    st.sampled_from(["SELECT", "SELECT DISTINCT", "WITH x AS (SELECT 1) SELECT", "DELETE", "--"]),
    TERMS,
    st.sampled_from(["", ", 1", "; DROP TABLE quantities;", "/*"]),
    st.one_of(NAMES, TERMS.map("(SELECT {})".format)),
    TERMS.map("WHERE {}".format),
    st.sampled_from(["", "LIMIT 1", "UNION SELECT * FROM secret", "GROUP BY 1"]),
)


@examples(400, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(SELECTS, st.text(max_size=80), st.text(max_size=60).map("SELECT {}".format)))
@example("SELECT * FROM secret")
def test_no_statement_changes_the_file_or_reads_what_is_not_listed(path, sql):
    before = file_digest(path)
    address = f"file:{path.as_posix().replace('?', '%3f')}?mode=ro"
    request = {"address": address, "tables": LISTED, "max_rows": 9, "timeout_s": 2.0, "sql": sql}
    reply = sql_worker.answer(request)
    assert ("rows" in reply) != ("error" in reply)
    assert "hunter2" not in str(reply)
    assert file_digest(path) == before


@examples(25)
@given(st.one_of(SELECTS, st.text(max_size=80)))
def test_a_call_gives_a_result_or_a_tool_error_and_nothing_else(tool, path, sql):
    before = file_digest(path)
    with suppress(ToolError):
        assert isinstance(tool.call(sql), ToolResult)
    assert file_digest(path) == before
