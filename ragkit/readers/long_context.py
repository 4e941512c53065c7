"""Question answering by a language model, whose sentences are checked before they are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.losses import report
from ragkit.pipeline import last_answer
from ragkit.prompts import load_prompt
from ragkit.readers.assemble import AnswerBuilder
from ragkit.readers.citations import cite, stands_in, strip_marks
from ragkit.readers.fences import fenced_passage
from ragkit.readers.ordering import order_by_name
from ragkit.readers.support import Judge, load_judge
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
                elif _is_refusal(item.text):
                    refused = True
                    yield Event("removed", item.text)
                else:
                    yield from self._check(item, passages, judge, builder)
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
        written: Written,
        hits: Sequence[Hit],
        judge: Judge,
        builder: AnswerBuilder,
    ) -> Iterator[Event]:
        """Add the sentence with its citations, or remove it if the sources do not say it."""
        plain = strip_marks(written.text).strip()
        if not re.search(r"\w", plain):  # a mark after the full stop, or a horizontal rule
            return
        for quote in written.quotes:
            if not any(stands_in(quote, hit.chunk.text) for hit in hits):
                loss = Loss("reading", repr(quote[:60]), "a quote of the model", "none of it",
                            "it stands in no passage")  # fmt: skip
                report(loss)
                yield builder.add_loss(loss)
        verdict = judge.judge(plain, written.quotes)
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


@dataclass(frozen=True, slots=True)
class Written:
    """A sentence that a model wrote, and what it says that it quotes."""

    text: str
    quotes: tuple[str, ...] = ()


_LONGEST_QUOTE = 400  # characters; a longer one is text in brackets
_QUOTE = re.compile(rf"\[\[((?:(?!\]\]).){{1,{_LONGEST_QUOTE}}}?)\]\]", re.DOTALL)
_OPEN_QUOTE = re.compile(rf"\[(?:\[(?:(?!\]\]).){{0,{_LONGEST_QUOTE}}})?\Z", re.DOTALL)


class _Quotes:
    """Takes quotes in double brackets out of a text that comes in pieces."""

    def __init__(self) -> None:
        self.text = ""
        self._held = ""
        self._found: list[tuple[int, str]] = []

    def add(self, piece: str, *, is_last: bool = False) -> None:
        """Add a piece; what may become a quote is held back."""
        rest = self._held + piece
        while match := _QUOTE.search(rest):
            self.text += rest[: match.start()]
            self._found.append((len(self.text), " ".join(match[1].split()).strip('"“”')))
            rest = rest[match.end() :]
        open_quote = None if is_last else _OPEN_QUOTE.search(rest)
        at = open_quote.start() if open_quote else len(rest)
        self.text, self._held = self.text + rest[:at], rest[at:]

    def take(self, end: int) -> tuple[str, ...]:
        """Return the quotes up to an offset of the text, each once."""
        taken = tuple(quote for at, quote in self._found if at <= end)
        self._found = [(at, quote) for at, quote in self._found if at > end]
        return taken


def _by_sentence(pieces: Generator[str, None, Reply]) -> Iterator[Written | Reply]:
    """Yield complete sentences from pieces of text, then the model's reply.

    A sentence that is truncated by the token limit is dropped.
    """
    segmenter = RuleSegmenter()
    quotes, done = _Quotes(), 0  # sentences up to offset `done` have been yielded
    while True:
        try:
            quotes.add(next(pieces))
        except StopIteration as stop:
            reply: Reply = stop.value
            break
        text = quotes.text
        spans = segmenter.sentences(text)
        # The last sentence may continue, and until its first word is complete ("A", "Applied"), it
        # may turn out to belong to the previous sentence ("J. Appl. Phys. A").
        if len(spans) > 1 and _FIRST_WORD.match(text, spans[-1][0]):
            for (start, end), (following, _) in pairwise(spans):
                if end > done:
                    yield Written(text[max(start, done) : end], quotes.take(following))
            done = spans[-2][1]
    quotes.add("", is_last=True)
    text = quotes.text
    rest = [(max(start, done), end) for start, end in segmenter.sentences(text) if end > done]
    if rest and reply.finish_reason == "length" and not _FINISHED.search(text[slice(*rest[-1])]):
        rest.pop()  # "The gap of GaAs is"
    for i, (start, end) in enumerate(rest):
        following = rest[i + 1][0] if i + 1 < len(rest) else len(text)
        yield Written(text[start:end], quotes.take(following))
    yield reply
