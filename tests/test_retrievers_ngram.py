"""N-gram retrieval: keys that occur, scores that add up, and SEAL's two stages done slowly."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_helpers import temporary_folder
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import examples
from tiers import smoke
from token_models import (
    TOLERANCE,
    Tokens,
    WordModel,
    WrittenModel,
    corpus,
    forced,
    index_of,
    live_rows,
    opened,
    tiny_model,
    told,
    words,
)

from ragkit.errors import ModelError
from ragkit.llms.search import BeamOptions, beam_search
from ragkit.losses import collect
from ragkit.retrievers.keys import NgramOptions, generate_keys, query_ngrams, score_ngrams
from ragkit.retrievers.ngram import GRANULARITIES, NgramRetriever, ngram_layout
from ragkit.retrievers.ngram_scoring import ScoringOptions
from ragkit.retrievers.rows import RowFormat, prompt_for
from ragkit.testing import check_retriever
from ragkit.types import Document

END = 1  # begins a row, and ends a title: these tokenizers have no line break
QUERIES = ["w1 w2", "w3", "W4 w5 w1 w0", "nothing of it"]
# SEAL's smoothing of 5 leaves few keys in a corpus of some hundred words.
SMALL = NgramOptions(
    width=4,
    max_tokens=4,
    title_width=3,
    title_tokens=5,
    scoring=ScoringOptions(smoothing=0.01),
)
# Where the mark before a title is the one behind it, most beams of titles are lost in bodies.
WIDE = replace(SMALL, title_width=20)
ALL_WORDS = " ".join(f"w{i}" for i in range(37))


@pytest.fixture(scope="module", params=smoke(["llama", "bart"], tier="models"))
def real(request, tmp_path_factory):
    return tiny_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=["llama", "bart", "t5"])
def every(request, tmp_path_factory):
    return tiny_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_model("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Three segments, some of them with dead rows; documents of several chunks."""
    with opened(tmp_path_factory.mktemp("ngram") / "c.rag") as made:
        documents = corpus(20)
        made.add(documents[:8])
        made.add([*documents[8:15], Document("gone", "w1 w2 w3 w36", "w1 w35")])
        made.add([*documents[15:], Document("d03", "w1 w2 w1 w2 w3", "w5")])
        made.delete("gone")
        yield made


class Vast:
    """An index that says it is part of a huge corpus: then no key's weight is 0."""

    n_tokens = 10**40

    def __init__(self, index) -> None:
        self._index = index

    def __getattr__(self, name):
        return getattr(self._index, name)


# contract


@pytest.mark.parametrize("granularity", smoke(GRANULARITIES, "passage", tier="models"))
def test_ngram_retriever_when_checked_keeps_the_contract(collection, real, granularity):
    made = collection.retriever(
        "ngram", model=real, granularity=granularity, options=SMALL, copies=True
    )
    check_retriever(made, QUERIES[:2])
    assert made.retrieve(QUERIES[:1], 1)[0]


@pytest.mark.parametrize("variant", ["lm", "lm+fm"])
def test_ngram_retriever_of_another_variant_keeps_the_contract(collection, variant):
    options = NgramOptions(scoring=ScoringOptions(variant=variant))
    retriever = collection.retriever("ngram", model=WordModel(), options=options, copies=True)
    check_retriever(retriever, QUERIES)
    hits = [hit for run in retriever.retrieve(QUERIES) for hit in run]
    assert {part.name for hit in hits for part in hit.parts} == {variant}


