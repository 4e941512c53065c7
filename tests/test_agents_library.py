"""A collection as tools: previews, and sentences with their sources as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import ragkit
from ragkit.agents.ledger import Ledger, Quote
from ragkit.agents.library import library_tools
from ragkit.agents.observations import observe
from ragkit.agents.render import citations_of, render_answer
from ragkit.agents.tools import Outcome, ToolResult, run_tool
from ragkit.pipeline import QA
from ragkit.readers import LongContextReader
from ragkit.testing import HashEmbedder, ScriptedLLM

LONG = "Germanium has a band gap of 0.66 eV. " + "It was found by Clemens Winkler. " * 8
QUESTION = "What is the band gap of GaAs?"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ragkit.Collection]:
    path = tmp_path_factory.mktemp("library") / "c.rag"
    with ragkit.Collection(path, embedder=HashEmbedder()) as made:
        made.add(
            [
                ragkit.Document("gaas", "The band gap of GaAs is 1.42 eV. It is direct.", "GaAs"),
                ragkit.Document("si", "Silicon has a band gap of 1.12 eV.", "Silicon"),
                ragkit.Document("ge", LONG, ""),
            ]
        )
        yield made


def called(
    collection: ragkit.Collection, name: str, reply: str = "", **arguments: object
) -> Outcome:
    retriever = collection.retriever("bm25")
    qa = QA(retriever, LongContextReader(ScriptedLLM([reply or "No answer."])))
    made = {each.name: each for each in library_tools(retriever, qa)}[name]
    return run_tool(made, arguments, Ledger())


def result_of(outcome: Outcome) -> ToolResult:
    assert outcome.result is not None, outcome.error
    return outcome.result


def test_tools_when_made_then_are_two_with_a_sentence_each(collection):
    retriever = collection.retriever("bm25")
    made = library_tools(retriever, QA(retriever, LongContextReader(ScriptedLLM(["x"]))))
    assert [(each.name, each.description) for each in made] == [
        ("find_passages", "See which passages of the library match."),
        (
            "read_library",
            "Answer a question from the library; each sentence becomes a row with its sources.",
        ),
    ]
    assert [list(each.parameters()["properties"]) for each in made] == [
        ["query", "k"],
        ["question"],
    ]
    assert [each.sends for each in made] == [False, False]


def test_find_when_passages_match_then_shows_titles_and_whole_words(collection):
    found = result_of(called(collection, "find_passages", query="silicon gap", k=1))
    assert found == ToolResult(
        rows=[{"title": "Silicon", "begins": "Silicon has a band gap of 1.12 eV."}]
    )
    (row,) = result_of(called(collection, "find_passages", query="Germanium Winkler")).rows
    assert row["title"] == "ge"
    assert LONG.startswith(f"{row['begins']} ")
    assert 140 < len(row["begins"]) <= 160


@pytest.mark.parametrize(("k", "n_rows"), [(-5, 1), (1, 1), (1000, 3)])
def test_find_when_k_is_out_of_range_then_takes_the_nearest(collection, k, n_rows):
    assert len(result_of(called(collection, "find_passages", query="band gap", k=k)).rows) == n_rows


def test_find_when_nothing_matches_then_says_so(collection):
    assert result_of(called(collection, "find_passages", query="zeppelin")) == ToolResult(
        rows=[], text="no passage matches"
    )


def test_find_when_the_query_is_empty_then_is_an_error_for_the_model(collection):
    assert called(collection, "find_passages", query=" ").error.startswith("find_passages failed (")


def test_read_when_the_library_answers_then_sentences_are_rows_with_spans(collection):
    reply = "The band gap of GaAs is 1.42 eV [1]. It is direct [1]."
    (gap, direct) = result_of(called(collection, "read_library", reply, question=QUESTION)).evidence
    assert isinstance(gap, Quote)
    assert gap.text == "The band gap of GaAs is 1.42 eV."
    assert direct.text == "It is direct."
    (citation,) = gap.citations
    assert citation.doc_id == "gaas"
    stored = "The band gap of GaAs is 1.42 eV. It is direct."
    assert stored[citation.start : citation.end] == citation.quote
    rows = {"r1": gap, "r2": direct}
    citations, sentences = citations_of(rows)
    text = render_answer(rows)
    assert [text[each.start : each.end] for each in sentences] == [
        "The band gap of GaAs is 1.42 eV. [1]",
        "It is direct. [2]",
    ]
    assert citations == [*gap.citations, *direct.citations]


def test_read_when_sentences_are_not_supported_then_they_are_no_rows(collection):
    reply = "GaAs was found on the moon by zeppelins [1]."
    found = result_of(called(collection, "read_library", reply, question=QUESTION))
    assert list(found.evidence) == []
    assert found.text in (
        "no supported sentence was found",
        "the library does not answer this (unsupported)",
    )


def test_read_when_nothing_is_found_then_says_why(collection):
    found = result_of(called(collection, "read_library", question="zeppelin?"))
    assert found == ToolResult(text="the library does not answer this (no_hits)")


def test_read_when_observed_then_the_model_sees_the_sentence_and_its_id(collection):
    reply = "The band gap of GaAs is 1.42 eV [1]."
    outcome = called(collection, "read_library", reply, question=QUESTION)
    retriever = collection.retriever("bm25")
    read = library_tools(retriever, QA(retriever, LongContextReader(ScriptedLLM(["x"]))))[1]
    ledger = Ledger()
    seen = observe(read, {"question": QUESTION}, outcome, ledger, 500)
    assert seen.text == "| r1: The band gap of GaAs is 1.42 eV."
    assert replace(ledger["r1"], query="") == result_of(outcome).evidence[0]
