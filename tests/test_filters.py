import json
import random
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.collection import Collection
from ragkit.errors import FilterError
from ragkit.losses import collect
from ragkit.store import filters
from ragkit.testing import HashEmbedder
from ragkit.types import Document

FIELDS = ["year", "name", "tags", "ok", "a.b", "x[0]", "Größe", "it's", "title", "doc_id", "source"]
SCALARS = [
    None, True, False, 0, 1, -1, 2, 2020, 0.0, 1.0, 0.1, 0.1 + 0.2, -2.5, 1e22, 2**53, 2**53 + 1,
    2**63, -(2**70), 10**400, "", "a", "ab", "b", "1", "true", "null", "Ä", "%", "a'b",
    "\U0001f600", "A\u0308", "xe\u0301", "\u00e9",
]  # fmt: skip
NAMES = [name for name in FIELDS if name not in filters.COLUMNS]


def _random_document(i: int) -> Document:
    dice = random.Random(i)
    fields = {}
    for name in dice.sample(NAMES, dice.randrange(len(NAMES))):
        listed = [dice.choice(SCALARS) for _ in range(dice.randrange(4))]
        fields[name] = listed if dice.random() < 0.25 else dice.choice(SCALARS)
    title = dice.choice(["", "a", "ab", "Ä"])
    return Document(f"d{i % 7}-{i}", "x", title, dice.choice(["", "a", "b"]), fields)


DOCUMENTS = [_random_document(i) for i in range(150)]


@pytest.fixture(scope="module")
def collection():
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection(f"{folder}/c.rag", embedder=HashEmbedder()) as collection,
    ):
        collection.add(DOCUMENTS)
        yield collection


def _fields(document: Document) -> dict[str, object]:
    own = {"doc_id": document.id, "source": document.source or document.id}
    return {**document.metadata, **own, "title": document.title}


value = st.sampled_from([x for x in SCALARS if x != 10**400]) | st.sampled_from(["d1", "d", "d2-2"])
ordered = value.filter(lambda x: x is not None and not isinstance(x, bool))
test = st.one_of(
    st.dictionaries(st.sampled_from(["==", "!=", "contains"]), value, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from([">", ">=", "<", "<="]), ordered, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["in", "nin"]), st.lists(value, max_size=4), min_size=1),
    st.fixed_dictionaries({"exists": st.booleans()}),
    value,
)
leaf = st.dictionaries(st.sampled_from(FIELDS), test, max_size=2)
where = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"and": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"or": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=5,
)


@examples(150)
@given(where)
def test_filter_in_sql_when_random_finds_what_python_finds(collection, where):
    expected = {d.id for d in DOCUMENTS if filters.matches(where, _fields(d))}
    hits = collection.retriever("dense", copies=True).retrieve(["x"], 1000, where=where)[0]
    assert {hit.chunk.doc_id for hit in hits} == expected


