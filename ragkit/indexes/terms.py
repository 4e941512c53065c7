"""Text analysis for BM25: words and their stems, marked words such as C++ and 3.10, n-grams.

1. Words: runs of letters and digits, one character or more, without English stop words, stemmed.
2. Marked words, as a whole beside their parts: 3.10, E-9, C++, .NET, AT&T, set_max_tokens, 90mg.
3. Scripts written without spaces, and Korean, whose particles have none: characters and bigrams.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from itertools import pairwise

import Stemmer

from ragkit.normalize import normalize

# The English stop words of Apache Lucene's StandardAnalyzer, and I, e.g., i.e.
_ENGLISH = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with i eg ie".split()
)
# Letters, digits, and the combining marks that `\w` lacks: vowel signs are parts of words.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983"
    "\u09bc-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c-\u0a51\u0a70\u0a71\u0a75\u0a81-\u0a83"
    "\u0abc-\u0acd\u0ae2\u0ae3\u0b01-\u0b03\u0b3c-\u0b57\u0b82\u0bbe-\u0bcd\u0bd7\u0c00-\u0c04"
    "\u0c3e-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d\u0d57\u0d81-\u0d83"
    "\u0dca-\u0ddf\u0df2\u0df3\u0f18-\u0f19\u0f35\u0f37\u0f39\u0f3e-\u0f3f\u0f71-\u0f84\u0f8d-\u0fbc"
)
_ASCII_WORD = re.compile("[A-Za-z0-9]+")
_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{_MARKS}])*")
_CONTRACTED = re.compile(r"'(?<=[^\W\d_]')[^\W\d_](?![\w'])")  # it's, don't, I'm
_ELIDED = re.compile(r"\b[^\W\d_]'(?=[^\W\d_]{2})")  # l'eau, d'or
# Stop words in capitals inside a sentence, and "A" at its end, are names: vitamin A, the IT group.
_NAMED = re.compile(
    r" (?<=[a-z0-9)] )(A|AN|ARE|AS|AT|BE|BY|IF|IN|IS|IT|NO|NOT|ON|OR|TO|WILL)(?![\w'])"
    r"| ([aA])(?=\s*(?:[?.!,;:)]|$))"
    r"| (?<=type |lass |hase |tage |rade |roup |part |evel |ctor |form )(I)(?![\w'])"
)
_BROKEN = re.compile(r"([^\W\d_]{2,})- ?\n[ \t]*([^\W\d_]{2,})")  # a hyphen at a line end
_MARK = re.compile(
    r"[-._/&^:,](?<=[^\W_].)(?=[^\W_]|(?<=\^)-\d)|[+#](?<=[^\W_].)(?![^\W_])|\.(?<![\w.].)(?=[A-Za-z]{2})"
)
_MARKED = re.compile(
    r"[^\W_]++(?:(?:[-._/&:,]|\^-?)[^\W_]++)*+(?:\+\+(?=\d)|\+{1,2}+(?!\w)|(?<=\b[A-Za-z])#(?!\w))?+"
    r"|\.[A-Za-z][^\W_]++"
)
_INITIAL = re.compile(r"[A-Z]\.(?<![\w.'&/-][A-Z]\.)(?!\w\w)")  # J. Smith; Smith, J. W.
_BEFORE_INITIAL = (*',;:("\n.', " and", " by", " of", " with", " et", " to", " from")
_SEPARATORS = re.compile(r"[-._/&^:,+#]+")
_AMOUNT = re.compile(r"\b([0-9]++)([^\W\d_]{1,3})(?!\w)")  # 90mg
_CAMEL = re.compile(r"\b[A-Za-z][a-z0-9]*+[A-Z][A-Za-z0-9]*+\b")
_CAMEL_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LONGEST = 64  # characters of a marked word; longer ones are data, not words

_SPACELESS = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese and Japanese
    "\u1100-\u11ff\uac00-\ud7a3"  # Korean
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edf\u1000-\u103f\u1050-\u109f\u1780-\u17d3"  # south-east
)
_SIGNS = (
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u1056-\u1059"
    "\u105e-\u1060\u1062-\u1064\u1067-\u106d\u1071-\u1074\u1082-\u108d\u17b4-\u17d3"
)
_RUN = re.compile(f"[{_SPACELESS}]+")
_CHARACTER = re.compile(f".[{_SIGNS}]*")  # with its vowel signs and tone marks


class TermAnalyzer:
    """Splits text into index terms, after `ragkit.normalize.normalize` and without case.

    Stop words are removed for English only, unless they are written as names (vitamin A). Stemming
    uses Snowball; marked words and n-grams are not stemmed. In a marked word the hyphen between
    letters and digits and the periods of initials are left out: E-9 is also found as E9, U.S.A. as
    USA.

    Sources: the stop words of Lucene's StandardAnalyzer; characters and bigrams together, after
    Nie et al. 2000 ("On the use of words and n-grams for Chinese information retrieval").

    Args:
        language: A Snowball language ("english", "german", …), or "none" for no stemming.

    >>> TermAnalyzer("english").terms("The band gaps of GaAs")
    ['band', 'gap', 'gaa']
    >>> TermAnalyzer("english").terms("C++ and Python 3.10")
    ['python', '3', '10', 'c++', '3.10']
    >>> TermAnalyzer("none").terms("糖尿病")
    ['糖', '尿', '病', '糖尿', '尿病']
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
        """Return the terms of one text, with repetitions: words in order, then the others."""
        text = normalize(text)
        others: list[str] = []
        if not text.isascii():
            for run in _RUN.findall(text):
                others += _grams(run)
            text = _RUN.sub(" ", text) if others else text
        text = _INITIAL.sub(_keep_letter, text)
        named = _named(text) if self._stop_words else []
        inner = _inner_words(text)
        marked, text = _take_marked(text)
        stop_words = self._stop_words
        words = [word for word in self._words(text) + inner if word not in stop_words]
        others += [word for word in marked if word not in stop_words]
        return self._stem(words + named) + others

    def batch(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the terms of each text."""
        return [self.terms(text) for text in texts]

    def _words(self, text: str) -> list[str]:
        if "'" in text:
            text = _CONTRACTED.sub(" ", text)
            if self.language != "english":
                text = _ELIDED.sub(" ", text)
        pattern = _ASCII_WORD if text.isascii() else _WORD
        return pattern.findall(text.casefold())

    def _stem(self, words: list[str]) -> list[str]:
        if self.language == "none":
            return words
        if not hasattr(self._local, "stemmer"):
            self._local.stemmer = Stemmer.Stemmer(self.language)
        stems: list[str] = self._local.stemmer.stemWords(words)
        return stems


def _keep_letter(match: re.Match[str]) -> str:
    """Return a space for the initial of a person's name, else the match, as in vitamin K."""
    before = match.string[max(0, match.start() - 6) : match.start()].rstrip(" ")
    return " " if not before or before.endswith(_BEFORE_INITIAL) else match[0]


def _named(text: str) -> list[str]:
    """Return the stop words of a text that are names."""
    return ["".join(groups).casefold() for groups in _NAMED.findall(text)]


def _inner_words(text: str) -> list[str]:
    """Return the words that are hidden in others: broken by a line end, in identifiers, amounts."""
    words = [part for name in _CAMEL.findall(text) for part in _camel_parts(name)]
    words += [part for amount in _AMOUNT.findall(text) for part in amount]
    if "-\n" in text or "- \n" in text:
        words += [before + after for before, after in _BROKEN.findall(text)]
    return [word.casefold() for word in words]


def _take_marked(text: str) -> tuple[list[str], str]:
    """Return the marked words, and the text with their parts in their places.

    Parts of a single letter are left out, except a capital after a word, as in vitamin-K.
    """
    wholes: list[str] = []
    pieces: list[str] = []
    copied = end = 0
    for mark in _MARK.finditer(text):
        if mark.start() < end:
            continue
        start = mark.start()
        while start > end and text[start - 1].isalnum():
            start -= 1
        match = _MARKED.match(text, start)
        end = match.end() if match else mark.end()
        if match is None or len(match[0]) > _LONGEST or not (whole := _whole(match[0])):
            continue
        wholes.append(whole)
        parts = [part for part in _SEPARATORS.split(match[0]) if part]
        kept = [
            part
            for before, part in zip(["", *parts], parts, strict=False)
            if len(part) > 1 or part.isdigit() or (part.isupper() and len(before) > 2)
        ]
        pieces += [text[copied:start], " ".join(kept)]
        copied = end
    return wholes, "".join([*pieces, text[copied:]])


def _whole(word: str) -> str:
    """Return one spelling of a marked word, or "" if its parts say the same (well-known).

    >>> [_whole(word) for word in ["well-known", "E-9", "U.S.A", "1,250", "3,5", "3.10", "10-year"]]
    ['', 'e9', 'usa', '1250', '3.5', '3.10', '']
    """
    if "," in word:
        if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", word):
            return word.replace(",", "")
        return word.replace(",", ".") if re.fullmatch(r"\d+,\d{1,2}", word) else ""
    if re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
        return word.replace(".", "").casefold()
    if re.search(r"[a-z]\.[A-Z]", word):  # the space after a sentence is missing
        return ""
    parts = _SEPARATORS.split(word)
    if not re.search(r"[\d_.&^+#]", word) and max(map(len, parts)) > 1:
        return ""  # x-ray, and/or
    if re.fullmatch(r"\d+-[a-z]{3,}|[a-z]{4,}-[a-z]+(?:-\d+)?", word):
        return ""  # 10-year, well-being-2
    if not _SEPARATORS.search(word):
        return ""
    word = re.sub(r"^v(?=\d+\.)", "", word.casefold())
    return re.sub(r"(?<=[^\W\d_])-(?=\d)|(?<=\d)-(?=[^\W\d_])", "", word)


def _camel_parts(name: str) -> list[str]:
    """Return the words of an identifier, if it looks like one: no formula, no iPhone.

    >>> [_camel_parts(name) for name in ["getUserName", "HTTPServer", "GaAs", "EPIC"]]
    [['get', 'user', 'name'], ['http', 'server'], [], []]
    """
    parts = [part.lower() for part in _CAMEL_PART.findall(name)]
    shortest = 2 if name[0].islower() else 3
    found = len(parts) > 1 and all(len(part) >= shortest for part in parts)
    return parts if found else []


def _grams(run: str) -> list[str]:
    """Return the characters of a run, then its bigrams."""
    characters = _CHARACTER.findall(run)
    return characters + [a + b for a, b in pairwise(characters)]
