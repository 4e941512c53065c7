"""Assembly of answers from checked sentences and their citations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ragkit.losses import report
from ragkit.types import (
    SUPPORTED,
    Answer,
    Citation,
    Event,
    Hit,
    Loss,
    Refusal,
    RefusalReason,
    Removed,
    Sentence,
    ShortAnswer,
    Source,
    Support,
    Usage,
)

_NEAREST = 3


class AnswerBuilder:
    """Builds an answer from checked sentences, and numbers their citations.

    Args:
        question: Question to answer.
        hits: Hits that the reader uses, best first.
    """

    def __init__(self, question: str, hits: Sequence[Hit]) -> None:
        self._question = question
        self._hits = tuple(hits)
        self._text = ""
        self._sentences: list[Sentence] = []
        self._citations: list[Citation] = []
        self._spans: list[ShortAnswer] = []
        self._removed: list[Removed] = []
        self._losses: list[Loss] = []

    def __len__(self) -> int:
        return len(self._sentences)

    def add(
        self,
        sentence: str,
        citations: Sequence[Citation],
        support: Support,
        *,
        probability: float | None = None,
        reason: str = "",
    ) -> Event:
        """Append a sentence with its citations; return its event.

        A sentence that is not supported gets its state as a mark: "[unsupported]".
        """
        numbers = []
        for citation in citations:
            if citation not in self._citations:
                self._citations.append(citation)
            numbers.append(self._citations.index(citation) + 1)
        mark = "".join(f" [{number}]" for number in numbers)
        if support not in SUPPORTED:
            mark += f" [{support}]"
        text = " ".join(sentence.split()) + mark
        start = len(self._text) + bool(self._text)
        self._text = f"{self._text} {text}" if self._text else text
        end = len(self._text)
        self._sentences.append(Sentence(start, end, tuple(numbers), support, probability, reason))
        return Event("sentence", text)

    def add_span(self, text: str, citation: Citation, start: int, probability: float) -> None:
        """Record a short answer at an offset in the document of a citation that was added."""
        number = self._citations.index(citation) + 1
        end = start + len(text)
        self._spans.append(ShortAnswer(text, number, start, end, round(probability, 6)))

    def remove(self, removed: Removed) -> Iterator[Event]:
        """Record a sentence that is left out, and its loss; yield their events."""
        self._removed.append(removed)
        yield Event("removed", removed.text)
        why = removed.reason or f"no passage supports it ({removed.support})"
        loss = Loss(
            "reading", repr(removed.text[:60]), "a sentence of the model", "none of it", why
        )
        report(loss)
        yield self.add_loss(loss)

    def add_loss(self, loss: Loss) -> Event:
        """Record a loss; return its event."""
        self._losses.append(loss)
        return Event("loss", loss=loss)

    def finish(
        self,
        *,
        refusal: RefusalReason | None = None,
        usage: Usage = Usage(),
        source: Source = Source(),
    ) -> Event:
        """Return the last event: the answer, or a refusal if there are no sentences."""
        reason = None
        if not self._sentences:
            nearest = tuple(hit.chunk.id for hit in self._hits[:_NEAREST])
            reason = Refusal(refusal or "no_evidence", nearest)
        answer = Answer(
            question=self._question,
            text=self._text,
            sentences=tuple(self._sentences),
            citations=tuple(self._citations),
            spans=tuple(self._spans),
            removed=tuple(self._removed),
            hits=self._hits,
            refusal=reason,
            losses=tuple(self._losses),
            usage=usage,
            source=source,
        )
        return Event("answer", answer=answer)
