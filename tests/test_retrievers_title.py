"""Title retrieval against the enumeration of all titles, and documents with several or no names."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from fault_helpers import temporary_folder
from tiers import smoke
from token_models import (
    TOLERANCE,
    WordModel,
    WrittenModel,
    corpus,
    forced,
    opened,
    tiny_model,
    told,
    words,
)

from ragkit.retrievers.rows import prompt_for
from ragkit.testing import check_retriever
from ragkit.types import Document

END = 1
QUERIES = ["w1 w2", "w3", "what is w4"]


@pytest.fixture(scope="module", params=smoke(["llama", "bart", "t5"], tier="models"))
def real(request, tmp_path_factory):
    return tiny_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """50 titles, two of them twice, in three segments with a dead row; some have none."""
    generator = np.random.default_rng(5)
    titles = list(dict.fromkeys(words(generator, int(generator.integers(1, 6))) for _ in range(90)))
    documents = [Document(f"t{i:02}", "w1 w2", title) for i, title in enumerate(titles[:50])]
    documents += [Document("twin1", "w5", titles[3]), Document("twin2", "w6 w7", titles[40])]
    documents += [Document("bare1", "w1 w2"), Document("bare2", "w1 w3")]
    with opened(tmp_path_factory.mktemp("title") / "c.rag") as made:
        made.add(documents[:20])
        made.add([*documents[20:45], Document("gone", "w1", titles[60])])
        made.add(documents[45:])
        made.delete("gone")
        yield made


def titles_of(collection) -> dict[str, list[str]]:
    """Documents by title."""
    found: dict[str, list[str]] = {}
    for row in collection.documents():
        if row["title"]:
            found.setdefault(row["title"], []).append(row["id"])
    return found


def ranked(collection, model, query, **options):
    hits = collection.retriever("title", model=model, **options, copies=True).retrieve(
        [query], 100
    )[0]
    return {hit.chunk.doc_id: hit.score for hit in hits}


def names(hit) -> list[str]:
    return [each["text"] for each in hit.parts[-1].detail["titles"]]


def test_title_retriever_when_checked_keeps_the_contract(collection, real):
    retriever = collection.retriever("title", model=real, width=4, copies=True)
    check_retriever(retriever, QUERIES[:2])
    assert all(retriever.retrieve(QUERIES[:2]))


def test_wide_beam_equals_the_enumeration_of_50_titles(collection, real):
    """By teacher forcing: the mean log-probability of a title's tokens and of its end."""
    by_title = titles_of(collection)
    assert len(by_title) == 50
    prompt = prompt_for("title", QUERIES[0])
    expected = {}
    for title, documents in by_title.items():
        tokens = [*real.encode(title), END]
        expected |= dict.fromkeys(documents, forced(real, prompt, tokens) / len(tokens))
    found = ranked(collection, real, QUERIES[0], width=60)
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert len(found) == 52
    order = list(found)
    assert all(expected[a] >= expected[b] - TOLERANCE for a, b in itertools.pairwise(order))
    best = max(expected, key=lambda name: (expected[name], name))
    assert expected[order[0]] == pytest.approx(expected[best], abs=TOLERANCE)


def test_narrow_beam_finds_no_more_titles_than_it_has_places(collection):
    for width in (1, 2, 5):
        hits = collection.retriever("title", model=WordModel(), width=width, copies=True).retrieve(
            QUERIES, 100
        )
        for run in hits:
            assert len({tuple(names(hit)) for hit in run}) <= width * 20
            assert {each for hit in run for each in names(hit)} <= titles_of(collection).keys()
    assert sum(map(len, hits)) > 0


@pytest.mark.parametrize("where", [{"doc_id": {"in": ["t03", "twin1", "t07", "bare1"]}}])
def test_hits_when_filtered_equal_those_of_the_allowed_documents_alone(collection, real, where):
    allowed = [collection.document(name) for name in where["doc_id"]["in"]]
    with temporary_folder() as folder, opened(folder / "alone.rag") as alone:
        alone.add(allowed)
        fresh = alone.retriever("title", model=real, width=2, copies=True).retrieve(QUERIES)
        some = collection.retriever("title", model=real, width=2, copies=True).retrieve(
            QUERIES, where=where
        )
        assert [told(run) for run in some] == [told(run) for run in fresh]
        assert {hit.chunk.doc_id for run in some for hit in run} == {"t03", "twin1", "t07"}


