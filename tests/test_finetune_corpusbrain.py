"""CorpusBrain's pairs against lists made by hand, rule by rule, and their way into a model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_bart

from ragkit.errors import DatasetError
from ragkit.finetune.generative.corpusbrain import (
    TASKS,
    Anchor,
    CorpusBrainTargets,
    Page,
    PretrainOptions,
    TextPair,
    pretraining_pairs,
)
from ragkit.finetune.sequences import Example, batches
from ragkit.finetune.supervised import Targets
from ragkit.indexes.trie import Trie
from ragkit.llms.beams import Seq2SeqBeams
from ragkit.llms.soft_prompts import PROMPTS, vector_text
from ragkit.losses import collect
from ragkit.retrievers.rows import RowFormat, title_tokenizer
from ragkit.types import Chunk, Loss

KILT = Path(os.environ.get("RAGKIT_DATA", Path(__file__).parents[2] / "shared/data"), "kilt_format")
END, LINE_BREAK, TITLE = 0, 1, "Alpha Page"


def words(tag: str, n: int) -> str:
    return " ".join(f"{tag}{i}" for i in range(n))


LEAD, BORN, GREW, DIED = words("lead", 20), words("born", 15), words("grew", 12), words("died", 14)
SHORT, TEN, ELEVEN, GRAVE = "Few words.", words("ten", 10), words("eleven", 11), words("grave", 60)
LISTED, LONG = f"BULLET::::- {words('list', 30)}", words("long", 128)

PAGE = Page(
    TITLE,
    (
        f"{TITLE}\n", f"{LEAD}\n", "Section::::History.\n", f"{BORN}\n", f"{SHORT}\n", f"{GREW}\n",
        f"{LISTED}\n", f"{DIED}\n", f"{TEN}\n", f"{ELEVEN}\n", f"{GRAVE}\n",
    ),
    (
        Anchor(0, "page", "Title Line"), Anchor(1, "lead", "Lead Link"), Anchor(3, "b", "Beta"),
        Anchor(3, "beta", "Beta"), Anchor(4, "few", "Short Item"), Anchor(5, "c", "Gamma"),
        Anchor(6, "list", "In a List"), Anchor(7, "d", "Delta"), Anchor(9, "b", "Beta"),
        Anchor(10, "o", "Omega"),
    ),
)  # fmt: skip


def of(task: str, pairs: list[TextPair]) -> list[TextPair]:
    return [pair for pair in pairs if pair.task == task]


def inputs(task: str, page: Page, **options) -> list[str]:
    return [pair.input for pair in of(task, pretraining_pairs([page], PretrainOptions(**options)))]


def plain(*items: str, links: tuple[Anchor, ...] = ()) -> Page:
    """A page with a title line and a lead, which has enough words by itself."""
    return Page(TITLE, (TITLE, LONG, *items), links)


def test_pairs_of_a_page_made_by_hand_are_this_list():
    with collect() as losses:
        pairs = pretraining_pairs([PAGE], PretrainOptions(seed=3))
    assert [(pair.task, pair.input, pair.titles) for pair in pairs] == [
        ("iss", BORN, (TITLE,)),
        ("iss", GREW, (TITLE,)),
        ("iss", DIED, (TITLE,)),
        ("iss", ELEVEN, (TITLE, "Lead Link")),
        ("iss", GRAVE, (TITLE, "Title Line")),
        ("lps", LEAD, (TITLE, "Title Line")),
        ("lps", f"{LEAD} {BORN} {GREW}", (TITLE, "Gamma")),
        ("lps", f"{DIED} {ELEVEN} {GRAVE}", (TITLE,)),
        ("hip", f"{LEAD} {BORN} {SHORT}", ("Beta",)),
        ("hip", f"{SHORT} {GREW} {DIED}", ("Gamma",)),
        ("hip", f"{TEN} {ELEVEN} {GRAVE}", ("Beta",)),
    ]
    assert losses == []


# Pages


def test_pages_when_too_short_or_with_a_short_title_are_left_out_and_reported():
    enough = Page("Four", ("Four", words("a", 127)))
    pages = [
        enough,
        replace(enough, items=("Four", words("a", 126))),
        Page("One", ("One", words("a", 500))),
        Page(" One ", ("One", words("a", 500))),
    ]
    with collect() as losses:
        pairs = pretraining_pairs(pages)
    assert pairs == [TextPair("lps", words("a", 127), ("Four",))]
    assert losses == [
        Loss(
            "training",
            "pages to train on",
            "3 pages",
            "1 pages",
            "a title of 3 characters or fewer, or under 128 words",
        )
    ]


def test_lines_with_a_mark_when_a_page_is_counted_hold_no_words():
    half = words("a", 64)
    assert pretraining_pairs([Page("Four", (half, words("b", 64)))])
    assert not pretraining_pairs([Page("Four", (half, f"{words('b', 64)}::::"))])
    lines = f"Section::::{half}\n{words('b', 64)}"
    with_anchor = Page("Four", (half, lines, lines), (Anchor(2, "", "Linked"),))
    pairs = pretraining_pairs([with_anchor])  # 192 words, yet every item but one has a mark
    assert pairs == []


def test_pages_when_one_comes_twice_make_the_same_pairs_once():
    assert pretraining_pairs([PAGE, PAGE]) == pretraining_pairs([PAGE])


def test_pages_when_in_another_order_or_company_make_the_same_pairs():
    other = replace(PAGE, title="Another Page")
    first, second = pretraining_pairs([PAGE]), pretraining_pairs([other])
    assert pretraining_pairs([PAGE, other]) == list(dict.fromkeys(first + second))
    assert pretraining_pairs([other, PAGE]) == list(dict.fromkeys(second + first))
    assert {pair.task for pair in {*first} & {*second}} <= {"hip"}  # which names neither page
    assert [pair.titles[1:] for pair in first] != [pair.titles[1:] for pair in second]


# ISS


def test_iss_when_a_page_has_many_items_takes_11_in_their_order():
    items = [words(f"i{i}x", 12) for i in range(40)]
    found = inputs("iss", plain(*items))
    assert len(found) == 11
    assert found == sorted(found, key=items.index)
    assert found != inputs("iss", plain(*items), seed=1)
    assert found[-1] != items[10]  # from the whole page, not its beginning


def test_iss_items_when_short_or_marked_or_first_are_no_inputs():
    assert inputs("iss", PAGE) == [BORN, GREW, DIED, ELEVEN, GRAVE]


def test_iss_inputs_when_an_item_comes_twice_are_made_once():
    assert inputs("iss", plain(BORN, BORN, f" {BORN}\n")) == [BORN]
    repetitive = plain(*[BORN] * 30, DIED)
    assert all(inputs("iss", repetitive, n_sentences=2, seed=i) == [BORN, DIED] for i in range(9))


def test_iss_when_the_title_line_is_missing_leaves_the_first_two_kept_items_out():
    assert inputs("iss", Page(TITLE, (LONG, BORN, "Section::::x", DIED, GREW))) == [DIED, GREW]


# LPS


@pytest.mark.parametrize(
    ("n_items", "triples"),
    [
        (0, []),
        (1, []),
        (2, [(1, 2)]),
        (3, [(1, 2, 3)]),
        (5, [(1, 2, 3)]),
        (6, [(1, 2, 3), (4, 5, 6)]),
        (8, [(1, 2, 3), (4, 5, 6)]),
        (9, [(1, 2, 3), (4, 5, 6), (7, 8, 9)]),
        (12, [(1, 2, 3), (4, 5, 6), (7, 8, 9)]),
    ],
)
def test_lps_inputs_are_the_lead_and_whole_triples(n_items, triples):
    c = [f"{TITLE} {LONG}", *(words(f"i{i}x", 12) for i in range(1, n_items + 1))]
    expected = [*c[1:2], *(" ".join(c[i] for i in triple) for triple in triples)]
    assert inputs("lps", Page(TITLE, tuple(c))) == expected


def test_lps_when_its_input_was_one_of_iss_is_left_out():
    page = plain(LONG)
    assert (inputs("iss", page), inputs("lps", page)) == ([LONG], [f"{LONG} {LONG}"])
    assert inputs("lps", page, tasks=("lps",)) == [LONG, f"{LONG} {LONG}"]


# Linked titles of ISS and LPS


def linked_pages(n: int, n_links: int) -> list[Page]:
    links = tuple(Anchor(1, "x", f"Link {i}") for i in range(n_links))
    items = [words(f"i{i}x", 12) for i in range(11)]
    return [replace(plain(*items, links=links), title=f"Page {i}") for i in range(n)]


def test_numbers_of_linked_titles_have_the_papers_shares():
    pairs = pretraining_pairs(linked_pages(500, 6))
    counts = Counter(len(pair.titles) - 1 for pair in pairs)
    assert len(pairs) == 500 * (11 + 4)
    assert set(counts) == set(range(5))
    for j, share in enumerate([0.70, 0.20, 0.05, 0.03, 0.02]):
        sigma = (share * (1 - share) / len(pairs)) ** 0.5
        assert counts[j] / len(pairs) == pytest.approx(share, abs=3 * sigma)


def test_linked_titles_when_drawn_are_different_evenly_spread_and_not_the_pages_own():
    pages = linked_pages(200, 5)
    pages = [
        replace(page, anchors=(*page.anchors * 2, Anchor(1, "own", page.title))) for page in pages
    ]
    pairs = pretraining_pairs(pages, PretrainOptions(link_weights=(0, 0, 0, 1), tasks=("iss",)))
    assert all(len(set(pair.titles)) == 4 for pair in pairs)
    assert all(pair.titles[0].startswith("Page ") for pair in pairs)
    counts = Counter(title for pair in pairs for title in pair.titles[1:])
    assert set(counts) == {f"Link {i}" for i in range(5)}
    assert {round(count / len(pairs), 1) for count in counts.values()} == {0.6}
    assert len({pair.titles[1:] for pair in pairs}) == 60  # every order


def test_linked_titles_when_a_page_has_fewer_are_all_there_are():
    options = PretrainOptions(link_weights=(0, 0, 0, 0, 1), tasks=("iss", "lps"))
    pairs = pretraining_pairs(linked_pages(5, 2), options)
    assert {frozenset(pair.titles[1:]) for pair in pairs} == {frozenset({"Link 0", "Link 1"})}
    assert {pair.titles[1:] for pair in pretraining_pairs(linked_pages(5, 0), options)} == {()}


# HIP


def test_hip_links_when_in_the_first_two_items_or_in_ignored_ones_are_no_targets():
    pairs = pretraining_pairs([PAGE], PretrainOptions(n_links=99))
    assert [(pair.input.split()[-1], *pair.titles) for pair in of("hip", pairs)] == [
        (SHORT.split()[-1], "Beta"),
        ("died13", "Gamma"),
        ("ten9", "Delta"),
        ("grave59", "Beta"),
        ("grave59", "Omega"),
    ]


@pytest.mark.parametrize(
    ("items", "at", "expected"),
    [
        ((BORN,), 2, f"{LONG} {BORN}"),
        ((LISTED, BORN, LISTED, LISTED, SHORT), 3, f"{LONG} {BORN} {SHORT}"),
        ((SHORT, BORN, "a::::b"), 3, f"{SHORT} {BORN}"),
        ((" \n", BORN, "", DIED), 3, f"{LONG} {BORN} {DIED}"),
        ((BORN, DIED), 3, f"{BORN} {DIED}"),
    ],
)
def test_hip_context_is_the_item_between_its_unmarked_neighbours(items, at, expected):
    page = plain(*items, links=(Anchor(at, "x", "Linked"),))
    assert of("hip", pretraining_pairs([page])) == [TextPair("hip", expected, ("Linked",))]


def test_hip_context_when_all_neighbours_are_marked_is_the_item_alone():
    page = Page(TITLE, ("a::::", "b::::", LONG, "c::::"), (Anchor(2, "x", "Linked"),))
    assert pretraining_pairs([page]) == [TextPair("hip", LONG, ("Linked",))]


def test_hip_when_a_link_stands_many_times_in_an_item_makes_one_pair():
    links = tuple(Anchor(2, text, "Same") for text in "abcdef")
    assert len(of("hip", pretraining_pairs([plain(BORN, links=links)]))) == 1
    links = (*links, Anchor(3, "a", "Same"))
    assert len(of("hip", pretraining_pairs([plain(BORN, DIED, links=links)]))) == 2


def test_hip_when_there_are_many_links_takes_3_of_them():
    links = tuple(Anchor(2, "x", f"Link {i}") for i in range(30))
    page = plain(BORN, links=links)
    drawn = [
        tuple(pair.titles[0] for pair in of("hip", pretraining_pairs([page], options)))
        for options in (PretrainOptions(seed=seed) for seed in range(20))
    ]
    assert {len(set(each)) for each in drawn} == {3}
    assert len({title for each in drawn for title in each}) > 15


# Options, draws


@pytest.mark.parametrize("task", TASKS)
def test_tasks_when_one_is_on_make_the_pairs_they_make_together(task):
    together = pretraining_pairs([PAGE], PretrainOptions(seed=3))
    alone = pretraining_pairs([PAGE], PretrainOptions(seed=3, tasks=(task,)))
    assert alone == of(task, together)
    assert alone


def test_tasks_when_off_leave_the_draws_of_others_though_they_make_the_same_inputs():
    page = plain(LONG, links=tuple(Anchor(1, "x", f"Link {i}") for i in range(5)))
    for seed in range(20):
        options = PretrainOptions(seed=seed, link_weights=(1, 1, 1))
        first, *rest = pretraining_pairs([page], replace(options, tasks=("lps",)))
        assert of("lps", pretraining_pairs([page], options)) == rest
        assert first.input == LONG


def test_numbers_when_0_leave_the_lead_only():
    options = PretrainOptions(n_sentences=0, n_triples=0, n_links=0)
    assert [(p.task, p.input) for p in pretraining_pairs([PAGE], options)] == [("lps", LEAD)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_sentences", -1),
        ("n_triples", -1),
        ("n_links", -1),
        ("seed", -1),
        ("link_weights", ()),
        ("link_weights", (0, 0)),
        ("link_weights", (2, -1)),
        ("link_weights", (1, float("nan"))),
        ("link_weights", (1, float("inf"))),
        ("tasks", ("iss", "wiki")),
    ],
)
def test_options_when_wrong_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        PretrainOptions(**{field: value})


def test_pairs_when_strings_hash_otherwise_are_the_same():
    some = [PAGE, *linked_pages(3, 9)]
    options = PretrainOptions(link_weights=(0, 0, 0, 0, 1), seed=5)
    code = (
        "from ragkit.finetune.generative.corpusbrain import *\n"
        f"print(pretraining_pairs({some}, {options}))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4242")
    ]
    assert outputs == [f"{pretraining_pairs(some, options)}\n"] * 2


texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from([TITLE, "", LEAD, BORN, SHORT, LISTED, LONG, f"{LONG}\nSection::::x\n{TEN}"]),
)


@st.composite
def pages(draw) -> Page:
    items = draw(st.lists(texts, max_size=14))
    titles = st.sampled_from(["Beta", "Gamma", "Δ", TITLE]) | st.text(min_size=1).filter(str.strip)
    at = st.integers(0, max(0, len(items) - 1))
    anchors = draw(st.lists(st.builds(Anchor, at, st.text(max_size=3), titles), max_size=8))
    title = draw(st.sampled_from([TITLE, "Beta"]) | st.text(max_size=6))
    return Page(title, tuple(items), tuple(anchors) if items else ())


@given(st.lists(pages(), max_size=3), st.integers(0, 2**70), st.integers(0, 4))
def test_pairs_of_any_pages_keep_the_rules(some, seed, n):
    options = PretrainOptions(n_sentences=n, n_links=n, link_weights=(1, 1, 1), seed=seed)
    copies = json.dumps([repr(page) for page in some])
    with collect() as losses:
        pairs = pretraining_pairs(some, options)
    assert json.dumps([repr(page) for page in some]) == copies
    own = {page.title for page in some}
    links = {anchor.title for page in some for anchor in page.anchors}
    assert len(set(pairs)) == len(pairs) <= len(some) * (2 * n + 4)
    for pair in pairs:
        assert "::::" not in pair.input
        assert len(pair.input.split()) > 10
        assert pair.input == " ".join(pair.input.split())
        assert len(set(pair.titles)) == len(pair.titles) <= 3
        if pair.task == "hip":
            assert len(pair.titles) == 1
            assert pair.titles[0] in links
        else:
            assert pair.titles[0] in own
            assert set(pair.titles[1:]) <= links
    used = {pair.titles[0] for pair in pairs if pair.task != "hip"}
    assert all(len(title) > 3 for title in used)
    assert len(losses) <= 1


# Pages of KILT


def row(**changes) -> dict:
    anchor = {"text": "sand", "href": "Sand", "paragraph_id": 1, "start": 0, "end": 4}
    fields = {"wikipedia_title": "Dune", "text": ["Dune\n", "Much sand.\n"], "anchors": [anchor]}
    return {"_id": "1", "wikipedia_id": "1", "categories": "", **fields, **changes}


def link(**changes) -> dict:
    return row(anchors=[{"text": "sand", "paragraph_id": 1, "href": "Sand", **changes}])


def test_kilt_row_becomes_a_page_that_cannot_be_changed():
    page = Page.from_kilt(row())
    assert page == Page("Dune", ("Dune\n", "Much sand.\n"), (Anchor(1, "sand", "Sand"),))
    with pytest.raises(FrozenInstanceError):
        page.title = "Sand"


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"wikipedia_title": "Sand (geology)", "href": "Other"}, "Sand (geology)"),
        ({"wikipedia_title": None}, "Sand"),
        ({"wikipedia_title": "", "href": "C%23_%28language%29#History"}, "C# (language)"),
        ({"href": "sand_dune"}, "Sand dune"),
        ({"href": "%C3%89lan%20vital"}, "Élan vital"),
        ({"href": "#History"}, "Dune"),
    ],
)
def test_kilt_link_leads_to_its_title_or_else_to_what_its_address_says(fields, title):
    assert [anchor.title for anchor in Page.from_kilt(link(**fields)).anchors] == [title]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], r"a KILT row is \[\]; expected an object with 'wikipedia_title'"),
        ({}, "a KILT row has the 'wikipedia_title' None; expected a Unicode string"),
        (row(wikipedia_title=7), "'wikipedia_title' 7"),
        (row(wikipedia_title="half \ud800"), "'wikipedia_title'"),
        (row(text=None), "row 'Dune' has the 'text' None; expected a list"),
        (row(text="Dune"), "'text' 'Dune'; expected a list"),
        (row(text=["Dune", None]), "item 1 of the KILT row 'Dune' has the 'text' None"),
        (row(text=["Dune", "\udc00"]), "item 1 of the KILT row 'Dune'"),
        (row(anchors=None), "'anchors' None; expected a list"),
        (row(anchors=["sand"]), "anchor 0 of the KILT row 'Dune' is 'sand'"),
        (link(text=None), "anchor 0 of the KILT row 'Dune' has the 'text' None"),
        (link(paragraph_id=None), "'paragraph_id' None; expected an integer"),
        (link(paragraph_id="1"), "'paragraph_id' '1'; expected an integer"),
        (link(paragraph_id=True), "'paragraph_id' True; expected an integer"),
        (link(paragraph_id=1.0), "'paragraph_id' 1.0; expected an integer"),
        (link(paragraph_id=2), "in item 2 .* expected an item from 0 to 1"),
        (link(paragraph_id=-1), "in item -1 .* expected an item from 0 to 1"),
        (link(wikipedia_title=3), "'wikipedia_title' 3"),
        (link(wikipedia_title=" "), "points to ''; expected .* a title"),
        (link(href=None), "anchor 0 .* 'href' None"),
    ],
)
def test_kilt_row_when_malformed_is_refused_with_its_place(wrong, message):
    with pytest.raises(DatasetError, match=message):
        Page.from_kilt(wrong)


@pytest.mark.parametrize("item", [-1, 2])
def test_page_when_a_link_is_in_no_item_is_refused(item):
    with pytest.raises(ValueError, match=f"in item {item} .* 0 to 1"):
        Page("Dune", ("Dune", "sand"), (Anchor(item, "x", "Sand"),))


def test_page_when_a_link_leads_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"points to ' '; expected .* a title"):
        Page("Dune", ("Dune", "sand"), (Anchor(1, "x", " "),))


def test_kilt_files_of_questions_are_no_knowledge_source():
    if not KILT.is_dir():
        pytest.skip(f"no folder {KILT}; set RAGKIT_DATA")
    files = sorted(KILT.glob("*.jsonl"))
    rows = [json.loads(line) for each in files for line in each.read_text().splitlines()]
    assert len(rows) > 5
    for each in rows:
        with pytest.raises(DatasetError, match="a KILT row has the 'wikipedia_title' None"):
            Page.from_kilt(each)


# Targets


class WordModel:
    """A `BeamModel` that only tokenizes: a token a word, in the order words are met."""

    name, vocab_size, end_token, fingerprint, identity = "words", 10_000, END, "words", "words"
    prompt_window = None

    def __init__(self, prompts: Mapping[str, str] = PROMPTS) -> None:
        self.prompts = prompts
        self.known = ["</s>", "\n"]

    def encode(self, text: str) -> list[int]:
        found = re.findall(r"\n|\S+", text)
        self.known += [word for word in dict.fromkeys(found) if word not in self.known]
        return [self.known.index(word) for word in found]

    def decode(self, tokens) -> str:
        return " ".join(self.known[token] for token in tokens)

    def encode_prompt(self, prompt: str) -> list[int]:
        return self.encode(prompt)

    def begin(self, prompt: str):
        raise NotImplementedError


def read(model: WordModel, example: Example) -> tuple[str, str, list[str]]:
    return (
        example.task,
        model.decode(example.prompt),
        [model.decode(target) for target in example.targets],
    )


THREE = [
    TextPair("iss", "much sand", ("Dune", "Sand", "Frank Herbert", "Spice")),
    TextPair("lps", "a novel", ("Dune Messiah",)),
    TextPair("hip", "sand and spice", ("Frank Herbert", "Sand")),
]


def test_examples_when_made_ask_for_a_title_and_write_the_first_with_its_delimiter():
    model = WordModel()
    targets: Targets = CorpusBrainTargets(model, THREE)
    assert sorted(read(model, each) for each in targets.epoch(0)) == [
        ("hip", "Query: sand and spice \n Title:", ["Frank Herbert \n Sand \n"]),
        ("iss", "Query: much sand \n Title:", ["Dune \n Sand | Frank Herbert | Spice \n"]),
        ("lps", "Query: a novel \n Title:", ["Dune Messiah \n"]),
    ]


def test_examples_when_a_model_is_asked_otherwise_have_its_prompt():
    model = WordModel({"title": "{query} Name:"})
    examples = CorpusBrainTargets(model, THREE[:1]).epoch(0)
    assert [read(model, each)[1] for each in examples] == ["much sand Name:"]


def test_examples_when_a_model_is_asked_with_vectors_hold_them(tmp_path):
    model = Seq2SeqBeams(tiny_bart(tmp_path))
    model.prompts = {"title": f"{vector_text(0)}{vector_text(1)}{{query}}"}
    (example,) = CorpusBrainTargets(model, [TextPair("iss", "w1 w2", ("w3",))]).epoch(0)
    assert example.prompt == (model.vocab_size, model.vocab_size + 1, *model.encode("w1 w2"))
    with pytest.raises(ValueError, match=r"a prompt of 72 tokens .* window of 64"):
        CorpusBrainTargets(model, [TextPair("iss", words("w", 70), ("w3",))])


def test_examples_when_the_first_title_does_not_end_are_the_papers():
    model = WordModel()
    examples = CorpusBrainTargets(model, THREE, first_ends=False).epoch(0)
    assert sorted(read(model, each)[2] for each in examples) == [
        ["Dune Messiah \n"],
        ["Dune | Sand | Frank Herbert | Spice \n"],
        ["Frank Herbert | Sand \n"],
    ]


def test_targets_up_to_their_delimiter_are_what_the_trie_admits():
    model = WordModel()
    tokenize = title_tokenizer(RowFormat(model), 32)
    titles = ["Dune", "Dune Messiah", "Frank Herbert"]
    chunks = [Chunk(title, title, "", 0, 0, {"title": title}) for title in titles]
    trie = Trie.build([tokenize(chunk, "")[0][1] for chunk in chunks], model.vocab_size)

    def admitted(*, first_ends: bool) -> list[str]:
        found = []
        for example in CorpusBrainTargets(model, THREE, first_ends=first_ends).epoch(0):
            (target,) = example.targets
            state = trie.find(target[: target.index(LINE_BREAK) + 1])
            found += [] if state is None else [titles[i] for i in trie.locate(state)[0].tolist()]
        return sorted(found)

    assert admitted(first_ends=True) == titles
    assert admitted(first_ends=False) == ["Dune Messiah"]


def test_inputs_when_longer_than_the_limit_are_cut_and_reported():
    model = WordModel()
    pairs = [
        TextPair("iss", words("a", 9), ("Dune",)),
        TextPair("lps", words("b", 7), ("Dune",)),
        TextPair("lps", words("c", 6), ("Dune",)),
    ]
    with collect() as losses:
        targets = CorpusBrainTargets(model, pairs, max_input_tokens=6)
    assert sorted(read(model, each)[1] for each in targets.epoch(0)) == [
        f"Query: {words(tag, 6)} \n Title:" for tag in "abc"
    ]
    why = "longer than 6 tokens; raise max_input_tokens"
    assert losses == [Loss("training", "2 inputs", "4 tokens", "12 tokens", why)]
    with collect() as losses:
        CorpusBrainTargets(model, pairs, max_input_tokens=9).epoch(0)
    assert losses == []


def test_pairs_when_the_title_has_no_token_are_left_out_and_reported():
    pairs = [TextPair("hip", "much sand", ("</s>", "Sand")), TextPair("hip", "sand", ("Sand", " "))]
    model = WordModel()
    with collect() as losses:
        targets = CorpusBrainTargets(model, pairs)
    assert [read(model, each)[2] for each in targets.epoch(0)] == [["Sand \n"]]
    why = "the first title has no tokens"
    assert losses == [Loss("training", "pairs", "1 pairs", "1 pairs", why)]


def test_epochs_hold_every_example_in_an_order_of_seed_and_number():
    pairs = pretraining_pairs(linked_pages(3, 3))
    targets, again = (CorpusBrainTargets(WordModel(), pairs, seed=1) for _ in range(2))
    first = targets.epoch(0)
    assert first == again.epoch(0)
    assert first != targets.epoch(1)
    assert first != CorpusBrainTargets(WordModel(), pairs, seed=2).epoch(0)
    assert Counter(first) == Counter(targets.epoch(1))
    assert Counter(each.task for each in first) == Counter(pair.task for pair in pairs)


def test_digest_is_another_where_the_examples_or_their_order_are():
    other = WordModel()
    other.fingerprint = "other words"
    settings = [
        CorpusBrainTargets(WordModel(), THREE),
        CorpusBrainTargets(WordModel(), THREE[:2]),
        CorpusBrainTargets(WordModel(), [*THREE[:2], replace(THREE[2], task="iss")]),
        CorpusBrainTargets(WordModel(), [*THREE[:2], replace(THREE[2], titles=("Sand",))]),
        CorpusBrainTargets(WordModel(), THREE, seed=1),
        CorpusBrainTargets(WordModel(), THREE, first_ends=False),
        CorpusBrainTargets(WordModel(), THREE, max_input_tokens=100),
        CorpusBrainTargets(other, THREE),
        CorpusBrainTargets(WordModel({"title": "{query} Name:"}), THREE),
    ]
    assert len({each.digest for each in settings}) == len(settings)
    assert settings[0].digest == CorpusBrainTargets(WordModel(), list(THREE)).digest


@pytest.mark.parametrize(("pairs", "limit"), [([], 5), (THREE, 0)])
def test_targets_when_there_is_nothing_to_learn_are_refused(pairs, limit):
    with pytest.raises(ValueError, match="at least 1 of both"):
        CorpusBrainTargets(WordModel(), pairs, max_input_tokens=limit)


def test_targets_of_a_real_model_fill_batches_and_never_lose_the_end_of_a_prompt(tmp_path):
    model = Seq2SeqBeams(tiny_bart(tmp_path))  # a window of 64
    pairs = [TextPair("iss", words("w", 35) + " " + words("w", 35), ("w1 w2", "w3"))]
    with collect() as losses:
        targets = CorpusBrainTargets(model, pairs, max_input_tokens=40)
    assert [loss.lost for loss in losses] == ["30 tokens"]
    (batch,) = batches(targets.epoch(0), 100)
    (example,) = batch.examples
    text = f"Query: {words('w', 35)} {words('w', 5)}\nTitle:"
    assert list(example.prompt) == model.encode_prompt(text)
    assert example.targets == (
        (*model.encode("w1 w2"), model.end_token, *model.encode("w3"), model.end_token),
    )
    with pytest.raises(ValueError, match="exceeds the model's window of 64"):
        CorpusBrainTargets(model, pairs)