@pytest.mark.parametrize("granularity", smoke(GRANULARITIES, "passage", tier="models"))
@pytest.mark.parametrize("where", [{"n": 1}, {"or": [{"n": {">=": 2}}, {"doc_id": "d03"}]}])
def test_hits_when_filtered_equal_those_of_the_allowed_documents_alone(
    collection, llama, granularity, where
):
    """Scores and counts too: P(n) and N are of the allowed rows only."""
    models = [WordModel(), *([llama] if granularity == "passage" else [])]
    live = {row["id"] for row in collection.documents()}
    documents = [collection.document(name) for name in sorted(live)]
    allowed = [
        each
        for each in documents
        if ((each.metadata.get("n") == 1) if "n" in where else
            each.metadata.get("n", 0) >= 2 or each.id == "d03")
    ]  # fmt: skip
    assert 0 < len(allowed) < len(documents)
    with temporary_folder() as folder, opened(folder / "alone.rag") as alone:
        alone.add(allowed)
        for model in models:
            some = collection.retriever("ngram", model=model, granularity=granularity, copies=True)
            fresh = alone.retriever("ngram", model=model, granularity=granularity, copies=True)
            for query in QUERIES:
                hits = some.retrieve([query], 100, where=where)[0]
                assert told(hits) == told(fresh.retrieve([query], 100)[0])
                assert {hit.chunk.doc_id for hit in hits} <= {each.id for each in allowed}
            assert sum(map(len, some.retrieve(QUERIES, where=where))) > 0


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_counts_and_weights_are_those_of_a_scan_of_the_live_rows(collection, granularity):
    model = WordModel()
    for where in (None, {"n": 0}):
        index, _ = index_of(collection, ngram_layout(model, granularity), where)
        rows = live_rows(index)
        keys = generate_keys(
            model, RowFormat(model), index, QUERIES[0], granularity, NgramOptions()
        )
        assert index.n_tokens == sum(map(len, rows))
        for ngram, key in keys.keys.items():
            assert key.count == occurrences(ngram, rows), ngram
            assert key.weight == pytest.approx(log_odds(key.logprob, key.count, rows) ** 2)
        assert not any("w35" in model.decode(row) for row in rows)  # of the deleted document


ids = st.sampled_from([f"d{i}" for i in range(6)])
texts = st.lists(st.sampled_from(["w1", "w2", "w3 w4", "w4\n\nw1"]), min_size=1, max_size=6).map(
    " ".join
)
changes = st.one_of(
    st.builds(Document, ids, texts, st.sampled_from(["", "w5", "w1 w2"])),
    st.tuples(st.just("delete"), ids),
    st.just(("compact",)),
    st.just(("search",)),
)


@examples(12, few=2, suppress_health_check=list(HealthCheck))
@given(st.lists(changes, min_size=3, max_size=8))
def test_history_does_not_show(steps):
    """Neither in n-grams nor in titles; token indexes are made whenever there was a search."""
    model, live = WordModel(), {}
    with temporary_folder() as folder, opened(folder / "kept.rag") as kept:
        kept.add([Document("x", "w1 w2 w3 w4 w1", "w6")])
        live["x"] = Document("x", "w1 w2 w3 w4 w1", "w6")
        for step in steps:
            if isinstance(step, Document):
                kept.add(step)
                live[step.id] = step
            elif step[0] == "delete":
                kept.delete(step[1])
                live.pop(step[1], None)
            elif step[0] == "compact":
                kept.compact()
            else:
                _searched(kept, model)
        with opened(folder / "fresh.rag") as fresh:
            fresh.add(list(live.values()))
            assert _searched(kept, model) == _searched(fresh, model)


def _searched(collection, model):
    made = [
        collection.retriever("ngram", model=model, granularity=unit, copies=True)
        for unit in GRANULARITIES
    ] + [collection.retriever("title", model=model, copies=True)]
    return [told(hits) for each in made for hits in each.retrieve(["w1 w3", "w2"], 50)]


# keys


@pytest.mark.parametrize("granularity", ["passage", "document"])
def test_keys_occur_in_the_live_allowed_rows_and_hold_no_marks(collection, every, granularity):
    rows_of = RowFormat(every)
    for where in (None, {"n": 1}):
        index, _ = index_of(collection, ngram_layout(every, granularity), where)
        rows = live_rows(index)
        known = {row[i:j] for row in rows for i in range(len(row)) for j in range(i + 1, i + 16)}
        titles = bodies = 0
        for query in QUERIES[1:3]:
            keys = generate_keys(every, rows_of, Vast(index), query, granularity, WIDE)
            assert keys.keys.keys() <= known
            for ngram in keys.keys:
                if ngram[0] == END:
                    titles += 1
                    assert (ngram[:2], ngram[-1], ngram.count(END)) == ((END, END), END, 3), ngram
                    assert any(row[: len(ngram)] == ngram for row in rows)
                else:
                    bodies += 1
                    assert END not in ngram, ngram
        assert titles > 0, titles
        assert bodies > 10, bodies


