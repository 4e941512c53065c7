"""The order of passages in a prompt. Ordering comes last: after budget and duplicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def edges(k: int) -> list[int]:
    """Best passages at both ends, the worst in the middle; the best always first.

    Source: "Long-context LLMs meet RAG" (retrieval reordering): passage i (from 1) goes to place
    (i + 1) / 2 if i is odd, to (k + 1) - i / 2 if it is even. Libraries that prepend and append in
    turn give the mirror image for even k.

    Returns:
        For each place in the prompt the passage's rank, from 0.

    >>> [rank + 1 for rank in edges(6)]
    [1, 3, 5, 6, 4, 2]
    """
    order = [0] * k
    for i in range(1, k + 1):
        place = (i + 1) // 2 if i % 2 else (k + 1) - i // 2
        order[place - 1] = i - 1
    return order


def descending(k: int) -> list[int]:
    """Best first: the retriever's order."""
    return list(range(k))


def ascending(k: int) -> list[int]:
    """Best last, next to the question."""
    return list(range(k - 1, -1, -1))


ORDERS: Mapping[str, Callable[[int], list[int]]] = {
    "edges": edges,
    "descending": descending,
    "ascending": ascending,
}


def order_by_name(name: str) -> Callable[[int], list[int]]:
    """The order of that name, or a ValueError that lists them."""
    if name not in ORDERS:
        raise ValueError(f"order is {name!r}; expected one of {', '.join(ORDERS)}")
    return ORDERS[name]
