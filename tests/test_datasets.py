"""Data sets of every format: read from small files, and from malformed ones."""

from __future__ import annotations

import copy
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.errors import DatasetError
from ragkit.evaluation import datasets
from ragkit.evaluation.datasets import (
    KeyValueProbe,
    Pair,
    QASet,
    Question,
    RetrievalSet,
    info,
    load_dataset,
    load_retrieval,
    names,
    query_split,
    question_split,
    read_2wiki,
    read_beir,
    read_cacm,
    read_fever,
    read_hotpot,
    read_key_values,
    read_kilt,
    read_kilt_knowledge,
    read_litm,
    read_llamp,
    read_mtrag_queries,
    read_mtrag_tasks,
    read_musique,
    read_nq_open,
    read_pubmedqa,
    read_pyserini_jsonl,
    read_smart,
    read_squad,
    read_strategyqa,
    read_sts,
    take_split,
)
from ragkit.evaluation.splits import split_of
from ragkit.losses import collect
from ragkit.types import Document


def _lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _beir(folder: Path, corpus: str, queries: str, **qrels: str) -> Path:
    _write(folder, "corpus.jsonl", corpus)
    _write(folder, "queries.jsonl", queries)
    for split, rows in qrels.items():
        _write(folder, f"qrels/{split}.tsv", "query-id\tcorpus-id\tscore\n" + rows)
    return folder


CORPUS = _lines(
    {"_id": "d1", "title": "One", "text": "first", "metadata": {"url": "u"}},
    {"_id": "d2", "title": "", "text": ""},
)
QUERIES = _lines({"_id": "q1", "text": "what?"}, {"_id": "q2", "text": " which? "})


def test_beir_folder_when_read_then_the_split_and_its_queries(tmp_path):
    folder = _beir(tmp_path / "toy", CORPUS, QUERIES, test="q1\td1\t2\n", train="q2\td2\t1\n")
    data = read_beir(folder)
    assert data == RetrievalSet(
        "toy",
        "test",
        (Document("d1", "first", "One", metadata={"url": "u"}), Document("d2", "")),
        {"q1": "what?"},
        {"q1": {"d1": 2}},
    )
    assert read_beir(folder, split="train").queries == {"q2": "which?"}
    assert read_beir(folder, split="all").qrels == {"q1": {"d1": 2}, "q2": {"d2": 1}}
    with pytest.raises(DatasetError, match=r"no split 'dev'; it has train, test"):
        read_beir(folder, split="dev")


@pytest.mark.parametrize("prefix", ["", "toy/", "a/toy/"])
def test_beir_zip_when_read_then_as_the_folder(tmp_path, prefix):
    folder = _beir(tmp_path / "toy", CORPUS, QUERIES, test="q1\td1\t2\n")
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    assert load_dataset(tmp_path / "toy.zip") == load_dataset(folder) == read_beir(folder)


def test_beir_when_gzipped_in_a_folder_or_a_zip_then_read(tmp_path):
    folder = _beir(tmp_path / "toy", CORPUS, QUERIES, test="q1\td1\t2\n")
    expected = read_beir(folder)
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as archive:
        for path in [*folder.rglob("*.jsonl"), *folder.rglob("*.tsv")]:
            packed = path.with_name(path.name + ".gz")
            packed.write_bytes(gzip.compress(path.read_bytes()))
            archive.write(packed, "toy/" + packed.relative_to(folder).as_posix())
            path.unlink()
    assert load_dataset(folder) == load_dataset(tmp_path / "toy.zip") == expected


@pytest.mark.parametrize("depth", [900, 940, 980, 100_000])
def test_beir_when_a_record_is_nested_deep_then_an_error_with_its_line(tmp_path, depth):
    row = '{"_id": "d9", "text": ' + "[" * depth + "]" * depth + "}"
    folder = _beir(tmp_path, CORPUS + row, QUERIES, test="")
    with pytest.raises(DatasetError, match=r"corpus.jsonl line 3: "):
        read_beir(folder)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_id = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=6)


@examples(60)
@given(
    st.dictionaries(_id, st.tuples(_text, _text), max_size=5),
    st.dictionaries(_id, _text.filter(str.strip), max_size=5),
    st.data(),
)
def test_beir_when_written_and_read_then_equal(tmp_path_factory, corpus, queries, data):
    grades = st.dictionaries(st.sampled_from(sorted(corpus)), st.integers(-2, 3), min_size=1)
    judged = data.draw(st.dictionaries(st.sampled_from(sorted(queries)), grades)) if (
        corpus and queries
    ) else {}  # fmt: skip
    folder = _beir(
        tmp_path_factory.mktemp("beir"),
        _lines(*({"_id": k, "title": a, "text": b} for k, (a, b) in corpus.items())),
        _lines(*({"_id": k, "text": text} for k, text in queries.items())),
        test="".join(f"{q}\t{d}\t{g}\n" for q, row in judged.items() for d, g in row.items()),
    )
    found = read_beir(folder)
    texts = {k: b if b.strip() else a for k, (a, b) in corpus.items()}  # a title may be all
    assert found.corpus == tuple(Document(k, texts[k], a) for k, (a, _) in corpus.items())
    assert found.queries == {k: queries[k].strip() for k in queries if k in judged}
    assert found.qrels == judged


