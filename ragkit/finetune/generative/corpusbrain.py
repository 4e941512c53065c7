"""CorpusBrain's pre-training targets: pieces of a page as inputs, titles as targets, no queries.

Source: Chen et al. 2022, "CorpusBrain: Pre-train a Generative Retrieval Model for Knowledge-
Intensive Language Tasks", and the data preparation in its repository, where items are paragraphs
although the paper speaks of sentences. A page is used if its title has more than 3 characters and
its lines without section marks (`::::`) have at least 128 words. Its usable items c are those
without a mark and with more than 10 words, and the first item however short, since it is the title
line.

- `iss`, inner sentence selection: each of up to 11 items of c[2:] is an input; its targets are the
  page's title and those of j linked pages, with j from 0 to 4 drawn by weights 70/20/5/3/2.
- `lps`, lead paragraph selection: c[1], c[1..3], c[4..6] and c[7..9] are inputs with the same
  targets.
- `hip`, hyperlink identifier prediction: up to 3 items with a link, each between its neighbours,
  are inputs; the target is the title of the linked page.

Deviations:

- The first item's exemption, without which c[0] could not be the title line nor c[1] the lead.
- c[4..6] and c[7..9] are used if all three items exist; c[1..3] with as many as exist.
- Links are de-duplicated and sorted before drawing, not after: j titles follow if a page has that
  many links, the page's own title is never one of them, and repeated links are not more likely.
- A link's item must be usable. Its neighbours need not be: only items with a mark, or without
  words, are skipped. If there is no neighbour on one side, the input is shorter.
- Draws depend on the seed, the page and the task only, not on other pages or on which tasks are
  switched off. The same pair is never made twice.
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
_SURROGATE = re.compile("[\ud800-\udfff]")  # a lone one is valid in JSON but not in UTF-8
_TITLE_CHARACTERS, _PAGE_WORDS, _ITEM_WORDS = 3, 128, 10  # titles and items must have more
_LEAD_ITEMS = 2  # the title line and the lead, whose links are not used as targets


@dataclass(frozen=True, slots=True)
class Anchor:
    """A link on a page.

    Attributes:
        item: Index of the page's item that contains it.
        text: The link's text.
        title: Title of the linked page.
    """

    item: int
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page to make pairs from.

    Attributes:
        title: The page's title, the identifier to be learned.
        items: Paragraphs, section lines and list entries; the first is usually the title line.
        anchors: The page's links.

    Raises:
        ValueError: A link is in no item, or has no target title.
    """

    title: str
    items: tuple[str, ...]
    anchors: tuple[Anchor, ...] = ()

    def __post_init__(self) -> None:
        last = len(self.items) - 1
        for anchor in self.anchors:
            if not 0 <= anchor.item <= last or not anchor.title.strip():
                raise ValueError(
                    f"a link of page {self.title!r} is in item {anchor.item} and points to "
                    f"{anchor.title!r}; expected an item from 0 to {last} and a title"
                )

    @classmethod
    def from_kilt(cls, row: Mapping[str, Any]) -> Page:
        """Create a page from a row of KILT's knowledge source.

        Links without `wikipedia_title` are read from `href`: percent signs are decoded, underscores
        become spaces, the first letter is capitalised, and a fragment is dropped. A link that is
        only a fragment points to the page itself.

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
        texts = tuple(_text({"text": item}, "text", f"item {i} of {where}") for i, item in items)
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
    target = unquote(_text(link, "href", where).partition("#")[0])
    title = " ".join(target.replace("_", " ").split())
    return Anchor(item, text, title[:1].upper() + title[1:] if title else page)


def _text(row: Any, field: str, where: str) -> str:
    if not isinstance(row, Mapping):
        raise DatasetError(f"{where} is {row!r}; expected an object with {field!r}")
    value = row.get(field)
    if not isinstance(value, str) or _SURROGATE.search(value):
        raise DatasetError(f"{where} has the {field!r} {value!r}; expected a Unicode string")
    return value


def _list(row: Mapping[str, Any], field: str, where: str) -> Iterable[tuple[int, Any]]:
    value = row.get(field)
    if not isinstance(value, list):
        raise DatasetError(f"{where} has the {field!r} {value!r}; expected a list")
    return enumerate(value)


@dataclass(frozen=True, slots=True)
class PretrainOptions:
    """How many pairs are made from a page; the defaults are CorpusBrain's.

    Attributes:
        n_sentences: Largest number of `iss` inputs.
        n_triples: Largest number of `lps` inputs, besides the lead alone.
        n_links: Largest number of `hip` inputs.
        link_weights: Weights of 0, 1, 2 … linked titles after the page's own.
        tasks: Tasks to make pairs for.
        seed: Seed of everything drawn.

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
        if not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
            raise ValueError(f"link_weights are {weights}; expected numbers >= 0, not all 0")
        if not set(self.tasks) <= set(TASKS):
            raise ValueError(f"tasks are {self.tasks}; expected some of {TASKS}")


