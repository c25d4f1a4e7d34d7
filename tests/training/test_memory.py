"""The measured micro-batch against a memory whose size is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.loop import TrainState
from wirebert.training.memory import SHARE_OF_FREE, SMALL, fit_into_memory, fitting_tokens


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


@pytest.mark.parametrize(("setting", "chosen"), [(None, 42_400), (77, 77), ("whole", 0)])
def test_a_step_is_cut_to_what_fits_unless_a_setting_says_otherwise(
    make_model: Callable[..., DistilBert], monkeypatch: pytest.MonkeyPatch, setting: Any, chosen: int
):
    config = TrainConfig(batch_size=1000, micro_batch_tokens=setting, learning_rate=1e-3, device="cpu")
    state = TrainState.start(make_model(), config, seed=1, num_steps=1, class_counts=np.ones(3, np.int64))
    state.device = torch.device("cuda")

    def peak_bytes(_: TrainState, tokens: int) -> int:
        return 1_000 + 10 * tokens

    def free_bytes(_: torch.device) -> int:
        return 500_000

    monkeypatch.setattr("wirebert.training.memory._peak_bytes", peak_bytes)
    monkeypatch.setattr("wirebert.training.memory.free_bytes", free_bytes)
    fit_into_memory(state, mean_length=100.0)
    assert state.micro_batch_tokens == chosen