@pytest.mark.parametrize(
    ("file", "row", "problem"),
    [
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}', "document id 'd1' is a duplicate"),
        ("corpus.jsonl", '{"_id": "d9"}', "'text' is null; 'text' must be a string"),
        ("corpus.jsonl", '{"text": "x"}', "no id in"),
        ("corpus.jsonl", '{"_id": "d9", "text": "x", "metadata": 3}', "3 is not an object"),
        ("corpus.jsonl", '{"_id": "d9", "text": "\\ud800"}', "'text' contains a lone surrogate"),
        ("corpus.jsonl", '{"_id": "d9", "te', "incomplete or invalid JSON (Unterminated string"),
        ("corpus.jsonl", "[" * 100_000, "incomplete or invalid JSON"),
        ("corpus.jsonl", "7", "7 is not an object"),
        ("corpus.jsonl", b"\xff", "byte 0xff is not UTF-8"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}', "query id 'q1' is a duplicate"),
        ("queries.jsonl", '{"_id": "q9", "text": " "}', "'text' is empty; a query must have text"),
        ("qrels/test.tsv", "q1\td9\t1", "document 'd9' does not exist; judge only documents"),
        ("qrels/test.tsv", "q9\td1\t1", "query 'q9' does not exist; add the query or delete"),
        ("qrels/test.tsv", "q1\td1\t1", "document id 'd1' is a duplicate"),
        ("qrels/test.tsv", "q1\td1", "2 columns; expected"),
    ],
)
def test_beir_when_a_line_is_malformed_then_file_and_line_or_a_counted_loss(
    tmp_path, file, row, problem
):
    folder = _beir(tmp_path, CORPUS, QUERIES, test="q1\td1\t2\n")
    sound = read_beir(folder)
    path = folder / file
    n_lines = len(path.read_bytes().splitlines())
    with path.open("ab") as stream:
        stream.write(row if isinstance(row, bytes) else row.encode())
    with pytest.raises(DatasetError) as caught:
        read_beir(folder)
    assert str(caught.value).startswith(f"{path} line {n_lines + 1}: ")
    assert problem in str(caught.value)
    data = read_beir(folder, lenient=True)
    assert (data.corpus, data.queries, data.qrels) == (sound.corpus, sound.queries, sound.qrels)
    (loss,) = data.losses
    assert (loss.stage, loss.what, loss.lost) == (
        "data set",
        str(path),
        f"1 skipped: line {n_lines + 1}",
    )


def test_beir_when_something_is_missing_or_no_zip_then_an_error_that_says_so(tmp_path):
    folder = _beir(tmp_path / "a", CORPUS, QUERIES, test="")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(DatasetError, match=r"has no queries.jsonl"):
        read_beir(folder)
    with pytest.raises(DatasetError, match="cannot be read as a zip"):
        read_beir(_write(tmp_path, "b.zip", "no zip"))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(DatasetError, match=r"contains no corpus.jsonl"):
        read_beir(tmp_path / "c.zip")


