"""TREC files: qrels, runs, topics, documents; sound ones and malformed ones."""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.errors import DatasetError
from ragkit.evaluation.datasets import (
    read_noveleval,
    read_qrels,
    read_rerank,
    read_run,
    read_trec,
    read_trec_topics,
    write_run,
)
from ragkit.losses import collect
from ragkit.types import Document


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_qrels_of_trec_when_read_then_grades_by_query_and_document(tmp_path):
    path = _write(tmp_path, "qrels.txt", "q1 0 d1 2\nq1 Q0 d2 0\n\nq2\t0\td1\t-1\r\n")
    assert read_qrels(path) == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}


def test_qrels_of_beir_when_read_then_header_is_no_judgement(tmp_path):
    path = _write(tmp_path, "test.tsv", "query-id\tcorpus-id\tscore\nq 1\td 1\t1\n")
    assert read_qrels(path) == {"q 1": {"d 1": 1}}


def test_qrels_when_gzipped_or_with_byte_order_mark_then_read_all_the_same(tmp_path):
    data = b"\xef\xbb\xbfq1 0 d1 1\n"
    path = _write(tmp_path, "qrels.gz", gzip.compress(data))
    assert read_qrels(path) == {"q1": {"d1": 1}}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q1 0 d2", "line 2: 3 columns; expected query, 0, document, relevance"),
        ("q1 0 d2 1 more", "line 2: 5 columns"),
        ("q1 0 d2 high", "line 2: relevance 'high'; a relevance is an integer"),
        ("q1 0 d2 1.5", "line 2: relevance '1.5'"),
        ("q1 0 d1 2", "line 2: query 'q1': document id 'd1' is a duplicate"),
        (b"q1 0 caf\xe9 1", "line 2: byte 0xe9 is not UTF-8; convert the file"),
    ],
)
def test_qrels_when_a_line_is_malformed_then_file_and_line_or_a_counted_loss(
    tmp_path, line, problem
):
    line = line if isinstance(line, bytes) else line.encode()
    path = _write(tmp_path, "qrels.txt", b"q1 0 d1 1\n" + line + b"\nq2 0 d1 1\n")
    with pytest.raises(DatasetError) as caught:
        read_qrels(path)
    assert f"{path} {problem}" in str(caught.value)
    with collect() as losses:
        assert read_qrels(path, lenient=True) == {"q1": {"d1": 1}, "q2": {"d1": 1}}
    assert [(loss.what, loss.lost) for loss in losses] == [(str(path), "1 skipped: line 2")]


def test_qrels_when_the_first_line_is_malformed_then_lenient_reads_the_others(tmp_path):
    path = _write(tmp_path, "qrels.txt", "nonsense\nq1 0 d1 1\n")
    with collect() as losses:
        assert read_qrels(path, lenient=True) == {"q1": {"d1": 1}}
    assert len(losses) == 1


@pytest.mark.parametrize("make", [lambda p: p / "none.txt", lambda p: p])
def test_qrels_when_there_is_no_file_then_an_error_that_says_so(tmp_path, make):
    with pytest.raises(DatasetError, match="cannot be read"):
        read_qrels(make(tmp_path), lenient=True)


def test_qrels_when_the_gzip_is_cut_off_then_an_error_and_lenient_keeps_the_start(tmp_path):
    rows = "".join(f"q{i} 0 d{random.Random(i).random()} 1\n" for i in range(5000))
    path = _write(tmp_path, "qrels.gz", gzip.compress(rows.encode())[:-2000])
    with pytest.raises(DatasetError, match=r"qrels.gz line \d+: .*the file is truncated"):
        read_qrels(path)
    with collect() as losses:
        kept = read_qrels(path, lenient=True)
    assert 1000 < len(kept) < 5000
    assert losses[0].lost.startswith("1 the rest of the file skipped: line ")


