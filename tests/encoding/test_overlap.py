import numpy as np

from wirebert.encoding.overlap import row_hashes
from wirebert.encoding.store import EncodedFlows


def flows(*rows: list[int]) -> EncodedFlows:
    lengths = [len(row) for row in rows]
    return EncodedFlows.from_arrays(
        np.array([token for row in rows for token in row], np.uint16),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.zeros(len(rows), np.int64),
        np.arange(len(rows), dtype=np.int64),
    )


def test_equal_rows_have_equal_hashes_and_others_do_not():
    hashes = row_hashes(flows([1, 2, 3], [1, 2], [3, 2, 1], [1, 2, 3], [], [0], [0, 0]))
    assert hashes[0] == hashes[3]
    assert len(set(hashes.tolist())) == 6