def test_log_probabilities_of_keys_equal_teacher_forcing(collection, every):
    index, _ = index_of(collection, ngram_layout(every, "passage"))
    checked = {True: 0, False: 0}
    for query in QUERIES[1:3]:
        found = generate_keys(every, RowFormat(every), Vast(index), query, "passage", WIDE)
        for ngram, key in list(found.keys.items())[:25]:
            is_title = ngram[0] == END
            prompt = prompt_for("title" if is_title else "passage", query)
            expected = forced(every, prompt, ngram[2:] if is_title else ngram)
            assert key.logprob == pytest.approx(expected, abs=TOLERANCE), ngram
            checked[is_title] += 1
    assert min(checked.values()) > 0, checked


def test_score_ngrams_equals_teacher_forcing_one_by_one(every):
    generator = np.random.default_rng(0)
    ngrams = [tuple(generator.integers(3, 9, generator.integers(1, 5)).tolist()) for _ in range(30)]
    ngrams = [*ngrams, ngrams[0], *(ngram[:1] for ngram in ngrams[:5])]
    scores = score_ngrams(every.begin("w1 w2"), ngrams)
    expected = [forced(every, "w1 w2", ngram) for ngram in ngrams]
    assert scores == pytest.approx(expected, abs=TOLERANCE)
    assert score_ngrams(every.begin("w1 w2"), []) == []


def test_query_words_when_there_are_many_are_scored_like_one_by_one(collection):
    """In several batches: no batch holds a prompt for each n-gram of a long query."""
    widest = 0

    class Watched(WordModel):
        def begin(self, *prompts):
            return Wide(super().begin(*prompts))

    class Wide:
        def __init__(self, beams):
            self.beams = beams

        def logprobs(self):
            return self.beams.logprobs()

        def advance(self, parents, tokens):
            nonlocal widest
            widest = max(widest, len(parents))
            self.beams.advance(parents, tokens)

    model = Watched()
    index, _ = index_of(collection, ngram_layout(model, "passage"))
    query = " ".join(model.decode(row) for row in live_rows(index))
    options = NgramOptions(width=1, title_width=1)
    found = generate_keys(model, RowFormat(model), Vast(index), query, "passage", options).keys
    asked = [ngram for ngram in query_ngrams(RowFormat(model), query, 3) if index.find(ngram)]
    assert len(asked) > 250
    assert set(asked) <= found.keys()
    prompt = prompt_for("passage", query)
    for ngram in set(asked) & found.keys():
        assert found[ngram].logprob == pytest.approx(model.logprob(prompt, ngram), abs=TOLERANCE)
    assert 10 < widest <= 128


def test_query_ngrams_have_their_initials_in_all_cases():
    class Letters(WordModel):
        def encode(self, text):
            return [ord(letter) for letter in text]

    def texts_of(query, most):
        found = query_ngrams(RowFormat(Letters()), query, most)
        return ["".join(map(chr, ngram)).strip() for ngram in found]

    assert texts_of("iron Oxide", 2) == [
        "iron", "Iron", "oxide", "Oxide",
        "iron oxide", "iron Oxide", "Iron oxide", "Iron Oxide",
    ]  # fmt: skip
    assert len(texts_of("a b c", 3)) == 6 + 8 + 8
    assert texts_of("iron  oxide", 1) == ["iron", "Iron", "oxide", "Oxide"]
    assert texts_of("1 1", 3) == ["1", "1 1"]
    assert texts_of("éa", 3) == ["éa", "Éa"]


class Damaged(WordModel):
    """Gives NaN after some tokens; for some next tokens only."""

    def __init__(self, after: Tokens, tokens: Iterable[int] | None = None) -> None:
        super().__init__()
        self.after = after
        self.tokens = slice(None) if tokens is None else list(tokens)

    def next_logprobs(self, prompt, tokens):
        found = super().next_logprobs(prompt, tokens)
        if tokens == self.after:
            found[self.tokens] = np.nan
        return found


