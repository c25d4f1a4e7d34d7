import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wirebert.encoding.token_rows import JaggedRows, TextCells, join_rows, within_budget


def ragged(sequences: list[list[int]]) -> JaggedRows:
    offsets = np.cumsum([0, *map(len, sequences)]).astype(np.int64)
    return JaggedRows(np.array([number for row in sequences for number in row], np.int64), offsets)


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(1, 9))
def test_the_budget_keeps_head_and_tail_and_counts_what_it_cuts(lengths: list[int], budget: int):
    texts = [list(range(length)) for length in lengths]
    cut, is_cut = within_budget(ragged(texts), budget)
    for index, text in enumerate(texts):
        tail = budget // 4
        expected = text if len(text) <= budget else text[: budget - tail] + text[len(text) - tail :]
        assert cut.ids[cut.offsets[index] : cut.offsets[index + 1]].tolist() == expected
        assert is_cut[index] == (len(text) > budget)


@given(st.data())
def test_rows_are_the_written_features_then_the_texts_in_order(data: st.DataObject):
    num_rows = data.draw(st.integers(0, 5))
    draw_rows = st.lists(
        st.lists(st.booleans(), min_size=3, max_size=3), min_size=num_rows, max_size=num_rows
    )
    is_written = np.array(data.draw(draw_rows), bool).reshape(num_rows, 3)
    features = np.arange(num_rows * 3, dtype=np.uint16).reshape(num_rows, 3)
    distinct = [[100], [101, 102], []]
    codes = [
        np.array(data.draw(st.lists(st.integers(0, 2), min_size=num_rows, max_size=num_rows)), np.int64)
        for _ in range(2)
    ]
    block = join_rows(features, is_written, [TextCells(ragged(distinct), code) for code in codes], 0)
    for row in range(num_rows):
        expected = features[row][is_written[row]].tolist()
        expected += [number for code in codes for number in distinct[code[row]]]
        assert block.ids[block.offsets[row] : block.offsets[row + 1]].tolist() == expected
    assert len(block) == num_rows
