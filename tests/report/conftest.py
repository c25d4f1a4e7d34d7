"""A small report to show. wirebert is imported inside the fixtures: jaxtyping's checks have to be in place
first."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from wirebert.report.report import Report
    from wirebert.telemetry.history import History


@pytest.fixture(scope="session")
def report() -> "Report":
    """Validation and test figures of three classes, one more in the test file, with trees beside them."""
    from wirebert.data.checks.checks import Finding
    from wirebert.metrics.split_metrics import Mistake, SplitMetrics, compute_metrics
    from wirebert.report.environment import Hardware
    from wirebert.report.report import Baseline, DataSection, Report, class_distribution

    def figures(seed: int, extra: tuple[str, ...] = (), **settings: Any) -> SplitMetrics:
        rng = np.random.default_rng(seed)
        true_ids = rng.integers(0, 3 + len(extra), 200)
        probabilities = rng.dirichlet(np.ones(3), 200) + np.eye(4)[true_ids][:, :3]
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        names = ("normal", "dos", "<b>probe")
        return compute_metrics(
            true_ids, probabilities, names, "normal", extra_classes=extra, num_resamples=20, **settings
        )

    mistakes = tuple(
        Mistake(
            row=row,
            label="<i>back",
            true_class="dos",
            predicted_class="normal",
            probability=0.99,
            flow={"service": "<u>http", "src_bytes": "181"},
            top_features={"src_bytes": 1.25},
        )
        for row in (7, 11)
    )
    test = replace(figures(1, ("worm",), clusters=np.arange(200) % 9), mistakes=mistakes)
    return Report(
        name="nsl-kdd-1",
        command="wirebert train train.csv --test test.csv",
        seed=1,
        splits={"valid": figures(0), "test": test},
        data=DataSection(
            files=("train.csv", "test.csv"),
            detected="comma-separated, UTF-8, header",
            split="A tenth of the training rows, no duplicates across",
            distribution={
                "train": class_distribution({"normal": 3, "dos": 1}),
                "test": class_distribution({"normal": 50, "dos": 100, "<b>probe": 50}),
            },
            findings=(
                Finding(
                    code="constant_column",
                    severity="warning",
                    column="<script>",
                    count=4,
                    example="0",
                    message="always 0; leave it out",
                ),
            ),
        ),
        settings={"training": {"batch_size": 256, "learning_rate": 3e-4}, "model": {"size": "mini"}},
        versions={"wirebert": "0.1.0"},
        hardware=Hardware(cpu="some processor", num_cores=2),
        training={"steps": 100},
        timing={"training": 12.5},
        baselines={
            "gbdt": Baseline(
                summary={"num_flows_used": 100}, splits={"valid": figures(2), "test": figures(3, ("worm",))}
            )
        },
    )


@pytest.fixture(scope="session")
def history() -> "History":
    """Two epochs of five steps, with samples of a machine without a GPU."""
    from wirebert.telemetry.history import History

    steps = [
        {
            "event": "step",
            "step": s,
            "loss": 1 / s,
            "lr_backbone": 1e-4 / s,
            "lr_classifier": 1e-3 / s,
            "grad_norm": 2 / s,
            "rows_per_s": 1000.0 + s,
            "tokens_per_s": 30_000.0,
        }
        for s in range(1, 11)
    ]
    epochs = [
        {
            "event": "epoch",
            "step": s,
            "valid_loss": 1 / s,
            "train_accuracy": 0.95,
            "valid_accuracy": 0.9,
            "valid_macro_f1": 0.8,
            "is_best": True,
        }
        for s in (5, 10)
    ]
    samples = [
        {"event": "resource", "time": 100.0 + s, "cpu_share": 0.5, "resident_bytes": 2**30, "gpu_share": None}
        for s in range(5)
    ]
    return History.of([*steps, *epochs, *samples])
