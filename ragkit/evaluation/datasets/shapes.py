"""The shapes that every data set comes in, whatever file format it was published in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragkit.evaluation.measures import Qrels, Run
from ragkit.types import Document, Loss


@dataclass(frozen=True, slots=True, repr=False)
class RetrievalSet:
    """A corpus, queries, and which documents answer them.

    Attributes:
        name: The data set's name.
        split: "train", "dev", "test", or "all".
        corpus: The documents, in the order of the file; the same for every split.
        queries: Query id → text. A collection published without splits may have queries that
            nobody judged; they are in "all" and not in `qrels`.
        qrels: Query id → document id → relevance.
        losses: What `lenient` skipped.

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
    """A pool of candidates for each query, to be put into a better order.

    The corpus holds the candidates only. `qrels` are complete, so they may judge documents that
    are not among them: the ideal ranking of nDCG is made of all judged documents.

    Attributes:
        run: Query id → document id → score of the first stage.
    """

    run: Run = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answers and the passages that hold them.

    Attributes:
        id: Unique in its set.
        text: The question; empty in a KILT file of predictions.
        answers: Accepted answers, the first one preferred; empty if there is no answer.
        gold: Ids of the passages that hold the answer.
        metadata: What else the data say: type, decomposition, answer offsets, history.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    gold: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class QASet:
    """Questions, and the passages to answer them from.

    `corpus`, `queries` and `qrels` are the retrieval set in it, made anew at each access.

    Attributes:
        name: The data set's name.
        split: "train", "dev", "test", or "all".
        passages: The passages of all splits; empty where none were published (closed book), and
            then `gold` names passages of some other corpus.
        questions: The split's questions, in the order of the file.
        losses: What `lenient` skipped.

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
        """Question id → gold passage id → 1, of the questions that have a gold passage."""
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
    """Two sentences and how similar people found them.

    Attributes:
        id: The line it stands in.
        first: One sentence.
        second: The other.
        score: 0 (nothing in common) to 5 (the same meaning).
    """

    id: str
    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True, repr=False)
class PairSet:
    """Sentence pairs with scores."""

    name: str
    split: str
    pairs: tuple[Pair, ...]
    losses: tuple[Loss, ...] = ()

    def __repr__(self) -> str:
        return f"PairSet({self.name}, {self.split}: {len(self.pairs)} pairs)"


@dataclass(frozen=True, slots=True)
class KeyValueProbe:
    """A list of keys and values, and one key whose value is to be found in it.

    Attributes:
        id: The line it stands in.
        records: Keys and values, in the order they are shown.
        key: The key that is asked for.
        value: Its value.
    """

    id: str
    records: tuple[tuple[str, str], ...]
    key: str
    value: str

    @property
    def position(self) -> int:
        """Where the key stands in the records, from 0."""
        return next(i for i, (key, _) in enumerate(self.records) if key == self.key)


@dataclass(frozen=True, slots=True, repr=False)
class KeyValueSet:
    """Key-value probes (Liu et al. 2024, "Lost in the middle", section 3)."""

    name: str
    split: str
    probes: tuple[KeyValueProbe, ...]
    losses: tuple[Loss, ...] = ()

    def __repr__(self) -> str:
        return f"KeyValueSet({self.name}, {self.split}: {len(self.probes)} probes)"


Dataset = RetrievalSet | QASet | PairSet | KeyValueSet
