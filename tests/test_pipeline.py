"""`>>`, QA, and the losses on their way into the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import ragkit
from ragkit.errors import LossError
from ragkit.losses import collect, report
from ragkit.pipeline import QA, Reranked, last_answer, source_of
from ragkit.readers import ExtractiveReader, LongContextReader
from ragkit.readers.assemble import AnswerBuilder
from ragkit.testing import HashEmbedder, ScriptedLLM, check_retriever
from ragkit.types import Answer, ChatOptions, Event, Hit, Loss, Message, Source

QUESTION = "What is the band gap of GaAs?"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ragkit.Collection]:
    path = tmp_path_factory.mktemp("pipeline") / "c.rag"
    with ragkit.Collection(path, embedder=HashEmbedder()) as made:
        made.add(
            [
                ragkit.Document("gaas", "The band gap of GaAs is 1.42 eV. It is direct.", "GaAs"),
                ragkit.Document("si", "Silicon has a band gap of 1.12 eV.", "Silicon"),
                ragkit.Document("ge", "Germanium has a band gap of 0.66 eV.", "Germanium"),
            ]
        )
        yield made


class Backwards:
    """A reranker that puts the last first and remembers what it got."""

    def __init__(self) -> None:
        self.depths: list[int] = []

    def rerank(
        self, queries: Sequence[str], runs: Sequence[Sequence[Hit]], k: int
    ) -> list[list[Hit]]:
        self.depths += [len(run) for run in runs]
        return [
            [Hit(hit.chunk, float(rank)) for rank, hit in enumerate(run, start=1)][::-1][:k]
            for run in runs
        ]


class Fussy:
    """A retriever and a reader's stream that report a loss each."""

    def __init__(self, inner: Any = None) -> None:
        self.inner = inner

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Any = None
    ) -> list[list[Hit]]:
        report(Loss("embedding", "query", "1 token", "2 tokens", "long"))
        return list(self.inner.retrieve(queries, k, where=where))


class Tells:
    """A reader that reports one loss itself and tells it, and uses a part that reports two."""

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[Event]:
        builder = AnswerBuilder(question, hits)
        own = Loss("reading", question, "1 passage", "2 passages", "budget")
        report(own)
        yield builder.add_loss(own)
        report(Loss("embedding", "sentence", "1 token", "2 tokens", "long"))
        report(Loss("embedding", "query", "1 token", "2 tokens", "long"))  # as at retrieval
        yield builder.add("It is so.", [], "unsupported")
        yield builder.finish()

    def read(self, questions: Sequence[str], runs: Sequence[Sequence[Hit]]) -> list[Answer]:
        return [last_answer(self.stream(q, hits)) for q, hits in zip(questions, runs, strict=True)]


def qa_of(collection: ragkit.Collection, reply: str, **options: Any) -> QA:
    reader = LongContextReader(ScriptedLLM([reply]), **options)
    made: QA = collection.retriever("bm25") >> reader
    return made


def test_retriever_then_reranker_is_a_retriever(collection: ragkit.Collection):
    reranker = Backwards()
    reranked = collection.retriever("bm25") >> reranker
    assert isinstance(reranked, Reranked)
    plain = collection.retriever("bm25").retrieve([QUESTION], 3)[0]
    found = reranked.retrieve([QUESTION], 2)[0]
    assert [hit.chunk.id for hit in found] == [hit.chunk.id for hit in plain[::-1][:2]]
    assert reranker.depths == [3]
    assert reranked.source == collection.source


def test_reranked_asks_for_its_depth_or_k_whichever_is_larger(collection: ragkit.Collection):
    for depth, k, expected in ((1, 2, 2), (2, 1, 2), (1, 1, 1)):
        reranker = Backwards()
        hits = Reranked(collection.retriever("bm25"), reranker, depth=depth)
        assert len(hits.retrieve([QUESTION], k)[0]) == k
        assert reranker.depths == [expected]


