"""`KeyTable` against a dictionary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.context.hash_table import HashTable


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=8), st.integers(0, 2**63))
def test_numbers_are_those_of_a_dictionary(batches: list[list[int]], base: int):
    table, known = HashTable(1), dict[int, int]()
    for batch in batches:
        # Keys whose low bits agree want the same place.
        keys = [(base + (key << 32)) % 2**64 for key in batch]
        numbers = table.indices_of(np.array(keys, np.uint64)).tolist()
        for key, number in zip(keys, numbers, strict=True):
            assert known.setdefault(key, number) == number
        assert sorted(known.values()) == list(range(len(table)))
    assert {key: table.keys[number] for key, number in known.items()} == {key: key for key in known}


@given(st.sets(st.integers(0, 5_000), max_size=3_000), st.integers(0, 2**32))
def test_kept_keys_keep_their_totals(kept: set[int], seed: int):
    keys = np.random.default_rng(seed).integers(0, 2**63, 5_000).astype(np.uint64)
    table = HashTable(2)
    numbers = table.indices_of(keys)
    table.totals[:, numbers] = keys.astype(np.int64)
    is_kept = np.isin(np.arange(len(table)), list(kept))
    renumbered = table.keep(is_kept)
    assert (renumbered >= 0).tolist() == is_kept.tolist()
    chosen = keys[is_kept[numbers]]
    again = table.indices_of(chosen)
    assert again.tolist() == renumbered[numbers[is_kept[numbers]]].tolist()
    assert (table.totals[:, again] == chosen.astype(np.int64)).all()
    assert not table.totals[:, len(table) :].any()


def test_new_keys_after_some_were_forgotten_have_totals_of_zero():
    table = HashTable(1)
    known = table.indices_of(np.arange(3_000, dtype=np.uint64))
    table.totals[0, known] = 9
    table.keep(np.arange(3_000) < 10)
    new = table.indices_of(np.arange(5_000, 9_000, dtype=np.uint64))
    assert len(table) == 4_010
    assert not table.totals[0, new].any()
    assert table.size_bytes < 1 << 20
