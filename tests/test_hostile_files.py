"""Hostile files are loaded correctly, or raise a DocumentError with the reason."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from tiers import smoke

from ragkit.documents import (
    SandboxLimits,
    SourceFile,
    find_files,
    json_values,
    load_file,
    read_stream,
    sandbox,
)
from ragkit.documents.html.reader import to_markdown
from ragkit.documents.losses import MAX_LOSSES
from ragkit.documents.tables import MAX_COLUMNS
from ragkit.errors import DocumentError

LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux: /proc, file names of bytes"
)


def _load(folder: Path, name: str, content: str | bytes, limits: SandboxLimits | None = None):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_file(SourceFile(name, path, folder), limits=limits)


def _zip(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_csv_when_a_quote_is_not_closed_then_the_rows_behind_it_stay_and_a_loss_says_so():
    result = read_stream('id,name\n1,"abc\n2,x\n3,"def\n4,y\n', format="csv")
    assert [d.text for d in result.documents] == [
        'id: 1\nname: "abc',
        "id: 2\nname: x",
        'id: 3\nname: "def',
        "id: 4\nname: y",
    ]
    (loss,) = result.losses
    assert loss.lost == "possibly the borders of cells in 2 rows"
    assert "row 1" in loss.why


def test_csv_when_a_stray_quote_swallows_rows_then_loss():
    rows = "".join(f"{n},x,y\n" for n in range(2, 8))
    result = read_stream(f'id,name,size\n1,"abc,5\n{rows}8,y,5"\n9,z,1\n', format="csv")
    assert [loss.lost for loss in result.losses] == ["possibly rows, in 1 rows"]
    assert "7,x,y" in result.documents[0].text
    assert result.documents[1].id == "stdin#9"


def test_csv_when_a_row_has_more_cells_than_the_header_then_they_stay_and_a_loss_says_so():
    result = read_stream("id,text\n1,Hello, world\n2,fine\n3,a,b,c\n4,d,,\n", format="csv")
    assert result.documents[0].metadata == {"column 3": "world", "format": "csv"}
    (loss,) = result.losses
    assert loss.lost == "the columns of cells in 2 rows"
    assert loss.why.startswith("row 1 has more cells than the 2 of the first row")


def test_csv_when_text_stands_in_quotes_within_a_cell_then_every_character_stays():
    result = read_stream('id;note\n1;"Hi" he said\n2;5" pipe\n', format="csv")
    assert [d.metadata["note"] for d in result.documents] == ['"Hi" he said', '5" pipe']
    assert result.losses == ()


def test_csv_when_a_row_has_a_million_cells_then_what_is_past_the_cap_is_one():
    result = read_stream("a,b\n" + "x," * 1_000_000 + "x\n", format="csv")
    (document,) = result.documents
    assert len(document.metadata) == MAX_COLUMNS + 2
    assert document.text.count("x") >= 1_000_001
    assert [loss.lost for loss in result.losses] == [
        "the columns of cells in 1 rows",
        "the further cells",
    ]


def test_csv_when_the_header_is_huge_then_rows_do_not_repeat_it():
    result = read_stream("h" * 1_000_000 + ",b\n" + "1,2\n" * 1000, format="csv")
    assert max(len(document.text) for document in result.documents) < 300
    assert result.losses[0].lost == "the ends of column names"


TABLES = [
    '"a""b""c,' * 200_000,
    '"' * 1_000_001,
    ' "x,' * 300_000,
    '"""\n' * 300_000,
    '"x""\n' * 300_000,
    " " * 1_000_000 + ",\n1,2",
    ",".join(["a"] * 16_000) + "\n" + "\n".join(["1"] * 10_000),
]


@pytest.mark.parametrize("table", smoke(TABLES), ids=range(len(TABLES)))
def test_csv_when_quotes_or_names_are_many_then_read_in_linear_time(table):
    result = read_stream("1,2\n" + table, format="csv")
    assert len(result.documents) == len(list(result.documents)) > 0


@LINUX
@pytest.mark.faults
@pytest.mark.parametrize("kind", ["cell.csv", "rows.csv", "rows.jsonl", "items.json", "text.txt"])
def test_records_when_the_file_has_40_megabytes_then_memory_is_a_small_multiple(tmp_path, kind):
    contents = {
        "cell.csv": b'id,text\n1,"' + b"word " * 7_900_000 + b'"\n',
        "rows.csv": b"id,text,n\n" + b'1,"' + b"some words, " * 30 + b'",7\n' + b"8,x,9\n" * 5,
        "rows.jsonl": b'{"title": "t", "text": "' + b"some words " * 40 + b'"}\n',
        "items.json": b'{"title": "t", "text": "' + b"some words " * 40 + b'"},',
        "text.txt": b"some words " * 40 + b"\n",
    }
    content = contents[kind]
    content *= 40_000_000 // len(content)
    if kind == "items.json":
        content = b"[" + content[:-1] + b"]"
    path = tmp_path / kind
    path.write_bytes(content)
    script = (
        "import sys; from pathlib import Path\n"
        "from ragkit.documents import SourceFile, load_file\n"
        "path = Path(sys.argv[1])\n"
        "result = load_file(SourceFile(path.name, path, path.parent))\n"
        "assert sum(1 for _ in result.documents) == len(result.documents)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.partition('VmHWM:')[2].split()[0]) * 1024)"
    )
    output = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, check=True, timeout=120
    ).stdout
    assert int(output) < 6 * len(content)


