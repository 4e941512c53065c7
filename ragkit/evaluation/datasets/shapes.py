"""Common shapes of data sets, independent of their file formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ragkit.evaluation.measures import Qrels, Run
from ragkit.types import Document, Loss


@dataclass(frozen=True, slots=True, repr=False)
class RetrievalSet:
    """A corpus, queries, and relevance judgements.

    Attributes:
        name: Name of the data set.
        split: "train", "dev", "test", or "all".
        corpus: Documents in file order; the same for every split.
        queries: Query id → text. A collection published without splits may have unjudged queries;
            they are in "all" and not in `qrels`.
        qrels: Query id → document id → relevance.
        losses: Malformed records that were skipped.

    >>> RetrievalSet("toy", "all", (Document("d", "text"),), {"q": "text?"}, {"q": {"d": 1}})
    RetrievalSet(toy, all: 1 documents, 1 queries, 1 judgements)
    """

    name: str
    split: str
    corpus: Sequence[Document]
    queries: Mapping[str, str]
    qrels: Qrels
    losses: tuple[Loss, ...] = ()

    def __repr__(self) -> str:
        judged = sum(map(len, self.qrels.values()))
        counts = f"{len(self.corpus)} documents, {len(self.queries)} queries, {judged} judgements"
        return f"{type(self).__name__}({self.name}, {self.split}: {counts})"


@dataclass(frozen=True, slots=True, repr=False)
class RerankSet(RetrievalSet):
    """A pool of candidates for each query, to be reranked.

    The corpus contains the candidates only. `qrels` are complete and may judge documents that are
    not candidates: the ideal ranking of nDCG includes all judged documents.

    Attributes:
        run: Query id → document id → score of the first stage.
    """

    run: Run = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answers and gold passages.

    Attributes:
        id: Unique in the data set.
        text: Text of the question; empty in a KILT file of predictions.
        answers: Accepted answers, the preferred one first; empty if there is no answer.
        gold: Ids of the passages that contain the answer.
        metadata: Other fields of the data: type, decomposition, answer offsets, history.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    gold: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class QASet:
    """Questions and the passages to answer them from.

    `corpus`, `queries` and `qrels` are a view as a retrieval set, computed at each access.

    Attributes:
        name: Name of the data set.
        split: "train", "dev", "test", or "all".
        passages: Passages of all splits; empty if none were published (closed book), in which case
            `gold` refers to another corpus.
        questions: Questions of the split, in file order.
        losses: Malformed records that were skipped.

    >>> QASet("toy", "all", (Document("p", "It is 4."),), (Question("q", "2+2?", ("4",), ("p",)),))
    QASet(toy, all: 1 passages, 1 questions)
    """

    name: str
    split: str
    passages: Sequence[Document]
    questions: tuple[Question, ...]
    losses: tuple[Loss, ...] = ()

    @property
    def corpus(self) -> Sequence[Document]:
        """The passages."""
        return self.passages

    @property
    def queries(self) -> dict[str, str]:
        """Question id → text."""
        return {question.id: question.text for question in self.questions}

    @property
    def qrels(self) -> dict[str, dict[str, int]]:
        """Question id → gold passage id → 1, for questions with a gold passage."""
        return {
            question.id: dict.fromkeys(question.gold, 1)
            for question in self.questions
            if question.gold
        }

    def __repr__(self) -> str:
        counts = f"{len(self.passages)} passages, {len(self.questions)} questions"
        return f"QASet({self.name}, {self.split}: {counts})"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences and their similarity as judged by people.

    Attributes:
        id: Line number.
        first: First sentence.
        second: Second sentence.
        score: 0 (unrelated) to 5 (same meaning).
    """

    id: str
    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True, repr=False)
class PairSet:
    """Sentence pairs with similarity scores."""

    name: str
    split: str
    pairs: tuple[Pair, ...]
    losses: tuple[Loss, ...] = ()

    def __repr__(self) -> str:
        return f"PairSet({self.name}, {self.split}: {len(self.pairs)} pairs)"


@dataclass(frozen=True, slots=True)
class KeyValueProbe:
    """A list of keys and values, and one key whose value is to be found.

    Attributes:
        id: Line number.
        records: Keys and values in the order in which they are shown.
        key: The key to look up.
        value: Its value.
    """

    id: str
    records: tuple[tuple[str, str], ...]
    key: str
    value: str

    @property
    def position(self) -> int:
        """Index of the key in the records."""
        return next(i for i, (key, _) in enumerate(self.records) if key == self.key)


@dataclass(frozen=True, slots=True, repr=False)
class KeyValueSet:
    """Key-value probes (Liu et al. 2024, "Lost in the Middle", section 3)."""

    name: str
    split: str
    probes: tuple[KeyValueProbe, ...]
    losses: tuple[Loss, ...] = ()

    def __repr__(self) -> str:
        return f"KeyValueSet({self.name}, {self.split}: {len(self.probes)} probes)"


SupportLabel = Literal["supported", "contradicted", "unknown", "unsupported"]


@dataclass(frozen=True, slots=True)
class SupportPair:
    """A statement with its evidence.

    Attributes:
        statement: One statement.
        evidence: Text of the evidence.
        label: "unsupported" is either of "contradicted" and "unknown".
        group: Passage or article.
        source: Name of the data set.
    """

    statement: str
    evidence: str
    label: SupportLabel
    group: str
    source: str


@dataclass(frozen=True, slots=True, repr=False)
class SupportSet:
    """Statements with evidence, and whether it supports them as judged by people."""

    name: str
    split: str
    pairs: tuple[SupportPair, ...]
    losses: tuple[Loss, ...] = ()

    def __repr__(self) -> str:
        return f"SupportSet({self.name}, {self.split}: {len(self.pairs)} statements)"


Dataset = RetrievalSet | QASet | PairSet | KeyValueSet | SupportSet