def test_pyserini_when_read_then_documents_one_at_a_time(tmp_path):
    _write(tmp_path, "b.jsonl", _lines({"id": 2, "contents": "two", "year": 1999}))
    _write(tmp_path, "a.json", [{"id": "1", "contents": "one", "title": "T"}])
    found = read_pyserini_jsonl(tmp_path)
    assert next(found) == Document("1", "one", "T")
    assert list(found) == [Document("2", "two", metadata={"year": 1999})]
    _write(tmp_path, "c.jsonl", _lines({"id": "1", "contents": "x"}, {"id": "3"}))
    with pytest.raises(DatasetError, match=r"c.jsonl line 1: document id '1' is a duplicate"):
        list(read_pyserini_jsonl(tmp_path))
    with collect() as losses:
        assert len(list(read_pyserini_jsonl(tmp_path, lenient=True))) == 2
    assert [loss.lost for loss in losses] == ["1 skipped: line 1", "1 skipped: line 2"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no .jsonl or .json files"):
        list(read_pyserini_jsonl(tmp_path / "empty"))


SMART_DOCS = ".I 1\n.T\na\ntitle .\n.A\nann,b.\n.W\nthe text\n. of it\n.I 2\n.T\n.W\n.I 3\n.W\nx\n"


def test_cranfield_when_read_then_queries_by_order_and_binary_relevance(tmp_path):
    _write(tmp_path, "cran.all.1400", SMART_DOCS)
    _write(tmp_path, "cran.qry", ".I 001\n.W\nwhat\nlaws ?\n.I 004\n.W\nwhy ?\n")
    _write(tmp_path, "cranqrel", "1 3 2 \n1 1 -1\n2 1 4\n")
    data = read_smart(tmp_path)
    assert data.corpus == (
        Document("1", "the text\n. of it", "a title .", metadata={"authors": "ann,b."}),
        Document("2", ""),
        Document("3", "x"),
    )
    assert data.queries == {"1": "what laws ?", "2": "why ?"}
    assert data.qrels == {"1": {"3": 1, "1": 0}, "2": {"1": 1}}
    assert load_dataset(tmp_path).name == "cranfield"


@pytest.mark.parametrize(
    ("qrels", "columns"),
    [("MED.REL", "1 0 3 1\n"), ("CISI.REL", "     1     3\t0\t0.000000\n"), ("x.rel", "1 3 0 0\n")],
)
def test_smart_when_judgements_have_four_columns_then_told_apart(tmp_path, qrels, columns):
    _write(tmp_path, "X.ALL", SMART_DOCS)
    _write(tmp_path, "X.QRY", ".I 1\n.W\nwhat ?\n")
    _write(tmp_path, qrels, columns)
    assert load_dataset(tmp_path).qrels == {"1": {"3": 1}}


@pytest.mark.parametrize(
    ("file", "row", "problem"),
    [
        ("a.all", ".I 1\n.W\nagain\n", "line 16: document id '1' is a duplicate"),
        ("a.qry", ".I 1\n.W\nagain\n", "line 4: query id '1' is a duplicate"),
        ("a.qry", ".I 2\n.W\n \n", "line 4: query '2' is empty"),
        ("a.qry", ".I 2\nloose\n.W\nx\n", "line 5: 'loose' outside of a part; start it with .I n"),
        ("a.rel", "1 0 9 1\n", "line 2: document '9' does not exist"),
        ("a.rel", "7 0 1 1\n", "line 2: query '7' does not exist"),
        ("a.rel", "1 0 3 1\n", "line 2: query '1': document id '3' is a duplicate"),
        ("a.rel", "1 0 3\n", "line 2: '1 0 3'; expected 4 columns of numbers"),
        ("a.rel", "1 0 x 1\n", "line 2: '1 0 x 1'; expected 4 columns of numbers"),
    ],
)
def test_smart_when_malformed_then_file_and_line_or_a_counted_loss(tmp_path, file, row, problem):
    _write(tmp_path, "a.all", SMART_DOCS)
    _write(tmp_path, "a.qry", ".I 1\n.W\nwhat ?\n")
    _write(tmp_path, "a.rel", "1 0 3 1\n")
    with (tmp_path / file).open("a") as stream:
        stream.write(row)
    with pytest.raises(DatasetError) as caught:
        read_smart(tmp_path)
    assert f"{tmp_path / file} {problem}" in str(caught.value)
    data = read_smart(tmp_path, lenient=True)
    assert len(data.losses) == 1
    assert (len(data.corpus), data.qrels) == (3, {"1": {"3": 1}})


def test_smart_when_a_file_is_missing_or_doubled_then_an_error_that_says_so(tmp_path):
    _write(tmp_path, "a.all", SMART_DOCS)
    with pytest.raises(DatasetError, match=r"expected one file of judgements .* found: none"):
        read_smart(tmp_path)
    _write(tmp_path, "b.all", SMART_DOCS)
    with pytest.raises(DatasetError, match=r"found: a.all, b.all"):
        read_smart(tmp_path)


def _cacm(folder: Path, pages: dict[str, str | bytes], qrels: str) -> Path:
    with tarfile.open(folder / "cacm.tar.gz", "w:gz") as archive:
        for name, page in pages.items():
            data = page if isinstance(page, bytes) else page.encode()
            member = tarfile.TarInfo(f"{name}.html")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    _write(folder, "topics.cacm.txt", "<DOC>\n<DOCNO> 1 </DOCNO>\n\n What about TSS?\n</DOC>\n")
    _write(folder, "qrels.cacm.txt", qrels)
    return folder


TEXT = "A Title\nof two lines\n\nCACM May, 1960\n\n1\t5\t1\n20\t5\t1\n"
PAGE = f"<html>\n<pre>\n\n{TEXT}\n</pre>\n</html>\n"


def test_cacm_when_read_then_padded_ids_and_no_citation_links(tmp_path):
    _cacm(tmp_path, {"CACM-0141": PAGE}, "1 Q0 CACM-141 1\n")
    data = load_dataset(tmp_path)
    assert data.corpus == (Document("CACM-0141", "CACM May, 1960", "A Title of two lines"),)
    assert data.queries == {"1": "What about TSS?"}
    assert data.qrels == {"1": {"CACM-0141": 1}}


def test_cacm_when_malformed_then_file_and_line_or_a_counted_loss(tmp_path):
    _cacm(tmp_path, {"CACM-0141": PAGE, "CACM-0142": b"\xff"}, "1 Q0 CACM-142 1\n")
    with pytest.raises(DatasetError, match=r"cacm.tar.gz:CACM-0142.html line 1: not UTF-8"):
        read_cacm(tmp_path)
    data = read_cacm(tmp_path, lenient=True)
    assert [loss.lost for loss in data.losses] == ["1 skipped: line 1", "1 skipped: line 1"]
    (tmp_path / "cacm.tar.gz").write_bytes(b"no tar")
    with pytest.raises(DatasetError, match=r"cacm.tar.gz cannot be read"):
        read_cacm(tmp_path)


def _answer(text, start):
    return {"text": text, "answer_start": start}


SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "Two_Words",
            "paragraphs": [
                {
                    "context": "Iron is a metal.",
                    "qas": [
                        {
                            "id": "s1",
                            "question": "What is a metal?",
                            "answers": [_answer("Iron", 0), _answer("Iron", 0)],
                        },
                        {"id": "s2", "question": "Gold?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


def test_squad_when_read_then_passages_answers_and_offsets(tmp_path):
    data = read_squad(_write(tmp_path, "dev.json", SQUAD))
    assert data == QASet(
        "dev",
        "all",
        (Document("Two_Words#0", "Iron is a metal.", "Two Words"),),
        (
            Question("s1", "What is a metal?", ("Iron",), ("Two_Words#0",), {"starts": (0,)}),
            Question("s2", "Gold?", (), ("Two_Words#0",), {"starts": (), "answerable": False}),
        ),
    )
    assert data.corpus == data.passages
    assert data.queries == {"s1": "What is a metal?", "s2": "Gold?"}
    assert data.qrels == {"s1": {"Two_Words#0": 1}, "s2": {"Two_Words#0": 1}}
    assert load_dataset(tmp_path / "dev.json") == data


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"answers": [_answer("Iron", 1)]}, "answer 'Iron' is not at offset 1"),
        ({"answers": [_answer("Iron", "0")]}, 'answer_start is "0"'),
        ({"answers": None}, "'answers' is null"),
        ({"question": ""}, "'question' is empty"),
        ({"id": "s2"}, "question id 's2' is a duplicate"),
    ],
)
def test_squad_when_a_question_is_malformed_then_its_place_or_a_counted_loss(
    tmp_path, change, problem
):
    squad = copy.deepcopy(SQUAD)
    squad["data"][0]["paragraphs"][0]["qas"][0] |= change
    path = _write(tmp_path, "dev.json", squad)
    with pytest.raises(DatasetError) as caught:
        read_squad(path)
    assert f"{path} data[0].paragraphs[0].qas[" in str(caught.value)
    assert problem in str(caught.value)
    assert len(read_squad(path, lenient=True).questions) == 1


HOTPOT = {
    "_id": "h1",
    "question": "Which?",
    "answer": "yes",
    "type": "bridge",
    "context": [["Demon Dice", ["It is.", " A game."]], ["Alû", ["A spirit."]]],
    "supporting_facts": [["Alû", 0], ["Demon Dice", 1], ["Demon Dice", 0]],
}


def test_hotpot_when_read_then_titles_are_ids_and_facts_are_kept(tmp_path):
    path = _write(tmp_path, "hotpot.json", [HOTPOT])
    corpus = _write(tmp_path, "corpus.json", {"Other": ["More."], "Alû": ["A spirit."]})
    data = read_hotpot(path, corpus=corpus)
    assert data.passages == (
        Document("Other", "More.", "Other"),
        Document("Alû", "A spirit.", "Alû"),
        Document("Demon_Dice", "It is. A game.", "Demon Dice"),
    )
    facts = (("Alû", 0), ("Demon Dice", 1), ("Demon Dice", 0))
    metadata = {"type": "bridge", "supporting_facts": facts}
    assert data.questions == (Question("h1", "Which?", ("yes",), ("Alû", "Demon_Dice"), metadata),)
    assert load_dataset(path).questions == data.questions


def test_hotpot_when_the_array_is_cut_off_then_line_and_lenient_keeps_the_start(tmp_path):
    rows = [HOTPOT | {"_id": f"h{i}"} for i in range(3)]
    content = json.dumps(rows, indent=1)
    path = _write(tmp_path, "hotpot.json", content[: content.rfind('"answer"')])
    line = content[: content.find('"h2"')].count("\n")
    with pytest.raises(DatasetError, match=rf"hotpot.json line {line}: incomplete or invalid JSON"):
        read_hotpot(path)
    data = read_hotpot(path, lenient=True)
    assert [question.id for question in data.questions] == ["h0", "h1"]
    assert data.losses[0].lost == f"1 the rest of the file skipped: line {line}"
    _write(tmp_path, "hotpot.json", json.dumps(rows)[:-1])
    assert len(read_hotpot(path, lenient=True).questions) == 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"supporting_facts": [["Nowhere", 0]]},
            "gold passage 'Nowhere' is not among the passages",
        ),
        ({"supporting_facts": [["Alû"]]}, "a supporting fact is"),
        ({"supporting_facts": [["Alû", True]]}, "a sentence number is true"),
        ({"context": [["Alû", "A spirit."]]}, "'sentences' is"),
        (
            {"context": [["Alû", ["A."]], ["Alû", ["B."]]]},
            "passage 'Alû' occurs with two different texts",
        ),
        ({"answer": None}, "'answer' is null"),
    ],
)
def test_hotpot_when_a_record_is_malformed_then_its_line(tmp_path, change, problem):
    path = _write(tmp_path, "hotpot.json", [HOTPOT | change])
    with pytest.raises(DatasetError) as caught:
        read_hotpot(path)
    assert f"{path} line 1: {problem}" in str(caught.value)
    assert read_hotpot(path, lenient=True).questions == ()