@pytest.mark.parametrize(
    ("where", "fields", "expected"),
    [
        ({"year": 2020}, {"year": 2020.0}, True),
        ({"year": 1}, {"year": True}, False),
        ({"year": "1"}, {"year": 1}, False),
        ({"year": {"!=": 2020}}, {}, False),
        ({"not": {"year": 2020}}, {}, True),
        ({"year": {"nin": [1]}}, {"year": "a"}, False),
        ({"year": {"nin": [1]}}, {"year": 2}, True),
        ({"year": {"!=": None}}, {"year": 2}, True),
        ({"year": {"!=": None}}, {"year": None}, False),
        ({"year": None}, {}, False),
        ({"tags": {"contains": "b"}}, {"tags": ["a", "b"]}, True),
        ({"tags": {"contains": "b"}}, {"tags": "abc"}, True),
        ({"tags": "b"}, {"tags": ["b"]}, False),
        ({"year": {">=": 2000, "<": 2020}}, {"year": 2019}, True),
        ({}, {}, True),
    ],
)
def test_filter_when_types_differ_or_fields_miss_means_what_is_documented(where, fields, expected):
    assert filters.matches(where, fields) is expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"year": {"=>": 1}}, "unknown operator '=>' for the field 'year'.*== != > >= < <= in nin"),
        ({"year": {"$gt": 1}}, r"unknown operator '\$gt'"),
        ({"year": {}}, "the field 'year' has no operator; expected one of == !="),
        ({"year": [1]}, r"cannot compare with \[1\]"),
        ({"year": {"==": {"a": 1}}}, "cannot compare with"),
        ({"year": {"in": 3}}, "'in' of 'year' is 3; expected a list"),
        ({"year": {"in": "abc"}}, "expected a list"),
        ({"year": {"exists": 1}}, "'exists' of 'year' is 1; expected true or false"),
        ({"year": {">": True}}, "expected a number or text"),
        ({"year": {">": None}}, "expected a number or text"),
        ({"year": float("nan")}, "is nan; expected a finite number"),
        ({"year": {"<": float("inf")}}, "expected a finite number"),
        ({"year": 10**400}, "expected a finite number"),
        ({"name": "a\0"}, "NUL and lone surrogates"),
        ({"name": {"in": ["\ud800"]}}, "NUL and lone surrogates"),
        ({"and": []}, r"'and' has the value \[\]; expected a non-empty list of filters"),
        ({"or": {"a": 1}}, "'or' has the value"),
        ({"not": 3}, "a filter is 3; expected an object"),
        (["year"], "a filter is"),
        ("year", "a filter is 'year'"),
        ({'a") OR 1=1 --': 1}, "cannot be filtered"),
        ({"a\\": 1}, "cannot be filtered"),
        ({"\ud800": 1}, "cannot be filtered"),
        ({"": 1}, "cannot be filtered"),
        ({3: 1}, "the field 3 cannot be filtered"),
        ({"a": {"= 1 OR 1": 1}}, "unknown operator"),
    ],
)
def test_filter_when_wrong_is_refused_in_words(collection, where, message):
    for name in ("dense", "bm25", "hybrid"):
        with pytest.raises(FilterError, match=message):
            collection.retriever(name).retrieve(["x"], where=where)
    with pytest.raises(FilterError, match=message):
        filters.matches(where, {})


@pytest.mark.parametrize("name", ["' OR 1=1 --", "a'); DROP TABLE documents;--", "$", "*", "%"])
def test_filter_when_it_looks_like_sql_is_only_a_name_or_value(collection, name):
    retriever = collection.retriever("dense", copies=True)
    for where in ({name: 1}, {"name": name}, {"name": {"in": [name]}}, {"doc_id": name}):
        expected = sum(filters.matches(where, _fields(d)) for d in DOCUMENTS)
        assert len(retriever.retrieve(["x"], 1000, where=where)[0]) == expected
    assert len(retriever.retrieve(["x"], 1000)[0]) == len(DOCUMENTS)


