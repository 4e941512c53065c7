"""CorpusBrain's pre-training targets: any piece of a page asks for titles, no query is needed.

Source: Chen et al. 2022, "CorpusBrain: Pre-train a Generative Retrieval Model for Knowledge-
Intensive Language Tasks", and its data preparation (SYSTEMS A5), whose items are paragraphs where
the paper speaks of sentences. A page is used if its title has more than 3 characters and its lines
without section marks (`::::`) have 128 words. Its kept items c are those without a mark and with
more than 10 words, and the first item however short it is, since it is the title line.

- `iss`: each of up to 11 items of c[2:] asks for the page's title and those of j linked pages, with
  j of 0 to 4 by weights 70/20/5/3/2.
- `lps`: c[1], c[1..3], c[4..6] and c[7..9] ask for the same.
- `hip`: up to 3 items with a link, each between its neighbours, ask for the linked page's title.

Deviations:

- The first item's exemption, without which c[0] could not be the title line nor c[1] the lead.
- c[4..6] and c[7..9] are used if all three items exist; c[1..3] with what there is of it.
- Everything is made unique and sorted before it is drawn from, not after: j titles follow where a
  page has as many links, its own title is none of them, and what stands twice is not likelier.
- A link's item is a kept one. Its neighbours need not be: only items with a mark, or without words,
  are passed over. Where none is left on a side, the input is shorter.
- Draws depend on the seed, the page and the task alone, whatever other pages there are and tasks
  are switched off. The same pair is never made twice.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import unquote

import numpy as np

from ragkit.digests import text_digest
from ragkit.errors import DatasetError
from ragkit.finetune.sequences import Example
from ragkit.finetune.supervised import FixedTargets
from ragkit.llms.beams import BeamModel
from ragkit.losses import report
from ragkit.retrievers.rows import Ngram, RowFormat, prompt_for
from ragkit.types import Loss

PretrainTask = Literal["iss", "lps", "hip"]
TASKS: tuple[PretrainTask, ...] = get_args(PretrainTask)
T = TypeVar("T")

_MARK = "::::"
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair: JSON can hold one, UTF-8 cannot
_TITLE_CHARACTERS, _PAGE_WORDS, _ITEM_WORDS = 3, 128, 10  # titles and items have more
_LEAD_ITEMS = 2  # the title line and the lead: their links are no targets


@dataclass(frozen=True, slots=True)
class Anchor:
    """A link of a page.

    Attributes:
        item: In which of the page's items it is, from 0.
        text: What is to be read there.
        title: Of the page that it leads to.
    """

    item: int
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page to learn from.

    Attributes:
        title: What finds it.
        items: Its paragraphs, section lines and list entries; the first is usually the title line.
        anchors: Its links.

    Raises:
        ValueError: A link is in no item, or leads nowhere.
    """

    title: str
    items: tuple[str, ...]
    anchors: tuple[Anchor, ...] = ()

    def __post_init__(self) -> None:
        last = len(self.items) - 1
        for anchor in self.anchors:
            if not 0 <= anchor.item <= last or not anchor.title.strip():
                raise ValueError(
                    f"a link of page {self.title!r} is in item {anchor.item} and leads to "
                    f"{anchor.title!r}; expected an item of 0 to {last} and a title"
                )

    @classmethod
    def from_kilt(cls, row: Mapping[str, Any]) -> Page:
        """A page of KILT's knowledge source.

        Links without `wikipedia_title` are read from `href`: percent signs are decoded, underscores
        are spaces, the first letter is a capital one, a place within the page is dropped, and what
        was such a place only leads to the page itself.

        Raises:
            DatasetError: A field is missing or of another type, or a link is in no item.

        >>> link = {"paragraph_id": 0, "text": "it", "href": "dune_%28novel%29#Plot"}
        >>> row = {"wikipedia_title": "Arrakis", "text": ["A desert"], "anchors": [link]}
        >>> Page.from_kilt(row).anchors
        (Anchor(item=0, text='it', title='Dune (novel)'),)
        """
        title = _text(row, "wikipedia_title", "a KILT row").strip()
        where = f"the KILT row {title!r}"
        items = _list(row, "text", where)
        texts = tuple(_text({"text": each}, "text", f"item {i} of {where}") for i, each in items)
        links = _list(row, "anchors", where)
        anchors = tuple(_anchor(link, title, f"anchor {i} of {where}") for i, link in links)
        try:
            return cls(title, texts, anchors)
        except ValueError as error:
            raise DatasetError(f"{where} is malformed: {error}") from error