def test_2wiki_when_read_then_sentences_are_joined_and_evidences_kept(tmp_path):
    row = HOTPOT | {"evidences": [["a", "b", "c"]], "context": [["T", ["One.", "Two."]]]}
    row["supporting_facts"] = [["T", 0]]
    path = _write(tmp_path, "2wiki.json", [row])
    corpus = _write(tmp_path, "corpus.json", [{"title": "U V", "text": "Three."}])
    data = read_2wiki(path, corpus=corpus)
    assert data.passages == (Document("U_V", "Three.", "U V"), Document("T", "One. Two.", "T"))
    assert data.questions[0].metadata["evidences"] == [["a", "b", "c"]]
    assert load_dataset(path).questions == data.questions
    assert read_2wiki(corpus=corpus).questions == ()


def _musique_paragraph(title: str, text: str, supporting: bool):
    return {"title": title, "paragraph_text": text, "is_supporting": supporting}


MUSIQUE = {
    "id": "m1",
    "question": "Who?",
    "answer": "G. Hall",
    "answer_aliases": ["Hall", "G. Hall"],
    "answerable": True,
    "paragraphs": [_musique_paragraph("T", "one", True), _musique_paragraph("T", "two", False)],
    "question_decomposition": [{"id": 1}],
}


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_musique_when_read_then_ids_follow_from_content(tmp_path, form):
    row = MUSIQUE
    path = _write(tmp_path, f"m.{form}", _lines(row) if form == "jsonl" else [row])
    data = read_musique(path)
    assert [(p.id[:8], p.text, p.title) for p in data.passages] == [
        ("musique-", "one", "T"),
        ("musique-", "two", "T"),
    ]
    (question,) = data.questions
    assert question.gold == (data.passages[0].id,)
    assert question.answers == ("G. Hall", "Hall")
    assert question.metadata == {"answerable": True, "decomposition": ({"id": 1},)}
    assert load_dataset(path) == data
    path = _write(tmp_path, "n.jsonl", _lines(row | {"answerable": False}))
    assert read_musique(path).questions[0].answers == ()


