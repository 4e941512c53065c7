"""A language model as judge of what the small check is unsure of, tied to a quote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from ragkit.prompts import load_prompt
from ragkit.readers.citations import Evidence, Verdict
from ragkit.readers.fences import fenced, fenced_passage
from ragkit.types import LLM, ChatOptions, Hit, Message, Support

_OPTIONS = ChatOptions(max_tokens=160, temperature=0.0)
_WORD = re.compile(r"[A-Z]+")
_STATES: dict[str, Support] = {"SUPPORTED": "entailed", "CONTRADICTED": "contradicted"}
_SHORTEST_QUOTE = 3  # words


class Judge(Protocol):
    """Anything that judges a sentence by the sources it was made with."""

    def judge(self, sentence: str, quotes: Sequence[str] = ()) -> Verdict:
        """Judge one sentence; `quotes` are said to support it."""


class ModelJudge:
    """Lets a language model decide what another judge is unsure of.

    The model must give a quote. Its verdict counts only if the quote stands in a passage, word for
    word; else the sentence stays unsure, and the reason says so.

    Args:
        hits: The sources, best first; those that fit into the window are shown.
        llm: The language model.
        small: The judge that is asked first.
    """

    def __init__(self, hits: Sequence[Hit], llm: LLM, small: Judge) -> None:
        self._hits = list(hits)
        self._llm = llm
        self._small = small
        self._prompt = load_prompt("support")

    def judge(self, sentence: str, quotes: Sequence[str] = ()) -> Verdict:
        """Judge one sentence; the model is asked only if the small judge is unsure."""
        verdict = self._small.judge(sentence, quotes)
        if verdict.support != "unsure" or not self._hits:
            return verdict
        reply = self._llm.chat([self.conversation(sentence, verdict.evidence)], _OPTIONS)[0].text
        first, _, rest = reply.strip().partition("\n")
        words = _WORD.findall(first)
        state = _STATES.get(words[0]) if len(words) == 1 else None
        name = self._llm.name
        if state is None:
            said = "unknown" if words == ["UNKNOWN"] else "neither yes nor no"
            return _unsure(verdict, f"{name} says {said}")
        evidence = self._find(rest)
        if evidence is None:
            return _unsure(
                verdict, f"{name} says {first.strip().lower()}, without a quote of a passage"
            )
        reason = (
            "the sources say otherwise" if state == "contradicted" else "follows from its quote"
        )
        return Verdict(state, verdict.probability, f"{name}: {reason}", (evidence,))

    def conversation(self, sentence: str, evidence: Sequence[Evidence] = ()) -> list[Message]:
        """Return the conversation that is sent: passages with evidence first, as many as fit."""
        first = list(dict.fromkeys(e.hit for e in evidence))
        order = [*first, *(i for i in range(len(self._hits)) if i not in first)]
        for n in range(len(order), 0, -1):
            passages = "\n\n".join(fenced_passage(i + 1, self._hits[i]) for i in order[:n])
            text = self._prompt.fill(passages=passages, statement=fenced(sentence))
            messages = [Message("user", text)]
            room = self._llm.context_window - _OPTIONS.max_tokens
            if n == 1 or self._llm.count_tokens(messages) <= room:
                break
        return messages

    def _find(self, quote: str) -> Evidence | None:
        """Return the place of a quote, apart from white space, quotation marks and case."""
        words = quote.strip().strip("\"'“”«»`").split()
        if len(words) < _SHORTEST_QUOTE:
            return None
        pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
        for i, hit in enumerate(self._hits):
            if match := pattern.search(hit.chunk.text):
                return Evidence(i, match.start(), match.end(), 1.0, hit.chunk.table)
        return None


def _unsure(verdict: Verdict, reason: str) -> Verdict:
    return Verdict("unsure", verdict.probability, reason, verdict.evidence)