def test_run_when_written_then_sorted_by_score_then_id_and_ranked_from_one(tmp_path):
    write_run(tmp_path / "a.run", {"q": {"b": 1.0, "c": 2.5, "a": 1.0}, "r": {"x": -0.5}}, "bm25")
    assert (tmp_path / "a.run").read_text().splitlines() == [
        "q Q0 c 1 2.5 bm25",
        "q Q0 a 2 1.0 bm25",
        "q Q0 b 3 1.0 bm25",
        "r Q0 x 1 -0.5 bm25",
    ]
    assert list(read_run(tmp_path / "a.run")["q"]) == ["c", "a", "b"]


_words = st.text(min_size=1, max_size=8).filter(
    lambda s: s.split() == [s] and not s.startswith("\ufeff") and s.isprintable()
)
_scores = st.floats(allow_nan=False, allow_infinity=False)


@examples(150)
@given(
    st.dictionaries(_words, st.dictionaries(_words, _scores, min_size=1, max_size=6), max_size=5)
)
def test_run_when_written_and_read_then_equal(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("runs") / "a.run"
    write_run(path, run, "tag")
    assert read_run(path) == run


@pytest.mark.parametrize(
    ("run", "tag", "problem"),
    [
        ({"q 1": {"d": 1.0}}, "t", "query id 'q 1'"),
        ({"q": {"": 1.0}}, "t", "document id ''"),
        ({"q": {"d": 1.0}}, "two words", "tag 'two words'"),
        ({"q": {"d": math.nan}}, "t", "score nan is not finite"),
        ({"q": {"d": math.inf}}, "t", "score inf is not finite"),
    ],
)
def test_run_when_it_cannot_be_written_then_value_error_and_no_file(tmp_path, run, tag, problem):
    with pytest.raises(ValueError, match=problem):
        write_run(tmp_path / "a.run", run, tag)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q Q0 d2 2 1.0", "5 columns; expected six: query Q0 document rank score tag"),
        ("q Q0 d2 2 1.0 tag more", "7 columns"),
        ("q Q0 d2 2 nan tag", "score nan; a score is finite"),
        ("q Q0 d2 2 inf tag", "score inf"),
        ("q Q0 d2 2 much tag", "score 'much'; a score is a number"),
        ("q Q0 d2 two 1.0 tag", "rank 'two'"),
        ("q Q0 d1 2 1.0 tag", "query 'q': document id 'd1' is a duplicate"),
    ],
)
def test_run_when_a_line_is_malformed_then_file_and_line_or_a_counted_loss(tmp_path, line, problem):
    path = _write(tmp_path, "a.run", f"q Q0 d1 1 2.0 tag\n{line}\nr Q0 d1 1 2.0 tag\n")
    with pytest.raises(DatasetError) as caught:
        read_run(path)
    assert f"{path} line 2: {problem}" in str(caught.value)
    with collect() as losses:
        assert read_run(path, lenient=True) == {"q": {"d1": 2.0}, "r": {"d1": 2.0}}
    assert losses[0].lost == "1 skipped: line 2"


@pytest.mark.parametrize(
    ("last", "problem"),
    [
        ("q Q0 d2 2 3.0 tag", "line 3: score 3.0 after 2.0"),
        ("q Q0 d2 1 1.0 tag", "line 3: rank 1 after 1"),
        (
            "r Q0 d1 1 1.0 tag\nq Q0 d2 2 3.0 tag",
            "line 4: lines of query 'q' are separated by another",
        ),
    ],
)
def test_run_when_out_of_order_then_file_and_line_and_lenient_sorts_it(tmp_path, last, problem):
    path = _write(tmp_path, "a.run", f"p Q0 d1 1 1.0 tag\nq Q0 d1 1 2.0 tag\n{last}\n")
    with pytest.raises(DatasetError) as caught:
        read_run(path)
    assert f"{path} {problem}" in str(caught.value)
    with collect() as losses:
        found = read_run(path, lenient=True)["q"]
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert len(found) == 2
    assert losses[0].lost.startswith("1 sorted by score: line ")


