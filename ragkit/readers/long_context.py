"""Question answering by a language model, whose sentences are checked before they are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Literal

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.losses import report
from ragkit.pipeline import last_answer
from ragkit.prompts import load_prompt
from ragkit.readers.assemble import AnswerBuilder
from ragkit.readers.citations import Verdict, cite, strip_marks
from ragkit.readers.fences import fenced_passage
from ragkit.readers.ordering import order_by_name
from ragkit.readers.support import load_judge
from ragkit.types import (
    LLM,
    Answer,
    ChatOptions,
    Event,
    Hit,
    Loss,
    Message,
    Removed,
    Reply,
    Source,
)


class LongContextReader:
    """Answers with a language model, from as many passages as fit into its prompt.

    The budget is the number of tokens of the rendered prompt. Hits that do not fit are dropped from
    the end and reported as losses; then the rest is reordered. Passages are numbered by their
    ranks, independent of their order.

    Args:
        llm: Language model, or its name for `ragkit.llms.load_llm`.
        order: "edges" (best at both ends), "descending" or "ascending".
        unsupported: Treatment of sentences that the passages contradict or do not support: "remove"
            (they are in `Answer.removed`, each a loss) or "mark". What the check is unsure of is
            always marked.
        answer_tokens: Maximum number of tokens of the answer.
        max_prompt_tokens: Maximum number of tokens of the prompt; default: context window minus
            `answer_tokens`.
        temperature: Sampling temperature; 0 is greedy.
        judge: Language model, or its name, that decides what the check is unsure of; its verdict
            counts only with a quote that stands in a passage. None leaves it unsure.
    """

    def __init__(  # noqa: PLR0913 - independent settings
        self,
        llm: LLM | str = "smollm2",
        *,
        order: str = "edges",
        unsupported: Literal["remove", "mark"] = "remove",
        answer_tokens: int = 160,
        max_prompt_tokens: int | None = None,
        temperature: float = 0.0,
        judge: LLM | str | None = None,
    ) -> None:
        if unsupported not in ("remove", "mark"):
            raise ValueError(f"unsupported is {unsupported!r}; expected 'remove' or 'mark'")
        self._order = order_by_name(order)
        llm = _model(llm)
        available = llm.context_window - answer_tokens
        self._budget = available if max_prompt_tokens is None else min(available, max_prompt_tokens)
        if answer_tokens < 1 or self._budget < 1:
            raise ValueError(
                f"answer_tokens is {answer_tokens} and max_prompt_tokens is {max_prompt_tokens}; "
                f"expected at least 1 each, and together at most the {llm.context_window} tokens "
                f"of {llm.name!r}'s context window"
            )
        self._llm = llm
        self._judge = None if judge is None else _model(judge)
        self._keep_unsupported = unsupported == "mark"
        self._options = ChatOptions(max_tokens=answer_tokens, temperature=temperature)
        self._prompt = load_prompt("answer")

    def read(self, questions: Sequence[str], runs: Sequence[Sequence[Hit]]) -> list[Answer]:
        """Return one answer per question."""
        return [
            last_answer(self.stream(question, hits))
            for question, hits in zip(questions, runs, strict=True)
        ]

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[Event]:
        """Yield each sentence when it is complete and checked, then the answer."""
        builder = AnswerBuilder(question, hits)
        if not hits:
            yield builder.finish(refusal="no_hits", source=self._source())
            return
        passages, losses = self._fit(question, hits)
        for loss in losses:
            report(loss)
            yield builder.add_loss(loss)
        judge = load_judge(passages, self._judge)
        refused = False
        reply = Reply("", "stop")
        stream = self._llm.stream(self.conversation(question, passages), self._options)
        with closing(stream):  # abandoning this generator stops the model
            for item in _by_sentence(stream):
                if isinstance(item, Reply):
                    reply = item
                elif _is_refusal(item):
                    refused = True
                    yield Event("removed", item)
                else:
                    yield from self._check(item, passages, judge.judge, builder)
        if reply.finish_reason == "length":
            loss = Loss("reading", question[:60], "the end of the answer",
                        f"{reply.usage.completion_tokens} tokens",
                        "answer_tokens or the window was reached")  # fmt: skip
            report(loss)
            yield builder.add_loss(loss)
        yield builder.finish(
            refusal="model_refused" if refused else "unsupported",
            usage=reply.usage,
            source=self._source(),
        )

    def conversation(self, question: str, hits: Sequence[Hit]) -> list[Message]:
        """Return the conversation that is sent to the model, with the hits in prompt order."""
        order = self._order(len(hits))
        passages = "\n\n".join(fenced_passage(rank + 1, hits[rank]) for rank in order)
        return [Message("user", self._prompt.fill(passages=passages, question=question))]

    def _fit(self, question: str, hits: Sequence[Hit]) -> tuple[list[Hit], list[Loss]]:
        """Return the longest prefix of the hits that fits into the prompt, and the losses."""
        n = _largest(
            len(hits),
            lambda n: self._llm.count_tokens(self.conversation(question, hits[:n])) <= self._budget,
        )
        if n == 0:
            tokens = self._llm.count_tokens(self.conversation(question, hits[:1]))
            raise ValueError(
                f"the question and one passage take {tokens} tokens, but the prompt may have "
                f"{self._budget}; use smaller chunks, a shorter question or a larger window"
            )
        if n == len(hits):
            return list(hits), []
        why = f"the prompt may have {self._budget} tokens; retrieve fewer or use a larger window"
        loss = Loss("reading", question[:60], f"{len(hits) - n} passages", f"{n} passages", why)
        return list(hits[:n]), [loss]

    def _check(
        self,
        sentence: str,
        hits: Sequence[Hit],
        judge: Callable[[str], Verdict],
        builder: AnswerBuilder,
    ) -> Iterator[Event]:
        """Add the sentence with its citations, or remove it if the sources do not say it."""
        plain = strip_marks(sentence).strip()
        if not re.search(r"\w", plain):  # a mark after the full stop, or a horizontal rule
            return
        verdict = judge(plain)
        support, probability, reason = verdict.support, verdict.probability, verdict.reason
        if support in _REMOVED and not self._keep_unsupported:
            yield from builder.remove(Removed(plain, support, probability, reason))
            return
        cited = [cite(hits[e.hit], e.start, e.end, e.table) for e in verdict.evidence]
        yield builder.add(
            plain,
            [] if support == "unsupported" else cited,
            support,
            probability=probability,
            reason=reason,
        )

    def _source(self) -> Source:
        version = f"{self._prompt.version}:{self._prompt.digest}"
        return Source(llm=self._llm.name, prompts={self._prompt.name: version})


def _model(llm: LLM | str) -> LLM:
    if not isinstance(llm, str):
        return llm
    from ragkit.llms import load_llm

    return load_llm(llm)


_REMOVED = ("contradicted", "unsupported")


def _largest(n: int, fits: Callable[[int], bool]) -> int:
    """Return the largest m <= n with fits(m), for a predicate that is monotone."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _is_refusal(sentence: str) -> bool:
    return re.findall(r"[^\W_]+", strip_marks(sentence).lower()) == ["not", "found"]