def test_retriever_reranker_and_reader_make_a_qa(collection: ragkit.Collection):
    qa = collection.retriever("bm25") >> Backwards() >> ExtractiveReader(HashEmbedder())
    assert isinstance(qa, QA)
    assert isinstance(qa.retriever, Reranked)
    first = qa.ask(QUESTION).hits[0].chunk.doc_id
    assert first == collection.retriever("bm25").retrieve([QUESTION], 3)[0][-1].chunk.doc_id


class Both(Backwards, Tells):
    pass


@pytest.mark.parametrize(
    "stage", [None, "smollm2", len, Both(), LongContextReader, Backwards, HashEmbedder()]
)
def test_retriever_then_anything_else_raises(collection: ragkit.Collection, stage: Any):
    with pytest.raises(TypeError, match="expected an object that is a reranker"):
        collection.retriever("bm25") >> stage


@pytest.mark.parametrize("bad", [0, -1])
def test_counts_below_one_raise_at_once(collection: ragkit.Collection, bad: int):
    retriever = collection.retriever("bm25")
    with pytest.raises(ValueError, match=f"depth is {bad}"):
        Reranked(retriever, Backwards(), depth=bad)
    with pytest.raises(ValueError, match=f"k is {bad}"):
        QA(retriever, Tells(), k=bad)


def test_reranked_keeps_the_retriever_contract(collection: ragkit.Collection):
    class Constant:
        def rerank(
            self, queries: Sequence[str], runs: Sequence[Sequence[Hit]], k: int
        ) -> list[list[Hit]]:
            return [list(run[:k]) for run in runs]

    check_retriever(collection.retriever("hybrid") >> Constant(), [QUESTION, "silicon"])


def test_ask_is_the_last_event_of_stream(collection: ragkit.Collection):
    qa = qa_of(collection, "The band gap of GaAs is 1.42 eV. It is made of cheese.")
    events = list(qa.stream(QUESTION))
    assert [event.kind for event in events] == ["sentence", "removed", "loss", "answer"]
    assert events[-1].answer == qa.ask(QUESTION)
    assert qa.ask(QUESTION).text == "The band gap of GaAs is 1.42 eV. [1]"


def test_answer_names_its_sources(collection: ragkit.Collection):
    source = qa_of(collection, "NOT FOUND").ask(QUESTION).source
    assert (source.collection, source.generation) == (str(collection.path), 1)
    assert source.embedder == HashEmbedder().fingerprint
    assert source.llm == "scripted"
    assert list(source.prompts) == ["answer"]


def test_source_of_a_retriever_without_one_is_empty():
    assert source_of(Fussy()) == Source()


def test_ask_many_gives_what_ask_gives(collection: ragkit.Collection):
    qa = qa_of(collection, "Silicon has a band gap of 1.12 eV.")
    questions = [QUESTION, "Which band gap has silicon?"]
    assert qa.ask_many(questions) == [qa.ask(question) for question in questions]
    assert qa.ask_many([]) == []


def test_ask_with_a_filter_reads_only_what_it_lets_through(collection: ragkit.Collection):
    qa = qa_of(collection, "The band gap of GaAs is 1.42 eV.")
    answer = qa.ask(QUESTION, where={"doc_id": "si"})
    assert [hit.chunk.doc_id for hit in answer.hits] == ["si"]
    assert answer.refusal is not None
    assert [a.hits for a in qa.ask_many([QUESTION], where={"doc_id": "si"})] == [answer.hits]


def test_ask_without_words_raises(collection: ragkit.Collection):
    with pytest.raises(ValueError, match="query is empty"):
        qa_of(collection, "x").ask(" ")


def test_aask_under_a_running_loop_gives_what_ask_gives(collection: ragkit.Collection):
    qa = qa_of(collection, "The band gap of GaAs is 1.42 eV.")

    async def ask_twice() -> list[Answer]:
        return await asyncio.gather(qa.aask(QUESTION), qa.aask(QUESTION, where={"doc_id": "gaas"}))

    first, second = asyncio.run(ask_twice())
    assert first == qa.ask(QUESTION)
    assert [hit.chunk.doc_id for hit in second.hits] == ["gaas"]