@dataclass(frozen=True, slots=True)
class TextPair:
    """An input text and its target titles.

    Attributes:
        task: The task that made the pair.
        input: Text with whitespace collapsed to single spaces.
        titles: The title to be found; for `iss` and `lps` linked titles may follow.
    """

    task: PretrainTask
    input: str
    titles: tuple[str, ...]


def pretraining_pairs(
    pages: Iterable[Page], options: PretrainOptions | None = None
) -> list[TextPair]:
    """Make the pairs of all pages, page by page; the module's docstring has the rules.

    Pages dropped by the page filter are reported as one `Loss`. The options default to
    CorpusBrain's.

    >>> page = Page("Dune", ("Dune", "sand " * 60, "spice " * 70))
    >>> [(pair.task, len(pair.input.split()), pair.titles) for pair in pretraining_pairs([page])]
    [('iss', 70, ('Dune',)), ('lps', 60, ('Dune',)), ('lps', 130, ('Dune',))]
    """
    settings = options or PretrainOptions()
    pairs: dict[TextPair, None] = {}
    n_pages = n_dropped = 0
    for page in pages:
        n_pages += 1
        if _passes_filter(page):
            pairs.update(dict.fromkeys(_page_pairs(page, settings)))
        else:
            n_dropped += 1
    if n_dropped:
        why = f"a title of {_TITLE_CHARACTERS} characters or fewer, or under {_PAGE_WORDS} words"
        kept = f"{n_pages - n_dropped} pages"
        report(Loss("training", "pages to train on", f"{n_dropped} pages", kept, why))
    return list(pairs)


def _passes_filter(page: Page) -> bool:
    lines = (line for item in page.items for line in item.splitlines() if _MARK not in line)
    n_words = sum(map(len, map(str.split, lines)))
    return len(page.title.strip()) > _TITLE_CHARACTERS and n_words >= _PAGE_WORDS


def _page_pairs(page: Page, options: PretrainOptions) -> Iterator[TextPair]:
    random = {task: _generator(options.seed, page.title, task) for task in TASKS}
    usable = {
        i: " ".join(item.split())
        for i, item in enumerate(page.items)
        if _MARK not in item and (i == 0 or len(item.split()) > _ITEM_WORDS)
    }
    texts = list(usable.values())
    inputs: dict[PretrainTask, list[str]] = {
        "iss": _sample(list(dict.fromkeys(texts[2:])), options.n_sentences, random["iss"]),
        "lps": _lead_inputs(texts, options.n_triples),
    }
    links = sorted({anchor.title for anchor in page.anchors} - {page.title})
    seen: set[str] = set()
    for task in inputs:
        for text in inputs[task] if task in options.tasks else ():
            linked = _sample_links(links, options.link_weights, random[task])
            if text not in seen:
                seen.add(text)
                yield TextPair(task, text, (page.title, *linked))
    if "hip" in options.tasks:
        linkable = usable.keys() - range(_LEAD_ITEMS)
        links_by_item = sorted({(a.item, a.title) for a in page.anchors if a.item in linkable})
        for item, title in _sample(links_by_item, options.n_links, random["hip"]):
            yield TextPair("hip", _context(page.items, item), (title,))


def _generator(seed: int, title: str, task: PretrainTask) -> np.random.Generator:
    return np.random.default_rng([seed, int(text_digest(title), 16), TASKS.index(task)])


def _sample(values: Sequence[T], n: int, random: np.random.Generator) -> list[T]:
    """Draw n of the values, or all if there are fewer, keeping their order."""
    chosen = random.choice(len(values), size=min(n, len(values)), replace=False)
    return [values[i] for i in sorted(chosen.tolist())]


def _sample_links(
    links: list[str], weights: tuple[float, ...], random: np.random.Generator
) -> list[str]:
    """Draw j of the links, or all if there are fewer, in the order of the draws."""
    shares = np.array(weights) / sum(weights)  # (weights,)
    n = min(int(random.choice(len(shares), p=shares)), len(links))
    return [links[i] for i in random.choice(len(links), size=n, replace=False).tolist()]


def _lead_inputs(texts: Sequence[str], n_triples: int) -> list[str]:
    triples = [texts[i : i + 3] for i in range(1, 1 + 3 * n_triples, 3)]
    complete = [triple for i, triple in enumerate(triples) if i == 0 or len(triple) == 3]
    return [*texts[1:2], *(" ".join(triple) for triple in complete if triple)]


