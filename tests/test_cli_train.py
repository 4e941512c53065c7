"""`ragkit train generative`, and searches that write what the collection holds."""

import json

import pytest
from tiny_models import WORDS, needs_peft, tiny_llama
from token_models import WordModel, corpus, opened

from ragkit.collection import Collection
from ragkit.finetune.generative.corpus import QueryDocument, collection_targets, read_pairs
from ragkit.testing import HashEmbedder
from ragkit.types import Document

pytestmark = needs_peft


@pytest.fixture
def words(ragkit, tmp_path):
    """A collection in a tiny model's words."""
    folder = tmp_path / "words"
    folder.mkdir()
    for i in range(8):
        body = " ".join(WORDS[(3 * i + j) % len(WORDS)] for j in range(12))
        (folder / f"{i}.md").write_text(f"# {WORDS[i]} {WORDS[i + 9]}\n\n{body}\n")
    assert ragkit("index", "add", str(folder), "--to", "words.rag").code == 0
    return "words.rag"


@pytest.fixture
def model(tmp_path):
    return str(tiny_llama(tmp_path / "tiny"))


def train(ragkit, words, model, *more):
    arguments = ["--in", words, "--model", model, "--tokens", "3000", "--rank", "2", "--quiet"]
    return ragkit("train", "generative", *arguments, *more)


