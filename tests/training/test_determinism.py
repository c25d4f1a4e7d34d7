import os

import pytest
import torch

from wirebert.errors import ConfigError
from wirebert.training.determinism import same_bits


def test_asked_for_it_holds_in_the_block_and_no_longer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with same_bits(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.backends.cudnn.deterministic
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


def test_not_asked_for_nothing_changes():
    with same_bits(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_operation_without_such_a_kernel_is_a_sentence_with_a_way_out():
    with (
        pytest.raises(ConfigError, match=r"training\.deterministic: .*put_.*set model\.attention=math"),
        same_bits(True),
    ):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="cannot be multiplied"), same_bits(True):
        torch.mm(torch.ones(2, 3), torch.ones(2, 3))
