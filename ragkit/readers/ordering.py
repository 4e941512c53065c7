"""Orders of passages in a prompt, applied after the passages are selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def edges(k: int) -> list[int]:
    """Place the best passages at both ends and the worst in the middle; the best is first.

    Source: "Long-context LLMs meet RAG" (retrieval reordering): passage i (from 1) is moved to
    position (i + 1) / 2 if i is odd, and to (k + 1) - i / 2 if i is even. Libraries that
    alternately prepend and append produce the mirror image for even k.

    Returns:
        Rank of the passage, from 0, for each position in the prompt.

    >>> [rank + 1 for rank in edges(6)]
    [1, 3, 5, 6, 4, 2]
    """
    order = [0] * k
    for i in range(1, k + 1):
        position = (i + 1) // 2 if i % 2 else (k + 1) - i // 2
        order[position - 1] = i - 1
    return order


def descending(k: int) -> list[int]:
    """Place the best passage first, as the retriever does."""
    return list(range(k))


def ascending(k: int) -> list[int]:
    """Place the best passage last, next to the question."""
    return list(range(k - 1, -1, -1))


ORDERS: Mapping[str, Callable[[int], list[int]]] = {
    "edges": edges,
    "descending": descending,
    "ascending": ascending,
}


def order_by_name(name: str) -> Callable[[int], list[int]]:
    """Return an order by name; raise ValueError if the name is unknown."""
    if name not in ORDERS:
        raise ValueError(f"order is {name!r}; expected one of {', '.join(ORDERS)}")
    return ORDERS[name]
