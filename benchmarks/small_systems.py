"""GENRE, SEAL, UGR and CorpusBrain on the wiki: each trains, searches and notes its scores."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from small_training import Part, Training
from small_wiki import CLUES, LEAD, PARAGRAPHS, TEACHER, UNITS, Question, Wiki

from ragkit.collection import Collection
from ragkit.finetune.generative import (
    CorpusBrainTargets,
    MixedTargets,
    Page,
    Pair,
    Passage,
    SpanTargets,
    TargetOptions,
    Targets,
    pretraining_pairs,
)
from ragkit.finetune.generative.corpusbrain import Anchor, TextPair
from ragkit.finetune.soft_prompts import PromptStyle
from ragkit.indexes.trie import Trie
from ragkit.llms.beams import BeamModel, Seq2SeqBeams, load_beam_model
from ragkit.llms.search import BeamOptions, beam_search
from ragkit.llms.soft_prompts import Prompts
from ragkit.retrievers.keys import NgramOptions, generate_keys
from ragkit.retrievers.ngram_scoring import ScoringOptions
from ragkit.retrievers.rows import RowFormat, prompt_for
from ragkit.types import Document, TokenIndex

SWAPPED = {"document": "entity", "entity": "document", "passage": "sentence", "sentence": "passage"}
VECTOR_BYTES = 4 * 384  # of a page in the index that a trie is compared with


class Anything:
    """What constrains nothing: every token may follow."""

    def __init__(self, vocab_size: int) -> None:
        self._all = np.arange(vocab_size)

    def start(self) -> tuple[()]:
        return ()

    def advance(self, state: tuple[()], token: int) -> tuple[()]:
        return ()

    def successors(self, state: tuple[()]) -> Any:
        return self._all


def genre(part: Part) -> None:
    """Titles, with the trie and without it, and the trie's bytes."""
    wiki, sizes = part.wiki, part.sizes
    titles = [page.title for page in wiki.pages]
    test = wiki.test[: sizes.genre_queries]
    pairs = [(each.text, titles[each.page]) for each in wiki.train]
    model = part.learn_titles("titles", pairs, sizes.genre_tokens)
    others = part.shuffled(len(pairs))
    wrong = [(text, pairs[i][1]) for (text, _), i in zip(pairs, others, strict=True)]
    control = part.learn_titles("control", wrong, sizes.genre_tokens)
    collection = part.collection()
    n_shown, max_tokens = 5, 8
    rows = RowFormat(model)
    free = BeamOptions(
        width=sizes.beams, max_tokens=max_tokens, end_tokens=frozenset(rows.delimiter),
        length_power=1.0,
    )  # fmt: skip
    written: dict[str, list[list[str]]] = {"constrained": [], "free": [], "control": []}
    with part.timed("search"):
        for name, each in (("constrained", model), ("control", control)):
            retriever = collection.retriever(
                "title", model=each, width=sizes.beams, max_tokens=max_tokens, copies=True
            )
            for hits in retriever.retrieve([each.text for each in test], n_shown):
                written[name].append([hit.parts[-1].detail["titles"][0]["text"] for hit in hits])
        for question in test:
            found = beam_search(
                model, prompt_for("title", question.text, model.prompts),
                Anything(model.vocab_size), free,
            )  # fmt: skip
            texts = [model.decode(each.tokens[:-1]) for each in found if each.finished]
            written["free"].append(texts[:n_shown])
    known = set(titles)
    for name, runs in written.items():
        part.scores[f"valid, {name}"] = [
            sum(text in known for text in run) / max(1, len(run)) for run in runs
        ]
        part.scores[f"R-precision, {name}"] = [
            float(run[:1] == [titles[each.page]]) for run, each in zip(runs, test, strict=True)
        ]
    with tempfile.TemporaryDirectory() as folder:
        identifiers = [[*rows.text(title), *rows.delimiter] for title in titles]
        files = Trie.build(identifiers, model.vocab_size).save(Path(folder))
        part.facts["bytes, trie"] = sum(file.stat().st_size for file in files)
    part.facts["bytes, vectors"] = VECTOR_BYTES * len(titles)
    weights = part.folder / "titles" / "model" / "model.safetensors"
    part.facts["bytes, model"] = weights.stat().st_size
    part.facts["chance"] = 1 / len(titles)