class Watched(ScriptedLLM):
    n_open = 0

    def stream(self, conversation: Sequence[Message], options: ChatOptions = ChatOptions()) -> Any:
        self.n_open += 1
        try:
            return (yield from super().stream(conversation, options))
        finally:
            self.n_open -= 1


def test_stream_closed_early_stops_the_model_and_listens_no_more(
    collection: ragkit.Collection, caplog: pytest.LogCaptureFixture
):
    llm = Watched(["It is direct. " * 30])
    events: Any = (collection.retriever("bm25") >> LongContextReader(llm)).stream(QUESTION)
    assert next(events).kind == "sentence"
    assert llm.n_open == 1
    loss = Loss("test", "x", "1", "0", "between two events")
    with caplog.at_level(logging.WARNING):
        report(loss)  # nobody listens here, although the stream is open
    assert len(caplog.records) == 1
    events.close()
    assert llm.n_open == 0
    with collect() as losses:
        report(loss)
    assert losses == [loss]


def test_stream_that_fails_stops_the_model(collection: ragkit.Collection):
    llm = Watched(["It is direct. " * 30])
    qa = QA(collection.retriever("bm25"), LongContextReader(llm, answer_tokens=10), strict=True)
    with pytest.raises(LossError, match="the end of the answer"):
        qa.ask(QUESTION)
    assert llm.n_open == 0


def test_losses_of_retrieval_reading_and_parts_are_in_the_answer_once_and_not_logged(
    collection: ragkit.Collection, caplog: pytest.LogCaptureFixture
):
    qa = QA(Fussy(collection.retriever("bm25")), Tells())
    with caplog.at_level(logging.WARNING):
        events = list(qa.stream(QUESTION))
    answer = events[-1].answer
    assert answer is not None
    whats = ["query", "sentence", QUESTION]
    assert [loss.what for loss in answer.losses] == whats
    told = [event.loss.what for event in events if event.loss is not None]
    assert sorted(told) == sorted(whats)
    assert [event.kind for event in events].count("answer") == 1
    assert caplog.records == []


def test_losses_go_to_the_answer_also_where_somebody_else_listens(collection: ragkit.Collection):
    with collect() as outer:
        answer = QA(Fussy(collection.retriever("bm25")), Tells()).ask(QUESTION)
    assert len(answer.losses) == 3
    assert outer == []


def test_extractive_reader_with_a_sentence_beyond_the_window_loses_aloud(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
):
    class Narrow(HashEmbedder):
        def embed_passages(self, texts: Sequence[str]) -> Any:
            report(Loss("embedding", texts[0], "9 tokens", "4 tokens", "window"))
            return super().embed_passages(texts)

    with ragkit.Collection(tmp_path / "c.rag", embedder=HashEmbedder()) as collection:
        collection.add(ragkit.Document("gaas", "The band gap of GaAs is 1.42 eV."))
        answer = (collection.retriever("bm25") >> ExtractiveReader(Narrow())).ask(QUESTION)
    assert [loss.stage for loss in answer.losses] == ["embedding"]
    assert caplog.records == []


@pytest.mark.parametrize("retriever_loses", [True, False])
def test_strict_raises_at_the_first_loss(collection: ragkit.Collection, retriever_loses: bool):
    retriever: Any = collection.retriever("bm25")
    qa = QA(Fussy(retriever) if retriever_loses else retriever, Tells(), strict=True)
    what = "query" if retriever_loses else "band gap"
    for ask in (qa.ask, lambda question: qa.ask_many([question])):
        with pytest.raises(LossError, match=f"strict=True: .*{what}"):
            ask(QUESTION)


def test_reader_whose_stream_is_no_generator_is_read_as_well(
    collection: ragkit.Collection, caplog: pytest.LogCaptureFixture
):
    class Eager(Tells):
        def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[Event]:
            return iter(list(super().stream(question, hits)))

    answer = QA(collection.retriever("bm25"), Eager()).ask(QUESTION)
    assert [loss.what for loss in answer.losses] == ["sentence", "query", QUESTION]
    assert caplog.records == []
