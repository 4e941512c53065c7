"""The demo corpus: each figure in its prose comes from a row of the data that the article names.

The front matter of an article lists its facts, one JSON object a line:

- ``text`` stands in the prose; ``value`` and ``unit`` are what it says.
- ``data`` is a file under the data folder, ``row`` says how to find the row, ``column`` which value
  (a dot descends into a nested record). All keys of ``row`` must match, and exactly one row must be
  left; ``pick`` ("min" or "max") chooses where a table has several rows for a formula.
- For the transcripts, ``notebook``, ``cell`` and ``output`` name a printed list of records.
- ``transform`` is null or "10**x" (the table holds a decimal logarithm); ``round`` is the number of
  decimals printed.
"""

import ast
import csv
import functools
import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("RAGKIT_DATA", ROOT.parent / "shared" / "data"))
ARTICLES = sorted((ROOT / "notebooks" / "data").glob("*.md"))
FACT_KEYS = {
    "text",
    "value",
    "unit",
    "property",
    "data",
    "row",
    "column",
    "round",
    "transform",
}
TRANSFORMS = {None: lambda x: x, "10**x": lambda x: 10**x}
SPACE_GROUPS = {
    "P-1": 2,
    "C2/m": 12,
    "P2_1/c": 14,
    "Pca2_1": 29,
    "Amm2": 38,
    "Pmmn": 59,
    "Pnma": 62,
    "I-4": 82,
    "P4mm": 99,
    "P4_2/mnm": 136,
    "R-3": 148,
    "R3m": 160,
    "R3c": 161,
    "P-3m1": 164,
    "R-3m": 166,
    "R-3c": 167,
    "P6_3mc": 186,
    "P-6m2": 187,
    "P6/mmm": 191,
    "P6_3/mmc": 194,
    "F-43m": 216,
    "Pm-3m": 221,
    "Fm-3m": 225,
    "Fd-3m": 227,
    "Im-3m": 229,
}
# The articles go into the wheel: only data that may be passed on under any terms, with credit.
PERMISSIVE = {"llamp_eval", "llamp_fig3", "matbench_tables", "mp_dft_tables"}
POLYTYPES = ("2H", "3C", "3R", "4H")  # names of stackings, not measured numbers

needs_data = pytest.mark.skipif(
    not (DATA / "INDEX.md").is_file(), reason=f"no data folder at {DATA} (set RAGKIT_DATA)"
)


def read_article(path):
    """Split an article into its front matter (scalars and facts) and its Markdown body."""
    opening, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert opening == ""
    meta = {"facts": []}
    for line in front.splitlines():
        if line.startswith("  - "):
            meta["facts"].append(json.loads(line[4:]))
        elif line != "facts:":
            key, _, value = line.partition(": ")
            meta[key] = value
    return meta, body


def read_table(path):
    """The rows of a CSV file of the data folder, as dictionaries."""
    csv.field_size_limit(10**8)
    with path.open(encoding="utf-8", newline="") as handle:
        if path.parent.name == "mp_dft_tables":
            handle.readline()  # a comment that names the source
        rows = csv.reader(handle)
        header = next(rows)
        if path.name == "piezoelectric_tensor.csv":
            header.insert(0, "row")  # the row number has no column name
        table = [dict(zip(header, row, strict=True)) for row in rows]
    if path.name == "dielectric_constant.csv":
        table = [row | ast.literal_eval(row["meta"]) for row in table]
    return table


def records_at_start(text):
    """The list of records that a notebook printed before anything else."""
    depth, quote, escaped = 0, "", False
    for end, char in enumerate(text.strip(), start=1):
        if quote:
            if not escaped and char == quote:
                quote = ""
            escaped = char == "\\" and not escaped
        elif char in "'\"":
            quote = char
        else:
            depth += (char in "[{(") - (char in ")}]")
            if depth == 0:
                return ast.literal_eval(text.strip()[:end])
    raise AssertionError("no complete list of records")


