"""Verification of the citations of a stored answer, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ragkit.digests import text_digest
from ragkit.errors import RagkitError
from ragkit.layout import boxes
from ragkit.markdown import find_tables, name_cells, split_row
from ragkit.readers.citations import stands_in, strip_marks
from ragkit.readers.support import load_judge
from ragkit.types import LLM, SUPPORTED, Answer, Box, Chunk, Citation, Document, DocumentStore, Hit

State = Literal["valid", "broken", "stale"]


@dataclass(frozen=True, slots=True)
class CitationCheck:
    """Result of checking a citation.

    "valid": the quote matches the document at its offsets, and its page and boxes, if it has them,
    are those of these offsets. "stale": the document was changed or deleted. "broken": the document
    is unchanged, but something does not match.
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
        citations = [_citation(fields) for fields in data["citations"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RagkitError(
            f"this is not an answer of ragkit ({type(error).__name__}: {error}); expected the JSON "
            "output of `ragkit ask --json`"
        ) from error
    checks = []
    for number, citation in enumerate(citations, start=1):
        state, why = _check(documents.document(citation.doc_id), citation)
        checks.append(CitationCheck(number, citation.doc_id, state, why))
    return checks


def _citation(fields: Mapping[str, Any]) -> Citation:
    """Read a citation; those saved before ragkit knew pages have neither page nor boxes."""
    page = fields.get("page")
    return Citation(
        doc_id=_text(fields["doc_id"]),
        chunk_id="",
        start=_offset(fields["start"]),
        end=_offset(fields["end"]),
        quote=_text(fields["quote"]),
        digest=_text(fields["digest"]),
        page=None if page is None else _offset(page),
        boxes=tuple(Box(**box) for box in fields.get("boxes", ())),
        table=_text(fields.get("table", "")),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, not {value!r}")
    return value


def _offset(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an integer offset, not {value!r}")
    return value


def _check(document: Document | None, citation: Citation) -> tuple[State, str]:
    if document is None:
        return "stale", "the document was deleted from the collection"
    start, end = citation.start, citation.end
    matches = 0 <= start < end and document.text[start:end] == citation.quote
    if citation.digest and text_digest(document.text) != citation.digest:
        state = "still matches" if matches else "does not match"
        return "stale", f"the document was changed; the quote {state} at its offsets"
    if not matches:
        text = document.text[max(0, start) : max(0, end)][:60]
        return "broken", f"the document has {text!r} at these offsets"
    if citation.table and not _is_header(citation.table, document.text, start):
        return "broken", f"{citation.table[:60]!r} is not the header of the quoted row"
    if citation.page is not None and document.layout:
        places = boxes(document.layout, start, end)
        page = places[0].page if places else None
        if citation.page != page:
            return "broken", f"the quote is on page {page}, not on page {citation.page}"
        if citation.boxes != places:
            return "broken", "the boxes are not those of the quote"
    return "valid", "the quote matches at its offsets"


def _is_header(header: str, text: str, position: int) -> bool:
    """Return True if a header, or the rest of one for a part of a row, is that at `position`."""
    given = split_row(header)
    for table in find_tables(text):
        for start, end in table.rows:
            if start <= position < end:
                names = split_row(table.header)
                key = split_row(text[start:end])[0]
                key = f"{names[0]}: {key}" if names and names[0] else key
                rest = names[len(names) - len(given) + 1 :]
                is_rest = bool(given[0]) and key.startswith(given[0]) and given[1:] == rest
                return header == table.header or is_rest
    return False


def answer_json(answer: Answer) -> str:
    """Serialize an answer as JSON, with the field names of the dataclasses."""
    return json.dumps(asdict(answer), ensure_ascii=False, indent=1)


def verify_sentences(answer: Answer | Mapping[str, Any], llm: LLM | None = None) -> list[str]:
    """Check the text of an answer against its citations; return one line per fault.

    Each sentence must be a span of the text and cite existing citations; all words must belong to a
    sentence. A sentence that is said to be quoted must stand in one of its quotes; any other that
    is said to be supported must pass the support check with its quotes alone. Without the pair
    model (`ragkit.pair.model.is_shipped`) a paraphrase counts by its words, so that values or
    names that change places within it are not seen.

    Args:
        answer: The answer, or its JSON.
        llm: Language model that decides what the check is unsure of.

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
            elif sentence["support"] in SUPPORTED:
                cited_quotes = [quotes[n - 1] for n in cited]
                fault = _fault(cited_quotes, text[start:end], sentence["support"], llm)
                faults += [f"sentence {number} {fault}"] if fault else []
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


def _fault(quotes: list[Hit], sentence: str, support: str, llm: LLM | None) -> str:
    """Return what is wrong with a sentence that is said to be supported, or ""."""
    plain = strip_marks(sentence)
    shown = [
        form for q in quotes for form in (q.chunk.text, name_cells(q.chunk.text, q.chunk.table))
    ]
    if any(stands_in(plain, form) for form in shown):
        return ""
    if support == "quoted":
        return "is said to be a quote, but stands in none of its citations"
    verdict = load_judge(quotes, llm).judge(plain)
    if verdict.support in SUPPORTED:
        return ""
    if verdict.support == "unsure":
        return f"may not be supported by its citations ({verdict.reason})"
    return f"is not supported by its citations ({verdict.reason})"