def test_filter_when_huge_is_answered_or_refused(collection):
    many = [f"d{i}" for i in range(50_000)]
    where = {"doc_id": {"in": [*many, DOCUMENTS[3].id]}}
    assert len(collection.retriever("dense").retrieve(["x"], where=where)[0]) == 1
    wide = {"or": [{"doc_id": f"d{i}"} for i in range(300)]}
    assert collection.retriever("dense").retrieve(["x"], where=wide) == [[]]
    with pytest.raises(FilterError, match="over 300 conditions"):
        filters.check({"or": [{"doc_id": str(i)} for i in range(301)]})
    deep: dict[str, object] = {"year": 1}
    for _ in range(5000):
        deep = {"not": deep}
    with pytest.raises(FilterError, match="nested deeper than 32"):
        filters.check(deep)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year>=2020", {"year": {">=": 2020}}),
        ("year = 2020", {"year": {"in": [2020, "2020"]}}),
        ("version=3.10", {"version": {"in": [3.1, "3.10"]}}),
        ("version==-1e3", {"version": {"in": [-1000.0, "-1e3"]}}),
        ("version != 3.10 ", {"version": {"nin": [3.1, "3.10"]}}),
        ('version="3.10"', {"version": {"==": "3.10"}}),
        ("zip=007", {"zip": {"==": "007"}}),
        ("name=NaN", {"name": {"==": "NaN"}}),
        ("size=1e999", {"size": {"==": "1e999"}}),
        (f"id={'9' * 5000}", {"id": {"==": "9" * 5000}}),
        ("name=null", {"name": {"==": None}}),
        ("date>=2024-03", {"date": {">=": "2024-03"}}),
        ("tags contains 3.10", {"or": [{"tags": {"contains": v}} for v in (3.1, "3.10")]}),
        ("tags contains true", {"or": [{"tags": {"contains": v}} for v in (True, "true")]}),
        ("name==GaAs", {"name": {"==": "GaAs"}}),
        ('name!="1"', {"name": {"!=": "1"}}),
        ("ok=true", {"ok": {"in": [True, "true"]}}),
        ("tags contains band gap", {"tags": {"contains": "band gap"}}),
        ("year in [1, 2.0]", {"year": {"in": [1, "1", 2.0, "2.0"]}}),
        ('year nin ["1", false]', {"year": {"nin": ["1", False, "false"]}}),
        ("a.b<0.5", {"a.b": {"<": 0.5}}),
        (' {"or": [{"a": 1}, {"b": 2}]} ', {"or": [{"a": 1}, {"b": 2}]}),
    ],
)
def test_expression_when_readable_is_a_filter(text, expected):
    assert filters.parse_expression(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year", "cannot read the filter 'year'; expected FIELD OP VALUE"),
        ("", "cannot read the filter"),
        (">=3", "cannot read the filter"),
        ('{"year": ', "is not JSON"),
        ('{"year": {"~": 1}}', "unknown operator '~'"),
        ("year in 3", "expected a list"),
    ],
)
def test_expression_when_unreadable_is_refused(text, message):
    with pytest.raises(FilterError, match=message):
        filters.parse_expression(text)


TYPED = [
    Document("a", "x", metadata={"year": "2020", "version": "3.10", "ok": "true", "tags": ["b"]}),
    Document("b", "y", metadata={"year": "2021", "version": 3.1, "ok": True, "n": 4}),
    Document("c", "z", metadata={"version": "3.9", "ok": None, "name": "Cafe\u0301", "n": 5.5}),
    Document("d", "w", "Caf\u00e9", metadata={"name": "Caf\u00e9", "tags": ["e\u0301", 1]}),
]


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    path = tmp_path_factory.mktemp("typed") / "c.rag"
    with Collection(path, embedder=HashEmbedder()) as made:
        made.add(TYPED)
        yield made


