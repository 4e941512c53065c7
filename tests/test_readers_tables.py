import json

from ragkit.agents.library import library_tools
from ragkit.display import hit_html
from ragkit.pipeline import QA
from ragkit.readers.assemble import AnswerBuilder
from ragkit.readers.citations import SupportChecker, cite
from ragkit.readers.extractive import ExtractiveReader
from ragkit.readers.long_context import LongContextReader
from ragkit.readers.verification import answer_json, verify_sentences
from ragkit.testing import HashEmbedder, ScriptedLLM
from ragkit.types import Chunk, Hit

HEADER = "| valve | pressure / bar | note |"
ROWS = "| V-70 | 5 |  |\n| V-71 | 6 | Made by Foo. Tested. |"
HIT = Hit(
    Chunk("d:90-142", "d", ROWS, 90, 90 + len(ROWS), {"table": HEADER, "title": "Plant"}), 1.0
)
QUESTION = "What is the pressure of valve V-71?"


class _Found:
    """Retriever of the same hit for all queries."""

    def retrieve(self, queries, k=10, *, where=None):
        return [[HIT] for _ in queries]


NO_QUOTE = "sentence 1 is said to be a quote, but stands in none of its citations"


def test_support_when_a_row_says_it_with_its_column_names_then_found():
    checker = SupportChecker([HIT])
    evidence = checker.check("The pressure of valve V-70 is 5 bar.")
    assert evidence is not None
    assert (ROWS[evidence.start : evidence.end], evidence.table) == ("| V-70 | 5 |  |", HEADER)
    for wrong in (
        "The pressure of valve V-70 is 6 bar.",
        "The pressure of valve V-72 is 5 bar.",
        "The pressure of valve V-70 is 5 kPa.",
        "The temperature of tank V-70 is high.",
    ):
        assert checker.check(wrong) is None, wrong


def test_answer_from_a_row_when_stored_as_json_then_its_sentences_are_supported():
    [answer] = ExtractiveReader(HashEmbedder(), threshold=0.0, max_sentences=1).read(
        [QUESTION], [[HIT]]
    )
    assert answer.text == "valve: V-71; pressure / bar: 6; note: Made by Foo. Tested. [1]"
    stored = json.loads(answer_json(answer))
    assert verify_sentences(stored) == []
    assert stored["citations"][0]["table"] == HEADER
    stored["citations"][0]["quote"] = "| V-71 | 7 | Made by Foo. Tested. |"
    assert verify_sentences(stored) == [NO_QUOTE]


def test_long_context_when_a_passage_begins_in_a_table_then_the_model_sees_its_header():
    llm = ScriptedLLM(["The pressure of valve V-71 is 6 bar."])
    reader = LongContextReader(llm)
    assert f"\n{HEADER}\n{ROWS}\n" in reader.conversation(QUESTION, [HIT])[0].content
    [answer] = reader.read([QUESTION], [[HIT]])
    assert answer.text == "The pressure of valve V-71 is 6 bar. [1]"
    [citation] = answer.citations
    assert (citation.quote, citation.table) == (ROWS.split("\n")[1], HEADER)
    assert verify_sentences(answer) == []


def test_passage_in_a_table_when_shown_then_with_its_header():
    assert HEADER in hit_html(HIT)
    find_passages, _ = library_tools(_Found(), QA(_Found(), ExtractiveReader(HashEmbedder())))
    rows = find_passages.call({"query": "valve"}).rows
    assert rows[0]["begins"].startswith(f"{HEADER} | V-70 |")


def test_row_without_column_names_when_cited_then_it_stays_as_it_is():
    text = "|  |  |\n| --- | --- |\n| Mass | 5 kg |"
    reader = ExtractiveReader(HashEmbedder())
    hit = Hit(Chunk("d:0", "d", text, 0, len(text)), 1.0)
    [candidate] = reader.candidates([hit])
    assert (candidate.text, candidate.table) == ("| Mass | 5 kg |", "")


def test_answer_when_a_source_is_cited_again_gives_it_its_first_number():
    hits = [Hit(Chunk(f"d{n}", f"d{n}", f"Fact {n}.", 0, 7), 1.0) for n in range(2)]
    builder = AnswerBuilder("q", hits)
    for n in (0, 1, 0):
        builder.add(f"Fact {n}.", [cite(hits[n], 0, 7)], "quoted")
    answer = builder.finish(refusal="no_evidence").answer
    assert [sentence.citations for sentence in answer.sentences] == [(1,), (2,), (1,)]
    assert answer.text == "Fact 0. [1] Fact 1. [2] Fact 0. [1]"
