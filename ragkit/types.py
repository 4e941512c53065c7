"""Data classes and protocols shared by all parts of ragkit.

Data classes are frozen. Components are Protocols: any object with these methods can be used, and
`ragkit.testing` checks that it fulfils the contract. Methods work on batches and never modify their
inputs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Where = Mapping[str, Any]
"""A metadata filter in JSON form; see `ragkit.store.filters`."""

RetrieverName = Literal["dense", "bm25", "hybrid", "title", "ngram"]
"""Name of a retriever of a collection."""

RETRIEVERS: tuple[RetrieverName, ...] = get_args(RetrieverName)

Vectors = NDArray[np.float32]
Scores = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Line(NamedTuple):
    """Place of text[start:end] on a page: a line of text, or a cell of a table.

    Attributes:
        start: Offset in the document's text.
        end: Offset after its last character.
        page: Number of the page, from 1.
        x0: Left side in points (1/72 inch), from the left of the page as it is shown.
        y0: Top in points, from the top of the page.
        x1: Right side.
        y1: Bottom.
    """

    start: int
    end: int
    page: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Document:
    """A source document. All offsets in ragkit are code points of `text`.

    `layout` lists the lines of documents that have pages, ascending and disjoint.
    """

    id: str
    text: str
    title: str = ""
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    layout: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document: `document.text[start:end] == chunk.text`.

    `metadata` contains the fields of the document and of the chunk (page, headers, table). Chunks
    returned by a collection also have `title` and `source`; `layout` then lists the lines of the
    document that the chunk touches.
    """

    id: str
    doc_id: str
    text: str
    start: int
    end: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    layout: tuple[Line, ...] = ()

    @property
    def table(self) -> str:
        """Header row of the table in which the chunk begins; empty if it begins in none."""
        return table_header(self.metadata)


def table_header(metadata: Mapping[str, Any]) -> str:
    """Return the table header in a chunk's metadata, or an empty string.

    A document's own field "table" is a header only if it begins with a bar.

    >>> table_header({"table": "| a | b |"}), table_header({"table": "users"})
    ('| a | b |', '')
    """
    header = metadata.get("table")
    return header if isinstance(header, str) and header.startswith("|") else ""


@dataclass(frozen=True, slots=True)
class Loss:
    """Information that was truncated, dropped or skipped.

    Attributes:
        stage: Stage that lost it: "documents", "chunking", "embedding", "reading", …
        what: Affected item: a path, a document id, a chunk id, or the question.
        lost: Amount that was lost, with its unit: "412 tokens", "the file".
        kept: Amount that remains, with its unit.
        why: Cause, and how to avoid the loss if possible.
    """

    stage: str
    what: str
    lost: str
    kept: str
    why: str


@dataclass(frozen=True, slots=True)
class ScorePart:
    """One contribution to a hit's score.

    Attributes:
        stage: Retriever or reranker that contributed it.
        name: Name of the score within the stage, for example "cosine".
        score: Contribution before weighting.
        rank: Rank of the hit in that stage, from 1.
        weight: Weight of the contribution in the sum.
        detail: Explanation: BM25 terms, n-grams, the raw score.
    """

    stage: str
    name: str
    score: float
    rank: int
    weight: float = 1.0
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk with its score; higher is better.

    The score equals the sum of `weight * score` over the parts of the last stage, those whose stage
    is `parts[-1].stage`, to 1e-6. Parts of earlier stages come first. `copies` are the ids of other
    chunks with the same text, as far as they were found; hits that differ in them only are equal.
    """

    chunk: Chunk
    score: float
    parts: tuple[ScorePart, ...] = ()
    copies: tuple[str, ...] = field(default=(), compare=False)

    def _repr_html_(self) -> str:
        from ragkit.display import hit_html

        return hit_html(self)


@dataclass(frozen=True, slots=True)
class Box:
    """Part of a page, in points (1/72 inch) from the top left of the page as it is shown."""

    page: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Citation:
    """A span of a stored document: `document.text[start:end] == quote`.

    Attributes:
        doc_id: Id of the document.
        chunk_id: Id of the chunk that was read.
        start: Offset in the document's text.
        end: Offset after the last character.
        quote: The text.
        digest: Digest of the document's text, which allows later checks to distinguish a broken
            citation from a changed document.
        page: Number of the page on which the quote begins, from 1, if the document has pages.
        boxes: Its lines on the pages, if the document has pages.
        url: Address of a web page.
        time: Time at which a web page was fetched, ISO 8601.
        table: Header row of the table of which the quote is a row.
    """

    doc_id: str
    chunk_id: str
    start: int
    end: int
    quote: str
    digest: str
    page: int | None = None
    boxes: tuple[Box, ...] = ()
    url: str = ""
    time: str = ""
    table: str = ""


Support = Literal["quoted", "entailed", "computed", "contradicted", "unsupported", "unsure"]
"""What the sources say of a sentence.

