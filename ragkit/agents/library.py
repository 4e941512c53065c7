"""Tools over a collection: search passages, and answer questions with verified citations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragkit.agents.ledger import Quote
from ragkit.agents.toolkits import Toolkit, ToolkitSettings
from ragkit.agents.tools import Tool, ToolResult, tool

if TYPE_CHECKING:
    from ragkit.pipeline import QA
    from ragkit.types import Retriever

_PREVIEW_CHARS = 160


def build(settings: ToolkitSettings) -> Toolkit:
    """Build the toolkit "library" over an open collection.

    Raises:
        ValueError: The settings have no collection.
    """
    from ragkit.pipeline import QA
    from ragkit.readers import load_reader

    if settings.collection is None:
        raise ValueError(f"the agent {settings.agent!r} needs a collection; pass one (--in PATH)")
    retriever = settings.collection.retriever("hybrid")
    reader = load_reader("auto", settings.collection.embedder)
    return Toolkit(library_tools(retriever, QA(retriever, reader)))


def library_tools(retriever: Retriever, qa: QA) -> list[Tool]:
    """Return the tools `find_passages` and `read_library`.

    Args:
        retriever: Retriever for `find_passages`.
        qa: Question answering for `read_library`; only supported sentences become ledger rows.
    """

    @tool
    def find_passages(query: str, k: int = 5) -> ToolResult:
        """See which passages of the library match.

        Args:
            query: Key words or a question.
            k: How many, 1 to 10.
        """
        hits = retriever.retrieve([query], max(1, min(k, 10)))[0]
        rows: list[dict[str, Any]] = []
        for hit in hits:
            words = " ".join(f"{hit.chunk.table}\n{hit.chunk.text}".split())
            title = str(hit.chunk.metadata.get("title") or hit.chunk.doc_id)
            fits = len(words) <= _PREVIEW_CHARS
            preview = words if fits else words[:_PREVIEW_CHARS].rsplit(" ", 1)[0]
            rows.append({"title": title, "begins": preview})
        return ToolResult(rows=rows, text="" if rows else "no passage matches")

    @tool(timeout_s=120.0)
    def read_library(question: str) -> ToolResult:
        """Answer a question from the library; each sentence becomes a row with its sources.

        Args:
            question: One complete question.
        """
        answer = qa.ask(question)
        if answer.refusal is not None:
            return ToolResult(text=f"the library does not answer this ({answer.refusal.reason})")
        quotes = []
        for sentence in answer.sentences:
            cited = tuple(answer.citations[number - 1] for number in sentence.citations)
            marks = "".join(f" [{number}]" for number in sentence.citations)
            text = answer.text[sentence.start : sentence.end].removesuffix(marks)
            if sentence.supported and cited:
                quotes.append(Quote(text, cited))
        return ToolResult(evidence=quotes, text="" if quotes else "no supported sentence was found")

    return [find_passages, read_library]