@pytest.mark.parametrize(
    "model",
    [
        Damaged(()),
        Damaged((), [39]),  # a word that no text holds
        Damaged((4,), [5]),  # within a query's n-gram
    ],
    ids=["all", "an absent word", "in the query"],
)
def test_retrieve_when_the_model_gives_nan_raises_model_error(tmp_path, model):
    with opened(tmp_path / "c.rag") as collection:
        collection.add([Document("a", "w1 w2"), Document("b", "w3 w4 w5")])
        options = NgramOptions(width=1, max_tokens=1, title_width=0)
        retriever = collection.retriever("ngram", model=model, options=options, copies=True)
        with pytest.raises(ModelError, match="NaN; its weights are damaged"):
            retriever.retrieve(["w1 w2"])


def test_title_retriever_when_the_model_gives_nan_raises_model_error(collection):
    with pytest.raises(ModelError, match="NaN"):
        collection.retriever("title", model=Damaged(()), copies=True).retrieve(["w1"])


# what is generated


@pytest.mark.models
def test_10000_generations_of_a_random_model_all_stand_in_the_corpus(tmp_path, llama):
    documents = corpus(60, seed=3, known=37)
    generator, seen, n = np.random.default_rng(4), set(), 0
    known = "|".join(
        f" </s>{f' {each.title} </s>' if each.title else ''} {' '.join(each.text.split())} "
        for each in documents
    )
    names = {token: word for word, token in llama.tokenizer.get_vocab().items()}
    with opened(tmp_path / "c.rag", chunk_tokens=100) as collection:
        collection.add(documents)
        index, _ = index_of(collection, ngram_layout(llama, "passage"))
        while n < 10_000:
            prompt = prompt_for("passage", words(generator, 4))
            found = beam_search(llama, prompt, index, BeamOptions(width=60, max_tokens=7))
            strings = [" ".join(names[token] for token in each.tokens) for each in found]
            assert [each for each in strings if f" {each} " not in known] == []
            n += len(strings)
            seen |= set(strings)
    assert len(seen) > 1000


@pytest.mark.models
def test_200_generations_of_smollm2_all_stand_in_the_corpus(tmp_path):
    from ragkit.llms.beams import load_beam_model

    model = load_beam_model("smollm2")
    documents = [
        Document("a", "Gallium arsenide has a direct band gap of 1.42 eV.", "Gallium arsenide"),
        Document("b", "Silicon has an indirect band gap,\nwhich limits its use.", "Silicon"),
        Document("c", "Magnetite, Fe3O4, is an iron oxide (naïve café 鋼鉄).", "Magnetite"),
    ]
    rows = RowFormat(model)
    known = [rows.row(each.title, each.text) for each in documents]
    with opened(tmp_path / "c.rag", chunk_tokens=100) as collection:
        collection.add(documents)
        index, _ = index_of(collection, ngram_layout(model, "passage"))
        n = 0
        for query in ("direct band gap", "What is silicon used for?"):
            found = generate_keys(model, rows, Vast(index), query, "passage", NgramOptions())
            for ngram in found.keys:
                assert occurrences(ngram, known), model.decode(ngram)
            n += len(found.keys)
        assert n >= 200
        options = NgramOptions(scoring=ScoringOptions(smoothing=0.01))
        retriever = collection.retriever("ngram", model=model, options=options, copies=True)
        hits = retriever.retrieve(["iron oxide"])[0]
        assert hits
        assert _check_places(collection, hits) > 0


# hits


def _check_places(collection, hits) -> int:
    n_placed = 0
    for hit in hits:
        detail = hit.parts[-1].detail
        total = sum(each["added"] for each in detail["ngrams"]) + detail["unigrams"]
        assert hit.score == pytest.approx(total, abs=1e-6 * (2 + len(detail["ngrams"])))
        text = collection.document(hit.chunk.doc_id).text
        for each in detail["ngrams"]:
            if each["start"] is None:
                assert each["end"] is None
                continue
            n_placed += 1
            assert hit.chunk.start <= each["start"] < each["end"] <= hit.chunk.end
            assert text[each["start"] : each["end"]].split() == each["text"].split()
    return n_placed


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_hits_are_the_sum_of_their_ngrams_which_stand_where_they_say(collection, real, granularity):
    hits = []
    for model, most in ((real, 0), (WordModel(), 10)):
        made = collection.retriever(
            "ngram", model=model, granularity=granularity, options=SMALL, copies=True
        )
        some = [hit for run in made.retrieve(QUERIES[:2], 100) for hit in run]
        assert _check_places(collection, some) > most
        hits += some
    if granularity in ("document", "entity"):
        starts = [collection.document(hit.chunk.doc_id).text.find(hit.chunk.text) for hit in hits]
        assert {hit.chunk.start for hit in hits} == set(starts) == {0}