def test_kilt_when_read_then_pages_are_gold_and_outputs_kept(tmp_path):
    outputs = [
        {"answer": "a", "provenance": [{"wikipedia_id": 1}, {"wikipedia_id": "2"}]},
        {"answer": "b", "provenance": [{"wikipedia_id": "1"}]},
        {"provenance": [{"wikipedia_id": 3}]},
    ]
    row = {"id": 7, "input": "How?", "output": outputs, "meta": {"x": 1}}
    path = _write(tmp_path, "k.jsonl", _lines(row))
    expected = Question(
        "7", "How?", ("a", "b"), ("1", "2", "3"), {"outputs": tuple(outputs), "x": 1}
    )
    assert load_dataset(path).questions == (expected,)
    pages = [{"wikipedia_id": i, "wikipedia_title": "T", "text": ["a ", "b"]} for i in (1, 2, 3)]
    knowledge = _write(tmp_path, "wiki.jsonl", _lines(*pages))
    assert read_kilt(path, knowledge=knowledge).passages[0] == Document("1", "a b", "T")
    _write(tmp_path, "wiki.jsonl", _lines(*pages[:2], {"wikipedia_id": 2}, pages[0], 5))
    with collect() as losses:
        assert len(list(read_kilt_knowledge(knowledge, lenient=True))) == 2
    assert len(losses) == 2
    _write(tmp_path, "wiki.jsonl", _lines(*pages[:2]))
    with pytest.raises(DatasetError, match=r"k.jsonl line 1: page '3' is not in the knowledge"):
        read_kilt(path, knowledge=knowledge)


def test_kilt_predictions_when_pretty_printed_one_after_another_then_read(tmp_path):
    rows = [{"id": i, "output": [{"answer": "x"}]} for i in (1, 2)]
    path = _write(tmp_path, "g.json", "\n".join(json.dumps(row, indent=4) for row in rows))
    assert [(q.id, q.text, q.answers) for q in read_kilt(path).questions] == [
        ("1", "", ("x",)),
        ("2", "", ("x",)),
    ]


def test_nq_gold_when_read_then_each_passage_once(tmp_path):
    passage = {"title": "T", "text": "gold", "isgold": True}
    other = {"title": "T", "text": "other", "isgold": False}
    rows = [{"question": f"q{i}", "answers": ["a", "b"], "ctxs": [other, passage]} for i in (1, 2)]
    path = _write(tmp_path, "nq.jsonl.gz", gzip.compress(_lines(*rows).encode()))
    data = load_dataset(path)
    assert [p.text for p in data.passages] == ["other", "gold"]
    ids = tuple(p.id for p in data.passages)
    assert data.questions[1] == Question("2", "q2", ("a", "b"), ids[1:], {"order": ids})
    bad = _write(tmp_path, "bad.jsonl", _lines({"question": "q", "answers": [], "ctxs": [other]}))
    with pytest.raises(DatasetError, match=r"bad.jsonl line 1: no passage is gold"):
        read_litm(bad)