@pytest.mark.models
def test_training_writes_an_adapter_that_searches_use(ragkit, words, model):
    before = ragkit("search", "w3 w4", "--in", words, "--retriever", "ngram", "--model", model)
    done = train(ragkit, words, model, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["stopped"] in ("budget", "patience")
    assert said["tokens"] >= 3000 or said["stopped"] == "patience"
    assert said["evaluations"]
    after = ragkit(
        "search", "w3 w4", "--in", words, "--retriever", "ngram", "--model", model, "--explain"
    )
    assert after.code == 0, after.err
    assert "n-gram '" in after.out
    assert before.out != after.out
    assert ragkit("index", "verify", "--in", words).code == 0


@pytest.mark.models
def test_adapter_of_a_collection_is_told_and_can_be_left_out(ragkit, words, model):
    search = ["search", "w3 w4", "--in", words, "--retriever", "ngram", "--model", model]
    before = ragkit(*search)
    assert "adapter" not in before.err
    assert train(ragkit, words, model).code == 0
    after, without = ragkit(*search), ragkit(*search, "--adapter", "none")
    assert "the collection's own adapter" in after.err
    assert (without.out, without.err) == (before.out, before.err)


@pytest.mark.models
def test_training_run_twice_goes_on_and_has_nothing_left_to_do(ragkit, words, model):
    first = json.loads(train(ragkit, words, model, "--json").out)
    again = json.loads(train(ragkit, words, model, "--json").out)
    assert {**first, "losses": []} == {**again, "losses": []}


@pytest.mark.models
def test_training_with_other_settings_in_the_same_folder_is_refused(ragkit, words, model):
    train(ragkit, words, model)
    again = train(ragkit, words, model, "--seed", "1")
    assert again.code == 1
    assert "holds a run with other settings" in again.err


@pytest.mark.models
def test_training_from_queries_names_what_is_wrong_with_them(ragkit, words, model, tmp_path):
    file = tmp_path / "pairs.jsonl"
    for text, said in (
        ('{"query": "w3 w4"}\n', "line 1"),
        ('{"query": "w3", "doc_id": "0.md"}\nnot json\n', "line 2 is not JSON"),
        ('{"query": "w3", "doc_id": "absent.md"}\n', "'absent.md'"),
    ):
        file.write_text(text)
        done = train(ragkit, words, model, "--pairs", str(file))
        assert done.code == 1
        assert said in done.err
    file.write_text("".join(json.dumps({"query": f"w{i}", "doc_id": f"{i}.md"}) + "\n"
                            for i in range(8)))  # fmt: skip
    assert train(ragkit, words, model, "--pairs", str(file)).code == 0


def test_title_search_explains_what_was_written(ragkit, words, model):
    done = ragkit(
        "search", "w3", "--in", words, "--retriever", "title", "--model", model, "--explain"
    )
    assert done.code == 0, done.err
    assert "title 'w" in done.out


def test_generative_options_for_other_retrievers_are_refused(ragkit, words, model):
    done = ragkit("search", "w3", "--in", words, "--retriever", "bm25", "--model", model)
    assert done.code == 2
    assert "takes no options" in done.err


@pytest.mark.models
def test_empty_collection_has_nothing_to_learn(ragkit, words, model):
    for i in range(8):
        assert ragkit("index", "delete", f"{i}.md", "--in", words).code == 0
    done = train(ragkit, words, model)
    assert done.code == 1
    assert "is empty; add documents before training" in done.err
    found = ragkit("search", "w3", "--in", words, "--retriever", "ngram", "--model", model)
    assert (found.code, found.out.strip()) == (0, "no hits")


def test_pairs_may_hold_any_line_break_of_unicode(tmp_path):
    query = "w3\u2028w4\x85w5"
    file = tmp_path / "pairs.jsonl"
    line = json.dumps({"query": query, "doc_id": "0.md"}, ensure_ascii=False)
    file.write_bytes(f"{line}\r\n\n{line}\n".encode())
    assert read_pairs(file) == [QueryDocument(query, "0.md")] * 2


def test_queries_when_a_writer_comes_between_have_a_passage_that_was_read(tmp_path):
    class Busy(Collection):
        """A collection that changes while it is read."""

        def retriever(self, name="hybrid", **options):
            opened(self.path).add(Document("d00", "w1 w2 w1 w5 w7", "w3"))
            return super().retriever(name, **options)

    with opened(tmp_path / "c.rag") as writer:
        writer.add(corpus(6))
        before = [(chunk.doc_id, chunk.text) for chunk in writer.chunks()]
    notes = Busy(tmp_path / "c.rag", embedder=HashEmbedder(8))
    split, dev = collection_targets(notes, WordModel(), [QueryDocument("w1 w2", "d00")])
    assert [each.text for each in split.passages] == [text for _, text in before]
    assert split.epoch(0) or dev.epoch(0)


def test_a_collection_of_one_passage_can_be_learned(tmp_path):
    with opened(tmp_path / "c.rag", chunk_tokens=64) as notes:
        notes.add(Document("a", "w1 w2 w3 w4 w5 w6", "w7"))
        targets, dev = collection_targets(notes, WordModel())
    assert targets.epoch(0)
    assert targets.epoch(1)
    assert dev.epoch(0)


def test_training_for_no_number_of_tokens_is_a_mistake(ragkit, words, model):
    done = train(ragkit, words, model, "--tokens", "inf")
    assert done.code == 2
    assert "expected a number of tokens" in done.err


@pytest.mark.models
@pytest.mark.parametrize("name", ["training", "training/run"])
def test_training_writes_through_no_link_in_a_collection(ragkit, words, model, tmp_path, name):
    elsewhere, place = tmp_path / "elsewhere", tmp_path / words / name
    (elsewhere / "checkpoint-1").mkdir(parents=True)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(elsewhere)
    done = train(ragkit, words, model)
    assert done.code == 1
    assert "is a symbolic link" in done.err
    assert [path.name for path in elsewhere.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize("retriever", [[], ["--retriever", "dense"]])
def test_a_model_for_a_retriever_that_takes_none_is_told_so(ragkit, words, model, retriever):
    done = ragkit("search", "w3", "--in", words, "--model", model, *retriever)
    assert done.code == 2
    assert "takes no options --model and --adapter; use --retriever ngram" in done.err


@pytest.mark.models
def test_a_damaged_adapter_of_a_collection_is_told_and_one_put_aside_is_used(
    ragkit, words, model, tmp_path
):
    arguments = ["search", "w3 w4", "--in", words, "--retriever", "ngram", "--model", model]
    assert train(ragkit, words, model).code == 0
    own, found = tmp_path / words / "adapter", ragkit(*arguments)
    own.rename(own.with_name("adapter.replaced"))  # as a death between two renames leaves it
    assert ragkit(*arguments) == found
    own.with_name("adapter.replaced").rename(own)
    (own / "ragkit.json").unlink()
    damaged = ragkit(*arguments)
    assert damaged.code == 1
    assert "is not a ragkit adapter" in damaged.err
