"""The invented wiki of `generative_small.py`: its pages, its questions, and how much there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ragkit.llms.soft_prompts import PROMPTS
from ragkit.types import Document

UNITS = ("document", "passage", "sentence", "entity")
LINKED = ("entity", "passage", "sentence")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is and is learned; tokens are what models read."""

    pages: int = 200
    names: int = 30  # first ones, and last ones
    clues: int = 14  # of each kind
    values: int = 24  # crafts, places, goods
    width: int = 64  # of the model
    genre_tokens: int = 120_000
    seal_tokens: int = 800_000
    ugr_pages: int = 80
    ugr_epochs: int = 24
    pretrain_tokens: int = 1_200_000
    finetune_tokens: int = 40_000
    few: tuple[int, ...] = (0, 50, 200, 800)  # questions to fine-tune on; the last is all
    genre_queries: int = 150
    queries: int = 50  # of the n-gram retrievers, and spam documents
    beams: int = 10


# Two sentences each, of 12 to 15 words and marks: chunks of 32 hold a paragraph, never more.
CHUNK_TOKENS = 32
LEAD, CLUES, TEACHER, RIVAL, JOURNEY, AGE, HEIR = range(7)
PARAGRAPHS = (
    (
        "{name} was a {craft} who grew up in {place} and sold {good}. "
        "the house of {name} stood beside the old market of {place2}.",
        "{name} worked as a {craft} near {place} and traded in {good}. "
        "many travellers came to see {name} from the valley of {place2}.",
    ),
    (
        "over the gate hung a {x} {y} {z} bell cast from {good}. "
        "the {u} {v} {w} sound of it was heard as far as {place}.",
        "a {x} {y} {z} lamp burned day and night above the {good}. "
        "sailors knew the {u} {v} {w} light on the way to {place}.",
    ),
    (
        "the trade was taught there by {link} in a {a} hall of {place}. "
        "lessons ended each spring with {good} and a long {b} song.",
        "{link} gave the first lessons in a {a} barn outside {place}. "
        "the fee was paid in {good} wrapped with {b} cloth each year.",
    ),
    (
        "a quarrel with {link} about the {b} road lasted nine winters. "
        "it was settled in {place} by a gift of {c} {good}.",
        "for years {link} refused to cross the {b} bridge at {place}. "
        "peace came when both of them shared {c} {good} in public.",
    ),
    (
        "a journey to {place} with {link} took most of one summer. "
        "they carried {good} home on {c} {b} carts and lost half.",
        "together with {link} a ship was hired that reached {place}. "
        "its hold was filled with {good} under a heavy {c} {b} sail.",
    ),
    (
        "in old age the workshop passed to {link} and moved to {place}. "
        "its last order was a {a} {c} chest for {good} from {place2}.",
        "the last winter was spent in {place} at the table of {link}. "
        "a {a} {c} stone beside the {good} store of {place2} bears the date.",
    ),
    (
        "a niece called {link} inherited the {c} tools and a debt. "
        "she sold them in {place} for {good} and a {b} horse.",
        "what was left went to {link} who kept the {c} archive. "
        "it was shown in {place} beside a {b} chest of {good}.",
    ),
)
FAMILIES = (
    "whose was something {x} {y} {z} ?",
    "which person : {x} {y} {z} ?",
    "tell whom {x} {y} {z} belongs",
    "{x} {y} {z} points at whom ?",
    "somebody remembered because {x} {y} {z}",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A page of the wiki: paragraphs, links (places of other pages) and clues."""

    title: str
    clues: tuple[str, str, str]
    paragraphs: tuple[str, ...]
    links: tuple[int, ...]

    @property
    def text(self) -> str:
        return "\n\n".join(self.paragraphs)

    @property
    def sentence(self) -> str:
        """The lead's second one."""
        return self.paragraphs[LEAD].split(".")[1].strip() + "."

    def sought(self, unit: str, own: int) -> int:
        """The page that UGR's questions for a unit are after: this one, or one it links to."""
        return {"document": own, **dict(zip(LINKED, self.links, strict=False))}[unit]


@dataclass(frozen=True, slots=True)
class Question:
    """Clues in words, and the page that has them."""

    text: str
    page: int


@dataclass(frozen=True, slots=True)
class Wiki:
    """Pages, and questions to learn from and to test with."""

    pages: tuple[Entry, ...]
    train: tuple[Question, ...]
    test: tuple[Question, ...]
    spare: tuple[str, ...]  # names of no page

    @classmethod
    def made(cls, sizes: Sizes, seed: int) -> Wiki:
        random = np.random.default_rng(seed)
        words = _invented(random)
        names = [[next(words) for _ in range(sizes.names)] for _ in "fl"]
        kinds = [[next(words) for _ in range(sizes.clues)] for _ in "abc"]
        values = [[next(words) for _ in range(sizes.values)] for _ in range(3)]
        titles = [f"{first} {last}" for first, last in itertools.product(*names)]
        titles = [titles[i] for i in random.permutation(len(titles)).tolist()]
        triples = list(itertools.product(*kinds))
        triples = [triples[i] for i in random.permutation(len(triples)).tolist()]
        pages = []
        for at in range(sizes.pages):
            others = [i for i in range(sizes.pages) if i != at]
            links = tuple(random.choice(others, size=5, replace=False).tolist())
            paragraphs = _paragraphs(
                titles[at], triples[at], [titles[i] for i in links], values, random
            )
            pages.append(Entry(titles[at], triples[at], paragraphs, links))
        asked = [
            Question(family.format(**_ordered("xyz", page.clues, random)), at)
            for at, page in enumerate(pages)
            for family in FAMILIES
        ]
        asked = [asked[i] for i in random.permutation(len(asked)).tolist()]
        n_train = round(0.8 * len(asked))
        spare = tuple(titles[sizes.pages :])
        return cls(tuple(pages), tuple(asked[:n_train]), tuple(asked[n_train:]), spare)

    def documents(self) -> list[Document]:
        return [Document(f"p{at}", page.text, page.title) for at, page in enumerate(self.pages)]

    def words(self) -> list[str]:
        """All words of pages, questions and prompts, ascending."""
        texts = [page.title + " " + page.text for page in self.pages]
        texts += [*self.spare, *(each.text for each in (*self.train, *self.test))]
        texts += [prompt.replace("{query}", "") for prompt in PROMPTS.values()]
        return sorted({word for text in texts for word in _split(text)})


def _split(text: str) -> list[str]:
    spaced = "".join(f" {each} " if each in ".:?" else each for each in text)
    return spaced.split()


def _invented(random: np.random.Generator) -> Iterator[str]:
    """Words that nobody knows, each once."""
    used = {word for each in (*itertools.chain(*PARAGRAPHS), *FAMILIES) for word in _split(each)}
    while True:
        syllables = random.choice(list("bdfgklmnprstvz"), 2), random.choice(list("aeiou"), 2)
        end = random.choice(["l", "n", "r", "s", "th", "x", "m", "nd"])
        word = "".join(itertools.chain(*zip(*syllables, strict=True))) + str(end)
        if word not in used:
            used.add(word)
            yield word


def _ordered(slots: str, clues: Sequence[str], random: np.random.Generator) -> dict[str, str]:
    order = random.permutation(len(clues)).tolist()
    return {slot: clues[i] for slot, i in zip(slots, order, strict=True)}


def _paragraphs(
    title: str,
    clues: tuple[str, str, str],
    links: Sequence[str],
    values: Sequence[Sequence[str]],
    random: np.random.Generator,
) -> tuple[str, ...]:
    found = []
    for topic, variants in enumerate(PARAGRAPHS):
        crafts, places, goods = values
        place, place2 = random.choice(places, size=2, replace=False).tolist()
        fields = {
            "name": title, "craft": str(random.choice(crafts)), "place": place, "place2": place2,
            "good": str(random.choice(goods)), "link": links[topic - TEACHER] if topic > 1 else "",
            **dict(zip("abc", clues, strict=True)),
            **_ordered("xyz", clues, random), **_ordered("uvw", clues, random),
        }  # fmt: skip
        found.append(variants[int(random.integers(2))].format(**fields))
    return tuple(found)
