"""Three slots: a (tokens 10 to 12), b (20 to 22) and text t (30), whose pieces are 40 and above; 1 is [CLS].

<missing>, <unseen> and <absent> of a are 13, 14, 15; of b 23, 24, 25; of t 33, none, 35.
"""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.encoding.token_rows import JaggedRows
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import Corruption

CLS, A, B, T = 1, 10, 20, 30
SPECIAL = np.array([[13, 14, 15], [23, 24, 25], [33, -1, 35]], dtype=np.int32)
TOKEN_SLOTS = np.full(50, -1, dtype=np.int32)
TOKEN_SLOTS[10:16], TOKEN_SLOTS[20:26], TOKEN_SLOTS[30:36] = 0, 1, 2


def corruption(
    *, feature: float = 0.0, column: float = 0.0, leaves_out: bool = False, max_length: int = 512
) -> Corruption:
    return Corruption.from_vocabulary(
        TrainConfig(feature_corruption=feature, column_dropout=column),
        token_slots=TOKEN_SLOTS,
        slot_special=SPECIAL,
        slot_columns=np.arange(3),
        slot_marks=list(SPECIAL[:, :2]),
        leaves_out=leaves_out,
        max_length=max_length,
    )


def ragged(*rows: list[int]) -> JaggedRows:
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return JaggedRows(np.array([token for row in rows for token in row], dtype=np.uint16), offsets)


def lists(rows: JaggedRows) -> list[list[int]]:
    return [row.tolist() for row in np.split(rows.ids, rows.offsets[1:-1])]


ROW = [CLS, A, B, T, 40, 41]
MANY = ragged(*[ROW] * 4000)


def test_nothing_changes_without_corruption():
    assert corruption().apply(MANY, seed=1) is MANY


def test_same_seed_gives_the_same_rows_and_another_seed_others():
    noise = corruption(feature=0.1, column=0.2)
    first, again, other = (lists(noise.apply(MANY, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_rows_keep_type_and_the_given_ones_stay_as_they_are():
    before = MANY.ids.copy()
    after = corruption(feature=0.5, column=0.5).apply(MANY, seed=1)
    assert after.ids.dtype == np.uint16
    assert np.array_equal(MANY.ids, before)


def test_features_become_missing_or_unseen_as_often_as_asked():
    rows = lists(corruption(feature=0.1).apply(MANY, seed=1))
    for slot, place in ((0, 1), (1, 2)):
        for special in (0, 1):
            share = np.mean([row[place] == SPECIAL[slot, special] for row in rows])
            assert share == pytest.approx(0.05, abs=0.015)
    assert {row[0] for row in rows} == {CLS}


def test_text_column_that_becomes_missing_loses_its_pieces():
    rows = lists(corruption(feature=0.3).apply(MANY, seed=1))
    assert {tuple(row[3:]) for row in rows} == {(T, 40, 41), (33,)}


def test_left_out_features_become_missing_or_unseen_too():
    rows = lists(corruption(feature=0.1, leaves_out=True).apply(ragged(*[[CLS, A]] * 4000), seed=1))
    share = np.mean([bool({23, 24} & set(row)) for row in rows])
    assert share == pytest.approx(0.1, abs=0.02)
    assert all(row[0] == CLS for row in rows)


def test_written_features_are_replaced_and_not_written_twice():
    rows = lists(
        corruption(feature=0.4, column=0.5, leaves_out=True).apply(ragged(*[[CLS, A, B]] * 500), seed=1)
    )
    for row in rows:
        slots = [TOKEN_SLOTS[token] for token in row[1:]]
        assert sorted(set(slots)) == sorted(slots)


def test_dropped_column_is_absent_and_its_pieces_are_gone():
    rows = lists(corruption(column=0.9).apply(MANY, seed=1))
    assert {tuple(row[1:2]) for row in rows} == {(A,), (15,)}
    assert {tuple(row[3:]) for row in rows} == {(T, 40, 41), (35,)}


def test_dropped_column_is_absent_where_its_value_was_left_out():
    rows = lists(corruption(column=0.9, leaves_out=True).apply(ragged(*[[CLS]] * 2000), seed=1))
    share = np.mean([15 in row for row in rows])
    # A dropping flow loses a share uniform in [0, 0.5] of its columns: a quarter on average.
    assert share == pytest.approx(0.9 / 4, abs=0.03)


def test_slots_of_one_column_are_dropped_together():
    noise = Corruption.from_vocabulary(
        TrainConfig(feature_corruption=0.0, column_dropout=0.9),
        token_slots=TOKEN_SLOTS,
        slot_special=SPECIAL,
        slot_columns=np.array([0, 0, 1]),
        slot_marks=list(SPECIAL[:, :2]),
        leaves_out=False,
        max_length=512,
    )
    for row in lists(noise.apply(MANY, seed=1)):
        assert (row[1] == 15) == (row[2] == 25)


def test_rows_never_exceed_the_longest_length():
    noise = corruption(feature=0.9, leaves_out=True, max_length=3)
    rows = lists(noise.apply(ragged(*[[CLS, A]] * 100), seed=1))
    assert max(map(len, rows)) == 3


@given(
    st.lists(st.lists(st.sampled_from([A, 11, B, 21, T, 40]), max_size=6), min_size=1, max_size=8),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_every_row_keeps_its_start_and_its_untouched_tokens_in_order(
    features: list[list[int]], leaves_out: bool, seed: int
):
    before = [[CLS, *row] for row in features]
    after = lists(corruption(feature=0.3, column=0.3, leaves_out=leaves_out).apply(ragged(*before), seed))
    assert len(after) == len(before)
    specials = set(SPECIAL.ravel().tolist())
    for old, new in zip(before, after, strict=True):
        rest = iter(old)
        assert new[0] == CLS
        assert all(token in rest for token in new if token not in specials)


def test_a_step_of_256_rows_is_corrupted_in_about_a_millisecond():
    rows = ragged(*[[CLS] + [A] * 40] * 256)
    noise = corruption(feature=0.01, column=0.05, leaves_out=True)
    noise.apply(rows, seed=0)
    best_s = min(_seconds(noise, rows) for _ in range(20))
    assert best_s < 0.01  # 0.5 ms on a quiet processor


def _seconds(noise: Corruption, rows: JaggedRows) -> float:
    begin = time.perf_counter()
    noise.apply(rows, seed=1)
    return time.perf_counter() - begin


def test_every_mark_of_a_slot_is_trained_but_absent_only_with_its_column():
    marks = [np.array([13, 14, 15, 11, 12]), np.array([23, 24, 25]), np.array([33])]
    noise = Corruption.from_vocabulary(
        TrainConfig(feature_corruption=0.9, column_dropout=0.0),
        token_slots=TOKEN_SLOTS,
        slot_special=SPECIAL,
        slot_columns=np.arange(3),
        slot_marks=marks,
        leaves_out=False,
        max_length=512,
    )
    rows = lists(noise.apply(MANY, seed=1))
    assert {row[1] for row in rows} == {A, 13, 14, 11, 12}
    assert {row[2] for row in rows} == {B, 23, 24}
