"""The contract checks must fail for implementations that break their promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ragkit
from ragkit.indexes.exact import ExactIndex
from ragkit.llms import exhaust
from ragkit.pipeline import last_answer
from ragkit.readers import ExtractiveReader
from ragkit.testing import (
    HashEmbedder,
    ScriptedLLM,
    check_embedder,
    check_reader,
    check_retriever,
    check_term_index,
    check_vector_index,
    unit_vectors,
)
from ragkit.types import (
    LLM,
    Answer,
    ChatOptions,
    Chunk,
    Embedder,
    Event,
    Hit,
    Loss,
    Message,
    ScorePart,
    Sentence,
)


class Vectors:
    """An exact index with one thing changed in what comes in or out."""

    def __init__(self, vectors: Any, before: Any = None, after: Any = None) -> None:
        self.index = ExactIndex(vectors)
        self.before = before or (lambda k, allowed: (k, allowed))
        self.after = after or (lambda scores, rows: (scores, rows))

    def search(self, vectors: Any, k: int, *, allowed: Any = None) -> Any:
        k, allowed = self.before(k, allowed)
        return self.after(*self.index.search(vectors, k, allowed=allowed))


def test_check_vector_index_with_the_reference_passes():
    check_vector_index(ExactIndex)
    check_vector_index(Vectors)


@pytest.mark.parametrize(
    "wrong",
    [
        {"before": lambda k, allowed: (k, None)},
        {"before": lambda k, allowed: (max(k, 1), allowed)},
        {"before": lambda k, mask: (k, mask if mask is None or len(mask) > 9 else None)},
        {"after": lambda scores, rows: (scores, rows[:, ::-1])},
        {"after": lambda scores, rows: (scores * 1.01, rows)},
        {"after": lambda scores, rows: (scores.astype(np.float64), rows)},
        {"after": lambda scores, rows: (scores, rows.astype(np.int32))},
        {"after": lambda scores, rows: (scores, np.maximum(rows, 0))},
        {"after": lambda scores, rows: (np.nan_to_num(scores, neginf=0.0), rows)},
        {"after": lambda scores, rows: (scores[:, :5], rows[:, :5])},
        # Ties broken by the higher row: 90..99 and 100..109 are twins.
        {"after": lambda s, r: (s, np.where((r >= 90) & (r < 110), 199 - r, r))},
    ],
)  # fmt: skip
def test_check_vector_index_with_a_wrong_one_fails(wrong: dict[str, Any]):
    with pytest.raises(AssertionError):
        check_vector_index(lambda vectors: Vectors(vectors, **wrong))


class Terms:
    """BM25 in a loop, with switches for the usual mistakes."""

    def __init__(self, rows: Sequence[Sequence[str]], wrong: str = "") -> None:
        self.rows, self.wrong = rows, wrong

    def search(self, term_lists: Sequence[Sequence[str]], k: int, *, allowed: Any = None) -> Any:
        if k < 1 and self.wrong != "any k":
            raise ValueError("k")
        scores = np.full((len(term_lists), k), -np.inf, dtype=np.float32)
        rows = np.full((len(term_lists), k), -1, dtype=np.int64)
        for q, terms in enumerate(term_lists):
            values = [self.score(terms, row) for row in self.rows]
            found = [
                i
                for i, value in enumerate(values)
                if (value > 0 or self.wrong == "zeros")
                and (allowed is None or allowed[i] or self.wrong == "no filter")
            ]
            sign = 1 if self.wrong != "ties" else -1
            found.sort(key=lambda i: (-round(values[i], 6), sign * i))
            for place, i in enumerate(found[:k]):
                scores[q, place], rows[q, place] = values[i], i
        return scores, rows

    def score(self, terms: Sequence[str], row: Sequence[str]) -> float:
        n, mean = len(self.rows), sum(map(len, self.rows)) / len(self.rows)
        total = 0.0
        for term in set(terms) if self.wrong == "unique terms" else terms:
            df = sum(term in other for other in self.rows)
            idf = np.log((n - df + 0.5) / (df + 0.5) + (0 if self.wrong == "idf" else 1))
            b = 0.75 if self.wrong == "b" else 0.5
            k1 = 1.2 if self.wrong == "k1" else 1.5
            tf = row.count(term)
            total += idf * tf / (tf + k1 * (1 - b + b * len(row) / mean)) if tf else 0.0
        return float(total)


def test_check_term_index_with_a_loop_passes():
    check_term_index(Terms)


@pytest.mark.parametrize(
    "wrong", ["any k", "zeros", "no filter", "ties", "unique terms", "idf", "b", "k1"]
)
def test_check_term_index_with_a_wrong_one_fails(wrong: str):
    with pytest.raises(AssertionError):
        check_term_index(lambda rows: Terms(rows, wrong))


class Embeds(HashEmbedder):
    """A hash embedder whose rows are changed."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.change = change

    def embed_passages(self, texts: Sequence[str]) -> Any:
        return self.change(super().embed_queries(texts))


