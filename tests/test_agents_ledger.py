"""The ledger: each value once, under an id that never changes."""

from __future__ import annotations

import json
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.agents.ledger import Evidence, Ledger, Quantity, Quote
from ragkit.types import Citation

GAP = Quantity(0.186, "eV", "band_gap", "GaAs", "mp-2534", "F-43m", "DFT (PBE)", "MP", "CC BY 4.0")
BULK = Quantity(62.0, "GPa", "k_vrh", "GaAs", "mp-2534")
QUOTE = Quote("GaAs is direct.", (Citation("d", "c", 0, 15, "GaAs is direct.", "0" * 32),))


def test_add_when_rows_come_then_they_are_numbered_and_know_their_call():
    ledger = Ledger()
    assert ledger.add([GAP, QUOTE], "search", {"limit": 2, "formula": "Ga₂"}) == ["r1", "r2"]
    query = '{"arguments": {"formula": "Ga₂", "limit": 2}, "tool": "search"}'
    assert ledger["r1"] == Quantity(
        *(0.186, "eV", "band_gap", "GaAs", "mp-2534", "F-43m", "DFT (PBE)", "MP", "CC BY 4.0"),
        query=query,
    )
    assert ledger["r2"] == Quote(QUOTE.text, QUOTE.citations, query)
    assert (list(ledger), len(ledger), "r2" in ledger, "r3" in ledger) == (
        ["r1", "r2"],
        2,
        True,
        False,
    )


def test_add_when_a_row_is_held_then_keeps_its_id_and_its_first_query():
    ledger = Ledger()
    ledger.add([GAP], "first", {})
    assert ledger.add([BULK, GAP, BULK], "second", {}) == ["r2", "r1", "r2"]
    assert json.loads(ledger["r1"].query)["tool"] == "first"
    assert len(ledger) == 2


def test_add_when_only_the_method_differs_then_it_is_another_row():
    ledger = Ledger()
    twins = [Quantity(1.0, method="PBE"), Quantity(1.0, method="r2SCAN")]
    assert ledger.add(twins, "search", {}) == ["r1", "r2"]


def test_row_when_absent_then_raises():
    with pytest.raises(KeyError):
        Ledger()["r1"]


def test_child_when_it_finds_what_the_parent_holds_then_the_id_is_the_same_and_rows_are_not():
    parent = Ledger()
    parent.add([GAP], "search", {})
    child = Ledger(parent)
    assert len(child) == 0
    assert child.add([BULK, GAP], "assist", {}) == ["r2", "r1"]
    assert list(parent) == ["r1"]
    other = Ledger(parent)
    assert other.add([QUOTE], "assist", {}) == ["r3"]  # r2 is the first child's


def test_take_when_a_row_was_computed_then_its_sources_come_with_it_in_order():
    parent = Ledger()
    child = Ledger(parent)
    child.add([GAP, BULK], "search", {})
    ratio = Quantity(333.3, property="ratio", derived_from=("r1", "r2"))
    twice = Quantity(666.6, property="twice", derived_from=("r3",))
    child.add([ratio, twice, QUOTE], "calculate", {})
    parent.merge(child, ["r4", "nonsense", "r4"])
    assert list(parent) == ["r4", "r3", "r1", "r2"]
    assert parent["r1"] == child["r1"]
    assert parent.add([twice, GAP, QUOTE], "again", {}) == ["r4", "r1", "r6"]


def test_take_when_rows_are_named_then_they_keep_the_order_they_are_named_in():
    parent, child = Ledger(), Ledger()
    child.add([Quantity(n, property="n") for n in range(5)], "count", {})
    parent.merge(child, ["r1", "r2", "r3"])
    assert list(parent) == ["r1", "r2", "r3"]


def test_take_when_sources_form_a_circle_then_ends():
    parent, child = Ledger(), Ledger()
    child.add([Quantity(1, derived_from=("r2",)), Quantity(2, derived_from=("r1",))], "odd", {})
    parent.merge(child, ["r1"])
    assert list(parent) == ["r1", "r2"]


def test_copy_when_rows_are_added_then_the_other_has_them_not_and_ids_differ():
    ledger = Ledger()
    ledger.add([GAP], "search", {})
    twin = ledger.copy()
    assert twin.rows == ledger.rows
    assert twin.add([BULK], "search", {}) == ["r2"]
    assert list(ledger) == ["r1"]
    assert ledger.add([QUOTE], "search", {}) == ["r3"]


def test_ids_when_ledgers_add_at_the_same_time_then_none_is_given_twice():
    parent = Ledger()
    ledgers = [parent, Ledger(parent), parent.copy(), Ledger(Ledger(parent))]

    def add(ledger, name):
        for n in range(1000):
            ledger.add([Quantity(n, property=name)], "count", {})

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=add, args=(ledger, f"n{i}")) for i, ledger in enumerate(ledgers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    given_ids = [row_id for ledger in ledgers for row_id in ledger]
    assert sorted(given_ids) == sorted(f"r{n}" for n in range(1, 4001))


EVIDENCE = st.builds(
    Quantity,
    value=st.integers(0, 3) | st.floats(allow_nan=False) | st.sampled_from(["FM", "NM"]),
    property=st.sampled_from(["n", "gap"]),
)


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(EVIDENCE, max_size=5)), max_size=8))
def test_ids_when_a_parent_and_children_add_then_one_id_is_one_value(calls):
    parent = Ledger()
    ledgers = [parent, Ledger(parent), Ledger(parent)]
    meant: dict[str, Evidence] = {}
    for which, evidence in calls:
        ids = ledgers[which].add(evidence, "search", {})
        for row_id, each in zip(ids, evidence, strict=True):
            assert meant.setdefault(row_id, each) == each
            assert ledgers[which][row_id].value == each.value
    for child in ledgers[1:]:
        parent.merge(child, child)
    assert all(parent[row_id].value == meant[row_id].value for row_id in parent)
