import numpy as np

from wirebert.telemetry.history import Curve, History


def test_curves_come_from_their_events_and_skip_what_is_not_a_number() -> None:
    history = History.of(
        [
            {"event": "start", "step": 0},
            {"event": "step", "step": 1, "loss": 2.0, "lr_backbone": 1e-5, "lr_classifier": 1e-4},
            {"event": "step", "step": 2, "loss": None, "lr_backbone": 2e-5, "lr_classifier": 2e-4},
            {
                "event": "epoch",
                "step": 2,
                "valid_loss": 1.0,
                "valid_accuracy": 0.5,
                "valid_macro_f1": 0.4,
                "is_best": True,
            },
            {
                "event": "epoch",
                "step": 4,
                "valid_loss": 1.5,
                "valid_accuracy": 0.5,
                "valid_macro_f1": 0.4,
                "is_best": False,
            },
        ]
    )
    assert history.train_loss.at.tolist() == [1.0]
    assert history.classifier_rate.values.tolist() == [1e-4, 2e-4]
    assert history.valid_loss.at.tolist() == [2.0, 4.0]
    assert history.best_step == 2


def test_no_records_give_empty_curves() -> None:
    history = History.of([])
    assert len(history.train_loss.at) == 0
    assert history.best_step is None


def test_a_band_keeps_every_extreme_of_a_long_curve() -> None:
    values = np.random.default_rng(0).normal(size=50_001)
    values[12_345], values[54] = 99.0, -99.0
    band = Curve("loss", np.arange(50_001.0), values).band()
    assert band is not None
    assert len(band.at) == 300
    assert (band.low.min(), band.high.max()) == (-99.0, 99.0)
    assert (band.low <= band.mean).all()
    assert (band.mean <= band.high).all()


def test_a_short_curve_has_no_band() -> None:
    assert Curve("loss", np.arange(300.0), np.ones(300)).band() is None


def test_samples_of_the_machine_are_over_minutes_since_the_first() -> None:
    samples = [
        {"event": "resource", "time": 100.0 + 30 * i, "step": 0, "cpu_share": 0.5 + i / 10} for i in range(3)
    ]
    history = History.of([{"event": "step", "step": 1, "time": 90.0, "grad_norm": 2.0}, *samples])
    curve = Curve.between("cpu", history.resources, "minutes", "cpu_share", scale=100.0)
    assert curve.at.tolist() == [0.0, 0.5, 1.0]
    assert curve.values.tolist() == [50.0, 60.0, 70.0]
    assert history.grad_norm.values.tolist() == [2.0]


def test_what_a_machine_does_not_tell_has_an_empty_curve() -> None:
    history = History.of([{"event": "resource", "time": 1.0, "gpu_share": None}])
    assert len(Curve.between("gpu", history.resources, "minutes", "gpu_share").values) == 0