def test_json_when_numbers_are_huge_then_they_stay_as_texts():
    big, digits = "1e400", "9" * 5000
    for format, text in (
        ("jsonl", f'{{"a": {big}, "b": {digits}}}'),
        ("json", f'[{{"a": {big}}}]'),
    ):
        (document,) = read_stream(text, format=format).documents
        assert document.metadata["a"] == big
        assert format == "json" or document.metadata["b"] == digits


def test_json_when_names_repeat_then_loss():
    result = read_stream('{"text": "a", "text": "b", "n": 1}', format="json")
    assert result.documents[0].text == "b\n\nn: 1"
    assert [(loss.lost, loss.kept) for loss in result.losses] == [
        ("1 values", "the last value of each name")
    ]


@pytest.mark.parametrize("format", ["json", "jsonl"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '[{"a":' + "[" * 999_999])
def test_json_when_nested_deep_then_refused(format, text):
    with pytest.raises(DocumentError, match=r"nested too deep|Expecting|too big"):
        read_stream(text, format=format)


def test_jsonl_when_one_line_is_nested_deep_then_only_that_line_is_lost():
    deep = '{"a": ' + "[" * 300 + "]" * 300 + "}"
    result = read_stream(f'{{"text": "x"}}\n{deep}\n{{"text": "y"}}', format="jsonl")
    assert [document.text for document in result.documents] == ["x", "y"]
    assert [(loss.what, loss.why) for loss in result.losses] == [
        ("stdin line 2", "it is not JSON: it is nested too deep")
    ]


def test_jsonl_when_many_lines_are_bad_then_the_first_are_listed_and_the_rest_counted():
    result = read_stream('{"text": "x"}\n' + "bad\n" * 5000, format="jsonl")
    assert len(result.documents) == 1
    assert [loss.what for loss in result.losses[:2]] == ["stdin line 2", "stdin line 3"]
    assert len(result.losses) == MAX_LOSSES + 1
    assert result.losses[-1].lost == "4000 more of its parts"


def test_jsonl_when_nine_lines_of_ten_are_bad_then_refused():
    with pytest.raises(DocumentError, match="of its first 100001 lines are not JSON"):
        read_stream("x\n" * 120_000, format="jsonl")


@pytest.mark.faults
def test_json_when_one_value_would_take_gigabytes_then_refused():
    for text in ('{"a": [[]' + ",[]" * 9_000_000 + "]}", '[{"a": [[]' + ",[]" * 9_000_000 + "]}]"):
        with pytest.raises(DocumentError, match=r"^stdin: too big when unpacked"):
            read_stream(text, format="json")


def test_json_when_items_are_longer_than_a_window_then_all_come_back():
    texts = ["a" * 3_000_000, "b", "c" * 1_048_576, "d" * 1_048_550, "e"]
    items = ",\n ".join(f'{{"text": "{text}"}}' for text in texts)
    result = read_stream(f" [ {items} ] ", format="json")
    assert [document.text for document in result.documents] == texts


@pytest.mark.parametrize("text", ['[{"a":1},]', '[{"a":1}', '[{"a":1}] x', "[1 2]", '[{"a":1}{'])
def test_json_when_an_array_is_malformed_then_the_place_is_named(text):
    with pytest.raises(DocumentError, match=r"broken: it is not JSON: .*line 1 column \d+"):
        read_stream(text, format="json")


def test_json_when_field_names_become_alike_then_all_stay_in_linear_time():
    names = [f'"{"".join(part)}": 1' for part in _products(["\\u0000", "\\ud800", "\ufffd"], 9)]
    (document,) = read_stream("{" + ",".join(names) + "}", format="json").documents
    assert len(document.metadata) == len(names) + 1


def _products(parts: list[str], n: int) -> list[str]:
    words = [""]
    for _ in range(n):
        words = [word + part for word in words for part in parts]
    return words


