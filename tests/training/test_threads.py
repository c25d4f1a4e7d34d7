from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wirebert.errors import ConfigError
from wirebert.model.distilbert import DistilBert
from wirebert.training.feeding import LabelledRows
from wirebert.training.settings import TrainConfig
from wirebert.training.standing import TrainingResult
from wirebert.training.threads import computing_on

CONFIG = TrainConfig(epochs=1, batch_size=32, learning_rate=1e-2, device="cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    with computing_on(2):
        yield


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("asked", "expected"), [(0, 2), (1, 1), (3, 3)])
def test_a_training_computes_on_as_many_threads_as_asked_and_gives_them_back(
    make_model: Callable[..., DistilBert],
    make_flows: Callable[..., LabelledRows],
    fit: Callable[..., TrainingResult],
    tmp_path: Path,
    asked: int,
    expected: int,
):
    seen: set[int] = set()

    def note(*_: object) -> None:
        seen.add(torch.get_num_threads())

    model = make_model()
    model.classifier.register_forward_hook(note)
    fit(model, make_flows(64), tmp_path, replace(CONFIG, threads=asked))
    assert seen == {expected}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_failure_gives_the_threads_back_too():
    with pytest.raises(KeyError), computing_on(1):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_a_negative_number_of_threads_is_refused():
    with pytest.raises(ConfigError, match=r"training\.threads must be at least 0, got -1"):
        TrainConfig(threads=-1)
