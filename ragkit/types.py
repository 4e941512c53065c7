"""The vocabulary: what flows through ragkit, and what each part promises the next.

Data are frozen dataclasses. Parts are Protocols: any object with these methods will do, and
`ragkit.testing` checks that it keeps the promises. Batch in, batch out; inputs are never changed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Where = Mapping[str, Any]
"""A filter in JSON form, see `ragkit.store.filters`."""

RetrieverName = Literal["dense", "bm25", "hybrid", "title", "ngram"]
"""A retriever of a collection."""

RETRIEVERS: tuple[RetrieverName, ...] = get_args(RetrieverName)

Vectors = NDArray[np.float32]
Scores = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Document:
    """One source text. Offsets everywhere count code points of `text`."""

    id: str
    text: str
    title: str = ""
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `document.text[start:end] == chunk.text`.

    `metadata` holds the document's fields, the chunk's own (page, headers), and, as every hit of a
    collection, `title` and `source`.
    """

    id: str
    doc_id: str
    text: str
    start: int
    end: int
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that was cut, capped, dropped or skipped.

    Attributes:
        stage: The part that lost it: "documents", "chunking", "embedding", "reading", …
        what: Which item: a path, a document id, a chunk id, the question.
        lost: How much went, with its unit: "412 tokens", "the file".
        kept: How much stayed, with its unit.
        why: The cause, and where there is one, the remedy.
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
        stage: The retriever or reranker it comes from.
        name: "score" for a plain score, else what the stage calls it ("rrf").
        score: The contribution before its weight.
        rank: The hit's rank in that stage, from 1.
        weight: Its weight in the sum.
        detail: What explains it: BM25 terms, n-grams, the raw score.
    """

    stage: str
    name: str
    score: float
    rank: int
    weight: float = 1.0
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk and its score; higher is better.

    The parts of the last stage explain the score: `sum(p.weight * p.score)` over the parts whose
    stage is `parts[-1].stage`, to 1e-6. Earlier stages' parts come first.
    """

    chunk: Chunk
    score: float
    parts: tuple[ScorePart, ...] = ()

    def _repr_html_(self) -> str:
        from ragkit.display import hit_html

        return hit_html(self)


@dataclass(frozen=True, slots=True)
class Citation:
    """A span of a stored document: `document.text[start:end] == quote`.

    `digest` is the digest of the whole document text, so a later check can tell a broken citation
    from one whose document has changed since.
    """

    doc_id: str
    chunk_id: str
    start: int
    end: int
    quote: str
    digest: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """`answer.text[start:end]`, its citation numbers (from 1), and whether it is supported."""

    start: int
    end: int
    citations: tuple[int, ...]
    supported: bool


