import numpy as np
import pytest
import torch

from wirebert.baselines.tabm import fit_tabm
from wirebert.baselines.task import Rows, Task


def test_training_leaves_the_global_dice_as_they_were_and_stops_at_the_best_epoch() -> None:
    pytest.importorskip("tabm")
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(300, 4))
    ids = (numbers[:, 0] * numbers[:, 1] > 0).astype(np.int64)
    rows = Rows(numbers)
    task = Task(
        train=rows.take(np.arange(200)),
        train_ids=ids[:200],
        stop=rows.take(np.arange(200, 300)),
        stop_ids=ids[200:],
        is_categorical=np.zeros(4, dtype=bool),
        num_classes=2,
    )
    before = torch.get_rng_state()
    predict = fit_tabm(task, {"width": 64, "blocks": 2}, 1)
    assert torch.equal(before, torch.get_rng_state())
    found = predict(rows.take(np.arange(200, 300)))
    assert -np.log(found[np.arange(100), ids[200:]]).mean() < np.log(2)  # better than a guess