def test_open_questions_when_read_then_line_numbers_are_ids(tmp_path):
    rows = [{"question": "a?", "answer": ["x", "y"]}, {"question": "b?", "answer": "z"}]
    data = load_dataset(_write(tmp_path, "o.jsonl", _lines(*rows)))
    assert data.questions == (Question("1", "a?", ("x", "y")), Question("2", "b?", ("z",)))
    assert data.qrels == {}
    path = _write(tmp_path, "p.jsonl", _lines(rows[0], {"question": "?"}, rows[1]))
    with pytest.raises(DatasetError, match=r"p.jsonl line 2: 'answer' contains null"):
        read_nq_open(path)
    assert [q.id for q in read_nq_open(path, lenient=True).questions] == ["1", "3"]


def test_strategyqa_fever_and_pubmedqa_when_read_then_questions(tmp_path):
    row = {"qid": "s", "question": "Is it?", "answer": False, "facts": ["f"], "term": "t"}
    data = load_dataset(_write(tmp_path, "s.json", [row]))
    assert (data.questions[0].answers, data.passages[0].text) == (("no",), "f")
    assert data.questions[0].gold == (data.passages[0].id,)
    with pytest.raises(DatasetError, match=r"s.json line 1: 'answer' is \"no\""):
        read_strategyqa(_write(tmp_path, "s.json", [row | {"answer": "no"}]))

    claim = {"id": 1, "claim": "C.", "label": "SUPPORTS", "evidence": [[[1, 2, "P_Q", 0]]]}
    (question,) = load_dataset(_write(tmp_path, "f.jsonl", _lines(claim))).questions
    assert (question.text, question.answers, question.gold) == ("C.", ("SUPPORTS",), ("P_Q",))
    path = _write(tmp_path, "f.jsonl", _lines(claim | {"evidence": [[["x"]]]}))
    with pytest.raises(DatasetError, match=r'f.jsonl line 1: evidence \["x"\]'):
        read_fever(path)

    record = {
        "QUESTION": "Does it?",
        "CONTEXTS": ["One.", "Two."],
        "LABELS": ["A", "A"],
        "MESHES": [],
        "YEAR": None,
        "final_decision": "maybe",
        "LONG_ANSWER": "L",
    }
    path = _write(tmp_path, "p.json", {"11": record, "12": {}})
    with pytest.raises(DatasetError, match=r"p.json line 1: 'QUESTION' is null"):
        read_pubmedqa(path)
    data = read_pubmedqa(path, lenient=True)
    assert data.passages == (Document("11", "One.\nTwo."),)
    metadata = {"labels": ("A", "A"), "year": None, "meshes": (), "long_answer": "L"}
    assert data.questions == (Question("11", "Does it?", ("maybe",), ("11",), metadata),)


def test_llamp_when_read_then_answers_of_models_are_left_out(tmp_path):
    head = "prompt,formula,material_id,magnetization_unit,ordering,llamp_output\n"
    rows = '"What, \nsay?",Fe,mp-1,2.5,FM,"x"\nWhy?,Co,mp-2,,,y\n'
    data = read_llamp(_write(tmp_path, "a.csv", head + rows))
    assert data.questions == (
        Question(
            "mp-1",
            "What, \nsay?",
            ("FM",),
            ("mp-1",),
            {"formula": "Fe", "magnetization_unit": "2.5"},
        ),
        Question("mp-2", "Why?", (), ("mp-2",), {"formula": "Co", "magnetization_unit": ""}),
    )
    with pytest.raises(DatasetError, match=r"b.csv line 4: 2 columns; a row must have as many"):
        read_llamp(_write(tmp_path, "b.csv", head + '"What, \nsay?",Fe,mp-1,2.5,FM,"x"\na,b\n'))


def test_mtrag_when_read_then_last_turn_history_and_rewrite(tmp_path):
    turns = [("user", "Hi?"), ("agent", "Yes."), ("user", "Why?")]
    task = {
        "task_id": "t",
        "input": [{"speaker": speaker, "text": text} for speaker, text in turns],
        "contexts": [{"document_id": "d", "text": "c"}],
        "targets": [{"text": "So."}],
        "answerability": ["PARTIAL"],
        "Question Type": ["Opinion"],
        "Collection": "fiqa",
    }
    path = _write(tmp_path, "r.jsonl", _lines(task))
    (question,) = read_mtrag_tasks(path).questions
    assert (question.text, question.answers, question.gold) == ("Why?", ("So.",), ("d",))
    assert question.metadata["history"] == (("user", "Hi?"), ("agent", "Yes."))
    with pytest.raises(DatasetError, match=r"r.jsonl line 1: the last turn is not the user's"):
        read_mtrag_tasks(_write(tmp_path, "r.jsonl", _lines(task | {"input": []})))

    for domain in ("clapnq", "cloud", "fiqa", "govt"):
        texts = {"lastturn": "|user|: b?", "rewrite": "|user|: B of a?"}
        texts["questions"] = "|user|: a?\n|user|: b?"
        for kind, text in texts.items():
            rows = _lines({"_id": domain, "text": text})
            _write(tmp_path, f"tasks/{domain}/{domain}_{kind}.jsonl", rows)
        _write(
            tmp_path,
            f"tasks/{domain}/qrels/dev.tsv",
            f"query-id\tcorpus-id\tscore\n{domain}\tp\t1\n",
        )
    data = read_mtrag_queries(tmp_path / "tasks")
    metadata = {"rewrite": "B of a?", "questions": ("a?", "b?"), "domain": "clapnq"}
    assert data.questions[0] == Question("clapnq", "b?", (), ("p",), metadata)
    assert len(data.questions) == 4


