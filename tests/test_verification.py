"""Checking an answer again: valid, stale, broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

import ragkit
from ragkit.errors import RagkitError
from ragkit.readers import ExtractiveReader
from ragkit.readers.verification import answer_json, verify_answer, verify_sentences
from ragkit.testing import HashEmbedder
from ragkit.types import Answer, Chunk, Hit

NO_QUOTE = "sentence 1 is said to be a quote, but stands in none of its citations"
TEXT = "Intro is here. The band gap of GaAs is 1.42 eV. — ünïcode 鋼 🙂. It is direct."


@pytest.fixture
def collection(tmp_path: Any) -> Iterator[ragkit.Collection]:
    with ragkit.Collection(tmp_path / "c.rag", embedder=HashEmbedder()) as made:
        made.add([ragkit.Document("gaas", TEXT, "GaAs"), ragkit.Document("si", "Silicon.")])
        yield made


@pytest.fixture
def data(collection: ragkit.Collection) -> dict[str, Any]:
    """An answer with two citations, as read back from its JSON."""
    reader = ExtractiveReader(HashEmbedder(), threshold=0.0)
    answer = (collection.retriever("hybrid") >> reader).ask("What is the band gap of GaAs?")
    assert answer.citations[0].quote == "The band gap of GaAs is 1.42 eV."
    loaded: dict[str, Any] = json.loads(answer_json(answer))
    return loaded


def states(data: Any, collection: ragkit.Collection) -> list[str]:
    return [check.state for check in verify_answer(data, collection)]


def test_json_of_an_answer_follows_the_dataclasses(collection: ragkit.Collection):
    reader = ExtractiveReader(HashEmbedder(), threshold=0.0)
    answer = (collection.retriever("hybrid") >> reader).ask("GaAs?")
    assert json.loads(answer_json(answer)) == json.loads(json.dumps(asdict(answer)))
    assert "鋼" in answer_json(answer)


def test_verify_of_a_fresh_answer_is_valid(collection: ragkit.Collection, data: dict[str, Any]):
    checks = verify_answer(data, collection)
    assert {check.state for check in checks} == {"valid"}
    assert [(check.number, check.doc_id) for check in checks][:1] == [(1, "gaas")]
    assert len(checks) == len(data["citations"])


def test_verify_takes_the_object_as_well_as_its_json(collection: ragkit.Collection):
    reader = ExtractiveReader(HashEmbedder(), threshold=0.0)
    answer = (collection.retriever("hybrid") >> reader).ask("What is the band gap of GaAs?")
    assert verify_answer(answer, collection) == verify_answer(
        json.loads(answer_json(answer)), collection
    )


def test_verify_of_a_refusal_has_nothing_to_check(collection: ragkit.Collection):
    assert verify_answer(Answer("q", ""), collection) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [(TEXT + " More.", "still matches"), ("Other. " + TEXT, "does not match")],
)
def test_verify_after_the_document_changed_is_stale(
    collection: ragkit.Collection, data: dict[str, Any], text: str, word: str
):
    collection.add(ragkit.Document("gaas", text, "GaAs"))
    [check] = verify_answer({"citations": data["citations"][:1]}, collection)
    assert check.state == "stale"
    assert word in check.why


def test_verify_after_the_document_was_deleted_is_stale(
    collection: ragkit.Collection, data: dict[str, Any]
):
    collection.delete("gaas")
    [check] = verify_answer({"citations": data["citations"][:1]}, collection)
    assert (check.state, check.why) == ("stale", "the document was deleted from the collection")


@pytest.mark.parametrize(
    "change",
    [
        {"quote": "The band gap of GaAs is 1.43 eV."},
        {"quote": ""},
        {"start": 0},
        {"end": 10_000},
        {"start": -5},
        {"start": 40, "end": 20},
        {"start": 5, "end": 5, "quote": ""},
        {"quote": "direct.", "start": -7, "end": len(TEXT)},
    ],
)
def test_verify_after_tampering_is_broken(
    collection: ragkit.Collection, data: dict[str, Any], change: dict[str, Any]
):
    data["citations"][0].update(change)
    assert states({"citations": data["citations"][:1]}, collection) == ["broken"]


def test_verify_of_a_row_checks_its_column_names(tmp_path):
    rows = "\n".join(f"| V-{n} | {3 * n} | {'steel ' * 9}|" for n in range(60))
    text = f"| valve | bar | material |\n| --- | --- | --- |\n{rows}\n"
    with ragkit.Collection(tmp_path / "v.rag", embedder=HashEmbedder()) as valves:
        valves.add([ragkit.Document("v.md", text, metadata={"format": "markdown"})])
        qa = valves.retriever("bm25") >> ExtractiveReader(valves.embedder, threshold=0)
        answer = qa.ask("What is the pressure in bar of valve V-47?")
        assert answer.citations[0].quote.startswith("| V-47 | 141 |")
        assert [check.state for check in verify_answer(answer, valves)] == ["valid"]
        data = json.loads(answer_json(answer))
        data["citations"][0]["table"] = "| valve | kPa | material |"
        assert [check.state for check in verify_answer(data, valves)] == ["broken"]


def test_verify_with_another_digest_is_stale_and_without_one_looks_at_the_quote(
    collection: ragkit.Collection, data: dict[str, Any]
):
    citation = data["citations"][0]
    for change, state in (
        ({"digest": "0" * 32}, "stale"),
        ({"digest": ""}, "valid"),
        ({"digest": "", "quote": "x"}, "broken"),
    ):
        assert states({"citations": [citation | change]}, collection) == [state]


@pytest.mark.parametrize(
    "bad",
    [
        {},
        [],
        None,
        "text",
        {"citations": None},
        {"citations": ["x"]},
        {"citations": {"doc_id": "gaas"}},
        {"citations": [{}]},
        *(
            {"citations": [{"doc_id": "gaas", "start": 0, "end": 5, "quote": "Intro",
                            "digest": "", "chunk_id": ""} | change]}
            for change in ({"start": "0"}, {"end": 5.0}, {"start": True}, {"end": float("inf")},
                           {"quote": None}, {"doc_id": 3}, {"digest": None})
        ),
    ],
)  # fmt: skip
def test_verify_of_what_is_no_answer_raises(collection: ragkit.Collection, bad: Any):
    with pytest.raises(RagkitError, match="this is not an answer of ragkit"):
        verify_answer(bad, collection)


def test_sentences_when_the_text_was_edited_are_faults():
    quote = "The gap of GaAs is 1.42 eV."
    good = {
        "text": "The gap of GaAs is 1.42 eV. [1]",
        "sentences": [{"start": 0, "end": 31, "citations": [1], "support": "quoted"}],
        "citations": [{"quote": quote}],
    }
    assert verify_sentences(good) == []
    changed = {**good, "text": "The gap of GaAs is 9.42 eV. [1]"}
    assert verify_sentences(changed) == [NO_QUOTE]
    as_model = [{**good["sentences"][0], "support": "entailed"}]
    (fault,) = verify_sentences({**changed, "sentences": as_model})
    assert fault.startswith("sentence 1 is not supported by its citations (")
    assert "9.42" in fault
    longer = {**good, "text": good["text"] + " Trust me."}
    assert verify_sentences(longer) == ["the text has words outside of sentences: 'Trust me.'"]
    elsewhere = {**good, "sentences": [{**good["sentences"][0], "citations": [7]}]}
    assert verify_sentences(elsewhere) == ["sentence 1 cites [7], but there are 1 citations"]
    outside = {**good, "sentences": [{**good["sentences"][0], "end": 99}]}
    assert verify_sentences(outside)[0] == "sentence 1 is outside the text"
    with pytest.raises(RagkitError, match="not an answer"):
        verify_sentences({"text": 3})


def test_sentences_when_a_reader_made_them_pass(tmp_path):
    hits = [Hit(Chunk("d:0-40", "d", "So it is [7]. Is it? GaN emits blue light.", 0, 42), 1.0)]
    for question in ("Is it so?", "What does GaN emit?"):
        answer = ExtractiveReader(HashEmbedder(), threshold=0.0).read([question], [hits])[0]
        assert answer.sentences
        assert verify_sentences(answer) == []
