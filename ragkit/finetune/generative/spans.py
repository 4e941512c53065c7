"""SEAL's training targets: spans of a passage that resemble its query, and its title.

Source: Bevilacqua et al. 2022 (SEAL) and the data preparation in its repository. Deviation: the
length of a span is ten tokens of the model, as in decoding, where SEAL takes ten words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import require
from ragkit.retrievers.rows import Ngram

# English function words; no span starts with one.
STOP_WORDS = frozenset(
    """
    a an the this that these those and or but nor so yet if then than as of at by for from in into
    on onto to with without within about above across after against along among around before behind
    below beneath beside between beyond during except inside near off out outside over past per
    since through throughout toward towards under until up upon via is am are was were be been being
    do does did done doing have has had having can could may might must shall should will would i me
    my we us our you your he him his she her it its they them their who whom whose which what when
    where why how not no also there here such both each either neither other another any some all
    most more much many few own same too very just only
    """.split()
)
_PUNCTUATION = ".,;:!?()[]\"'"


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a passage, with the position of the first token of each.

    Attributes:
        words: The words, lower-cased.
        starts: int64 (words,): first token of each word.
    """

    words: tuple[str, ...]
    starts: NDArray[np.int64]


def split_words(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Words:
    """Split a text given as tokens into words; a word starts at each token that decodes to a space.

    Tokens are decoded in pairs, since many tokenizers (T5's) drop a space before the first token.
    """

    def begins(i: int) -> bool:
        before = decode(tokens[i - 1 : i]) if i else ""
        return not i or decode(tokens[i - 1 : i + 1])[len(before) :][:1] == " "

    starts = [i for i in range(len(tokens)) if begins(i)]
    ends = [*starts[1:], len(tokens)]
    words = [decode(tokens[a:b]).strip().lower() for a, b in zip(starts, ends, strict=False)]
    return Words(tuple(words), np.array(starts, dtype=np.int64))


def start_scores(query: str, passage: Words) -> NDArray[np.float64]:
    """Return how similar the three words from each position on are to the query: float64 (words,).

    A score is the sum over the query's three-word windows of the fuzzy ratio (0 to 1).
    """
    fuzz: Any = require("rapidfuzz", extra="train")
    query_windows = _windows(query.lower().split())
    passage_windows = _windows(list(passage.words))
    ratios = fuzz.process.cdist(query_windows, passage_windows, scorer=fuzz.fuzz.ratio, workers=1)
    total: NDArray[np.float64] = np.asarray(ratios, dtype=np.float64).sum(0)  # (words,)
    return total / 100.0


def _windows(words: Sequence[str], n: int = 3) -> list[str]:
    """Return the n words from each position on, fewer at the end."""
    return [" ".join(words[i : i + n]) for i in range(len(words))]


def span_starts(
    query: str,
    passage: Words,
    n: int,
    random: np.random.Generator,
    *,
    temperature: float = 1.0,
) -> list[int]:
    """Draw the tokens at which targets start, with P(i) proportional to exp(score_i / temperature).

    Draws are without replacement; stop words are never drawn unless there are no other words.
    Drawing the largest of score_i / temperature + Gumbel noise (Vieira 2014) is equivalent and does
    not underflow.
    """
    if not passage.words:
        return []
    usable = np.array([word.strip(_PUNCTUATION) not in STOP_WORDS for word in passage.words])
    if not usable.any():
        usable[:] = True
    scores = start_scores(query, passage) / temperature if query.split() else np.zeros(len(usable))
    noisy = np.where(usable, scores + random.gumbel(size=len(scores)), -np.inf)  # (words,)
    order = np.argsort(-noisy, kind="stable")[: min(n, int(usable.sum()))]
    return [int(passage.starts[i]) for i in order]


def span(tokens: Ngram, start: int, length: int = 10) -> Ngram:
    """Return at most `length` tokens from `start` on."""
    return tuple(tokens[start : start + length])


def keyword_query(title: str, passage: Words, random: np.random.Generator) -> str:
    """Make a query for a passage: its title and a few of its content words, lower-cased.

    For passages without queries (ours; SEAL uses spans of the passage themselves).
    """
    unique = dict.fromkeys(word.strip(_PUNCTUATION) for word in passage.words)
    content = [word for word in unique if word not in STOP_WORDS and len(word) > 2]
    n = min(len(content), int(random.integers(2, 7)))
    chosen = sorted(random.choice(len(content), size=n, replace=False).tolist()) if n else []
    words = [content[i] for i in chosen]
    title_words = title.lower().split() if random.random() < 0.7 or not words else []
    return " ".join(title_words + words if random.random() < 0.5 else words + title_words)