LIKELY = {"w2": 0.3, "w3": 0.3, "w7": 0.2, "w9": 0.19}


@pytest.mark.parametrize("granularity", ["passage", "document", "sentence", "entity"])
def test_ngrams_without_a_place_are_of_the_title_or_of_a_later_chunk(tmp_path, granularity):
    """The document begins with white space, its first chunk behind it."""
    model = WrittenModel({"": LIKELY, "w2": {"w3": 1.0}})
    filler = " ".join(f"w{i}" for i in range(20, 37))
    text = "\n  w1 w2\n\nw3 w4\n\nw1 w9 w5 w6"
    with opened(tmp_path / "c.rag", chunk_tokens=4) as collection:
        collection.add([Document("a", text, "w7 w8"), Document("b", f"w2 {filler} w2 {filler}")])
        options = NgramOptions(query_words=0, scoring=ScoringOptions(smoothing=0.01))
        hits = collection.retriever(
            "ngram", model=model, granularity=granularity, options=options, copies=True
        ).retrieve(["w1"])[0]
        _check_places(collection, hits)
        hits = [hit for hit in hits if hit.chunk.doc_id == "a"]
        assert {hit.chunk.start for hit in hits} <= {3, text.index("w1 w9")}
        placed = {
            (each["text"], each["start"]) for hit in hits for each in hit.parts[-1].detail["ngrams"]
        }
    w2, w3, w9 = (text.index(word) for word in ("w2", "w3", "w9"))
    assert (
        placed
        == {
            "passage": {("w2 w3", w2), ("w9", w9), ("w7", None)},
            "document": {("w2 w3", w2), ("w9", None), ("w7", None)},
            "entity": {("w2 w3", w2), ("w7", None)},
            "sentence": {("w3", w3), ("w9", w9), ("w7", None)},
        }[granularity]
    )


# the whole of it, slowly


def occurrences(ngram: Tokens, rows: Iterable[Tokens]) -> int:
    n = len(ngram)
    return sum(row[i : i + n] == ngram for row in rows for i in range(len(row)))


def log_odds(logprob: float, count: int, rows: Iterable[Tokens]) -> float:
    n_tokens = sum(map(len, rows))
    prior, given_query = (count + 5) / (n_tokens + 5), math.exp(logprob - 1e-10)
    return max(0.0, math.log(given_query * (1 - prior) / (prior * (1 - given_query))))


def slow_beams(model, prompt, rows, width, longest, *, prefix=(), ends=(), never=()):
    """Every hypothesis of a beam search over what some rows hold, with its log-probability."""
    found: dict[Tokens, float] = {}
    alive: dict[Tokens, float] = {(): 0.0}
    for _ in range(longest):
        grown = {}
        for text, score in alive.items():
            read = (*prefix, *text)
            follow = {
                row[i + len(read)]
                for row in rows
                for i in range(len(row) - len(read))
                if row[i : i + len(read)] == read
            }
            logprobs = model.next_logprobs(prompt, text)
            for token in follow - set(never):
                grown[(*text, token)] = score + float(logprobs[token])
        best = sorted(grown, key=lambda text: (-grown[text], text))[:width]
        found |= {text: grown[text] for text in best}
        alive = {text: grown[text] for text in best if text[-1] not in ends}
    return found