def seal(part: Part) -> None:
    """N-grams: keys, the weights of their scores, and spam."""
    wiki, sizes = part.wiki, part.sizes
    passages = [Passage(page.title, text) for page in wiki.pages for text in page.paragraphs]
    n = len(PARAGRAPHS)
    pairs = [Pair(each.text, each.page * n + CLUES) for each in wiki.train]

    def targets(model: Seq2SeqBeams) -> Targets:
        return SpanTargets(model, passages, pairs, TargetOptions(), seed=part.seed)

    model = part.trained("ngrams", targets, Training(sizes.seal_tokens))
    test = wiki.test[: sizes.queries]
    clean, spam = part.collection(), part.collection("spam", spam_documents(part, test))
    variants = {
        "all keys": (clean, ScoringOptions()),
        "best key": (clean, ScoringOptions(variant="lm+fm")),
        "alpha 1": (clean, ScoringOptions(alpha=1.0)),
        "spam, beta 0.8": (spam, ScoringOptions()),
        "spam, beta 0": (spam, ScoringOptions(beta=0.0)),
    }
    gold = [wiki.pages[each.page].paragraphs[CLUES] for each in test]
    with part.timed("search"):
        for name, (collection, scoring) in variants.items():
            retriever = collection.retriever(
                "ngram",
                model=model,
                options=NgramOptions(width=sizes.beams, scoring=scoring),
                copies=True,
            )
            runs = retriever.retrieve([each.text for each in test], 100)
            found = [[hit.chunk.text for hit in run] for run in runs]
            part.scores[f"MRR, {name}"] = [
                reciprocal_rank(run, text) for run, text in zip(found, gold, strict=True)
            ]
            if name == "all keys":
                part.scores["success@1, other's keys"] = [
                    float(run[:1] == [gold[i]]) for run, i in strangers(wiki, test, found)
                ]
    with part.timed("check keys"):
        part.facts |= checked_keys(clean, model, [each.text for each in test[:20]], sizes.beams)
    part.facts["chance"] = 1 / len(passages)


def spam_documents(part: Part, asked: Sequence[Question]) -> list[Document]:
    """For each question a text of its clues, in all orders and some more."""
    random = np.random.default_rng([part.seed, 1])
    found = []
    for at, question in enumerate(asked):
        orders = list(itertools.permutations(part.wiki.pages[question.page].clues))
        again = random.permutation([*range(6), *random.integers(6, size=3)]).tolist()
        words = itertools.chain(*(orders[i] for i in again))
        found.append(Document(f"s{at}", " ".join(words) + ".", part.wiki.spare[at]))
    return found


def strangers(
    wiki: Wiki, asked: Sequence[Question], runs: Sequence[list[str]]
) -> Iterator[tuple[list[str], int]]:
    """For each question the run of the next one that shares no clue with it."""
    for i, question in enumerate(asked):
        clues = set(wiki.pages[question.page].clues)
        following = [(i + step) % len(asked) for step in range(1, len(asked))]
        other = next(j for j in following if clues.isdisjoint(wiki.pages[asked[j].page].clues))
        yield runs[other], i


def reciprocal_rank(run: Sequence[str], gold: str) -> float:
    return 1 / (1 + run.index(gold)) if gold in run else 0.0


def checked_keys(
    collection: Collection, model: BeamModel, queries: Sequence[str], width: int
) -> dict[str, float]:
    """How many keys were written, and how many occur as often as a scan of all rows counts them."""
    retriever: Any = collection.retriever("ngram", model=model, copies=True)
    options = NgramOptions(width=width)
    found = {"keys": 0, "keys that occur": 0, "keys counted right": 0}

    def look(index: TokenIndex) -> None:
        rows = [f" {' '.join(map(str, index.row(i).tolist()))} " for i in range(index.n_rows)]
        for query in queries:
            keys = generate_keys(model, RowFormat(model), index, query, "passage", options).keys
            for key in keys.values():
                text = " ".join(map(str, key.tokens))
                n = sum(_occurrences(row, text) for row in rows)
                found["keys"] += 1
                found["keys that occur"] += n > 0
                found["keys counted right"] += n == key.count

    rows = collection.snapshot().token_rows(retriever.layout, None)
    assert rows is not None
    look(rows.index)
    return {name: float(n) for name, n in found.items()}


def _occurrences(row: str, text: str) -> int:
    """How often tokens stand in a row, overlapping ones too."""
    n, at = 0, row.find(f" {text} ")
    while at >= 0:
        n, at = n + 1, row.find(f" {text} ", at + 1)
    return n


