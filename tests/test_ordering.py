"""Passage orders: the exact permutation of the paper for every small k."""

from __future__ import annotations

import pytest

from ragkit.readers.ordering import ORDERS, ascending, descending, edges, order_by_name

# Ranks from 1 by place in the prompt; k = 5, 6, 10 stand in the design notes, the rest by hand.
TABLE = {
    0: [],
    1: [1],
    2: [1, 2],
    3: [1, 3, 2],
    4: [1, 3, 4, 2],
    5: [1, 3, 5, 4, 2],
    6: [1, 3, 5, 6, 4, 2],
    7: [1, 3, 5, 7, 6, 4, 2],
    8: [1, 3, 5, 7, 8, 6, 4, 2],
    9: [1, 3, 5, 7, 9, 8, 6, 4, 2],
    10: [1, 3, 5, 7, 9, 10, 8, 6, 4, 2],
}


def test_edges_for_small_k_is_the_table():
    assert {k: [rank + 1 for rank in edges(k)] for k in TABLE} == TABLE


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_for_every_k_is_a_permutation(name: str):
    for k in (*range(12), 59, 60):
        assert sorted(order_by_name(name)(k)) == list(range(k))


def test_edges_for_every_k_puts_best_first_and_second_best_last():
    for k in range(2, 61):
        order = edges(k)
        assert (order[0], order[-1]) == (0, 1)
        assert order.index(k - 1) in (k // 2 - 1, k // 2)  # the worst in the middle


def test_plain_orders_are_the_ranks_forward_and_backward():
    assert descending(4) == [0, 1, 2, 3]
    assert ascending(4) == [3, 2, 1, 0]


def test_order_by_name_when_unknown_lists_the_known_ones():
    with pytest.raises(ValueError, match="'random'; expected one of edges, descending, ascending"):
        order_by_name("random")