@functools.cache
def load(name):
    """The rows of one data file; for the transcripts, the notebooks."""
    path = DATA / name
    if path.suffix == ".csv":
        return read_table(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["elements"] if isinstance(content, dict) else content


def rows_of(fact):
    """The rows among which the fact's row is looked for, and the keys left to match."""
    keys = {key: value for key, value in fact["row"].items() if key != "pick"}
    rows = load(fact["data"])
    if "notebook" in keys:
        notebook, cell, output = (keys.pop(key) for key in ("notebook", "cell", "output"))
        (cells,) = [entry["cells"] for entry in rows if entry["notebook"] == notebook]
        (outputs,) = [entry["output"] for entry in cells if entry["cell"] == cell]
        rows = records_at_start(outputs[output])
    return rows, keys


def source_values(fact):
    """All values that the data give for a fact, transformed but not rounded."""
    rows, keys = rows_of(fact)
    values = []
    for row in rows:
        if all(row.get(key) == value for key, value in keys.items()):
            value = row
            for part in fact["column"].split("."):
                value = value[part]
            values.append(TRANSFORMS[fact["transform"]](float(value)))
    pick = fact["row"].get("pick")
    return [{"min": min, "max": max}[pick](values)] if pick else values


def printed(fact):
    """The figure as the prose has to print it."""
    number = f"{fact['value']:.{fact['round']}f}"
    return f"{number} {fact['unit']}" if fact["unit"] else number


def bounded(text):
    """A pattern for a text that is not part of a longer number or word."""
    return rf"(?<![\w.]){re.escape(text)}(?![\w]|\.\d)"


@functools.cache
def element_symbols():
    symbols = (
        "H Li Be B C N O F Na Mg Al Si P S Cl K Ca Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Y Zr Nb Mo"
        " Cd In Te I Cs Ba La Nd Sm Eu Gd Dy Ho Pr Hf Pb"
    )
    return set(symbols.split())


def is_formula(token):
    parts = re.findall(r"([A-Z][a-z]?)\d*", token)
    return bool(re.fullmatch(r"([A-Z][a-z]?\d*)+", token)) and set(parts) <= element_symbols()


def without_names(prose):
    """The prose without what holds digits but is a name: mp-ids, symbols, polytypes, formulas."""
    prose = re.sub(r"\bmp-\d+\b", " ", prose)
    for name in sorted([*SPACE_GROUPS, *POLYTYPES], key=len, reverse=True):
        prose = re.sub(rf"(?<![\w/-]){re.escape(name)}(?![\w/])", " ", prose)
    return re.sub(r"\b[A-Z]\w*", lambda m: " " if is_formula(m[0]) else m[0], prose)


def test_demo_corpus_when_listed_then_about_thirty_articles_on_three_topics():
    topics = [read_article(path)[0]["topic"] for path in ARTICLES]
    assert 28 <= len(ARTICLES) <= 32
    assert set(topics) == {"semiconductors", "batteries", "magnets"}
    assert min(topics.count(topic) for topic in set(topics)) >= 6


def test_article_when_read_then_has_the_keys_a_title_and_a_fair_length():
    for path in ARTICLES:
        meta, body = read_article(path)
        assert set(meta) == {"title", "topic", "facts", "source"}, path.stem
        assert body.startswith(f"\n# {meta['title']}\n\n"), path.stem
        assert meta["source"], path.stem
        assert meta["facts"], path.stem
        assert all(set(fact) == FACT_KEYS for fact in meta["facts"]), path.stem
        assert 120 <= len(body.split()) <= 400, path.stem


def test_fact_text_when_sought_in_the_prose_then_stands_there_verbatim():
    for path in ARTICLES:
        meta, body = read_article(path)
        missing = [f["text"] for f in meta["facts"] if not re.search(bounded(f["text"]), body)]
        assert missing == [], path.stem


def test_fact_when_its_data_set_is_named_then_is_neither_share_alike_nor_unlicensed():
    for path in ARTICLES:
        meta, _ = read_article(path)
        assert {fact["data"].split("/")[0] for fact in meta["facts"]} <= PERMISSIVE, path.stem
        assert all(part.endswith(", CC BY 4.0") for part in meta["source"].split("; ")), path.stem


def test_attribution_when_read_then_names_each_data_set_and_no_other():
    text = (ROOT / "notebooks" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)/", text, re.MULTILINE)) == PERMISSIVE


@needs_data
def test_facts_when_looked_up_in_the_data_then_one_row_gives_the_same_value():
    for path in ARTICLES:
        facts = read_article(path)[0]["facts"]
        found = [[round(value, fact["round"]) for value in source_values(fact)] for fact in facts]
        assert found == [[fact["value"]] for fact in facts], path.stem


def test_fact_texts_when_compared_with_their_values_then_say_the_same():
    for path in ARTICLES:
        facts = read_article(path)[0]["facts"]
        said = [
            SPACE_GROUPS[fact["text"]] if fact["property"] == "space group number" else fact["text"]
            for fact in facts
        ]
        assert said == [
            fact["value"] if fact["property"] == "space group number" else printed(fact)
            for fact in facts
        ], path.stem


def test_number_in_the_prose_when_no_name_then_belongs_to_a_fact():
    for path in ARTICLES:
        meta, body = read_article(path)
        prose = body.replace(f"# {meta['title']}\n", "", 1)
        for text in sorted({fact["text"] for fact in meta["facts"]}, key=len, reverse=True):
            prose = re.sub(bounded(text), " ", prose)
        assert re.findall(r"\S*\d\S*", without_names(prose)) == [], path.stem


def test_article_when_searched_for_references_then_has_none():
    for path in ARTICLES:
        _, body = read_article(path)
        assert not re.search(r"https?:|www\.|\bdoi\b|et al\.|\[|\]", body, re.IGNORECASE), path.stem


def test_number_check_when_the_prose_holds_a_stray_number_then_finds_it():
    prose = "Space group Fd-3m, P6_3/mmc (mp-149), 4H, Li4Ti5O12 and Fe3O4, but 3.5 eV and Table 3."
    assert re.findall(r"\S*\d\S*", without_names(prose)) == ["3.5", "3."]
