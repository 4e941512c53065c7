"""The reader of spans: short answers inside quotes, one sentence for each thing, refusals."""

from __future__ import annotations

import pytest

import ragkit
from ragkit import models
from ragkit.embedders import load_embedder
from ragkit.readers import ExtractiveReader, SpanReader, load_reader
from ragkit.readers.citations import SupportChecker
from ragkit.readers.spans import FEATURES
from ragkit.readers.support import load_judge
from ragkit.testing import HashEmbedder, check_reader
from ragkit.types import Chunk, Document, Hit

DOCUMENTS = [
    Document("si", "Silicon is a grey solid. Its band gap is 1.12 eV at room temperature. It is an "
             "indirect semiconductor, so it emits little light.", "Silicon"),
    Document("ge", "Germanium lies below silicon in the periodic table. Its band gap is 0.66 eV at "
             "room temperature. Clemens Winkler found it in 1886 in a silver ore.", "Germanium"),
    Document("valves", "| valve | pressure / bar |\n| --- | --- |\n| V-70 | 16 |\n| V-71 | 25 |\n",
             "Valves of hall 3"),
    Document("ducks", "Dabbling ducks feed at the surface of the water. They seldom dive.",
             "Ducks"),
]  # fmt: skip
GAP = "What is the band gap of silicon?"


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    with ragkit.Collection(tmp_path_factory.mktemp("spans") / "c.rag") as collection:
        collection.add(DOCUMENTS)
        yield collection


@pytest.fixture(scope="module")
def reader():
    return SpanReader(load_embedder("minilm"))


@pytest.fixture(scope="module")
def ask(notes, reader):
    return (notes.retriever("hybrid") >> reader).ask


def spans_of(answer):
    texts = {document.id: document.text for document in DOCUMENTS}
    for span in answer.spans:
        citation = answer.citations[span.citation - 1]
        assert citation.start <= span.start < span.end <= citation.end
        assert texts[citation.doc_id][span.start : span.end] == span.text
        assert 0 < span.probability <= 1
    return [span.text for span in answer.spans]


def test_reader_keeps_the_contract(notes, reader):
    hits = notes.retriever("hybrid").retrieve([GAP], 4)[0]
    check_reader(reader, GAP, hits)


def test_it_is_the_default_reader_without_a_language_model(reader):
    embedder = load_embedder("minilm")
    assert type(load_reader("auto", embedder)) is SpanReader
    assert type(load_reader("spans", embedder)) is SpanReader
    assert type(load_reader("extractive", embedder)) is ExtractiveReader


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (GAP, "1.12 eV"),
        ("who found germanium", "Winkler"),
        ("When was germanium found?", "1886"),
        ("What is the pressure of valve V-70?", "16"),
    ],
)
def test_short_answers_stand_in_their_quotes(ask, question, words):
    answer = ask(question)
    assert answer.refusal is None
    assert words in spans_of(answer)[0]
    assert words in answer.citations[0].quote


def test_a_comparison_is_answered_for_each_thing(ask):
    answer = ask("Compare the band gaps of silicon and germanium")
    assert [citation.doc_id for citation in answer.citations] == ["si", "ge"]
    assert ["1.12" in spans_of(answer)[0], "0.66" in spans_of(answer)[1]] == [True, True]


@pytest.mark.parametrize(
    "question", ["What is the pressure of valve V-700?", "Who won the hockey final in 1994?"]
)
def test_what_no_passage_answers_is_refused(ask, question):
    answer = ask(question)
    assert answer.refusal is not None
    assert (answer.text, answer.spans, answer.sentences) == ("", (), ())


def test_a_threshold_of_zero_answers_and_of_one_refuses(notes):
    embedder = load_embedder("minilm")
    for threshold, refused in ((0.0, False), (1.0, True)):
        qa = notes.retriever("hybrid") >> load_reader("spans", embedder, threshold=threshold)
        answer = qa.ask("Who won the hockey final in 1994?")
        assert (answer.refusal is not None) == refused
    with pytest.raises(ValueError, match="expected 0 to 1"):
        SpanReader(embedder, threshold=1.5)


def test_answers_verify(ask, notes):
    for question in (GAP, "What is the pressure of valve V-70?"):
        answer = ask(question)
        assert {check.state for check in ragkit.verify_answer(answer, notes)} == {"valid"}
        assert ragkit.verify_sentences(answer) == []


def test_without_the_base_of_the_pair_model_words_decide(monkeypatch):
    monkeypatch.setattr(models, "is_installed", lambda wheel: False)
    embedder = HashEmbedder()
    assert type(load_reader("auto", embedder)) is ExtractiveReader
    assert type(load_judge([])) is SupportChecker


def test_features_of_no_candidates_are_no_rows(reader):
    assert reader.features(GAP, [], []).shape == (0, len(FEATURES))


def hit(name, title, text):
    return Hit(Chunk(f"{name}:0", name, text, 0, len(text), {"title": title}), 1.0)


def test_passages_that_contradict_are_both_shown_and_it_is_said(reader):
    hits = [
        hit("one", "Silicon", "Silicon is a semiconductor. The band gap of silicon is 1.12 eV."),
        hit("two", "Silicon wafers", "Wafers are polished. The band gap of silicon is 1.45 eV."),
        hit("three", "Wine", "Wine is made from grapes."),
    ]
    (answer,) = reader.read(["What is the band gap of silicon?"], [hits])
    assert {span.text for span in answer.spans} == {"1.12 eV", "1.45 eV"}
    reasons = [sentence.reason for sentence in answer.sentences]
    assert len(reasons) == 2
    assert all("another passage says otherwise" in reason for reason in reasons)
    assert "1.45 eV" in " ".join(reasons)


def test_passages_that_agree_or_speak_of_other_things_are_no_contradiction(reader):
    hits = [
        hit("one", "Silicon", "Silicon is a semiconductor. The band gap of silicon is 1.12 eV."),
        hit("two", "Wafers", "Wafers are polished. The band gap of silicon is about 1.1 eV."),
        hit("three", "Germanium", "The band gap of germanium is 0.66 eV."),
    ]
    (answer,) = reader.read(["What is the band gap of silicon?"], [hits])
    assert not any(sentence.reason for sentence in answer.sentences)


def test_comparison_when_a_heading_names_the_property_then_the_titles_are_the_things(reader):
    def chunk(name, title, heading, text):
        metadata = {"title": title, "headers": [title, heading]}
        return Hit(Chunk(f"{name}:0", name, text, 0, len(text), metadata), 1.0)

    hits = [
        chunk("si", "Silicon", "Band gap", "The band gap of silicon is 1.12 eV by experiment."),
        chunk("ge", "Germanium", "Band gap",
              "The band gap of germanium is 0.66 eV. Silicon has a wider band gap of 1.1 eV."),
    ]  # fmt: skip
    (answer,) = reader.read(["Which has the wider band gap, silicon or germanium?"], [hits])
    assert [citation.quote for citation in answer.citations] == [
        "The band gap of silicon is 1.12 eV by experiment.",
        "The band gap of germanium is 0.66 eV.",
    ]