It stands there ("quoted"), follows from them ("entailed"), or its number is computed from theirs;
they say something else ("contradicted") or nothing of it ("unsupported"), or the check cannot tell.
"""

SUPPORTED: tuple[Support, ...] = ("quoted", "entailed", "computed")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an answer: `answer.text[start:end]`.

    Attributes:
        start: Offset in the answer's text.
        end: End offset; the citation marks are inside.
        citations: Numbers of its citations, from 1.
        support: What the sources say of it.
        probability: Probability that they support it, from 0 to 1; None if it was not estimated.
        reason: Why, in words; of a quote, only that another passage says otherwise.
    """

    start: int
    end: int
    citations: tuple[int, ...]
    support: Support
    probability: float | None = None
    reason: str = ""

    @property
    def supported(self) -> bool:
        """True if the sources say it, or if it follows from what they say."""
        return self.support in SUPPORTED


@dataclass(frozen=True, slots=True)
class ShortAnswer:
    """The words of a quote that answer the question: a span of the document's text.

    Attributes:
        text: The words.
        citation: Number of the citation, from 1.
        start: Offset in the document's text.
        end: End offset.
        probability: Likelihood of being the answer, from 0 to 1.
    """

    text: str
    citation: int
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Removed:
    """A sentence that a model wrote and that the answer leaves out."""

    text: str
    support: Support
    probability: float | None = None
    reason: str = ""


