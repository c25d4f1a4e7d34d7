from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirebert.encoding.store import row_hashes
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.inference.score_cache import ScoreCache, distinct_rows, join_blocks

ROWS = [[1, 5, 9], [1], [1, 5, 9], [1, 9, 5], [1, 5], [1]]


def block_of(rows: list[list[int]]) -> JaggedRows:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return JaggedRows(np.array([token for row in rows for token in row], np.uint16), offsets, 0)


def rows_of(block: JaggedRows) -> list[list[int]]:
    return [block.ids[a:b].tolist() for a, b in zip(block.offsets[:-1], block.offsets[1:], strict=True)]


def new_cache(size_mb: float = 1.0) -> ScoreCache:
    return ScoreCache(longest_row=4, num_classes=2, size_mb=size_mb)


def scores_of(rows: list[list[int]]) -> np.ndarray:
    return np.array([[sum(row), len(row)] for row in rows], np.float32)


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), max_size=30), st.booleans())
@settings(deadline=None, max_examples=50)
def test_every_row_is_one_of_the_distinct_rows(rows: list[list[int]], collide: bool):
    """Also where all hashes are equal, as someone could arrange it."""
    block = block_of(rows)
    hashes = np.zeros(len(rows), np.uint64) if collide else row_hashes(block)
    distinct = distinct_rows(block, hashes)
    assert [rows[number] for number in distinct.rows[distinct.numbers]] == rows
    if not collide:
        assert sorted(map(tuple, rows_of(take_rows(block, distinct.rows)))) == sorted(
            {tuple(row) for row in rows}
        )


def test_rows_are_taken_in_the_order_asked_for():
    assert rows_of(take_rows(block_of(ROWS), np.array([3, 1, 0]))) == [[1, 9, 5], [1], [1, 5, 9]]


def test_joined_blocks_hold_the_rows_of_both():
    assert rows_of(join_blocks(block_of(ROWS[:2]), block_of(ROWS[2:]))) == ROWS


def test_what_was_added_is_found_and_nothing_else():
    cache, block, other = new_cache(), block_of(ROWS[3:]), block_of([[1, 9, 5], [1, 7], [1]])
    cache.add(block, row_hashes(block), scores_of(ROWS[3:]))
    is_known, logits = cache.find(other, row_hashes(other))
    assert is_known.tolist() == [True, False, True]
    assert logits.tolist() == [[15, 3], [0, 0], [1, 1]]


def test_a_row_of_the_same_hash_is_not_taken_for_another():
    cache, block, other = new_cache(), block_of([[1, 5, 9]]), block_of([[1, 9, 5]])
    hashes = row_hashes(block)
    cache.add(block, hashes, scores_of([[1, 5, 9]]))
    assert cache.find(block, hashes)[0].tolist() == [True]
    assert cache.find(other, hashes)[0].tolist() == [False]


def test_padding_is_not_taken_for_tokens():
    """A row of zeros after another is no longer row."""
    cache, block, other = new_cache(), block_of([[1, 5]]), block_of([[1, 5, 0]])
    hashes = row_hashes(block)
    cache.add(block, hashes, scores_of([[1, 5]]))
    assert cache.find(other, hashes)[0].tolist() == [False]


@pytest.mark.parametrize("size_mb", [1e-9, 1e-3])
def test_a_full_cache_forgets_old_rows_and_errs_never(size_mb: float):
    cache = new_cache(size_mb)
    rows = [[1, first, second] for first in range(20) for second in range(20)]
    block = block_of(rows)
    hashes = row_hashes(block)
    cache.add(block, hashes, scores_of(rows))
    is_known, logits = cache.find(block, hashes)
    assert 0 < is_known.sum() <= max(1, size_mb * 2**20 / 32)
    assert (logits[is_known] == scores_of(rows)[is_known]).all()


def test_a_newer_row_replaces_the_one_of_its_place():
    cache, old, new = new_cache(1e-9), block_of([[1, 2]]), block_of([[1, 3]])
    for block in (old, new):
        cache.add(block, row_hashes(block), scores_of(rows_of(block)))
    assert [cache.find(block, row_hashes(block))[0].item() for block in (old, new)] == [False, True]


def test_threads_find_whole_entries():
    cache = new_cache(1e-3)
    rows = [[1, first, second] for first in range(20) for second in range(20)]
    block = block_of(rows)
    hashes = row_hashes(block)

    def work(seed: int) -> bool:
        some = np.random.default_rng(seed).integers(0, len(rows), 50)
        part = take_rows(block, some)
        cache.add(part, hashes[some], scores_of(rows)[some])
        is_known, logits = cache.find(part, hashes[some])
        return bool((logits[is_known] == scores_of(rows)[some][is_known]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(200)))
