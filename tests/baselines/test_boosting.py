import numpy as np
import pytest

from wirebert.baselines.boosting import fit_lightgbm, fit_xgboost, need
from wirebert.baselines.task import Rows, Task
from wirebert.errors import ConfigError


def test_a_package_that_is_not_there_is_named_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"method no_such_package: .*wirebert\[baselines\]"):
        need("no_such_package")


@pytest.mark.parametrize("fit", [fit_xgboost, fit_lightgbm])
def test_training_goes_on_without_rows_to_stop_by(fit: object) -> None:
    pytest.importorskip("xgboost" if fit is fit_xgboost else "lightgbm")
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(200, 3))
    ids = (numbers[:, 0] > 0).astype(np.int64)
    task = Task(
        train=Rows(numbers),
        train_ids=ids,
        stop=Rows(numbers[:0]),
        stop_ids=ids[:0],
        is_categorical=np.zeros(3, dtype=bool),
        num_classes=2,
    )
    predict = (fit_xgboost if fit is fit_xgboost else fit_lightgbm)(task, {"learning_rate": 0.3}, 1)
    assert (predict(Rows(numbers)).argmax(axis=1) == ids).mean() > 0.95