def test_run_when_scores_tie_then_the_order_of_the_file_is_kept(tmp_path):
    path = _write(tmp_path, "a.run", "q Q0 d9 0 1.5 tag\nq Q0 d1 1 1.5 tag\n")
    assert list(read_run(path)["q"].items()) == [("d9", 1.5), ("d1", 1.5)]


CLASSIC = """<top>
<num> Number: 301
<title> International Organized Crime

<desc> Description:
Identify organizations, p < 0.05.

<narr> Narrative:
A relevant document
says so.
</top>
"""


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("title", "International Organized Crime"),
        ("desc", "Identify organizations, p < 0.05."),
        ("narr", "A relevant document says so."),
    ],
)
def test_topics_of_trec_when_a_field_is_named_then_its_text_without_label(tmp_path, field, text):
    path = _write(tmp_path, "topics.txt", CLASSIC)
    assert read_trec_topics(path, field=field) == {"301": text}


@pytest.mark.parametrize(
    "content",
    [
        "<top>\n<num>1</num><title>\nTWO\nWORDS\n</title>\n</top>\n",
        "<xml>\n<top>\n<num> 1</num>\n<title>\nTWO WORDS\n</title></top>\n</xml>",
        "<topics>\n<topic number='1' type='x'>\n<query>TWO WORDS</query>\n</topic>\n</topics>",
        "<DOC>\n<DOCNO> 1 </DOCNO>\n\n TWO\n WORDS\n\n</DOC>\n",
        "1\tTWO WORDS\n",
    ],
    ids=["closed", "xml", "web", "cacm", "tsv"],
)
def test_topics_when_in_another_form_then_the_same(tmp_path, content):
    assert read_trec_topics(_write(tmp_path, "topics.txt", content)) == {"1": "TWO WORDS"}


TOPIC = "<top>\n<num>{0}</num><title>{1}</title>\n</top>\n"


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (TOPIC.format(1, "again"), "line 4: topic id '1' is a duplicate"),
        (TOPIC.format(2, " "), "line 4: topic '2' is empty; a query must have text"),
        (TOPIC.format("", "words"), "line 4: a <top> without a number"),
        ("<top>\n<num>2</num><title>cut o", "line 4: <top> is not closed; the file is truncated"),
        ("loose text\n", "line 4: text outside of a block"),
    ],
)
def test_topics_when_malformed_then_file_and_line_or_a_counted_loss(tmp_path, bad, problem):
    path = _write(tmp_path, "topics.txt", TOPIC.format(1, "one") + bad)
    with pytest.raises(DatasetError) as caught:
        read_trec_topics(path)
    assert f"{path} {problem}" in str(caught.value)
    with collect() as losses:
        assert read_trec_topics(path, lenient=True) == {"1": "one"}
    assert len(losses) == 1


def test_topics_when_the_file_is_empty_or_has_no_tab_then_empty_or_an_error(tmp_path):
    assert read_trec_topics(_write(tmp_path, "a.txt", "")) == {}
    with pytest.raises(DatasetError, match="line 2: no tab; each line is id, tab, text"):
        read_trec_topics(_write(tmp_path, "b.txt", "1\tone\n2 two\n"))


def test_trec_collection_when_read_then_documents_topics_and_judgements(tmp_path):
    documents = _write(
        tmp_path,
        "set/docs.trec",
        "<DOC>\n<DOCNO>d1</DOCNO>\n<TITLE>A title</TITLE>\nfirst\n\nsecond\n</DOC>\n"
        "<DOC><DOCNO> d2 </DOCNO>one line</DOC>\n",
    )
    topics = _write(tmp_path, "topics", TOPIC.format(1, "one"))
    data = read_trec(documents, topics, _write(tmp_path, "qrels", "1 0 d2 1\n"))
    assert data.corpus == (Document("d1", "first\n\nsecond", "A title"), Document("d2", "one line"))
    assert (data.name, data.queries, data.qrels) == ("set", {"1": "one"}, {"1": {"d2": 1}})