def test_documents_of_one_title_are_both_found_with_one_score(collection, real):
    found = ranked(collection, real, "w1", width=60)
    assert found["t03"] == found["twin1"]
    assert found["t40"] == found["twin2"]
    assert {"bare1", "bare2", "gone"}.isdisjoint(found)


def test_titles_that_tokenise_alike_are_both_found(tmp_path):
    """White space, and words that the tokenizer does not know, make no difference to it."""
    with opened(tmp_path / "c.rag") as collection:
        collection.add(
            [
                Document("a", "w1", "w1 w2"),
                Document("b", "w2", "  w1\n\tw2 "),
                Document("c", "w3", "w1 strange"),
                Document("d", "w4", "w1 other"),
                Document("e", "w5", "w2"),
            ]
        )
        found = ranked(collection, WordModel(), "w9", width=50)
        assert found.keys() == set("abcde")
        assert found["a"] == found["b"] != found["c"] == found["d"]


def test_titles_when_they_are_long_are_found_up_to_the_limit(tmp_path):
    """`max_tokens` counts the end; identifiers are cut at 19 tokens."""
    long = {n: " ".join(["w1", *["w2"] * (n - 1)]) for n in (4, 5, 6, 18, 19, 20, 60)}
    with opened(tmp_path / "c.rag") as collection:
        collection.add([Document(f"n{n}", "w1", title) for n, title in long.items()])
        model = WordModel()
        assert ranked(collection, model, "w1", max_tokens=5).keys() == {"n4"}
        assert ranked(collection, model, "w1", max_tokens=6).keys() == {"n4", "n5"}
        assert ranked(collection, model, "w1", max_tokens=19).keys() == {"n4", "n5", "n6", "n18"}
        found = ranked(collection, model, "w1")  # by default all
        assert found.keys() == {f"n{n}" for n in long}
        assert found["n19"] == found["n20"] == found["n60"]
        tokens = [*model.encode(long[19]), END]
        expected = model.logprob(prompt_for("title", "w1"), tokens) / 20
        assert found["n19"] == pytest.approx(expected, abs=1e-5)


ALIASES = WrittenModel(
    {
        "": {"w1": 0.5, "w2": 0.3, "w3": 0.2},
        "w1": {"</s>": 0.4, "w4": 0.6},
        "w2": {"</s>": 1.0},
        "w3": {"</s>": 0.1, "w3": 0.9},
        "w1 w4": {"</s>": 1.0},
        "w3 w3": {"</s>": 1.0},
    }
)


def _aliases(folder):
    collection = opened(folder / "c.rag")
    collection.add(
        [
            Document("a", "w9 w8", "w1", metadata={"aliases": ["w2", "w3 w3", 7, "w1", ""]}),
            Document("b", "w9 w7", "w1 w4", metadata={"aliases": "w2"}),  # no list: no alias
            Document("c", "w9 w6", "", metadata={"aliases": ["w3"]}),
        ]
    )
    return collection


def test_aliases_lead_to_their_document_by_the_best_of_its_names(tmp_path):
    """a: w1 .5 * .4, w2 .3 * 1, w3 w3 .2 * .9 * 1; b: w1 w4 .5 * .6 * 1; c: w3 .2 * .1."""
    with _aliases(tmp_path) as collection:
        hits = collection.retriever("title", model=ALIASES, copies=True).retrieve(["w5"])[0]
        found = {hit.chunk.doc_id: hit.score for hit in hits}
        assert found == pytest.approx(
            {"b": math.log(0.3) / 3, "a": math.log(0.18) / 3, "c": math.log(0.02) / 2}, abs=1e-5
        )
        assert list(found) == ["b", "a", "c"]
        assert [sorted(names(hit)) for hit in hits] == [["w1 w4"], ["w1", "w2", "w3 w3"], ["w3"]]
        assert hits[1].parts[-1].detail["titles"][0] == {
            "text": "w3 w3",
            "logp": pytest.approx(math.log(0.18), abs=1e-5),
            "tokens": 3,
        }


def test_aliases_when_marginalized_are_summed_over(tmp_path):
    """log of the sum of exp(log p / sqrt(tokens))."""
    with _aliases(tmp_path) as collection:
        hits = collection.retriever("title", model=ALIASES, marginalize=True, copies=True).retrieve(
            ["w5"]
        )[0]
        found = {hit.chunk.doc_id: hit.score for hit in hits}
        of_a = 0.2 ** (1 / math.sqrt(2)) + 0.3 ** (1 / math.sqrt(2)) + 0.18 ** (1 / math.sqrt(3))
        expected = {
            "a": math.log(of_a),
            "b": math.log(0.3) / math.sqrt(3),
            "c": math.log(0.02) / math.sqrt(2),
        }
        assert found == pytest.approx(expected, abs=1e-5)
        assert list(found) == ["a", "b", "c"]


