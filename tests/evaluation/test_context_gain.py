from dataclasses import replace

import numpy as np
import pytest

from wirebert.evaluation.context_gain import (
    GAIN_HEAD,
    ContextGain,
    context_gain,
    gain_remarks,
    gain_rows,
)
from wirebert.evaluation.metrics import SplitMetrics, evaluate
from wirebert.evaluation.plain import from_plain, to_plain

CLASSES = ("ok", "scan", "beacon")


def metrics(predicted: list[int], *, benign: str | None = "ok") -> SplitMetrics:
    """Of two flows that are fine and two scans."""
    return evaluate(np.array([0, 0, 1, 1]), np.eye(3)[predicted], CLASSES, benign, num_resamples=100)


@pytest.fixture
def gain() -> ContextGain:
    """With context all four are right, without the scans look fine."""
    return context_gain(("ctx_a",), {"test": metrics([0, 0, 1, 1])}, {"test": metrics([0, 0, 0, 0])}, "ok")


def test_a_class_gains_what_its_f1_gains(gain: ContextGain):
    scan = gain.splits["test"].per_class["scan"]
    assert (scan.with_context, scan.without_context, scan.difference) == (1.0, 0.0, 1.0)


def test_attacks_are_averaged_over_those_that_occur(gain: ContextGain):
    attacks = gain.splits["test"].attack_macro_f1
    assert attacks is not None
    assert (attacks.with_context, attacks.without_context) == (1.0, 0.0)


def test_without_a_benign_class_no_class_is_called_an_attack():
    found = metrics([0, 0, 1, 1], benign=None)
    assert context_gain((), {"test": found}, {"test": found}, None).splits["test"].attack_macro_f1 is None


def test_a_table_has_the_classes_that_occur_then_the_means(gain: ContextGain):
    assert gain_rows(gain.splits["test"]) == [
        ("ok", "2", "1.000", "0.667", "+0.333"),
        ("scan", "2", "1.000", "0.000", "+1.000"),
        ("macro F1", "", "1.000", "0.333", "+0.667"),
        ("attacks alone", "", "1.000", "0.000", "+1.000"),
    ]
    assert len(GAIN_HEAD) == 5


def test_intervals_are_told_of_both(gain: ContextGain):
    (ours, theirs) = gain.splits["test"].intervals or ((0.0, 0.0), (0.0, 0.0))
    assert ours[0] > theirs[0]
    assert gain_remarks(gain.splits["test"]) == [
        f"Macro F1 is in [{ours[0]:.3f}, {ours[1]:.3f}] with context and in [{theirs[0]:.3f}, {theirs[1]:.3f}] without "
        "(95% each, flows drawn one by one)."
    ]
    assert gain_remarks(replace(gain.splits["test"], intervals=None)) == []


def test_it_survives_the_trip_through_json(gain: ContextGain):
    assert from_plain(ContextGain, to_plain(gain)) == gain
