"""Text analysis for BM25: lower-casing, stop word removal and stemming."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import Stemmer

_WORD = re.compile(r"(?u)\b\w\w+\b")

# The English stop words of Apache Lucene's StandardAnalyzer.
_ENGLISH = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with".split()
)


class TermAnalyzer:
    """Splits text into index terms.

    Words have at least two characters. Stop words are removed for English only; stemming uses
    Snowball.

    Args:
        language: A Snowball language ("english", "german", …), or "none" for no stemming.

    >>> TermAnalyzer("english").terms("The band gaps of GaAs")
    ['band', 'gap', 'gaa']
    """

    def __init__(self, language: str = "english") -> None:
        known = Stemmer.algorithms()
        if language != "none" and language not in known:
            raise ValueError(
                f"language is {language!r}; expected 'none' or one of {', '.join(known)}"
            )
        self.language = language
        self._stop_words = _ENGLISH if language == "english" else frozenset()
        self._local = threading.local()  # a Snowball stemmer must not be shared between threads

    def terms(self, text: str) -> list[str]:
        """Return the terms of one text in order, with repetitions."""
        words = [word for word in _WORD.findall(text.lower()) if word not in self._stop_words]
        if self.language == "none":
            return words
        if not hasattr(self._local, "stemmer"):
            self._local.stemmer = Stemmer.Stemmer(self.language)
        stems: list[str] = self._local.stemmer.stemWords(words)
        return stems

    def batch(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the terms of each text."""
        return [self.terms(text) for text in texts]
