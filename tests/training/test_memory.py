"""The measured micro-batch against a memory whose size is known."""

from hypothesis import given
from hypothesis import strategies as st

from wirebert.training.memory import SHARE_OF_FREE, SMALL, fitting_tokens


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(1, 10**7), st.integers(10**9, 10**12))
def test_what_is_chosen_fits_and_a_tenth_more_would_not(fixed: int, per_token: int, wanted: int, free: int):
    chosen = fitting_tokens(lambda tokens: fixed + per_token * tokens, free, wanted=wanted)
    assert 1 <= chosen <= wanted
    if chosen > 2 * SMALL:
        assert fixed + per_token * chosen <= SHARE_OF_FREE * free * 1.001
    if 2 * SMALL < chosen < wanted:
        assert fixed + per_token * chosen * 1.1 > SHARE_OF_FREE * free


def test_a_small_step_is_not_measured():
    def fail(_: int) -> int:
        raise AssertionError

    assert fitting_tokens(fail, 1, wanted=2 * SMALL) == 2 * SMALL