def test_hit_is_the_first_chunk_of_a_document_of_several(tmp_path):
    with opened(tmp_path / "c.rag", chunk_tokens=2) as collection:
        collection.add([Document("a", "w1 w2\n\nw3 w4\n\nw5 w6", "w7")])
        hits = collection.retriever("title", model=WordModel(), copies=True).retrieve(["w1"])[0]
        assert [(hit.chunk.start, hit.chunk.text) for hit in hits] == [(0, "w1 w2")]
        assert collection.info()["chunks"] == 3


def test_retrieve_when_no_document_has_a_title_finds_nothing(tmp_path):
    with opened(tmp_path / "c.rag") as collection:
        collection.add([Document("a", "w1"), Document("b", "w2 w3", "   ")])
        retriever = collection.retriever("title", model=WordModel(), copies=True)
        assert retriever.retrieve(["w1", "w2"]) == [[], []]
        with opened(tmp_path / "c.rag") as again:  # an index of no rows is read, too
            assert again.retriever("title", model=WordModel(), copies=True).retrieve(["w1"]) == [[]]
        assert collection.verify().faults == ()
        collection.add(Document("b", "w2 w3", "w4"))
        assert [hit.chunk.doc_id for hit in retriever.retrieve(["w1"])[0]] == ["b"]


def test_title_when_it_changes_is_found_by_the_new_one_only(tmp_path):
    with opened(tmp_path / "c.rag") as collection:
        collection.add([Document("a", "w1", "w2", metadata={"aliases": ["w3"]})])
        retriever = collection.retriever("title", model=WordModel(), copies=True)
        assert sorted(names(retriever.retrieve(["w1"])[0][0])) == ["w2", "w3"]
        collection.add([Document("a", "w1", "w2", metadata={"aliases": ["w4"]})])
        assert sorted(names(retriever.retrieve(["w1"])[0][0])) == ["w2", "w4"]
        collection.add([Document("a", "w1", "w5")])
        assert names(retriever.retrieve(["w1"])[0][0]) == ["w5"]


def test_retrieve_when_nothing_is_allowed_finds_nothing(collection, real):
    retriever = collection.retriever("title", model=real, copies=True)
    assert retriever.retrieve(["w1", "w2"], where={"n": 99}) == [[], []]


def test_one_titled_document_is_always_found(tmp_path, real):
    with opened(tmp_path / "c.rag") as collection:
        collection.add([Document("only", "w1 w2", "w3 w4")])
        found = ranked(collection, real, "w1", width=1)
        expected = forced(real, prompt_for("title", "w1"), [*real.encode("w3 w4"), END]) / 3
        assert found == pytest.approx({"only": expected}, abs=TOLERANCE)


def test_settings_when_the_model_is_asked_otherwise_differ(collection):
    def said(**options):
        return collection.retriever("title", model=WordModel(), **options, copies=True).settings

    assert said() == said()
    assert said(width=3) != said() != said(marginalize=True)
    assert said(max_tokens=5) != said()


def test_titles_of_the_corpus_are_found_by_their_own_words_in_the_trie_only(tmp_path):
    """Bodies are no identifiers, however likely the model finds them."""
    documents = corpus(12)
    with opened(tmp_path / "c.rag") as collection:
        collection.add(documents)
        known = {each.title for each in documents if each.title}
        runs = collection.retriever("title", model=WordModel(), width=30, copies=True).retrieve(
            QUERIES, 50
        )
        found = {each for run in runs for hit in run for each in names(hit)}
        assert found <= known
        assert len(found) > 5


def test_collection_when_closed_and_another_is_put_in_its_place_is_searched_anew(tmp_path):
    for name, title in (("a", "w1 w2"), ("b", "w4")):
        with opened(tmp_path / name) as made:
            made.add(Document(name, "w5 w6", title))
    collection = opened(tmp_path / "a")
    retriever = collection.retriever("title", model=WordModel(), copies=True)
    assert retriever.retrieve(["w1"], 1)[0][0].chunk.doc_id == "a"
    collection.close()
    (tmp_path / "a").rename(tmp_path / "before")
    (tmp_path / "b").rename(tmp_path / "a")
    hit = retriever.retrieve(["w4"], 1)[0][0]
    assert (hit.chunk.doc_id, hit.parts[-1].detail["titles"][0]["text"]) == ("b", "w4")
