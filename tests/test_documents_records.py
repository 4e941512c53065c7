import json
from typing import Any

from ragkit.documents.load import read_stream
from ragkit.documents.scalars import ColumnType, parse_scalar


def csv_values(*cells: str) -> list[Any]:
    """Return the metadata of a CSV column with the given cells."""
    table = "key,value\n" + "".join(f'{i},"{cell}"\n' for i, cell in enumerate(cells))
    return [d.metadata.get("value") for d in read_stream(table, format="csv").documents]


def test_parse_scalar_when_a_value_does_not_write_back_as_itself_then_text():
    numbers = {"0": 0, "42": 42, "-7": -7, "0.5": 0.5, "-1.25": -1.25, "1e+20": 1e20}
    assert {text: parse_scalar(text) for text in numbers} == numbers
    assert [parse_scalar(text) for text in ("true", "FALSE")] == [True, False]
    for text in (
        *("3.10", "12E4", "1e5", "007", "012", "+49", "1_000", "1,000", "0x1F", "-0", ".5", "5."),
        *("nan", "inf", "-inf", "1e999", "yes", "no", "on", "null", "", "2021-03-04", "9" * 30),
        *("12:30:45", "1.2.3", "٣"),
    ):
        assert parse_scalar(text) == text, text


def test_csv_column_when_all_cells_are_of_one_type_then_each_has_it():
    for cells, values in {
        ("3.50", "4.25", "10.00"): [3.5, 4.25, 10.0],
        ("1", "20", "-3"): [1, 20, -3],
        ("1", "2.5"): [1, 2.5],
        ("1.5e-3", "2.0e-4"): [0.0015, 0.0002],
        ("+0.5", "-0.3"): [0.5, -0.3],
        ("TRUE", "false", ""): [True, False, None],
        ("1999", "", "n/a", "-", "NaN", "2001"): [1999, None, None, None, None, 2001],
    }.items():
        assert csv_values(*cells) == values, cells


def test_csv_column_when_one_cell_is_text_then_all_are():
    for cells in (
        ("3.9", "3.10", "3.11.2"),
        ("3.9", "3.10"),
        ("12E4", "13E5"),
        ("12", "12E4"),
        ("1", "many"),
        ("0123", "4567"),
        ("+49", "49"),
        ("1_000", "2_000"),
        ("true", "1"),
        ("yes", "no"),
        ("inf", "1.0"),
        ("9" * 30, "1"),
        ("n/a", "nan"),
    ):
        assert csv_values(*cells) == list(cells), cells


def test_column_type_when_empty_then_text():
    assert ColumnType().convert("") == ""


def test_csv_when_its_first_line_names_the_delimiter_then_used():
    for first in ("sep=;", "SEP=;", '"sep=;"'):
        [document] = read_stream(f"{first}\na,b;c\n1,5;x\n", format="csv").documents
        assert document.text == "a,b: 1,5\nc: x", first
    [document] = read_stream("sep=\t\na,b\tc\n1,5\tx\n", format="csv").documents
    assert document.text == "a,b: 1,5\nc: x"
    [document] = read_stream("sep=,b\n1,2\n", format="csv").documents
    assert document.text == "sep=: 1\nb: 2"


def test_csv_when_title_rows_stand_above_the_header_then_they_are_the_title():
    rows = "valve;bar\nV-70;5\nV-71;6\n"
    for above, title in {
        "Report 2024\n\n": "Report 2024",
        "Report 2024;\n;\n": "Report 2024",
        "Report 2024\nPlant A\n": "Report 2024 – Plant A",  # noqa: RUF001
        "": "",
    }.items():
        documents = read_stream(above + rows, format="csv").documents
        assert [(d.title, d.text) for d in documents] == [
            (title, "valve: V-70\nbar: 5"),
            (title, "valve: V-71\nbar: 6"),
        ], above
        assert [d.metadata["bar"] for d in documents] == [5, 6]
    [document, _] = read_stream("name\nIron; pure\nLead\n", format="csv").documents
    assert (document.title, document.text) == ("", "name: Iron; pure")


def test_records_when_they_have_a_text_and_other_fields_then_all_are_searched():
    record = {"id": "p1", "title": "Pump", "text": "A pump.", "sku": "P-77", "tags": ["a", "b"]}
    vector = {"vector": [0.25] * 500, "nothing": None, "blank": "", "metadata": {"url": "u"}}
    for format, data in (("json", [{**record, **vector}]), ("jsonl", {**record, **vector})):
        [document] = read_stream(json.dumps(data), format=format).documents
        assert (document.id, document.title) == ("stdin#p1", "Pump")
        assert document.text == 'A pump.\n\nsku: P-77\ntags: ["a", "b"]'
        assert (document.metadata["sku"], document.metadata["url"]) == ("P-77", "u")
        assert document.metadata["vector"] == [0.25] * 500


def test_records_of_evaluation_corpora_when_read_then_their_text_is_the_field():
    for record in (
        {"_id": "d1", "title": "T", "text": "body", "metadata": {"url": "u"}, "year": 3},
        {"id": 7, "contents": "body", "year": 3},
        {"id": "d2", "title": "T", "text": "body", "metadata": {"year": 3}},
    ):
        [document] = read_stream(json.dumps(record), format="jsonl").documents
        assert (document.text, document.metadata["year"]) == ("body", 3)
    [document] = read_stream("_id,text,year\nd1,body,3\n", format="csv").documents
    assert (document.id, document.text, document.metadata["year"]) == ("stdin#d1", "body", 3)
    result = read_stream('{"_id": "d1", "text": " ", "year": 3}\n{"text": "a"}', format="jsonl")
    assert [loss.why for loss in result.losses] == ["it has no text"]