def _anchor(link: Any, page: str, where: str) -> Anchor:
    text = _text(link, "text", where)
    item = link.get("paragraph_id")
    if not isinstance(item, int) or isinstance(item, bool):
        raise DatasetError(f"{where} has the 'paragraph_id' {item!r}; expected an integer")
    if link.get("wikipedia_title"):
        return Anchor(item, text, _text(link, "wikipedia_title", where).strip())
    place = unquote(_text(link, "href", where).partition("#")[0])
    title = " ".join(place.replace("_", " ").split())
    return Anchor(item, text, title[:1].upper() + title[1:] if title else page)


def _text(row: Any, field: str, where: str) -> str:
    if not isinstance(row, Mapping):
        raise DatasetError(f"{where} is {row!r}; expected an object with {field!r}")
    value = row.get(field)
    if not isinstance(value, str) or _HALF.search(value):
        raise DatasetError(f"{where} has the {field!r} {value!r}; expected a Unicode text")
    return value


def _list(row: Mapping[str, Any], field: str, where: str) -> Iterable[tuple[int, Any]]:
    value = row.get(field)
    if not isinstance(value, list):
        raise DatasetError(f"{where} has the {field!r} {value!r}; expected a list")
    return enumerate(value)


@dataclass(frozen=True, slots=True)
class PretrainOptions:
    """What is made of a page; the values are CorpusBrain's.

    Attributes:
        n_sentences: Inputs of `iss` at most.
        n_triples: Inputs of `lps` at most, besides the lead alone.
        n_links: Inputs of `hip` at most.
        link_weights: Of 0, 1, 2 … linked titles behind the page's own.
        tasks: Which are made.
        seed: Of everything drawn.

    Raises:
        ValueError: A number or weight is negative, all weights are 0, or a task is unknown.
    """

    n_sentences: int = 11
    n_triples: int = 3
    n_links: int = 3
    link_weights: tuple[float, ...] = (70, 20, 5, 3, 2)
    tasks: tuple[PretrainTask, ...] = TASKS
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_sentences", "n_triples", "n_links", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")
        weights = self.link_weights
        if not all(each >= 0 for each in weights) or not 0 < sum(weights) < math.inf:
            raise ValueError(f"link_weights are {weights}; expected 0 or more each, and not all 0")
        if not set(self.tasks) <= set(TASKS):
            raise ValueError(f"tasks are {self.tasks}; expected some of {TASKS}")


@dataclass(frozen=True, slots=True)
class TextPair:
    """A text and the titles it asks for.

    Attributes:
        task: Which of the three made it.
        input: With single spaces.
        titles: The first is what is to be found; for `iss` and `lps` linked titles may follow.
    """

    task: PretrainTask
    input: str
    titles: tuple[str, ...]


def pretraining_pairs(
    pages: Iterable[Page], options: PretrainOptions | None = None
) -> list[TextPair]:
    """The pairs of all pages, page by page; see the module for the rules and the deviations.

    Pages that the page filter leaves out are one `Loss`. The options default to CorpusBrain's.

    >>> page = Page("Dune", ("Dune", "sand " * 60, "spice " * 70))
    >>> [(pair.task, len(pair.input.split()), pair.titles) for pair in pretraining_pairs([page])]
    [('iss', 70, ('Dune',)), ('lps', 60, ('Dune',)), ('lps', 130, ('Dune',))]
    """
    chosen = options or PretrainOptions()
    pairs: dict[TextPair, None] = {}
    n_pages = n_left_out = 0
    for page in pages:
        n_pages += 1
        if _is_used(page):
            pairs.update(dict.fromkeys(_pairs_of(page, chosen)))
        else:
            n_left_out += 1
    if n_left_out:
        why = f"a title of {_TITLE_CHARACTERS} characters or fewer, or under {_PAGE_WORDS} words"
        kept = f"{n_pages - n_left_out} pages"
        report(Loss("training", "pages to learn from", f"{n_left_out} pages", kept, why))
    return list(pairs)


