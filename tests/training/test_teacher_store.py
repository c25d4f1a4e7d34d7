from pathlib import Path

import numpy as np
import pytest

from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import JaggedRows
from wirebert.errors import DataError
from wirebert.training.teacher_store import cached_log_probs, open_log_probs, windows


def flows(num_flows: int) -> EncodedFlows:
    """Flow i is the token 1 and then i times the token i."""
    lengths = 1 + np.arange(num_flows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.repeat(np.arange(num_flows), lengths).astype(np.uint16)
    ids[offsets[:-1]] = 1
    return EncodedFlows.from_arrays(
        ids, offsets, np.zeros(num_flows, np.int64), np.arange(num_flows, dtype=np.int64)
    )


def by_last_token(block: JaggedRows) -> np.ndarray:
    """Class 0 has the probability 1 / (last token + 2)."""
    own = 1 / (block.ids[block.offsets[1:] - 1].astype(np.float64) + 2)
    return np.stack([own, 1 - own], axis=1)


def test_windows_hold_every_flow_once_and_in_order():
    some = flows(7)
    parts = list(windows(some, 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert np.concatenate([part.ids for part in parts]).tolist() == some.ids.tolist()
    assert all(part.offsets[0] == 0 for part in parts)


def test_scores_are_the_logarithms_of_what_the_teacher_says_of_each_flow(tmp_path: Path):
    found = cached_log_probs(tmp_path / "scores.bin", windows(flows(5)), (5, 2), by_last_token)
    assert found.shape == (5, 2)
    # Flow 0 is the token 1 alone.
    assert np.exp(found[:, 0]) == pytest.approx(1 / np.array([3, 3, 4, 5, 6]))


def test_a_probability_of_zero_has_a_finite_score(tmp_path: Path):
    found = cached_log_probs(
        tmp_path / "scores.bin", windows(flows(1)), (1, 2), lambda _: np.array([[0.0, 1.0]])
    )
    assert np.isfinite(found).all()


def test_scores_that_are_there_are_not_asked_for_again(tmp_path: Path):
    def refuse(_: JaggedRows) -> np.ndarray:
        raise AssertionError("asked again")

    first = cached_log_probs(tmp_path / "scores.bin", windows(flows(5)), (5, 2), by_last_token)
    assert np.array_equal(cached_log_probs(tmp_path / "scores.bin", windows(flows(5)), (5, 2), refuse), first)


def test_half_a_file_is_written_anew(tmp_path: Path):
    path = tmp_path / "scores.bin"
    whole = np.array(cached_log_probs(path, windows(flows(5)), (5, 2), by_last_token))
    path.write_bytes(path.read_bytes()[:17])
    with pytest.raises(DataError, match="expected 40 bytes, found 17"):
        open_log_probs(path, 5, 2)
    assert np.array_equal(cached_log_probs(path, windows(flows(5)), (5, 2), by_last_token), whole)


def test_a_teacher_that_fails_leaves_no_scores(tmp_path: Path):
    def fail(_: JaggedRows) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_log_probs(tmp_path / "scores.bin", windows(flows(5)), (5, 2), fail)
    assert not (tmp_path / "scores.bin").exists()