@pytest.mark.parametrize(
    "value", ["[" * 100_000 + "]" * 100_000, "[" * 900 + "x" + "]" * 900, f"[{'9' * 5000}]"]
)
def test_front_matter_when_a_list_is_hostile_then_the_text_is_read(value):
    (document,) = read_stream(f"---\nk: {value}\n---\nbody", format="markdown").documents
    assert document.text == "body"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_text_when_its_last_character_is_cut_then_the_rest_is_read_with_a_loss(tmp_path, codec):
    mark = "\ufeff".encode(codec)
    result = _load(tmp_path, "a.txt", mark + "whole".encode(codec) + b"x")
    assert result.documents[0].text == "whole\ufffd"
    assert result.losses[0].lost == "the bytes shown as U+FFFD"


ODDITIES = [
    *("<!--", "<a ", "<!", "<?", "</", "</a", "<![CDATA[", "<a b='", "<a b='>' ", "&", "&#", "<"),
    *("<script", "<script></", "<p a=", "<title>", "<title></", "<td><table>", "<pre>`", "<h1>x"),
    *("<sup>x", "<ruby>x<rt>y", "<math><msup><mi>x", "<a href='#'><sup>1", "<b hidden>x", "<s>x"),
    *("<table><tr><td colspan=100>x", "<tr><td rowspan=99>x", "<table><td>x<td><pre>\n\n"),
]


