"""Composition of retrievers, rerankers and readers with `>>`.

qa = collection.retriever("hybrid") >> CrossEncoder("…") >> LongContextReader("smollm2")
answer = qa.ask("Which dopant raises the Curie temperature of Fe3O4?")
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

from ragkit.losses import collect
from ragkit.types import Answer, Event, Hit, Loss, Reader, Reranker, Retriever, Source, Where

RERANK_DEPTH = 50
_T = TypeVar("_T")


def check_queries(queries: Sequence[str], k: int) -> None:
    """Raise TypeError or ValueError for a single string, an empty query, or k < 1."""
    if isinstance(queries, str):
        raise TypeError(f"queries is one string; expected a sequence: [{queries[:40]!r}]")
    for query in queries:
        if not query.strip():
            raise ValueError("the query is empty; expected text")
        try:
            query.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the query cannot be encoded as UTF-8: {error.reason}; remove lone surrogates"
            ) from error
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")


class Composable(ABC):
    """A retriever that can be followed by a reranker or a reader: `retriever >> reader`."""

    @property
    def source(self) -> Source:
        """Path, generation and embedder fingerprint of the hits."""
        return Source()

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that determine the results; equal settings give equal results."""
        return {}

    @abstractmethod
    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """Return at most k hits per query, best first."""

    def __rshift__(self, stage: Any) -> Any:
        return compose(self, stage)


def compose(retriever: Retriever, stage: Reranker | Reader) -> Reranked | QA:
    """Compose a retriever with a reranker or a reader, as `retriever >> stage` does.

    Raises:
        TypeError: The stage is neither a reranker nor a reader, is both, or is a class.
    """
    reranks, reads = isinstance(stage, Reranker), isinstance(stage, Reader)
    if isinstance(stage, type) or reranks == reads:
        raise TypeError(
            f"cannot compose a retriever with {stage!r}; expected an object that is a reranker "
            "(with `rerank`) or a reader (with `read` and `stream`). Use Reranked(…) or QA(…) for "
            "an object that is both."
        )
    return Reranked(retriever, stage) if isinstance(stage, Reranker) else QA(retriever, stage)


class Reranked(Composable):
    """A retriever whose hits are reordered by a reranker.

    Args:
        retriever: Retrieves the candidates.
        reranker: Reorders the candidates.
        depth: Number of candidates (k, if k is larger).
    """

    def __init__(
        self, retriever: Retriever, reranker: Reranker, *, depth: int = RERANK_DEPTH
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}; expected at least 1")
        self._retriever = retriever
        self._reranker = reranker
        self._depth = depth

    @property
    def source(self) -> Source:
        """Path, generation and embedder fingerprint of the hits."""
        return source_of(self._retriever)

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """Return at most k reranked hits per query; see `ragkit.types.Retriever`."""
        check_queries(queries, k)
        runs = self._retriever.retrieve(queries, max(k, self._depth), where=where)
        return self._reranker.rerank(queries, runs, k)


class QA:
    """Question answering with verifiable citations.

    Args:
        retriever: Retrieves passages.
        reader: Answers from the passages.
        k: Number of passages for the reader.
        strict: Raise `LossError` at the first loss instead of recording it.
    """

    def __init__(
        self, retriever: Retriever, reader: Reader, *, k: int = 8, strict: bool = False
    ) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; expected at least 1")
        self.retriever = retriever
        self.reader = reader
        self.k = k
        self.strict = strict

    def ask(self, question: str, *, where: Where | None = None) -> Answer:
        """Answer a question."""
        *_, last = self.stream(question, where=where)
        if last.answer is None:
            raise ValueError("the reader's stream ended without an answer")
        return last.answer

    def ask_many(self, questions: Sequence[str], *, where: Where | None = None) -> list[Answer]:
        """Answer several questions with one batch retrieval, whose losses are in every answer."""
        with collect(strict=self.strict) as losses:
            runs = self.retriever.retrieve(questions, self.k, where=where)
        return [
            last_answer(self._read(question, hits, losses))
            for question, hits in zip(questions, runs, strict=True)
        ]

    def stream(self, question: str, *, where: Where | None = None) -> Iterator[Event]:
        """Yield checked sentences as they are generated, then the answer."""
        with collect(strict=self.strict) as losses:
            runs = self.retriever.retrieve([question], self.k, where=where)
        yield from (Event("loss", loss=loss) for loss in losses)
        yield from self._read(question, runs[0], losses)

    async def aask(self, question: str, *, where: Where | None = None) -> Answer:
        """Run `ask` in a thread, for callers with an event loop."""
        return await asyncio.to_thread(self.ask, question, where=where)

    def _read(self, question: str, hits: Sequence[Hit], earlier: Sequence[Loss]) -> Iterator[Event]:
        source = source_of(self.retriever)
        reported: list[Loss] = []  # by the reader or its components
        events = self._collect_losses(reported, lambda: self.reader.stream(question, hits))
        with _closing(events):
            while (event := self._collect_losses(reported, lambda: next(events, None))) is not None:
                if event.answer is not None:
                    known = [*earlier, *event.answer.losses]
                    new = [loss for loss in dict.fromkeys(reported) if loss not in known]
                    for loss in new:
                        yield Event("loss", loss=loss)
                    event = replace(event, answer=_complete(event.answer, source, [*earlier, *new]))
                yield event

    def _collect_losses(self, reported: list[Loss], step: Callable[[], _T]) -> _T:
        """Run one step of the reader, and append its losses to `reported`.

        Losses are collected per step because a generator runs in the context of its caller.
        """
        with collect(strict=self.strict) as losses:
            result = step()
        reported += losses
        return result


def _closing(events: Iterator[Event]) -> AbstractContextManager[Any]:
    """Close a generator at the end of the block, which stops the model of an abandoned stream."""
    return closing(events) if isinstance(events, Generator) else nullcontext()


def source_of(retriever: Retriever) -> Source:
    """Return the source of a retriever's hits, or an empty `Source` if it has none."""
    source = getattr(retriever, "source", None)
    return source if isinstance(source, Source) else Source()


def _complete(answer: Answer, source: Source, earlier: Sequence[Loss]) -> Answer:
    merged = replace(source, llm=answer.source.llm, prompts=answer.source.prompts)
    return replace(answer, source=merged, losses=(*earlier, *answer.losses))


def last_answer(events: Iterator[Event]) -> Answer:
    """Consume a reader's stream; return the answer of its last event."""
    answer = None
    for event in events:
        answer = event.answer or answer
    if answer is None:
        raise ValueError("the reader's stream ended without an answer")
    return answer
