"""Recipes: found by name and by path, refused in words, and each with its card and questions."""

import json
import re
from pathlib import Path

import pytest

from ragkit.collection.collection import Settings
from ragkit.errors import RagkitError
from ragkit.recipes import find_recipe, load_recipe, recipe_names

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(file.parent for file in (ROOT / "indexes").glob("*/recipe.toml"))
QUESTIONS = sorted((ROOT / "indexes").glob("*/questions.jsonl"))
GOOD = 'name = "mine"\nabout = "Notes"\ncorpus = ["notes"]\n'

each_recipe = pytest.mark.parametrize("folder", RECIPES, ids=lambda folder: folder.name)
each_question_file = pytest.mark.parametrize("path", QUESTIONS, ids=lambda path: path.parent.name)


@pytest.fixture
def recipe(tmp_path):
    """A function that writes a recipe and gives its folder."""

    def write(text):
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(text, "utf-8")
        return folder

    return write


@each_recipe
def test_recipe_when_loaded_by_name_then_is_the_same_as_by_folder_and_by_file(
    folder, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)  # nothing of that name here: the checkout's is found
    by_name = load_recipe(folder.name)
    assert by_name == load_recipe(folder) == load_recipe(str(folder / "recipe.toml"))
    assert by_name.name == folder.name


def test_recipe_when_the_working_folder_has_one_of_the_name_then_that_one_is_meant(
    monkeypatch, tmp_path
):
    mine = tmp_path / "indexes" / "demo"
    mine.mkdir(parents=True)
    (mine / "recipe.toml").write_text(GOOD, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("demo").about == "Notes"


def test_recipe_when_relative_corpus_paths_are_read_then_they_start_at_its_folder(
    recipe, monkeypatch, tmp_path
):
    folder = recipe(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_recipe("mine").paths == [folder.resolve() / "notes"]


def test_recipe_when_it_says_little_then_the_rest_has_defaults(recipe):
    loaded = load_recipe(recipe(GOOD))
    assert loaded.retriever == "hybrid"
    assert loaded.metadata == {}
    assert loaded.collection_settings == Settings()


def test_names_when_listed_then_hold_every_recipe_of_the_checkout():
    assert {folder.name for folder in RECIPES} <= set(recipe_names())


def test_recipe_when_the_name_is_unknown_then_the_error_lists_the_known_ones():
    with pytest.raises(RagkitError, match=r"no recipe 'demoo' in indexes/.*\bdemo\b"):
        load_recipe("demoo")


def test_find_when_the_folder_holds_no_recipe_then_the_error_says_what_is_missing(tmp_path):
    with pytest.raises(RagkitError, match=r"a folder with a recipe\.toml"):
        find_recipe(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + 'reranker = "x"\n', r"reranker.*\n?.*not permitted"),
        ('name = "mine"\nabout = "Notes"\n', r"corpus.*\n?.*required"),
        ('name = "mine"\nabout = "Notes"\ncorpus = []\n', r"corpus.*\n?.*at least 1"),
        (GOOD + 'retriever = "sparse"\n', r"retriever.*\n?.*'dense', 'bm25', .* or 'ngram'"),
        (GOOD + "about = \n", r"line 4"),
        (GOOD + GOOD, r"line 4"),
        (GOOD + "[settings]\nchunk_tokens = [1]\n", r"chunk_tokens"),
        (GOOD + 'folder = "/elsewhere"\n', r"folder"),
    ],
    ids=[
        "unknown key",
        "no corpus",
        "empty corpus",
        "unknown retriever",
        "not TOML",
        "a key twice",
        "a setting that is a list",
        "its own folder",
    ],
)
def test_recipe_when_it_is_wrong_then_the_error_names_the_file_and_the_fault(recipe, text, words):
    folder = recipe(text)
    with pytest.raises(RagkitError, match=words) as caught:
        load_recipe(folder)
    assert str(folder / "recipe.toml") in str(caught.value)


def test_settings_when_one_is_unknown_then_the_error_names_it_and_the_known_ones(recipe):
    loaded = load_recipe(recipe(GOOD + "[settings]\nchunk_size = 200\n"))
    with pytest.raises(RagkitError, match=r"'mine'.*chunk_size.*known settings: embedder"):
        _ = loaded.collection_settings


def test_recipe_when_it_is_not_utf8_then_the_error_names_the_file(recipe):
    folder = recipe(GOOD)
    (folder / "recipe.toml").write_bytes(b'name = "\xff"\n')
    with pytest.raises(RagkitError, match=r"recipe\.toml"):
        load_recipe(folder)


@each_recipe
def test_shipped_recipe_when_read_then_its_corpus_and_settings_are_there(folder):
    loaded = load_recipe(folder)
    assert [path for path in loaded.paths if not path.exists()] == []
    assert isinstance(loaded.collection_settings, Settings)


@each_recipe
def test_shipped_recipe_when_listed_then_has_a_card_with_licences_and_dated_figures(folder):
    card = (folder / "README.md").read_text("utf-8")
    assert re.search(r"^# \S", card)
    assert "licence" in card.lower()
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", card)
    assert f"ragkit index build {folder.name}" in card


@each_question_file
def test_question_when_it_has_an_answer_then_that_stands_verbatim_in_its_document(path):
    corpus = load_recipe(path.parent).paths
    for row in read_rows(path):
        assert set(row) == {"question", "doc_id", "answer"}
        assert (row["doc_id"] is None) == (row["answer"] is None)
        if row["answer"] is not None:
            texts = [(root / row["doc_id"]).read_text("utf-8") for root in corpus]
            assert any(row["answer"] in body(text) for text in texts), row


@each_question_file
def test_questions_when_counted_then_ask_for_every_document_and_none_twice(path):
    rows = read_rows(path)
    asked = [row["question"] for row in rows]
    documents = {file.name for root in load_recipe(path.parent).paths for file in root.iterdir()}
    assert len(set(asked)) == len(asked)
    assert {row["doc_id"] for row in rows if row["doc_id"]} == documents
    assert sum(row["answer"] is None for row in rows) >= 8


def read_rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def body(text):
    """A Markdown file without its front matter."""
    return text.split("---\n", 2)[2] if text.startswith("---\n") else text