def _is_used(page: Page) -> bool:
    lines = (line for item in page.items for line in item.splitlines() if _MARK not in line)
    n_words = sum(map(len, map(str.split, lines)))
    return len(page.title.strip()) > _TITLE_CHARACTERS and n_words >= _PAGE_WORDS


def _pairs_of(page: Page, options: PretrainOptions) -> Iterator[TextPair]:
    random = {task: _random(options.seed, page.title, task) for task in TASKS}
    kept = {
        i: " ".join(item.split())
        for i, item in enumerate(page.items)
        if _MARK not in item and (i == 0 or len(item.split()) > _ITEM_WORDS)
    }
    texts = list(kept.values())
    inputs: dict[PretrainTask, list[str]] = {
        "iss": _drawn(list(dict.fromkeys(texts[2:])), options.n_sentences, random["iss"]),
        "lps": _leads(texts, options.n_triples),
    }
    links = sorted({anchor.title for anchor in page.anchors} - {page.title})
    seen: set[str] = set()
    for task in inputs:
        for text in inputs[task] if task in options.tasks else ():
            linked = _linked(links, options.link_weights, random[task])
            if text not in seen:
                seen.add(text)
                yield TextPair(task, text, (page.title, *linked))
    if "hip" in options.tasks:
        able = kept.keys() - range(_LEAD_ITEMS)
        places = sorted({(a.item, a.title) for a in page.anchors if a.item in able})
        for item, title in _drawn(places, options.n_links, random["hip"]):
            yield TextPair("hip", _context(page.items, item), (title,))


def _random(seed: int, title: str, task: PretrainTask) -> np.random.Generator:
    return np.random.default_rng([seed, int(text_digest(title), 16), TASKS.index(task)])


def _drawn(values: Sequence[T], n: int, random: np.random.Generator) -> list[T]:
    """n of the values, or all of fewer, in their order."""
    chosen = random.choice(len(values), size=min(n, len(values)), replace=False)
    return [values[i] for i in sorted(chosen.tolist())]


def _linked(links: list[str], weights: tuple[float, ...], random: np.random.Generator) -> list[str]:
    """j of the links, or all of fewer, in the order they were drawn."""
    shares = np.array(weights) / sum(weights)  # (numbers of links,)
    n = min(int(random.choice(len(shares), p=shares)), len(links))
    return [links[i] for i in random.choice(len(links), size=n, replace=False).tolist()]


def _leads(texts: Sequence[str], n_triples: int) -> list[str]:
    triples = [texts[i : i + 3] for i in range(1, 1 + 3 * n_triples, 3)]
    whole = [triple for i, triple in enumerate(triples) if i == 0 or len(triple) == 3]
    return [*texts[1:2], *(" ".join(triple) for triple in whole if triple)]


def _context(items: Sequence[str], at: int) -> str:
    """An item between the nearest ones without a mark."""
    usable = [i for i, item in enumerate(items) if item.split() and _MARK not in item]
    before = [i for i in usable if i < at][-1:]
    after = [i for i in usable if i > at][:1]
    return " ".join(" ".join(items[i].split()) for i in (*before, at, *after))


