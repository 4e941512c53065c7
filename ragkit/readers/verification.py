"""Check an answer's citations again, later and without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ragkit.digests import text_digest
from ragkit.errors import RagkitError
from ragkit.readers.citations import SupportChecker, strip_marks
from ragkit.types import Answer, Chunk, Document, DocumentStore, Hit

State = Literal["valid", "broken", "stale"]


@dataclass(frozen=True, slots=True)
class CitationCheck:
    """What became of a citation.

    "valid": the quote stands at its offsets. "stale": the document has changed since, or is gone.
    "broken": the document is the one that was cited, and the quote does not stand there.
    """

    number: int
    doc_id: str
    state: State
    why: str


def verify_answer(
    answer: Answer | Mapping[str, Any], documents: DocumentStore
) -> list[CitationCheck]:
    """Check every citation of an answer, or of the JSON that `answer_json` made.

    Only the citations are checked; `verify_sentences` checks that they support the text.

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
            f"this is not an answer of ragkit: {type(error).__name__}: {error}; expected the JSON "
            "that `ragkit ask --json` prints"
        ) from error
    return [
        CitationCheck(number, citation[0], *_check(documents.document(citation[0]), *citation[1:]))
        for number, citation in enumerate(citations, start=1)
    ]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _offset(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no offset")
    return value


def _check(
    document: Document | None, start: int, end: int, quote: str, digest: str
) -> tuple[State, str]:
    if document is None:
        return "stale", "the document is not in the collection any more"
    stands = 0 <= start < end and document.text[start:end] == quote
    if digest and text_digest(document.text) != digest:
        where = (
            "the quote still stands at its place" if stands else "the quote does not stand there"
        )
        return "stale", f"the document has changed since; {where}"
    if not stands:
        there = document.text[max(0, start) : max(0, end)][:60]
        return "broken", f"the document says {there!r} there"
    return "valid", "the quote stands at its offsets"


def answer_json(answer: Answer) -> str:
    """An answer as JSON, following the dataclasses."""
    return json.dumps(asdict(answer), ensure_ascii=False, indent=1)


def verify_sentences(answer: Answer | Mapping[str, Any]) -> list[str]:
    """What is wrong between an answer's text and its citations, one line a fault; no model needed.

    Each sentence must lie in the text and cite what is there; all words must belong to a sentence;
    and a sentence that says it is supported must pass the same check again, against its quotes.

    Raises:
        RagkitError: The JSON is not an answer.
    """
    data = asdict(answer) if isinstance(answer, Answer) else answer
    faults = []
    try:
        text, quotes = _text(data["text"]), [_text(c["quote"]) for c in data["citations"]]
        rest = text
        for number, sentence in enumerate(data["sentences"], start=1):
            start, end = _offset(sentence["start"]), _offset(sentence["end"])
            cited = [_offset(n) for n in sentence["citations"]]
            if not 0 <= start < end <= len(text):
                faults.append(f"sentence {number} lies outside of the text")
                continue
            rest = rest[:start] + " " * (end - start) + rest[end:]
            if not all(1 <= n <= len(quotes) for n in cited):
                faults.append(f"sentence {number} cites {cited} of {len(quotes)} citations")
            elif sentence["supported"] and not _supports(
                [quotes[n - 1] for n in cited], text[start:end]
            ):
                faults.append(f"sentence {number} is not supported by what it cites")
    except (KeyError, TypeError, ValueError) as error:
        raise RagkitError(
            f"this is not an answer of ragkit: {type(error).__name__}: {error}; expected the JSON "
            "that `ragkit ask --json` prints"
        ) from error
    if rest.strip():
        faults.append(f"the text holds words of no sentence: {rest.strip()[:60]!r}")
    return faults


def _supports(quotes: list[str], sentence: str) -> bool:
    said = " ".join(strip_marks(sentence).split())
    if any(said == " ".join(strip_marks(quote).split()) for quote in quotes):
        return True
    hits = [Hit(Chunk(str(n), "", quote, 0, len(quote)), 0.0) for n, quote in enumerate(quotes)]
    return SupportChecker(hits).check(said) is not None
