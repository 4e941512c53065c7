"""The tables of a collection, as one process writes and reads them."""

from ragkit.store.rows import LedgerKey
from ragkit.store.store import Store


def test_ledger_rows_are_those_of_one_embedder_and_role(tmp_path):
    store = Store(tmp_path / "store.db")
    key, absent = b"k" * 32, b"a" * 32
    names = [("first", "passage"), ("second", "passage"), ("first", "query")]
    for row, (fingerprint, role) in enumerate(names):
        store.add_ledger_keys([LedgerKey(fingerprint, role, key, row, 0)])
    for row, (fingerprint, role) in enumerate(names):
        assert store.ledger_rows(fingerprint, role, [absent, key]) == {key: row}
    assert store.ledger_rows("second", "query", [key]) == {}
    store.delete_ledger_keys("first", "passage", [key])
    assert store.ledger_rows("first", "passage", [key]) == {}
    assert store.ledger_rows("second", "passage", [key]) == {key: 1}
    store.close()