_FIRST_WORD = re.compile(r"\S{1,40}\s|\S{41}")  # lookahead of the segmenter
_FINISHED = re.compile(r"[.!?…。！？]\W*$")  # noqa: RUF001


def _by_sentence(pieces: Generator[str, None, Reply]) -> Iterator[str | Reply]:
    """Yield complete sentences from pieces of text, then the model's reply.

    A sentence that is truncated by the token limit is dropped.
    """
    segmenter = RuleSegmenter()
    text, done = "", 0  # sentences up to offset `done` have been yielded
    while True:
        try:
            text += next(pieces)
        except StopIteration as end:
            reply: Reply = end.value
            break
        spans = segmenter.sentences(text)
        # The last sentence may continue, and until its first word is complete ("A", "Applied"), it
        # may turn out to belong to the previous sentence ("J. Appl. Phys. A").
        if len(spans) > 1 and _FIRST_WORD.match(text, spans[-1][0]):
            yield from (text[max(start, done) : end] for start, end in spans[:-1] if end > done)
            done = spans[-2][1]
    rest = [text[max(start, done) : end] for start, end in segmenter.sentences(text) if end > done]
    if rest and reply.finish_reason == "length" and not _FINISHED.search(rest[-1]):
        rest.pop()  # "The gap of GaAs is"
    yield from rest
    yield reply