def test_sts_when_read_then_pairs_and_malformed_rows_by_line(tmp_path):
    path = _write(tmp_path, "a.csv", '"One, two.",Three.,4.5\nA.,B.,0\n')
    assert read_sts(path).pairs == (
        Pair("1", "One, two.", "Three.", 4.5),
        Pair("2", "A.", "B.", 0.0),
    )
    for row, problem in {
        "A.,B.": "2 columns; expected three",
        "A.,B.,x": "score 'x'; a score is a number from 0 to 5",
        "A.,B.,nan": "score 'nan'",
        "A.,B.,5.1": "score '5.1'",
        "A.,,1": "an empty sentence",
        '"A.,B.,1': "unexpected end of data",
    }.items():
        path = _write(tmp_path, "b.csv", f"A.,B.,1\n{row}\n")
        with pytest.raises(DatasetError) as caught:
            read_sts(path)
        assert f"{path} line 2: {problem}" in str(caught.value)
        data = read_sts(path, lenient=True)
        assert (len(data.pairs), len(data.losses)) == (1, 1)


def test_key_values_when_read_then_probes_with_position(tmp_path):
    row = {"ordered_kv_records": [["a", "1"], ["b", "2"]], "key": "b", "value": "2"}
    data = load_dataset(_write(tmp_path, "kv.jsonl", _lines(row)))
    assert data.probes == (KeyValueProbe("1", (("a", "1"), ("b", "2")), "b", "2"),)
    assert data.probes[0].position == 1
    for change in ({"value": "1"}, {"key": "c"}, {"ordered_kv_records": [["b", "2"]] * 2}):
        with pytest.raises(
            DatasetError, match=r"kv.jsonl line 1: key '.' does not occur exactly once"
        ):
            read_key_values(_write(tmp_path, "kv.jsonl", _lines(row | change)))


def test_splits_when_by_digest_then_whole_corpus_and_disjoint_queries():
    passages = tuple(Document(f"passage-{i}", "x") for i in range(60))
    asked = tuple(Question(f"q{i}", "?", (), (f"passage-{i}",)) for i in range(60))
    data = QASet("toy", "all", passages, asked)
    parts = {split: take_split(data, split) for split in ("train", "dev", "test")}
    for split, part in parts.items():
        assert part.passages == passages
        assert part.split == split
        assert all(split_of(question.gold[0]) == split for question in part.questions)
    assert sum(len(part.questions) for part in parts.values()) == 60
    judged = RetrievalSet("toy", "all", passages, data.queries | {"z": "?"}, data.qrels)
    assert take_split(judged, "dev").qrels == parts["dev"].qrels
    assert take_split(judged, "dev").queries == parts["dev"].queries
    assert take_split(judged, "all") == judged


def test_splits_when_several_passages_are_gold_then_the_stated_rules():
    assert (split_of("passage-1"), split_of("passage-2")) == ("test", "train")
    assert question_split(["passage-2", "passage-1"], "q") == "test"
    assert question_split(["passage-2"], "passage-1") == "train"
    assert question_split([], "passage-1") == "test"
    assert query_split({"passage-2": 1, "passage-1": 1}, "q") == "test"
    assert query_split({"passage-2": 1, "passage-1": 0}, "q") == "train"
    assert query_split({}, "passage-1") == "test"


def test_load_when_the_name_is_unknown_then_a_suggestion_and_the_names(tmp_path):
    with pytest.raises(
        DatasetError, match=r"did you mean 'nfcorpus'\?.*there is no file or folder /"
    ):
        load_dataset("nfcorpsu", root=tmp_path)
    with pytest.raises(DatasetError, match="there is no data set"):
        info("nothing")
    assert names() == sorted(names())


def test_load_when_the_root_is_missing_then_where_was_looked_and_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGKIT_DATA", raising=False)
    with pytest.raises(DatasetError, match=rf"no data folder at {tmp_path}/../shared/data"):
        load_dataset("nfcorpus")
    monkeypatch.setenv("RAGKIT_DATA", str(tmp_path / "gone"))
    with pytest.raises(DatasetError, match=r"gone \(RAGKIT_DATA="):
        load_dataset("nfcorpus")
    with pytest.raises(DatasetError, match=rf"nfcorpus is expected in {tmp_path}/nfcorpus"):
        load_dataset("nfcorpus", root=tmp_path)
    (tmp_path / "nq_open").mkdir()
    with pytest.raises(DatasetError, match=r"NQ-open.dev.jsonl cannot be read"):
        load_dataset("nq_open", root=tmp_path)