def test_trec_collection_when_ids_are_unknown_or_doubled_then_file_and_line(tmp_path):
    documents = _write(
        tmp_path,
        "docs",
        "<DOC><DOCNO>d1</DOCNO>x</DOC>\n<DOC><DOCNO>d1</DOCNO>y</DOC>\n<DOC>z</DOC>\n",
    )
    topics = _write(tmp_path, "topics", TOPIC.format(1, "one"))
    qrels = _write(tmp_path, "qrels", "1 0 d1 1\n1 0 d7 1\n9 0 d1 1\n1 0 d8 1\n")
    with pytest.raises(DatasetError, match="docs line 2: document id 'd1' is a duplicate"):
        read_trec(documents, topics, qrels)
    data = read_trec(documents, topics, qrels, lenient=True)
    assert data.corpus == (Document("d1", "x"),)
    assert data.qrels == {"1": {"d1": 1}}
    assert [loss.lost for loss in data.losses] == [
        "1 skipped: line 2",
        "1 skipped: line 3",
        "2 skipped: line 2, line 4",
        "1 skipped: line 3",
    ]
    assert data.losses[2].why.startswith("document 'd7' does not exist")


def test_rerank_when_read_then_pool_run_and_all_judgements(tmp_path):
    hit = '{{"content": "text {0}", "qid": 7, "docid": "d{0}", "rank": {0}, "score": {1}}}'
    rows = f'[{{"query": "why?", "hits": [{hit.format(2, 1)}, {hit.format(1, 2.5)}]}}]'
    data = read_rerank(
        _write(tmp_path, "hits.json", rows),
        _write(tmp_path, "qrels", "7 Q0 d1 3\n7 Q0 d99 2\n"),
    )
    assert data.run == {"7": {"d1": 2.5, "d2": 1.0}}
    assert list(data.run["7"]) == ["d1", "d2"]
    assert data.qrels == {"7": {"d1": 3, "d99": 2}}
    assert data.corpus == (Document("d2", "text 2"), Document("d1", "text 1"))
    assert repr(data) == "RerankSet(hits, test: 2 documents, 1 queries, 2 judgements)"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"query": "q", "hits": []}', "no hits"),
        ('{"query": "", "hits": [{"qid": 1, "docid": 1, "content": "", "score": 1}]}', "is empty"),
        (
            '{"query": "q", "hits": [{"qid": 1, "docid": 1, "content": "", "score": NaN}]}',
            "score NaN",
        ),
        ('{"query": "q", "hits": [{"qid": 1, "content": "", "score": 1}]}', "no id in"),
        ('{"query": "q", "hits": 3}', "'hits' is 3"),
    ],
)
def test_rerank_when_malformed_then_file_and_line(tmp_path, row, problem):
    hits, qrels = _write(tmp_path, "hits.json", f"[\n{row}\n]"), _write(tmp_path, "qrels", "")
    with pytest.raises(DatasetError) as caught:
        read_rerank(hits, qrels)
    assert str(caught.value).startswith(f"{hits} line 2: ")
    assert problem in str(caught.value)
    assert len(read_rerank(hits, qrels, lenient=True).losses) == 1


def test_noveleval_when_read_then_run_follows_the_search_engine(tmp_path):
    _write(tmp_path, "corpus.tsv", "0-0\tsome\ttext\n0-1\tmore\n")
    _write(tmp_path, "queries.tsv", "0\tHow many?\n")
    _write(tmp_path, "qrels.txt", "0 Q0 0-0 0\n0 Q0 0-1 2\n")
    data = read_noveleval(tmp_path)
    assert data.corpus == (Document("0-0", "some\ttext"), Document("0-1", "more"))
    assert data.run == {"0": {"0-0": 2.0, "0-1": 1.0}}
    _write(tmp_path, "corpus.tsv", "0-0\tsome\n0-0\tmore\nnothing\n0-1\tx\n")
    assert [loss.lost for loss in read_noveleval(tmp_path, lenient=True).losses] == [
        "1 skipped: line 2",
        "1 skipped: line 3",
    ]
