"""For the tests of generative retrieval: a model made of hashes, a slow reference, corpora."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.collection.collection import Collection, Settings
from ragkit.indexes.token_layout import TokenLayout
from ragkit.retrievers.rows import PROMPTS
from ragkit.testing import HashEmbedder
from ragkit.types import Document, TokenIndex, Where

N_WORDS = 37
_SPECIAL = ["<pad>", "</s>", "<unk>"]
TOLERANCE = 1e-4  # sums of up to 10 float32 log-probabilities, batched and one by one

Tokens = tuple[int, ...]


class WordModel:
    """A `BeamModel` of words w0 … w36 whose next-token odds are a hash of prompt and tokens.

    Args:
        vocab_size: Tokens; those without a word are never in a text.
        end_token: What ends a text.
        fingerprint: Of its tokenizer.
    """

    name = "words"
    identity = "words"
    prompt_window: int | None = None
    prompts: Mapping[str, str] = PROMPTS

    def __init__(
        self, vocab_size: int = 40, *, end_token: int = 1, fingerprint: str = "words"
    ) -> None:
        self.vocab_size, self.end_token, self.fingerprint = vocab_size, end_token, fingerprint
        self.words = [*_SPECIAL, *(f"w{i}" for i in range(N_WORDS))]
        self._ids = {word: i for i, word in enumerate(self.words)}
        self.n_encoded = 0

    def encode(self, text: str) -> list[int]:
        self.n_encoded += 1
        return [self._ids.get(word, 2) for word in re.findall(r"\w+|[^\w\s]+", text)]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(self.words[token] for token in tokens if token >= len(_SPECIAL))

    def encode_prompt(self, prompt: str) -> list[int]:
        return self.encode(prompt)

    def begin(self, *prompts: str) -> WordBeams:
        return WordBeams(self, prompts)

    def next_logprobs(self, prompt: str, tokens: Tokens) -> np.ndarray:
        generator = np.random.default_rng(zlib.crc32(repr((prompt, tokens)).encode()))
        values = 3 * generator.standard_normal(self.vocab_size)  # (vocab_size,)
        values[20:] -= 6  # w17 and later are unlikely: most texts are of the others
        return (values - np.log(np.exp(values).sum())).astype(np.float32)

    def logprob(self, prompt: str, tokens: Sequence[int]) -> float:
        """By teacher forcing."""
        read = tuple(tokens)
        return float(
            sum(float(self.next_logprobs(prompt, read[:i])[read[i]]) for i in range(len(read)))
        )


class WordBeams:
    def __init__(self, model: WordModel, prompts: Sequence[str]) -> None:
        self._model = model
        self._read: list[tuple[str, Tokens]] = [(prompt, ()) for prompt in prompts]

    def logprobs(self) -> np.ndarray:
        return np.stack([self._model.next_logprobs(*read) for read in self._read])

    def advance(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        before = [self._read[parent] for parent in parents]
        pairs = zip(before, tokens, strict=True)
        self._read = [(prompt, (*text, token)) for (prompt, text), token in pairs]


class WrittenModel(WordModel):
    """Next-token probabilities that a test has written down, by the words before; else uniform."""

    def __init__(self, written: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__()
        self._written = written

    def next_logprobs(self, prompt: str, tokens: Tokens) -> np.ndarray:
        said = " ".join(self.words[token] for token in tokens)
        row = np.full(self.vocab_size, 1e-9)
        for word, probability in self._written.get(said, {}).items():
            row[self._ids[word]] = probability
        return np.log(row).astype(np.float32)


def forced(model: Any, prompt: str, tokens: Sequence[int]) -> float:
    """The log-probability of tokens after a prompt, each fed to a beam of its own."""
    beams, total = model.begin(prompt), 0.0
    for i, token in enumerate(tokens):
        total += float(beams.logprobs()[0, token])
        if i + 1 < len(tokens):
            beams.advance([0], [token])
    return total


def words(generator: np.random.Generator, n: int, known: int = N_WORDS) -> str:
    return " ".join(f"w{i}" for i in generator.integers(0, known, n))


def corpus(n: int, *, seed: int = 0, known: int = 12) -> list[Document]:
    """Documents of one to three paragraphs of few different words, some without a title."""
    generator = np.random.default_rng(seed)
    found = []
    for i in range(n):
        lengths = generator.integers(3, 8, generator.integers(1, 6))
        text = "\n\n".join(words(generator, int(length), known) for length in lengths)
        title = words(generator, int(generator.integers(1, 4)), known) if i % 5 else ""
        found.append(Document(f"d{i:02}", text, title, metadata={"n": i % 3}))
    return found


def opened(path: Path | str, *, chunk_tokens: int = 8) -> Collection:
    settings = Settings(chunk_tokens=chunk_tokens)
    return Collection(path, embedder=HashEmbedder(8), settings=settings)


def index_of(
    collection: Collection, layout: TokenLayout, where: Where | None = None
) -> tuple[TokenIndex, np.ndarray]:
    """A collection's token index, and each row's chunk."""
    rows = collection.snapshot().token_rows(layout, where)
    assert rows is not None
    return rows.index, rows.chunks


def live_rows(index: TokenIndex) -> list[Tokens]:
    """The allowed rows."""
    place, _ = index.locate(index.start())
    return [tuple(index.row(int(i)).tolist()) for i in sorted(set(place.tolist()))]


def tiny_model(name: str, folder: Path) -> Any:
    """A tiny model of transformers, "llama", "bart" or "t5"; skips where that is missing."""
    import tiny_models

    from ragkit.llms.beams import CausalBeams, Seq2SeqBeams
    from ragkit.llms.local import LocalLLM

    if name == "llama":
        return CausalBeams(LocalLLM(str(tiny_models.tiny_llama(folder)), dtype="float32"))
    return Seq2SeqBeams(getattr(tiny_models, f"tiny_{name}")(folder))


def told(hits: Sequence[Any]) -> list[tuple[Any, ...]]:
    """What hits of two collections must have in common: all but where they come from."""
    return [
        (hit.chunk.id, hit.chunk.text, hit.score, [part.detail for part in hit.parts])
        for hit in hits
    ]