@pytest.mark.parametrize("part", smoke(ODDITIES, "<a b='"))
def test_html_when_an_oddity_repeats_then_read_in_linear_time(part):
    for end in ("", ">"):
        title, text = to_markdown(part * (500_000 // len(part)) + end)
        assert isinstance(title + text, str)


def test_html_when_a_comment_never_ends_then_the_text_behind_it_stays():
    assert to_markdown("<p>a</p><!-- b <p>c</p>")[1] == "a\n\n<!-- b\n\nc"


def test_html_when_a_character_number_has_5000_digits_then_the_rest_is_read():
    assert to_markdown(f"a &amp; &#{'9' * 5000}; b")[1] == "a & \ufffd b"


def test_html_when_its_title_is_huge_then_cut_with_a_loss(tmp_path):
    result = _load(tmp_path, "a.html", f"<title>{'t' * 8_000_000}</title><p>x")
    assert (len(result.documents[0].title), result.documents[0].text) == (1000, "x")
    assert result.losses[0].lost == "the rest of the title"


def test_html_when_nested_100000_deep_then_read(tmp_path):
    page = "<div><ul><li><table><tr><td>" * 20_000 + "x"
    assert _load(tmp_path, "a.html", page).documents[0].text.endswith("x")


@pytest.mark.faults
def test_html_when_20_megabytes_then_read(tmp_path):
    page = "".join(f'<p class="c">word{n} <a href="/x?a=1">b</a></p>' for n in range(430_000))
    assert len(page) > 20_000_000
    text = _load(tmp_path, "a.html", page).documents[0].text
    assert text.startswith("word0 b\n\n")
    assert text.endswith("word429999 b")


class _Device:
    """Yield paths that are not regular files."""

    @staticmethod
    def make(kind: str, path: Path) -> None:
        if kind == "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "loop":
            path.symlink_to(path.name)
        elif kind == "folder":
            path.mkdir()


@LINUX
@pytest.mark.parametrize("kind", ["socket", "device", "loop", "folder"])
def test_load_file_when_it_is_no_file_then_refused(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    _Device.make(kind, Path("a.txt"))
    with pytest.raises(DocumentError, match=r"^a\.txt: cannot be read: "):
        load_file(SourceFile("a.txt", Path("a.txt"), Path()))
    files, losses = find_files([tmp_path])
    assert files == []
    assert len(losses) == (kind != "folder")


def test_load_file_when_its_name_holds_nul_then_refused(tmp_path):
    with pytest.raises(DocumentError, match="cannot be read: embedded null"):
        load_file(SourceFile("a.txt", tmp_path / "a\0.txt", tmp_path))
    with pytest.raises(DocumentError, match="cannot be read: File name too long"):
        load_file(SourceFile("a.txt", tmp_path / ("a" * 5000 + ".txt"), tmp_path))
    with pytest.raises(DocumentError, match="File name too long"):
        find_files([tmp_path / ("a" * 5000)])


@LINUX
def test_find_files_when_a_path_is_too_long_then_loss(tmp_path, monkeypatch):
    (tmp_path / "fine.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    Path("deep.txt").write_text("x")
    files, losses = find_files([tmp_path])
    assert [file.id for file in files] == ["fine.txt"]
    assert ["File name too long" in loss.why for loss in losses] == [True]


@LINUX
def test_find_files_when_names_are_hostile_then_read_under_printable_ids(tmp_path):
    names = [
        b"-rf.txt",
        b"a\nb.txt",
        b"a..\\up.txt",
        b"\xff.txt",
        b"%2e%2e.txt",
        b"x" * 251 + b".txt",
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text("x")
    files, losses = find_files([tmp_path])
    assert (len(files), losses) == (6, [])
    assert all(file.id.isprintable() for file in files)
    assert {load_file(file).documents[0].text for file in files} == {"x"}


def test_unsupported_type_when_refused_then_the_message_is_short(tmp_path):
    with pytest.raises(DocumentError) as caught:
        _load(tmp_path, "a." + "x" * 200, "text")
    assert len(str(caught.value)) < 310
    assert "convert it to text, Markdown, HTML or PDF" in str(caught.value)


_EVIL = {
    "dies": "os.kill(os.getpid(), 11)",
    "leaves": "os._exit(0)",
    "garbage": "say(b'\\0\\xff not JSON\\n')",
    "half": 'say(b\'{"n_bytes": 9, "title": ""}\\nhalf\'); os._exit(0)',
    "no length": "say(b'{}\\n')",
    "negative": "say(b'{\"n_bytes\": -1}\\n')",
    "deep": "say(b'[' * 1000000 + b'\\n')",
    "endless line": "[say(b'x' * 1000000) for _ in range(100000)]",
    "gigabytes": "say(b'{\"n_bytes\": 3000000000}\\n'); [say(b'x' * 1000000) for _ in range(3000)]",
    "wrong types": 'say(b\'{"n_bytes": 0, "title": 3, "metadata": [1], "losses": 5}\\n\')',
    "layout elsewhere": (
        'say(b\'{"n_bytes": 1, "n_layout_bytes": 28, "title": "", "metadata": {}, \''
        " b'\"losses\": []}\\nx' + bytes(28))"
    ),
    "layout of bytes": (
        'say(b\'{"n_bytes": 1, "n_layout_bytes": 3, "title": "", "metadata": {}, \''
        " b'\"losses\": []}\\nxabc')"
    ),
    "layout of gigabytes": (
        'say(b\'{"n_bytes": 1, "n_layout_bytes": 3000000000, "title": "", \''
        ' b\'"metadata": {}, "losses": []}\\nx\')'
    ),
}


# Python runs it when a worker starts; then it is the parser of archives.
_PARSER = """
import os, zipfile

def say(data):
    os.write(4, data)  # the worker's copy of its standard output

def open_archive(*args):
    {deed}

zipfile.ZipFile = open_archive
"""


@LINUX
@pytest.mark.parametrize("deed", smoke(_EVIL, "garbage", "wrong types"))
def test_worker_when_it_answers_nonsense_then_only_that_file_is_lost(tmp_path, monkeypatch, deed):
    (tmp_path / "sitecustomize.py").write_text(_PARSER.format(deed=_EVIL[deed]))
    pool = sandbox._pool(os.getpid())
    pool.close()  # only a new worker sees the change
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    try:
        with pytest.raises(DocumentError, match=r"^a\.docx: (broken|timed out)"):
            _load(tmp_path, "a.docx", _zip({"x": "y"}), SandboxLimits(seconds=20))
        assert _load(tmp_path, "b.html", "<p>fine").documents[0].text == "fine"
    finally:
        pool.close()


@LINUX
def test_worker_when_its_parent_is_killed_while_it_parses_then_it_ends(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(_PARSER.format(deed="while True: pass"))
    (tmp_path / "a.docx").write_bytes(_zip({"x": "y"}))
    script = (
        "import os, sys, threading; from pathlib import Path\n"
        "from ragkit.documents import SourceFile, load_file, sandbox\n"
        "pool = sandbox._pool(os.getpid())\n"
        "pool.release(sandbox._Worker())\n"
        "print(pool._idle[0]._process.pid, flush=True)\n"
        "path = Path(sys.argv[1])\n"
        "load_file(SourceFile(path.name, path, path.parent))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.docx")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        child = int(parent.stdout.readline())
        waiting = threading.Event()
        while int(Path(f"/proc/{child}/stat").read_text().split()[13]) < 30:  # until it is parsing
            waiting.wait(0.05)
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    for _ in range(200):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or ") Z " in stat.read_text():
            return
        waiting.wait(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the worker outlived its parent by 10 s")


@pytest.mark.parametrize("border", range(40, 60))
def test_json_when_a_number_is_cut_at_a_window_then_read_whole(border):
    text = '[{"text": "' + "a" * 20 + '"}, 1.5e3, -12345.678e-10, true, {"text": "b"}]'
    with mock.patch.object(json_values, "_WINDOW_SIZE", border):
        items = list(json_values.JsonReader().iter_items(text, 0))
    assert items == json.loads(text)


def test_json_when_an_item_of_a_long_array_is_wrong_then_says_where():
    text = '[{"text": "a"}, {"a":}' + ', {"text": "b"}' * 200_000 + "]"
    with pytest.raises(DocumentError, match=r"it is not JSON: Expecting value.*char 21"):
        read_stream(text, format="json")