def slow_keys(model, rows, query, options) -> tuple[dict[Tokens, float], np.ndarray]:
    """Log-probabilities of SEAL's keys, and of the first token."""
    prompt = f"Query: {query}\nPassage:"
    first = model.next_logprobs(prompt, ())
    keys = slow_beams(model, prompt, rows, options.width, options.max_tokens, never=[END])
    titles = slow_beams(
        model, f"Query: {query}\nTitle:", rows, options.title_width, options.title_tokens,
        prefix=(END, END), ends=[END],
    )  # fmt: skip
    for title, score in titles.items():
        if title[-1] == END:
            keys.setdefault((END, END, *title), score)
    asked = query.split()
    spans = [
        asked[i:j] for i in range(len(asked)) for j in range(i + 1, min(i + 3, len(asked)) + 1)
    ]
    for span in spans:  # upper-case initials are no words of this vocabulary
        ngram = tuple(model.encode(" ".join(span)))
        if occurrences(ngram, rows):
            keys.setdefault(ngram, model.logprob(prompt, ngram))
    known = {token for row in rows for token in row} - {END}
    for token in sorted(known, key=lambda token: (-first[token], token))[: len(keys)]:
        keys.setdefault((token,), float(first[token]))
    return keys, first


def coefficient(ngram, covered, beta=0.8):
    types = set(ngram)
    return 1 - beta + beta * len(types - covered) / len(types) if covered else 1.0


def slow_candidates(rows, weights: Mapping[Tokens, float]) -> set[int]:
    """Stage 1; with fewer rows than places all that hold a key."""
    taken, of_row = set(), {}
    for ngram in sorted(weights, key=lambda ngram: (-weights[ngram], ngram)):
        for i, row in enumerate(rows):
            for start in range(len(row) - len(ngram) + 1):
                span = {(i, start + step) for step in range(len(ngram))}
                counted = ngram in of_row.get(i, [])
                if row[start : start + len(ngram)] == ngram and not counted and not span & taken:
                    taken |= span
                    of_row.setdefault(i, []).append(ngram)
    return set(of_row)


def slow_score(
    row: Tokens, weights: Mapping[Tokens, float], unigrams: Mapping[int, float]
) -> float:
    """Stage 2."""
    matches = [
        (ngram, start)
        for ngram in weights
        for start in range(len(row) - len(ngram) + 1)
        if row[start : start + len(ngram)] == ngram
    ]
    matches.sort(key=lambda match: (-weights[match[0]], match[0], match[1]))
    free, covered, counted, total = set(range(len(row))), set(), set(), 0.0
    for ngram, start in matches:
        span = set(range(start, start + len(ngram)))
        if not span <= free:
            continue
        free -= span
        if ngram not in counted:
            total += coefficient(ngram, covered) * weights[ngram]
            counted.add(ngram)
            covered |= set(ngram)
    for token in {row[place] for place in free}:
        total += coefficient((token,), covered) * unigrams.get(token, 0.0)
    return total


def slow_ranking(model, rows, query, options) -> dict[int, float]:
    keys, first = slow_keys(model, rows, query, options)
    odds = {key: log_odds(logp, occurrences(key, rows), rows) for key, logp in keys.items()}
    weights = {key: value**2 for key, value in odds.items() if value > 0}
    found = slow_candidates(rows, weights)
    variant = options.scoring.variant
    if variant != "intersective":
        values = weights if variant == "lm+fm" else {key: keys[key] for key in weights}
        held = {i: [key for key in weights if occurrences(key, rows[i : i + 1])] for i in found}
        return {i: max(values[key] for key in held[i]) for i in found}
    unigrams = {
        token: log_odds(float(first[token]), occurrences((token,), rows), rows)
        for token in {token for row in rows for token in row}
        if (token,) not in weights
    }
    return {i: slow_score(rows[i], weights, unigrams) for i in found}