def test_check_embedder_with_the_fake_passes():
    assert isinstance(HashEmbedder(), Embedder)
    check_embedder(HashEmbedder())


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows * 2,
        lambda rows: rows.astype(np.float64),
        lambda rows: rows[:, :-1],
        lambda rows: rows[:1],
        lambda rows: rows if len(rows) < 2 else unit_vectors(len(rows), 64, seed=0),
        lambda rows: rows if len(rows) else np.zeros((0, 3), np.float32),
    ],
)
def test_check_embedder_with_a_wrong_one_fails(change: Callable[[Any], Any]):
    with pytest.raises(AssertionError):
        check_embedder(Embeds(change))


def test_hash_embedder_counts_passages_and_puts_texts_with_common_words_nearer():
    embedder = HashEmbedder()
    near, far = embedder.embed_passages(["gap of gallium arsenide", "cheese and milk"])
    query = embedder.embed_queries(["gallium gap"])[0]
    assert query @ near > query @ far
    assert embedder.n_embedded == 2


def hit(name: str, score: float, parts: tuple[ScorePart, ...] = ()) -> Hit:
    return Hit(Chunk(name, name, name, 0, 1), score, parts or (ScorePart("s", "score", score, 1),))


class Finds:
    """The same hits for every query, unless changed."""

    HITS = (hit("a", 3.0), hit("b", 2.0), hit("c", 2.0), hit("d", 1.0))

    def __init__(self, change: Any = None, *, checks: bool = True) -> None:
        self.change = change or (lambda run, k, n: run[:k])
        self.checks = checks

    def retrieve(self, queries: Sequence[str], k: int = 10, *, where: Any = None) -> Any:
        if self.checks and (k < 1 or not all(queries)):
            raise ValueError("bad query or k")
        return [self.change(list(self.HITS), k, len(queries)) for _ in queries]


def test_check_retriever_with_a_right_one_passes():
    check_retriever(Finds(), ["x", "y"])


@pytest.mark.parametrize(
    "change",
    [
        lambda run, k, n: run[::-1][:k],
        lambda run, k, n: [run[0], run[2], run[1]][:k],
        lambda run, k, n: [run[0], run[0]][:k],
        lambda run, k, n: (run * 2)[: k + 1],
        lambda run, k, n: run[:k] if n < 2 else run[:3],
        lambda run, k, n: run[: k if k > 2 else k - 1],
        lambda run, k, n: [hit("a", 3.0000001), *run[1:]][:k],
        lambda run, k, n: [hit("a", 3.0, (ScorePart("s", "score", 2.0, 1),)), *run[1:]][:k],
        lambda run, k, n: [hit("a", 3.0, (ScorePart("s", "x", 3.0, 1, 0.5),)), *run[1:]][:k],
    ],
)
def test_check_retriever_with_a_wrong_one_fails(change: Any):
    with pytest.raises(AssertionError):
        check_retriever(Finds(change), ["x", "y"])


def test_check_retriever_that_takes_a_bad_k_fails():
    with pytest.raises(AssertionError, match="expected a ValueError"):
        check_retriever(Finds(checks=False), ["x"])


TEXT = "The gap is 1.42 eV. It is direct."
HITS = [Hit(Chunk("d:5-38", "d", TEXT, 5, 38, {"title": "T", "digest": "0"}), 1.0)]


class Reads:
    """An extractive reader whose events or answer are changed."""

    def __init__(self, change: Any = None, events: Any = None, refuse: bool = True) -> None:
        self.inner = ExtractiveReader(HashEmbedder(), threshold=0.0)
        self.change = change or (lambda answer: answer)
        self.events = events or (lambda events: events)
        self.refuse = refuse

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[Event]:
        told = list(self.inner.stream(question, hits or ([] if self.refuse else HITS)))
        if hits:
            assert told[-1].answer is not None
            told[-1] = Event("answer", answer=self.change(told[-1].answer))
            told = self.events(told)
        return iter(told)

    def read(self, questions: Sequence[str], runs: Sequence[Sequence[Hit]]) -> list[Answer]:
        return [last_answer(self.stream(q, hits)) for q, hits in zip(questions, runs, strict=True)]