def ugr(part: Part) -> None:
    """One model for four units, with prompts, without, and with swapped ones."""
    part.wiki = Wiki.made(replace(part.sizes, pages=part.sizes.ugr_pages), part.seed)
    wiki, sizes = part.wiki, part.sizes
    texts = {
        "document": [page.text for page in wiki.pages],
        "passage": [page.paragraphs[LEAD] for page in wiki.pages],
        "sentence": [page.sentence for page in wiki.pages],
        "entity": [page.paragraphs[LEAD] for page in wiki.pages],
    }

    def pairs(unit: str) -> list[Pair]:
        return [
            Pair(each.text, wiki.pages[each.page].sought(unit, each.page)) for each in wiki.train
        ]

    def targets(model: Seq2SeqBeams) -> Targets:
        tasks: dict[str, Targets] = {
            unit: SpanTargets(
                model, [Passage("", text) for text in texts[unit]], pairs(unit),
                TargetOptions(unit=unit, passage_share=0.0), seed=part.seed,
            )
            for unit in UNITS
        }  # fmt: skip
        return MixedTargets(tasks, seed=part.seed)

    test = wiki.test[: sizes.queries]
    collection = part.collection()
    styles: tuple[PromptStyle, ...] = ("hybrid", "none")
    for style in styles:
        model = part.trained(style, targets, Training(epochs=sizes.ugr_epochs, prompts=style))
        with part.timed("search"):
            for unit in UNITS:
                found = succeeded(part, collection, model, unit, test)
                part.scores[f"{unit}, {style}"] = found
            if style == "hybrid":
                assert isinstance(model, Seq2SeqBeams)
                other = {unit: model.prompts[SWAPPED[unit]] for unit in UNITS}
                model.set_prompts(Prompts(other, model.vectors))
                for unit in UNITS:
                    found = succeeded(part, collection, model, unit, test)
                    part.scores[f"{unit}, swapped"] = found


def succeeded(
    part: Part, collection: Collection, model: BeamModel, unit: str, asked: Sequence[Question]
) -> list[float]:
    """Whether the first unit is the right one, for each question."""
    options = NgramOptions(width=part.sizes.beams, title_width=0, query_words=0)
    retriever = collection.retriever(
        "ngram", model=model, granularity=unit, options=options, copies=True
    )
    runs = retriever.retrieve([each.text for each in asked], 1)
    return [
        float(bool(run) and is_right(part.wiki, unit, question, run[0]))
        for run, question in zip(runs, asked, strict=True)
    ]


def is_right(wiki: Wiki, unit: str, question: Question, hit: Any) -> bool:
    at = wiki.pages[question.page].sought(unit, question.page)
    page = wiki.pages[at]
    if hit.chunk.doc_id != f"p{at}":
        return False
    if unit == "passage":
        return bool(hit.chunk.text == page.paragraphs[LEAD])
    if unit != "sentence":
        return True
    # The sentence is the one in which the best n-gram stands that is in no title.
    start = page.text.index(page.sentence)
    placed = [each for each in hit.parts[-1].detail["ngrams"] if each["start"] is not None]
    best = max(placed, key=lambda each: float(each["added"]), default=None)
    return best is not None and start <= best["start"] < start + len(page.sentence)


def corpusbrain(part: Part) -> None:
    """Pre-training on pages, and then few questions."""
    wiki, sizes = part.wiki, part.sizes
    titles = [page.title for page in wiki.pages]
    texts = pretraining_pairs(
        Page(
            page.title,
            (page.title, *page.paragraphs),
            tuple(
                Anchor(1 + TEACHER + i, titles[link], titles[link])
                for i, link in enumerate(page.links)
            ),
        )
        for page in wiki.pages
    )
    others = part.shuffled(len(texts))
    wrong = [
        TextPair(each.task, each.input, texts[i].titles)
        for each, i in zip(texts, others, strict=True)
    ]
    test = wiki.test[: sizes.genre_queries]
    collection = part.collection()
    for name, learned in (("none", None), ("pages", texts), ("control", wrong)):
        base = part.base
        if learned is not None:
            taught = list(learned)

            def targets(model: Seq2SeqBeams, pairs: Sequence[TextPair] = taught) -> Targets:
                return CorpusBrainTargets(model, pairs, seed=part.seed)

            part.trained(f"pre-{name}", targets, Training(sizes.pretrain_tokens))
            base = part.folder / f"pre-{name}" / "model"
        for n in sizes.few:
            pairs = [(each.text, titles[each.page]) for each in wiki.train[:n]]
            model = (
                part.learn_titles(f"{name}-{n}", pairs, max(sizes.finetune_tokens, 150 * n), base)
                if pairs
                else load_beam_model(str(base))
            )
            with part.timed("search"):
                retriever = collection.retriever(
                    "title", model=model, width=sizes.beams, max_tokens=8, copies=True
                )
                runs = retriever.retrieve([each.text for each in test], 1)
            part.scores[f"n = {n}, {name}"] = [
                float(bool(run) and run[0].chunk.doc_id == f"p{each.page}")
                for run, each in zip(runs, test, strict=True)
            ]
    for n in sizes.few:
        with_, without = part.scores[f"n = {n}, pages"], part.scores[f"n = {n}, none"]
        part.scores[f"gap, n = {n}"] = [a - b for a, b in zip(with_, without, strict=True)]
    part.facts["chance"] = 1 / len(titles)


SYSTEMS = {"genre": genre, "seal": seal, "ugr": ugr, "corpusbrain": corpusbrain}