def _context(items: Sequence[str], index: int) -> str:
    """Return an item joined with the nearest items without a mark on each side."""
    usable = [i for i, item in enumerate(items) if item.split() and _MARK not in item]
    before = [i for i in usable if i < index][-1:]
    after = [i for i in usable if i > index][:1]
    return " ".join(" ".join(items[i].split()) for i in (*before, index, *after))


class CorpusBrainTargets:
    """Pairs as targets for `train_generative`: the same in every epoch, in a different order.

    `TitleRetriever` uses the same prompt, ends a title at its delimiter and decodes along a trie of
    single titles. So a target of several titles is

        first title, delimiter, second | third …, delimiter

    whose prefix up to the first delimiter is a row of the trie: linked titles are learned without
    making the end of a title less likely. CorpusBrain writes `first | second | third` and one
    delimiter (`first_ends=False`): in three of ten examples a model then learns " |" where the trie
    allows the delimiter only, which lowers the score of every title.

    Longer inputs are truncated, within a word if necessary; this is reported as one `Loss`.

    Args:
        model: Its tokenizer is used.
        pairs: At least one.
        max_input_tokens: Limit of an input, without the prompt around it (BART reads 1,024).
        first_ends: End the first title with a delimiter, see above.
        seed: Seed of the order.

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
            raise ValueError(
                f"got {len(pairs)} pairs and max_input_tokens {max_input_tokens}; expected at "
                "least 1 of both"
            )
        self._pairs = list(pairs)
        prompts = sorted(model.prompts.items())
        self._settings = [max_input_tokens, first_ends, seed, model.fingerprint, prompts]
        rows = RowFormat(model)
        inputs = _truncate([pair.input for pair in pairs], model, max_input_tokens)
        examples = [
            Example(_prompt_tokens(model, text), (target,), pair.task)
            for text, pair in zip(inputs, pairs, strict=True)
            if (target := _target(rows, pair.titles, first_ends=first_ends))
        ]
        if n_lost := len(pairs) - len(examples):
            why = "the first title has no tokens"
            report(Loss("training", "pairs", f"{n_lost} pairs", f"{len(examples)} pairs", why))
        self._fixed = FixedTargets(examples, seed=seed)

    @cached_property
    def digest(self) -> str:
        """Digest of the pairs, the arguments, the tokenizer and the prompts."""
        pairs = [[pair.task, pair.input, pair.titles] for pair in self._pairs]
        return text_digest(json.dumps([self._settings, pairs]))

    def epoch(self, number: int) -> list[Example]:
        """Return the examples of an epoch, in training order."""
        return self._fixed.epoch(number)


def _target(rows: RowFormat, titles: Sequence[str], *, first_ends: bool) -> Ngram:
    """Return the tokens of the first title and those after it; () if the first has no tokens."""
    first, *others = (rows.text(title) for title in titles)
    target, separator = list(first), rows.delimiter if first_ends else rows.text("|")
    for tokens in others:
        if tokens:
            target += [*separator, *tokens]
            separator = rows.text("|")
    return (*target, *rows.delimiter) if first else ()


def _truncate(texts: Sequence[str], model: BeamModel, max_tokens: int) -> list[str]:
    """Truncate texts to a number of tokens, and report what was cut."""

    def size(text: str) -> int:
        return len(model.encode(text))

    def beginning(text: str) -> str:
        ends = range(1, len(text) + 1)
        return text[: bisect_right(ends, max_tokens, key=lambda end: size(text[:end]))].rstrip()

    cut = {text: beginning(text) for text in texts if size(text) > max_tokens}
    if cut:
        before, kept = (sum(map(size, group)) for group in (cut.keys(), cut.values()))
        what, why = f"{len(cut)} inputs", f"longer than {max_tokens} tokens; raise max_input_tokens"
        report(Loss("training", what, f"{before - kept} tokens", f"{kept} tokens", why))
    return [cut.get(text, text) for text in texts]


def _prompt_tokens(model: BeamModel, text: str) -> Ngram:
    """Tokenize the title prompt of a text; it must fit the window, since its end is the task."""
    tokens = tuple(model.encode_prompt(prompt_for("title", text, model.prompts)))
    if model.prompt_window is not None and len(tokens) > model.prompt_window:
        raise ValueError(
            f"a prompt of {len(tokens)} tokens exceeds the model's window of "
            f"{model.prompt_window}; lower max_input_tokens by "
            f"{len(tokens) - model.prompt_window} or more"
        )
    return tokens
