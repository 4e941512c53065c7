"""One split for all data sets that are published without one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, TypeVar

from ragkit.digests import text_digest

Split = Literal["train", "dev", "test"]

T = TypeVar("T")


def split_of(passage_id: str) -> Split:
    """Return the split of a gold passage and its questions: 70 % train, 10 % dev, 20 % test.

    The split depends on the digest of the id only, so no adapter is trained on a test set.

    >>> split_of("passage-1"), split_of("passage-2")
    ('test', 'train')
    """
    share = int(text_digest(passage_id)[:8], 16) / 2**32
    return "train" if share < 0.7 else "dev" if share < 0.8 else "test"


def sample(items: Sequence[T], n: int | None) -> list[T]:
    """Return n of the items in their order, drawn with a fixed seed; all of them if n is None.

    >>> sample("abcdefgh", 3) == sample("abcdefgh", 3), sample("ab", 5), sample("ab", None)
    (True, ['a', 'b'], ['a', 'b'])
    """
    if n is None or n >= len(items):
        return list(items)
    return [items[i] for i in sorted(random.Random(0).sample(range(len(items)), n))]
