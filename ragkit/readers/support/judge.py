"""Does a source support this sentence? Quotes, rules, word overlap and the pair model together.

A sentence that stands in a source word for word is quoted. Of any other the few source sentences
that cover it best are its evidence. Rules compare values, comparisons and denials (`frames`): a
conflict contradicts it, and a number that follows from cited numbers is computed. A sentence whose
words one source sentence holds is entailed (`SupportChecker`). The rest is decided by a logistic
regression on word overlap, the shares of numbers and names that the evidence holds, and the pair
model's logits (`benchmarks/fit_support.py`); between its two limits the judge is unsure, and says
so. What the judge cannot do: docs/citations.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.indexes.terms import TermAnalyzer
from ragkit.pair.model import PairModel, SupportScores, shipped_model
from ragkit.readers.citations import (
    Evidence,
    SupportChecker,
    Verdict,
    names,
    stands_in,
    strip_marks,
)
from ragkit.readers.extractive import logistic
from ragkit.readers.sources import SourceSentence, source_sentences
from ragkit.readers.support.edits import compare_words
from ragkit.readers.support.evidence import SENTENCES, rank_sentences
from ragkit.readers.support.facts import Finding
from ragkit.readers.support.frames import compare_frames, frame_features
from ragkit.types import Hit

# Fitted by `benchmarks/fit_support.py` on four of the development sets.
WEIGHTS = {
    "overlap": 2.1,  # share of the statement's terms in all sources
    "evidence": 0.38,  # share of them in its evidence
    "numbers": 0.46,  # share of its numbers in the evidence
    "names": 0.42,  # share of its names in the evidence
    "joint": 0.51,  # logit of support by the evidence
    "contradicted": -0.22,  # logarithm of the probability that the evidence contradicts it
}
BIAS = -2.38
SURE = 0.9
UNSURE = 0.2
FEATURES = tuple(WEIGHTS)

_SHARE = 0.5  # of a sentence's words; the sources must have more
_CONTRADICTED = 0.8  # probability of the pair model from which its word counts
_SMALLEST = 1e-4
_TITLE_WORD = re.compile(r"\w+")
_LONGEST_TITLE = 4  # words of a title that is taken for a name
_SHORTEST_TITLE = 3  # characters
_WORD = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*")  # noqa: RUF001  typographic apostrophe
_OPENER = re.compile(
    r"^(?:(?:in fact|indeed|yes|no|thus|therefore|so|however),\s+"
    r"|according to (?:the|this|these|both|all) (?:source|text|passage|document|article)s?,?\s+"
    r"|the (?:source|text|passage|document|article)s? (?:say|state|report)s? that\s+)+",
    re.IGNORECASE,
)
_ENGLISH = frozenset(
    "the of and to in is are was were that this it for with as by on from at be has have had not "
    "an or which can than its their more also but because yes no both each".split()
)
_OTHERS = frozenset(
    "der die das und ist sind war nicht ein eine mit von für auf den dem des wird zu im auch als "
    "le la les des est sont une du dans et pour que qui par avec sur pas plus aux au el los las "
    "una es son del con por para como il che di non per della gli sono".split()
)


@dataclass(frozen=True, slots=True)
class _Source:
    hit: int
    sentence: SourceSentence
    title: str


class SupportJudge:
    """Judges sentences by the sentences of some hits.

    Args:
        hits: The sources, best first.
        pair: The pair model; default: the shipped one.
        sure: Probability from which a sentence counts as supported.
        unsure: Probability below which it counts as unsupported.
    """

    def __init__(
        self,
        hits: Sequence[Hit],
        pair: PairModel | None = None,
        *,
        sure: float = SURE,
        unsure: float = UNSURE,
    ) -> None:
        if not 0 <= unsure <= sure <= 1:
            raise ValueError(f"unsure is {unsure}, sure {sure}; expected 0 <= unsure <= sure <= 1")
        self._pair = shipped_model() if pair is None else pair
        self._words = SupportChecker(hits)
        self._sure, self._unsure = sure, unsure
        self._analyzer = TermAnalyzer()
        segmenter = RuleSegmenter()
        self._sources = [
            _Source(i, sentence, str(hit.chunk.metadata.get("title", "")))
            for i, hit in enumerate(hits)
            for sentence in source_sentences(hit.chunk, segmenter)
        ]
        self._titles = _Titles([source.title for source in self._sources])
        self._texts = [source.sentence.text for source in self._sources]
        self._terms = set(self._analyzer.terms("\n".join(self._texts)))
        self._terms.update(self._analyzer.terms("\n".join({s.title for s in self._sources})))

    def judge(self, sentence: str, quotes: Sequence[str] = ()) -> Verdict:
        """Judge one sentence; citation marks in it are not read.

        Args:
            sentence: The sentence.
            quotes: What is said to support it. A source sentence with one of them is its evidence
                first; a quote that stands nowhere changes nothing.
        """
        statement = strip_marks(sentence).strip()
        for source in self._sources:
            if stands_in(statement, source.sentence.text):
                return Verdict("quoted", 1.0, "", (_evidence(source, 1.0),))
        whole, statement = statement, _OPENER.sub("", statement)
        for source in self._sources if statement != whole else ():
            if stands_in(statement, source.sentence.text):
                return Verdict("entailed", 1.0, "a source says it", (_evidence(source, 1.0),))
        order = self._order(statement, quotes)
        if not order or not _WORD.search(statement):
            return Verdict("unsupported", 0.0, "there is nothing to compare it with", ())
        chosen = [self._sources[i] for i in sorted(order)]
        mark = self._titles
        found = compare_frames(
            mark.join(statement),
            [mark.join(source.sentence.text) for source in chosen],
            context=[mark.join(source.title) for source in chosen],
        )
        findings = [replace(finding, reason=mark.split(finding.reason)) for finding in found]
        edit = compare_words(statement, [source.sentence.text for source in chosen])
        if edit is not None and edit.kind == "conflict":
            findings.append(Finding("conflicts", edit.reason, edit.source))
        scores, features = self.measure(statement, order)
        weights = [WEIGHTS[name] for name in FEATURES]
        probability = float(logistic(features[None], weights, BIAS)[0])
        needed = self._needed(statement, order)
        ranked = tuple(_evidence(self._sources[i], probability) for i in needed)
        kinds = {finding.kind for finding in findings}
        is_strange = self._share_of_words(statement) <= _SHARE and not is_foreign(statement)
        if is_strange and kinds.isdisjoint(("conflicts", "computed")):
            reason = "half of its words stand in no source"
            return Verdict("unsupported", min(probability, 0.2), reason, ranked[:1])
        is_changed = edit is not None and edit.kind == "other"
        by_words = None if is_changed else self._words.check(statement)
        return self._decide(statement, findings, by_words, scores, probability, ranked)

    def measure(
        self, statement: str, order: Sequence[int] | None = None
    ) -> tuple[SupportScores, NDArray[np.float64]]:
        """Return the pair model's scores of a statement and its `FEATURES`, float64 (features,).

        Args:
            statement: The statement.
            order: Indices of its evidence; default: the source sentences that cover it best.
        """
        if order is None:
            order = rank_sentences(statement, self._texts)
        chosen = [self._sources[i] for i in sorted(order)]
        texts = [source.sentence.text for source in chosen]
        titles = [source.title for source in chosen]
        scores = self._pair.judge([statement], [joined(texts, titles)])[0]
        wanted = set(self._analyzer.terms(statement))
        near = set(self._analyzer.terms("\n".join([*texts, *titles])))
        shares = frame_features(statement, texts, context=titles)
        n = max(1, len(wanted))
        odds = (scores.supported + _SMALLEST) / (1 - scores.supported + _SMALLEST)
        features = np.array(
            [
                len(wanted & self._terms) / n,
                len(wanted & near) / n,
                shares["numbers"],
                shares["names"],
                float(np.log(odds)),
                float(np.log(scores.contradicted + _SMALLEST)),
            ]
        )
        return scores, features

    def _order(self, statement: str, quotes: Sequence[str]) -> list[int]:
        """Return the indices of a statement's evidence: quoted sentences first, best first."""
        quoted = [
            i for i, text in enumerate(self._texts) if any(stands_in(q, text) for q in quotes)
        ]
        ranked = rank_sentences(statement, self._texts)
        return list(dict.fromkeys([*quoted, *ranked]))[:SENTENCES]

    def _share_of_words(self, statement: str) -> float:
        """Return the share of a statement's terms, without its names, that the sources have."""
        named = self._analyzer.terms(" ".join(sorted(names(statement))))
        words = set(self._analyzer.terms(statement)).difference(named)
        return len(words & self._terms) / len(words) if words else 1.0

    def _needed(self, statement: str, order: Sequence[int]) -> list[int]:
        """Return the ranked source sentences that hold terms which those before them lack."""
        missing = set(self._analyzer.terms(statement))
        needed: list[int] = []
        for i in order:
            found = missing.intersection(self._analyzer.terms(self._texts[i]))
            if found or not needed:
                needed.append(i)
            missing -= found
        return needed

    def _decide(
        self,
        statement: str,
        findings: Sequence[Finding],
        by_words: Evidence | None,
        scores: SupportScores,
        probability: float,
        ranked: tuple[Evidence, ...],
    ) -> Verdict:
        reasons: dict[str, str] = {}
        for finding in findings:
            reasons.setdefault(finding.kind, finding.reason)
        if reason := reasons.get("conflicts"):
            return Verdict("contradicted", min(probability, 0.05), reason, ranked)
        if reason := reasons.get("computed"):
            return Verdict("computed", max(probability, 0.9), reason, ranked)
        if reason := reasons.get("elsewhere"):
            return Verdict("unsure", min(probability, 0.5), reason, ranked)
        if by_words:
            share = max(probability, self._sure)
            return Verdict("entailed", share, "a source holds its words", (by_words,))
        if is_foreign(statement):
            return Verdict("unsure", probability, "the check was trained on English", ranked)
        if probability >= self._sure:
            return Verdict("entailed", probability, "follows from the sources", ranked)
        if scores.contradicted >= _CONTRADICTED:
            reason = "the sources seem to say otherwise"
            return Verdict("contradicted", probability, reason, ranked)
        if probability < self._unsure:
            return Verdict("unsupported", probability, "no source says this", ranked)
        return Verdict("unsure", probability, "the sources may say this or not", ranked)