@pytest.mark.parametrize("variant", ["intersective", "lm", "lm+fm"])
@pytest.mark.parametrize("seed", smoke([0, 1], tier="models"))
def test_ranking_of_20_passages_equals_the_two_stages_done_slowly(tmp_path, seed, variant):
    model, generator = WordModel(), np.random.default_rng(seed)
    documents = [
        Document(f"p{i:02}", words(generator, 12, 15), words(generator, 2, 15) if i % 4 else "")
        for i in range(20)
    ]
    titles = [[*model.encode(each.title), END] if each.title else [] for each in documents]
    bodies = [model.encode(each.text) for each in documents]
    rows = [(END, END, *title, *body) for title, body in zip(titles, bodies, strict=True)]
    options = NgramOptions(width=4, max_tokens=5, scoring=ScoringOptions(variant=variant))
    with opened(tmp_path / "c.rag", chunk_tokens=100) as collection:
        collection.add(documents[:9])
        collection.add(documents[9:])
        retriever = collection.retriever("ngram", model=model, options=options, copies=True)
        for _ in range(4):
            query = words(generator, 3, 15)
            expected = slow_ranking(model, rows, query, options)
            hits = retriever.retrieve([query], 100)[0]
            scores = {int(hit.chunk.doc_id[1:]): hit.score for hit in hits}
            assert scores == pytest.approx(expected, abs=2e-5, rel=1e-6)
            assert len(expected) > 10
            order = sorted(expected, key=lambda i: (-round(expected[i], 5), i))
            assert list(scores)[:5] == order[:5]


# bad input


def test_retrieve_when_the_collection_is_empty_finds_nothing(tmp_path):
    with opened(tmp_path / "c.rag") as collection:
        collection.add([])
        for name in ("ngram", "title"):
            retriever = collection.retriever(name, model=WordModel(), copies=True)
            assert retriever.retrieve(["w1", "w2"]) == [[], []]
            collection.add(Document("a", ALL_WORDS, "w3"))
            assert all(retriever.retrieve(["w1", "w2"]))
            collection.delete("a")
            assert retriever.retrieve(["w1", "w2"]) == [[], []]
            assert retriever.retrieve([]) == []


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_retrieve_when_nothing_is_allowed_finds_nothing(collection, real, granularity):
    retriever = collection.retriever("ngram", model=real, granularity=granularity, copies=True)
    assert retriever.retrieve(["w1", "w2"], where={"n": 99}) == [[], []]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_retrieve_when_there_is_one_document_finds_it(tmp_path, granularity):
    with opened(tmp_path / "c.rag") as collection:
        collection.add(Document("only", ALL_WORDS))
        retriever = collection.retriever(
            "ngram", model=WordModel(), granularity=granularity, options=SMALL, copies=True
        )
        hits = retriever.retrieve(["w1 w2"])[0]
        assert {hit.chunk.doc_id for hit in hits} == {"only"}
        assert _check_places(collection, hits) > 0


def test_retriever_when_the_granularity_is_unknown_says_so(collection):
    expected = "granularity is 'page'; expected one of passage, sentence, document, entity"
    with pytest.raises(ValueError, match=expected):
        collection.retriever("ngram", model=WordModel(), granularity="page", copies=True)


@pytest.mark.parametrize("name", ["ngram", "title"])
def test_retrieve_when_the_query_exceeds_the_window_cuts_it_and_tells(tmp_path, llama, name):
    with opened(tmp_path / "c.rag", chunk_tokens=100) as collection:
        collection.add(Document("a", ALL_WORDS, ALL_WORDS[:40]))
        retriever = collection.retriever(name, model=llama, copies=True)
        n = llama.prompt_window - len(llama.encode_prompt("Query: \nTitle:"))
        with collect() as losses:
            long = retriever.retrieve([" ".join(["w1"] * (n + 5))])
        assert {(loss.lost, loss.kept) for loss in losses} == {("5 words", f"{n} words")}
        with collect() as losses:
            whole = retriever.retrieve([" ".join(["w1"] * n)])
        assert not losses
        assert told(long[0]) == told(whole[0])


def test_settings_when_the_model_is_asked_otherwise_differ(collection):
    def said(**options) -> Any:
        return collection.retriever("ngram", model=WordModel(), **options, copies=True).settings

    assert said() == said()
    assert said()["granularity"] == "passage"
    assert said(granularity="entity") != said()
    assert said(options=NgramOptions(width=3)) != said()


def test_retriever_over_any_index_asks_it_for_its_layout(collection):
    made = collection.retriever("ngram", model=WordModel(), granularity="sentence", copies=True)
    assert isinstance(made, NgramRetriever)
    assert (made.layout.kind, made.layout.granularity) == ("ngrams", "sentence")
    assert re.fullmatch(r"ngrams-sentence-v1-[0-9a-f]{16}", made.layout.name)
    assert Path(collection.path, "tokens").is_dir()