RefusalReason = Literal["no_hits", "no_evidence", "unsupported", "model_refused"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no answer, and the ids of the nearest chunks, best first."""

    reason: RefusalReason
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that went into a model and came out of it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """Where an answer came from: enough to check it again."""

    collection: str | None = None
    generation: int | None = None
    embedder: str | None = None
    llm: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its evidence, or a refusal with its reason.

    `text` carries the citation marks ("[1]"); `sentences` tie its parts to `citations`.
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

    def _repr_html_(self) -> str:
        from ragkit.display import answer_html

        return answer_html(self)


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a streamed answer.

    Attributes:
        kind: "sentence" (checked, ready to show), "removed" (unsupported, not part of the answer),
            "loss", or "answer", which comes last and once.
        text: The sentence with its citation marks; empty for "loss" and "answer".
        answer: The whole answer, for "answer".
        loss: The loss, for "loss".
    """

    kind: Literal["sentence", "removed", "loss", "answer"]
    text: str = ""
    answer: Answer | None = None
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How to generate. Temperature 0 is greedy, hence the same text every time.

    With `schema` the reply is JSON of that JSON schema: a local model cannot write anything else, a
    server is asked for it. It is always complete unless the reply ends with "length".
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, why it stopped ("stop" or "length"), and what it used."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage = Usage()


class Tokenizer(Protocol):
    """Counts in the units a model sees."""

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Each text's tokens as (start, end) code point offsets, special tokens left out."""


class Segmenter(Protocol):
    """Splits text into sentences."""

    def sentences(self, text: str) -> list[tuple[int, int]]:
        """Ascending (start, end) spans that do not overlap and leave out only white space."""


@runtime_checkable
class Embedder(Protocol):
    """Texts to unit vectors. A text's vector does not depend on its neighbours."""

    name: str
    dim: int
    fingerprint: str
    max_tokens: int

    @property
    def tokenizer(self) -> Tokenizer:
        """Counts as the model does, so that chunks fit its window."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), rows of length 1."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), rows of length 1."""


class VectorIndex(Protocol):
    """Nearest rows by inner product. Built once, never changed."""

    def search(
        self, vectors: Vectors, k: int, *, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """The k best allowed rows for each query.

        Args:
            vectors: float32 (q, dim).
            k: At least 1.
            allowed: bool (rows,); None allows all.

        Returns:
            Scores float32 (q, k), descending, rounded to 6 decimals, ties broken by lower row; and
            rows int64 (q, k). Missing places hold -inf and -1.
        """


class TermIndex(Protocol):
    """Best rows by a lexical score over terms."""

    def search(
        self, term_lists: Sequence[Sequence[str]], k: int, *, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """As `VectorIndex.search`; rows that share no term with the query are no hits."""


@runtime_checkable
class Retriever(Protocol):
    """Queries to hits."""

    def retrieve(
        self, queries: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[Hit]]:
        """At most k hits a query, best first; k of them whenever k exist."""


@runtime_checkable
class Reranker(Protocol):
    """Hits to better ordered hits."""

    def rerank(
        self, queries: Sequence[str], runs: Sequence[Sequence[Hit]], k: int
    ) -> list[list[Hit]]:
        """At most k hits a query, best first by the reranker's own score."""


@runtime_checkable
class Reader(Protocol):
    """A question and its hits to a cited answer. `read` exhausts `stream` for each question."""

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[Event]:
        """Checked sentences as they come, then one "answer" event."""

    def read(self, questions: Sequence[str], runs: Sequence[Sequence[Hit]]) -> list[Answer]:
        """One answer a question."""


@runtime_checkable
class LLM(Protocol):
    """A model that continues conversations."""

    name: str
    context_window: int

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """Tokens of the rendered conversation; exact for local models, an upper bound else."""

    def chat(
        self, conversations: Sequence[Sequence[Message]], options: ChatOptions = ChatOptions()
    ) -> list[Reply]:
        """One reply a conversation."""

    def stream(
        self, conversation: Sequence[Message], options: ChatOptions = ChatOptions()
    ) -> Generator[str, None, Reply]:
        """The reply's text in pieces; the generator returns the whole `Reply`."""


@runtime_checkable
class ScoringLLM(LLM, Protocol):
    """A local model whose probabilities can be read."""

    def logprobs(
        self, prompts: Sequence[str], continuations: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """Natural-log probability of each continuation token, float32 (tokens,) each."""


TokenState = Any
"""A prefix in a `TokenIndex`: opaque, hashable, of the index that made it and its views."""


@runtime_checkable
class TokenIndex(Protocol):
    """Sequences of tokens that occur in some rows, walked token by token.

    An n-gram index knows those that occur anywhere in a row, a trie those a row begins with.
    Restricted to allowed rows it answers as if there were no others; rows keep their numbers.
    """

    @property
    def vocab_size(self) -> int:
        """Tokens are 0 to vocab_size - 1; others never occur."""

    @property
    def n_tokens(self) -> int:
        """Tokens of the allowed rows."""

    @property
    def n_rows(self) -> int:
        """Rows, whether allowed or not."""

    def start(self) -> TokenState:
        """The empty prefix."""

    def advance(self, state: TokenState, token: int) -> TokenState | None:
        """The prefix one token longer, or None if no allowed row holds it."""

    def find(self, ngram: Sequence[int]) -> TokenState | None:
        """`advance` from the start along these tokens."""

    def count(self, state: TokenState) -> int:
        """Occurrences in allowed rows."""

    def token_counts(self) -> NDArray[np.int64]:
        """int64 (vocab_size,): `count` of every prefix of one token."""

    def successors(self, state: TokenState) -> NDArray[np.int64]:
        """int64 (n,): the distinct tokens that follow in allowed rows, ascending."""

    def successors_of(self, states: Sequence[TokenState]) -> list[NDArray[np.int64]]:
        """`successors` of each state."""

    def allowed_mask(self, states: Sequence[TokenState], vocab_size: int) -> Mask:
        """bool (states, vocab_size): the same as a mask; at least the index's own columns."""

    def locate(self, state: TokenState, limit: int | None = None) -> tuple[Rows, Rows]:
        """Where the prefix occurs in allowed rows.

        Returns:
            Rows and the offsets of the first token in them, int64 (n,) each, ascending by row, then
            offset; the first `limit` of them.
        """

    def row(self, i: int) -> NDArray[np.int64]:
        """int64 (tokens,): one row, whether allowed or not."""

    def restricted(self, allowed: Mask) -> TokenIndex:
        """A view of the allowed rows: bool (rows,). A view of a view allows what both allow."""


@runtime_checkable
class DocumentStore(Protocol):
    """Looks up documents: what the verification of citations needs."""

    def document(self, doc_id: str) -> Document | None:
        """Return the current version of a document, or None."""


class PageStore(Protocol):
    """Keeps the text of web pages, so that citations of them can be verified later."""

    def keep_page(self, url: str, text: str, *, fetched_at: str) -> str:
        """Store a page's text; return its digest.

        Args:
            url: Where the page was found, after redirects.
            text: Its main text; citation offsets count its code points.
            fetched_at: ISO 8601, UTC.
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
        index: Searches the rows.
        chunks: int64 (rows,): number of each row's chunk.
        starts: int64 (rows,): character offset of each row's text in its document.
    """

    @property
    def index(self) -> TokenIndex:
        """Searches the rows."""

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
        """Open a token index, see `ragkit.indexes.token_layout`; None if nothing is stored."""

    def best_chunks(self, rows: IndexedRows, run: Sequence[RowHit], k: int) -> list[ChunkMatch]:
        """Return the k best chunks, each by its best row."""

    def chunks(self, runs: Sequence[Sequence[ChunkMatch]]) -> dict[int, Chunk]:
        """Fetch the chunks of the matches, by number."""


class Analyzer(Protocol):
    """Splits texts into index terms."""

    def batch(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the terms of each text."""


class ChunkIndex(Protocol):
    """What retrievers need of a collection.

    `attempts` gives the snapshot to search. Writers may remove a generation while it is searched;
    the search is then repeated in the next one:

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