class CorpusBrainTargets:
    """The same pairs in every epoch, in another order; `Targets` for `train_generative`.

    `TitleRetriever` asks with the same prompt, ends a title at its delimiter and walks along a trie
    of single titles. So a target of several titles is

        first title, delimiter, second | third …, delimiter

    whose beginning, up to the first delimiter, is a row of the trie: linked titles are learned, but
    do not make it less likely that a title ends. CorpusBrain writes `first | second | third` and
    one delimiter (`first_ends=False`): in three of ten examples a model then learns " |" where the
    trie admits the delimiter only, and every title's score pays for that.

    Longer inputs lose their end, within a word if need be, which is one `Loss` when this is made.

    Args:
        model: Its tokenizer decides what a token is.
        pairs: At least one.
        max_input_tokens: Of an input, without the words around it in the prompt (BART reads 1,024).
        first_ends: See above.
        seed: Of the order.

    Raises:
        ValueError: There are no pairs, the limit is below 1, or a prompt exceeds the model's
            window.
    """

    def __init__(
        self,
        model: BeamModel,
        pairs: Sequence[TextPair],
        *,
        max_input_tokens: int = 512,
        first_ends: bool = True,
        seed: int = 0,
    ) -> None:
        if not pairs or max_input_tokens < 1:
            found = f"{len(pairs)} pairs with inputs of at most {max_input_tokens} tokens"
            raise ValueError(f"there are {found}; expected at least 1 of both")
        self._pairs = list(pairs)
        asked = sorted(model.prompts.items())
        self._settings = [max_input_tokens, first_ends, seed, model.fingerprint, asked]
        rows = RowFormat(model)
        inputs = _cut([pair.input for pair in pairs], model, max_input_tokens)
        examples = [
            Example(_read(model, prompt_for("title", text, model.prompts)), (target,), pair.task)
            for text, pair in zip(inputs, pairs, strict=True)
            if (target := _target(rows, pair.titles, first_ends=first_ends))
        ]
        if n_lost := len(pairs) - len(examples):
            why = "the first title has no token"
            report(Loss("training", "pairs", f"{n_lost} pairs", f"{len(examples)} pairs", why))
        self._fixed = FixedTargets(examples, seed=seed)

    @cached_property
    def digest(self) -> str:
        """Of the pairs, the arguments, the tokenizer and the prompts."""
        pairs = [[pair.task, pair.input, pair.titles] for pair in self._pairs]
        return text_digest(json.dumps([self._settings, pairs]))

    def epoch(self, number: int) -> list[Example]:
        """The examples of an epoch, in the order they are trained in."""
        return self._fixed.epoch(number)


def _target(rows: RowFormat, titles: Sequence[str], *, first_ends: bool) -> Ngram:
    """The first title and those behind it; () where the first has no token."""
    first, *others = (rows.text(title) for title in titles)
    target, between = list(first), rows.delimiter if first_ends else rows.text("|")
    for tokens in others:
        if tokens:
            target += [*between, *tokens]
            between = rows.text("|")
    return (*target, *rows.delimiter) if first else ()


def _cut(texts: Sequence[str], model: BeamModel, longest: int) -> list[str]:
    """Every text, or of a longer one the beginning that fits."""

    def size(text: str) -> int:
        return len(model.encode(text))

    def beginning(text: str) -> str:
        ends = range(1, len(text) + 1)
        return text[: bisect_right(ends, longest, key=lambda end: size(text[:end]))].rstrip()

    cut = {text: beginning(text) for text in texts if size(text) > longest}
    if cut:
        whole, kept = (sum(map(size, each)) for each in (cut.keys(), cut.values()))
        what, why = f"{len(cut)} inputs", f"longer than {longest} tokens; raise max_input_tokens"
        report(Loss("training", what, f"{whole - kept} tokens", f"{kept} tokens", why))
    return [cut.get(text, text) for text in texts]


def _read(model: BeamModel, prompt: str) -> Ngram:
    """A prompt's tokens: all of them, since its end says what is asked for."""
    tokens = tuple(model.encode_prompt(prompt))
    if model.prompt_window is not None and len(tokens) > model.prompt_window:
        raise ValueError(
            f"a prompt of {len(tokens)} tokens exceeds the model's window of "
            f"{model.prompt_window}; lower max_input_tokens by "
            f"{len(tokens) - model.prompt_window} or more"
        )
    return tokens