def test_load_when_the_split_is_unknown_then_the_splits_there_are(tmp_path):
    (tmp_path / "xquad").mkdir()
    with pytest.raises(DatasetError, match="xquad has no split 'train'; it has test, all"):
        load_dataset("xquad", split="train", root=tmp_path)
    path = _write(tmp_path, "dev.json", SQUAD)
    with pytest.raises(DatasetError, match="no split 'validation'"):
        load_dataset(path, split="validation")


def test_load_when_a_folder_holds_several_sets_then_their_names(tmp_path):
    for file in (*info("hotpotqa_train").files, *info("musique_train").files):
        _write(tmp_path, f"multihop_train/{file}", "[]")
    for where in ("multihop_train", tmp_path / "multihop_train"):
        with pytest.raises(
            DatasetError, match="several data sets; name one: hotpotqa_train, musique"
        ):
            load_dataset(where, root=tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "3", '{"a": 1}', '[{"a": 1}]', "{", '{"a": '])
def test_load_when_a_file_has_no_known_format_then_an_error_that_says_so(tmp_path, content):
    path = _write(tmp_path, "x.json", content)
    with pytest.raises(DatasetError, match=r"format of .* (is unknown|cannot be detected)"):
        load_dataset(path)
    with pytest.raises(DatasetError, match=r"layout of the folder .* is unknown"):
        load_dataset(tmp_path)


def test_load_retrieval_when_questions_have_passages_then_a_retrieval_set(tmp_path):
    squad = _write(tmp_path, "dev.json", SQUAD)
    data = load_retrieval(squad)
    assert isinstance(data, RetrievalSet)
    assert (data.queries, data.qrels) == (load_dataset(squad).queries, load_dataset(squad).qrels)
    with pytest.raises(DatasetError, match="has no corpus"):
        load_retrieval(_write(tmp_path, "o.jsonl", _lines({"question": "a?", "answer": "x"})))
    row = {"ordered_kv_records": [["b", "2"]], "key": "b", "value": "2"}
    with pytest.raises(DatasetError, match="kv is a KeyValueSet; expected"):
        load_retrieval(_write(tmp_path, "kv.jsonl", _lines(row)))


def test_exports_when_compared_with_the_readers_are_complete():
    assert sorted(datasets.__all__) == datasets.__all__
    for name in datasets.__all__:
        assert hasattr(datasets, name)


_SAMPLES = {
    "squad": (read_squad, json.dumps(SQUAD)),
    "hotpot": (read_hotpot, json.dumps([HOTPOT])),
    "musique": (read_musique, json.dumps([MUSIQUE])),
    "kilt": (read_kilt, json.dumps({"id": 1, "output": [{"answer": "a", "provenance": []}]})),
    "fever": (read_fever, json.dumps({"id": 1, "claim": "c", "label": "l", "evidence": [[]]})),
    "open": (read_nq_open, json.dumps({"question": "q", "answer": ["a"]})),
    "pubmedqa": (read_pubmedqa, '{"1": {"QUESTION": "q", "CONTEXTS": ["c"], "LABELS": []}}'),
    "mtrag": (read_mtrag_tasks, '[{"task_id": 1, "input": [{"speaker": "user", "text": "t"}]}]'),
    "kv": (read_key_values, '{"ordered_kv_records": [["a", "b"]], "key": "a", "value": "b"}'),
    "litm": (read_litm, '[{"question": "q", "answers": [], "ctxs": [{"text": "t", "isgold": 1}]}]'),
    "strategy": (read_strategyqa, '[{"qid": 1, "question": "q", "answer": true, "facts": ["f"]}]'),
}
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


def _spots(value: object, here: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inside = enumerate(value) if isinstance(value, list) else ()
    inside = value.items() if isinstance(value, dict) else inside
    return [here, *(spot for key, item in inside for spot in _spots(item, (*here, key)))]


@examples(300)
@given(st.sampled_from(sorted(_SAMPLES)), st.data())
def test_readers_when_anything_is_replaced_or_cut_off_then_only_dataset_errors(
    tmp_path_factory, name, data
):
    read, content = _SAMPLES[name]
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        value = json.loads(content)
        spot = data.draw(st.sampled_from(_spots(value)))
        holder = [value]
        target, key = holder, 0
        for step in spot:
            target, key = target[key], step
        target[key] = data.draw(_values)
        content = json.dumps(holder[0])
    path = _write(tmp_path_factory.mktemp("fuzz"), "a.json", content)
    message = str(path)
    try:
        read(path)
    except DatasetError as error:
        message = str(error)
    assert str(path) in message
    assert bool(read(path, lenient=True).losses) == (message != str(path))