class _Titles:
    """Writes the titles of the sources as one word each, so that the rules take them for names.

    "The gap of gallium arsenide" has no capital; that it is a name is known from the title.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        words = {title: _TITLE_WORD.findall(title) for title in set(titles)}
        named = {
            title: "".join(word[0].upper() + word[1:] for word in parts) + "X"
            for title, parts in words.items()
            if 0 < len(parts) <= _LONGEST_TITLE and len(title) > _SHORTEST_TITLE
        }
        longest = sorted(named, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest))
        self._pattern = re.compile(rf"(?<![\w-])(?:{pattern or '(?!)'})(?![\w-])", re.IGNORECASE)
        self._named = {title.lower(): name for title, name in named.items()}
        self._titles = {name: title for title, name in named.items()}

    def join(self, text: str) -> str:
        return self._pattern.sub(lambda match: self._named[match[0].lower()], text)

    def split(self, text: str) -> str:
        return re.sub(r"\w+", lambda match: self._titles.get(match[0], match[0]), text)


def joined(texts: Sequence[str], titles: Sequence[str]) -> str:
    """Join evidence sentences for the pair model, each new title before its sentences."""
    lines: list[str] = []
    last = ""
    for text, title in zip(texts, titles, strict=True):
        if title and title != last and title.lower() not in text.lower():
            lines.append(f"{title}:")
        last = title
        lines.append(text)
    return " ".join(lines)


def is_foreign(text: str) -> bool:
    """Return True if the small words of a text are not English.

    >>> is_foreign("Die Lücke von Silizium ist indirekt."), is_foreign("The gap is indirect.")
    (True, False)
    """
    words = [word.lower() for word in _WORD.findall(text)]
    n_english, n_others = (sum(word in known for word in words) for known in (_ENGLISH, _OTHERS))
    return n_others >= 2 and n_others > n_english


def _evidence(source: _Source, probability: float) -> Evidence:
    sentence = source.sentence
    return Evidence(source.hit, sentence.start, sentence.end, probability, sentence.table)