def _search(collection, where, name="hybrid"):
    with collect() as losses:
        hits = collection.retriever(name).retrieve(["x y z w"], where=where)[0]
    return sorted(hit.chunk.doc_id for hit in hits), losses


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (
            {"year": 2020},
            "the field 'year' holds text in 2 documents, the filter compares with a number",
        ),
        ({"year": {">=": 2020}}, "the field 'year' holds text in 2 documents, the filter compares"),
        ({"year": {"in": [2020, None]}}, "the filter compares with null and a number"),
        (
            {"tags": "b"},
            "the field 'tags' holds a list in 2 documents, the filter compares with text",
        ),
        ({"n": {"contains": 4}}, "holds a number in 2 documents, the filter searches lists"),
        (
            {"n": {"contains": "4"}},
            "holds a number in 2 documents, the filter searches lists and t",
        ),
        ({"name": True}, "holds text in 2 documents, the filter compares with true or false"),
        ({"yaer": 2020}, "no document has the field 'yaer'"),
        ({"yaer": {"exists": True}}, "no document has the field 'yaer'"),
        ({"title": 3}, "the field 'title' holds text"),
        (
            {"and": [{"year": 2020}, {"not": {"x": 1}}]},
            "holds text in 2 .*; no document has .* 'x'",
        ),
        (
            {"ok": 1},
            "'ok' holds true or false in 1 documents and null in 1 documents and text in 1",
        ),
    ],
)
def test_filter_when_a_field_has_another_type_says_so_once(typed, where, why):
    for name in ("dense", "bm25", "hybrid"):
        for _ in range(2):  # the second time from the cache
            ids, losses = _search(typed, where, name)
            assert ids == []
            assert [(loss.stage, loss.lost) for loss in losses] == [("search", "all documents")]
            assert re.search(why, losses[0].why), losses[0].why


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"year": "1999"}, []),
        ({"n": {">": 100}}, []),
        ({"tags": {"contains": "z"}}, []),
        ({"version": 3.1}, ["b"]),
        ({"version": {"in": [3.1, "3.10"]}}, ["a", "b"]),
        ({"yaer": {"exists": False}, "n": 4}, ["b"]),
        ({"yaer": {"exists": False}, "n": 0}, []),
        ({"year": {"!=": None}, "n": 0}, []),
        ({"year": {"in": []}}, []),
        ({"ok": None}, ["c"]),
    ],
)
def test_filter_when_only_the_values_differ_says_nothing(typed, where, ids):
    assert _search(typed, where) == (ids, [])


def test_filter_on_text_when_accents_are_written_otherwise_finds_both():
    for texts in (("Caf\u00e9", "Cafe\u0301"), ("TiO2 film", "TiO₂ ﬁlm"), ("5 μm", "5 µm")):
        for a in texts:
            for b in texts:
                assert filters.matches({"name": a}, {"name": b})
                assert not filters.matches({"name": b}, {"name": b.swapcase()})


def test_filter_on_text_when_searched_compares_in_one_spelling_and_keeps_case(typed):
    for e in ("\u00e9", "e\u0301"):
        for where, ids in [
            ({"name": f"Caf{e}"}, ["c", "d"]),
            ({"name": {"in": [f"Caf{e}"]}}, ["c", "d"]),
            ({"name": {"nin": [f"Caf{e}"]}}, []),
            ({"name": {"!=": f"Caf{e}"}}, []),
            ({"name": {">=": f"Caf{e}"}}, ["c", "d"]),
            ({"name": {"contains": f"f{e}"}}, ["c", "d"]),
            ({"tags": {"contains": e}}, ["d"]),
            ({"title": f"Caf{e}"}, ["d"]),
            ({"name": f"caf{e}"}, []),
        ]:
            assert _search(typed, where)[0] == ids, where


def test_search_when_the_filter_has_another_type_says_so_and_equals_means_both(ragkit):
    with Collection("c.rag") as made:
        made.add(TYPED)
    code, out, err = ragkit("search", "x", "--in", "c.rag", "--where", "year>=2020")
    assert (code, out) == (0, "no hits\n")
    assert "holds text in 2 documents, the filter compares with a number" in err.replace("\n", " ")
    for where, ids in {"version=3.10": "ab", "version=3.1": "b", "ok=true": "ab"}.items():
        done = ragkit("search", "x", "--in", "c.rag", "--where", where, "--json")
        hits = json.loads(done.out)["hits"]
        assert sorted(hit["chunk"]["doc_id"] for hit in hits) == list(ids), where


def test_index_add_when_metadata_is_a_number_keeps_how_it_is_written(ragkit):
    Path("a.txt").write_text("text")
    fields = {"v": "3.10", "n": "2", "f": "0.5", "zip": "007", "e": "1e3", "ok": "true", "x": "NaN"}
    options = [part for key, value in fields.items() for part in ("-m", f"{key}={value}")]
    assert ragkit("index", "add", "a.txt", "--to", "c.rag", *options).code == 0
    document = json.loads(ragkit("index", "show", "a.txt", "--in", "c.rag", "--json").out)
    expected = {**fields, "n": 2, "f": 0.5, "ok": True, "format": "text"}
    assert document["metadata"] == expected
