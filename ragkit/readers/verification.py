"""Verification of the citations of a stored answer, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ragkit.digests import text_digest
from ragkit.errors import RagkitError
from ragkit.markdown import name_cells
from ragkit.readers.citations import SupportChecker, strip_marks
from ragkit.types import Answer, Chunk, Document, DocumentStore, Hit

State = Literal["valid", "broken", "stale"]


@dataclass(frozen=True, slots=True)
class CitationCheck:
    """Result of checking a citation.

    "valid": the quote matches the document at its offsets. "stale": the document was changed or
    deleted. "broken": the document is unchanged, but the quote does not match.
    """

    number: int
    doc_id: str
    state: State
    why: str


def verify_answer(
    answer: Answer | Mapping[str, Any], documents: DocumentStore
) -> list[CitationCheck]:
    """Check all citations of an answer, or of the JSON returned by `answer_json`.

    `verify_sentences` checks that the citations support the text.

    Raises:
        RagkitError: The JSON is not an answer.
    """
    data = asdict(answer) if isinstance(answer, Answer) else answer
    try:
        citations = [
            (_text(c["doc_id"]), _offset(c["start"]), _offset(c["end"]), _text(c["quote"]),
             _text(c["digest"]))
            for c in data["citations"]
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise RagkitError(
            f"this is not an answer of ragkit ({type(error).__name__}: {error}); expected the JSON "
            "output of `ragkit ask --json`"
        ) from error
    return [
        CitationCheck(number, citation[0], *_check(documents.document(citation[0]), *citation[1:]))
        for number, citation in enumerate(citations, start=1)
    ]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, not {value!r}")
    return value


def _offset(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an integer offset, not {value!r}")
    return value


def _check(
    document: Document | None, start: int, end: int, quote: str, digest: str
) -> tuple[State, str]:
    if document is None:
        return "stale", "the document was deleted from the collection"
    matches = 0 <= start < end and document.text[start:end] == quote
    if digest and text_digest(document.text) != digest:
        state = "still matches" if matches else "does not match"
        return "stale", f"the document was changed; the quote {state} at its offsets"
    if not matches:
        text = document.text[max(0, start) : max(0, end)][:60]
        return "broken", f"the document has {text!r} at these offsets"
    return "valid", "the quote matches at its offsets"


def answer_json(answer: Answer) -> str:
    """Serialize an answer as JSON, with the field names of the dataclasses."""
    return json.dumps(asdict(answer), ensure_ascii=False, indent=1)


def verify_sentences(answer: Answer | Mapping[str, Any]) -> list[str]:
    """Check the text of an answer against its citations; return one line per fault.

    Each sentence must be a span of the text and cite existing citations; all words must belong to a
    sentence; and each sentence marked as supported must pass the support check with its quotes.

    Raises:
        RagkitError: The JSON is not an answer.
    """
    data = asdict(answer) if isinstance(answer, Answer) else answer
    faults = []
    try:
        text = _text(data["text"])
        quotes = [_hit(c["quote"], c.get("table", "")) for c in data["citations"]]
        uncovered = text
        for number, sentence in enumerate(data["sentences"], start=1):
            start, end = _offset(sentence["start"]), _offset(sentence["end"])
            cited = [_offset(n) for n in sentence["citations"]]
            if not 0 <= start < end <= len(text):
                faults.append(f"sentence {number} is outside the text")
                continue
            uncovered = uncovered[:start] + " " * (end - start) + uncovered[end:]
            if not all(1 <= n <= len(quotes) for n in cited):
                faults.append(
                    f"sentence {number} cites {cited}, but there are {len(quotes)} citations"
                )
            elif sentence["supported"] and not _supports(
                [quotes[n - 1] for n in cited], text[start:end]
            ):
                faults.append(f"sentence {number} is not supported by its citations")
    except (KeyError, TypeError, ValueError) as error:
        raise RagkitError(
            f"this is not an answer of ragkit ({type(error).__name__}: {error}); expected the JSON "
            "output of `ragkit ask --json`"
        ) from error
    if uncovered.strip():
        faults.append(f"the text has words outside of sentences: {uncovered.strip()[:60]!r}")
    return faults


def _hit(quote: object, table: object) -> Hit:
    text = _text(quote)
    return Hit(Chunk("", "", text, 0, len(text), {"table": _text(table)}), 0.0)


def _supports(quotes: list[Hit], sentence: str) -> bool:
    text = " ".join(strip_marks(sentence).split())
    for quote in quotes:
        chunk = quote.chunk
        shown = (chunk.text, name_cells(chunk.text, chunk.table))
        if any(text == " ".join(strip_marks(form).split()) for form in shown):
            return True
    return SupportChecker(quotes).check(text) is not None