def test_check_reader_with_a_right_one_passes_and_gives_the_answer():
    answer = check_reader(Reads(), "gap?", HITS)
    assert isinstance(answer, Answer)
    assert answer.citations[0].start == 5


def cited(answer: Answer, **change: Any) -> Answer:
    first, *rest = answer.citations
    return replace(answer, citations=(replace(first, **change), *rest))


def said(answer: Answer, **change: Any) -> Answer:
    first, *rest = answer.sentences
    return replace(answer, sentences=(replace(first, **change), *rest))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: cited(a, start=6),
        lambda a: cited(a, quote="The gap is 1.43 eV."),
        lambda a: cited(a, start=0, end=19),
        lambda a: cited(a, start=5, end=99),
        lambda a: said(a, start=1),
        lambda a: said(a, citations=(9,)),
        lambda a: said(a, citations=(0,)),
        lambda a: said(a, citations=(2,)),
        lambda a: said(a, citations=()),
        lambda a: replace(a, text=a.text.replace("[1]", "[2]")),
        lambda a: replace(a, sentences=()),
        lambda a: replace(a, question="other"),
        lambda a: replace(a, hits=()),
        lambda a: replace(a, losses=(Loss("s", "w", "l", "k", "y"),)),
        lambda a: replace(a, refusal=ragkit.types.Refusal("no_evidence")),
        lambda a: replace(a, sentences=(*a.sentences, Sentence(0, 1, (), "quoted"))),
    ],
)
def test_check_reader_with_a_wrong_answer_fails(change: Any):
    with pytest.raises(AssertionError):
        check_reader(Reads(change), "gap?", HITS)


@pytest.mark.parametrize(
    "events",
    [
        lambda events: [*events, events[-1]],
        lambda events: [events[-1], *events[:-1]],
        lambda events: events[1:],
        lambda events: [Event("loss", loss=Loss("s", "w", "l", "k", "y")), *events],
    ],
)
def test_check_reader_with_wrong_events_fails(events: Any):
    with pytest.raises(AssertionError):
        check_reader(Reads(events=events), "gap?", HITS)


def test_check_reader_that_answers_without_hits_fails():
    with pytest.raises(AssertionError):
        check_reader(Reads(refuse=False), "gap?", HITS)


def test_check_reader_whose_read_is_another_answer_fails():
    class Other(Reads):
        def read(self, questions: Sequence[str], runs: Sequence[Sequence[Hit]]) -> list[Answer]:
            return [replace(answer, text="x") for answer in super().read(questions, runs)]

    with pytest.raises(AssertionError, match="read and stream differ"):
        check_reader(Other(), "gap?", HITS)


ASK = [Message("user", "What is it?")]


def test_scripted_llm_says_its_replies_in_turn_and_the_last_for_ever():
    llm = ScriptedLLM(["one", "two"])
    assert isinstance(llm, LLM)
    assert [reply.text for reply in llm.chat([ASK] * 3)] == ["one", "two", "two"]
    assert llm.conversations == [tuple(ASK)] * 3


def test_scripted_llm_with_a_mapping_says_the_first_that_occurs():
    llm = ScriptedLLM({"Where": "there", "What": "this", "is": "no"})
    assert llm.chat([ASK])[0].text == "this"
    with pytest.raises(KeyError, match="no scripted reply"):
        llm.chat([[Message("user", "Why?")]])


def test_scripted_llm_streams_what_chat_says_and_stops_at_the_length():
    llm = ScriptedLLM(["one two three four"])
    options = ChatOptions(max_tokens=3)
    [reply] = llm.chat([ASK], options)
    pieces = list(llm.stream(ASK, options))
    assert exhaust(llm.stream(ASK, options)) == reply
    assert "".join(pieces) == reply.text == "one two three"
    assert (reply.finish_reason, reply.usage.prompt_tokens) == ("length", 3)


@pytest.mark.parametrize("replies", [[], {}])
def test_scripted_llm_without_replies_raises(replies: Any):
    with pytest.raises(ValueError, match="no replies"):
        ScriptedLLM(replies)