RefusalReason = Literal["no_hits", "no_evidence", "unsupported", "model_refused"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Reason for not answering, and the ids of the nearest chunks, best first."""

    reason: RefusalReason
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Number of tokens in the prompts and completions of a language model."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """Provenance of an answer: the collection, models and prompts that produced it."""

    collection: str | None = None
    generation: int | None = None
    embedder: str | None = None
    llm: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its evidence, or a refusal with its reason.

    `text` contains citation marks such as "[1]"; `sentences` link spans of it to `citations`.
    `spans` are the short answers inside the quotes, best first, as far as the reader finds any.
    `removed` is what a model wrote without support; each is a loss, too.
    """

    question: str
    text: str
    sentences: tuple[Sentence, ...] = ()
    citations: tuple[Citation, ...] = ()
    hits: tuple[Hit, ...] = ()
    refusal: Refusal | None = None
    losses: tuple[Loss, ...] = ()
    usage: Usage = Usage()
    source: Source = Source()
    spans: tuple[ShortAnswer, ...] = ()
    removed: tuple[Removed, ...] = ()

    def _repr_html_(self) -> str:
        from ragkit.display import answer_html

        return answer_html(self)


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a streamed answer.

    Attributes:
        kind: "sentence" (checked), "removed" (unsupported, not part of the answer), "loss", or
            "answer", which is always the last event.
        text: Sentence with its citation marks; empty for "loss" and "answer".
        answer: Complete answer, for "answer".
        loss: Loss, for "loss".
    """

    kind: Literal["sentence", "removed", "loss", "answer"]
    text: str = ""
    answer: Answer | None = None
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Generation options. Temperature 0 means greedy, and thus deterministic, decoding.

    With `schema`, the reply is JSON that follows this JSON schema. Local models enforce it by
    constrained decoding; servers are requested to. The JSON is complete unless `finish_reason` is
    "length".
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply of a language model, with its reason to stop and its token usage."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage = Usage()


class Tokenizer(Protocol):
    """Splits texts into the tokens of a model."""

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return (start, end) code point offsets of each text's tokens, without special tokens."""


class Segmenter(Protocol):
    """Splits text into sentences."""

    def sentences(self, text: str) -> list[tuple[int, int]]:
        """Return ascending, disjoint (start, end) spans that cover all but white space."""


@runtime_checkable
class Embedder(Protocol):
    """Maps texts to unit vectors. A vector does not depend on the other texts of the batch."""

    name: str
    dim: int
    fingerprint: str
    max_tokens: int

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the model, used to fit chunks into its window."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed queries; return float32 (len(texts), dim) with rows of length 1."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed passages; return float32 (len(texts), dim) with rows of length 1."""


class VectorIndex(Protocol):
    """Immutable index for nearest neighbour search by inner product."""

    def search(
        self, vectors: Vectors, k: int, *, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """Return the k nearest allowed rows for each query.

        Args:
            vectors: Queries, float32 (q, dim).
            k: Number of rows, at least 1.
            allowed: Mask of allowed rows, bool (rows,); None allows all.

        Returns:
            Scores float32 (q, k), descending, rounded to 6 decimals, ties broken by lower row; and
            rows int64 (q, k). If there are fewer than k rows, the rest is filled with -inf and -1.
        """


class TermIndex(Protocol):
    """Index for lexical search by terms."""

    def search(
        self, term_lists: Sequence[Sequence[str]], k: int, *, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """Search like `VectorIndex.search`; rows without a term of the query are not returned."""


@runtime_checkable
class Retriever(Protocol):
    """Returns hits for queries."""

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """Return at most k hits per query, best first, and exactly k if so many exist."""


@runtime_checkable
class Reranker(Protocol):
    """Reorders hits."""

    def rerank(
        self, queries: Sequence[str], runs: Sequence[Sequence[Hit]], k: int
    ) -> list[list[Hit]]:
        """Return at most k hits per query, best first by the reranker's score."""


@runtime_checkable
class Reader(Protocol):
    """Answers questions from hits, with citations. `read` collects `stream` for each question."""

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[Event]:
        """Yield checked sentences as they are generated, then one "answer" event."""

    def read(self, questions: Sequence[str], runs: Sequence[Sequence[Hit]]) -> list[Answer]:
        """Return one answer per question."""


@runtime_checkable
class LLM(Protocol):
    """A language model for chat conversations."""

    name: str
    context_window: int

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """Count the tokens of a rendered conversation: exact, or an upper bound for servers."""

    def chat(
        self, conversations: Sequence[Sequence[Message]], options: ChatOptions = ChatOptions()
    ) -> list[Reply]:
        """Return one reply per conversation."""

    def stream(
        self, conversation: Sequence[Message], options: ChatOptions = ChatOptions()
    ) -> Generator[str, None, Reply]:
        """Yield the text of the reply in pieces; the generator returns the complete `Reply`."""


@runtime_checkable
class ScoringLLM(LLM, Protocol):
    """A local language model that returns token probabilities."""

    def logprobs(
        self, prompts: Sequence[str], continuations: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """Return natural log-probabilities of the continuations' tokens, float32 (tokens,) each."""


TokenState = Any
"""State of a prefix in a `TokenIndex`: opaque, hashable, valid in that index and its views."""


@runtime_checkable
class TokenIndex(Protocol):
    """Index of the token sequences in rows, traversed token by token.

    An n-gram index contains sequences at any position of a row; a trie contains prefixes of rows. A
    view restricted to allowed rows behaves as if there were no other rows; row numbers are the
    same.
    """

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary; tokens are 0 to vocab_size - 1."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens in allowed rows."""

    @property
    def n_rows(self) -> int:
        """Number of rows, including those that are not allowed."""

    def start(self) -> TokenState:
        """Return the state of the empty prefix."""

    def advance(self, state: TokenState, token: int) -> TokenState | None:
        """Append a token to a prefix; return None if no allowed row contains the result."""

    def find(self, ngram: Sequence[int]) -> TokenState | None:
        """Return the state of a token sequence, or None if no allowed row contains it."""

    def count(self, state: TokenState) -> int:
        """Count the occurrences of a prefix in allowed rows."""

    def token_counts(self) -> NDArray[np.int64]:
        """Return the counts of all tokens, int64 (vocab_size,)."""

    def successors(self, state: TokenState) -> NDArray[np.int64]:
        """Return the distinct tokens that follow in allowed rows, ascending, int64 (n,)."""

    def successors_of(self, states: Sequence[TokenState]) -> list[NDArray[np.int64]]:
        """Return the `successors` of each state."""

    def allowed_mask(self, states: Sequence[TokenState], vocab_size: int) -> Mask:
        """Return the successors as a mask, bool (states, vocab_size)."""

    def locate(self, state: TokenState, limit: int | None = None) -> tuple[Rows, Rows]:
        """Locate the occurrences of a prefix in allowed rows.

        Returns:
            Rows, and offsets of the first token in them, int64 (n,) each, ascending by row, then
            offset; at most `limit` of them.
        """

    def row(self, i: int) -> NDArray[np.int64]:
        """Return the tokens of a row, allowed or not, int64 (tokens,)."""

    def restricted(self, allowed: Mask) -> TokenIndex:
        """Return a view restricted to rows allowed here and by the mask, bool (rows,)."""


@runtime_checkable
class DocumentStore(Protocol):
    """Looks up documents by id, for the verification of citations."""

    def document(self, doc_id: str) -> Document | None:
        """Return the current version of a document, or None."""


class PageStore(Protocol):
    """Stores the text of web pages, for later verification of citations."""

    def keep_page(self, url: str, text: str, *, fetched_at: str) -> str:
        """Store a page's text; return its digest.

        Args:
            url: URL of the page, after redirects.
            text: Main text of the page; citation offsets are its code points.
            fetched_at: Time of the request, ISO 8601, UTC.
        """

    def page(self, url: str, digest: str) -> str | None:
        """Return the text with that digest, or None if it was never stored."""


class ChunkMatch(NamedTuple):
    """A chunk that a search returned.

    Attributes:
        number: Number of the chunk in its collection.
        score: Higher is better; rounded to 6 decimals.
        detail: Explanation of the score: BM25 shares by term, or a `RowHit`.
    """

    number: int
    score: float
    detail: Any = None


class RowHit(NamedTuple):
    """A row returned by a search.

    Attributes:
        row: Row number.
        score: Higher is better.
        start: Character offset of the row's text in its document; set by the collection.
        detail: Explanation of the score.
    """

    row: int
    score: float
    start: int = 0
    detail: Any = None


class IndexedRows(Protocol):
    """A token index over the chunks of a snapshot that pass a filter.

    Attributes:
        index: Index of the rows.
        chunks: int64 (rows,): number of each row's chunk.
        starts: int64 (rows,): character offset of each row's text in its document.
    """

    @property
    def index(self) -> TokenIndex:
        """Index of the rows."""

    @property
    def chunks(self) -> Rows:
        """int64 (rows,): number of each row's chunk."""

    @property
    def starts(self) -> Rows:
        """int64 (rows,): character offset of each row's text in its document."""


class SearchSnapshot(Protocol):
    """One generation of a collection. Matches are ordered by score, then by chunk id."""

    def search_vectors(
        self, vectors: Vectors, k: int, where: Where | None
    ) -> list[list[ChunkMatch]]:
        """Return the k nearest chunks of each query vector."""

    def search_terms(
        self, term_lists: Sequence[Sequence[str]], k: int, where: Where | None
    ) -> list[list[ChunkMatch]]:
        """Return the k best chunks of each query by BM25, with the share of each term."""

    def token_rows(self, layout: Any, where: Where | None) -> IndexedRows | None:
        """Open a token index; return None if the collection is empty.

        `layout` is a `ragkit.indexes.token_layout.TokenLayout`.
        """

    def best_chunks(self, rows: IndexedRows, run: Sequence[RowHit], k: int) -> list[ChunkMatch]:
        """Return the k best chunks, each by its best row."""

    def chunks(self, runs: Sequence[Sequence[ChunkMatch]]) -> dict[int, Chunk]:
        """Fetch the chunks of the matches, by number."""


class Analyzer(Protocol):
    """Splits texts into index terms."""

    def batch(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the terms of each text."""


class ChunkIndex(Protocol):
    """Interface of a collection that retrievers use.

    `attempts` yields the snapshot to search. If writers delete that generation during the search,
    the search is repeated in the next one:

        for attempt in index.attempts():
            with attempt as snapshot:
                runs = snapshot.search_vectors(vectors, k, where)
                chunks = snapshot.chunks(runs)
    """

    @property
    def embedder(self) -> Embedder:
        """Embedder of the collection's vectors."""

    @property
    def analyzer(self) -> Analyzer:
        """Analyzer of the collection's terms."""

    @property
    def source(self) -> Source:
        """Path, generation and embedder."""

    def identity(self) -> dict[str, Any]:
        """Return settings and a digest of the content; equal ones give equal results."""

    def attempts(self) -> Iterator[AbstractContextManager[SearchSnapshot]]:
        """Yield snapshots until a search has succeeded in one."""
