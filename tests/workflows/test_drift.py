import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from wirebert.decision.drift import MeasureDrift
from wirebert.errors import ConfigError
from wirebert.inference.artifact import Artifact
from wirebert.inference.detector import Detector
from wirebert.workflows.drift import TrafficDrift, advise, fit_reference, reference_of, show_drift


def measure(
    name: str,
    before: dict[str, float],
    now: dict[str, float],
    *,
    has_moved: bool = True,
    is_score: bool = False,
) -> MeasureDrift:
    bins = tuple(dict.fromkeys((*before, *now)))
    shares = [tuple(side.get(one, 0.0) for one in bins) for side in (before, now)]
    distance = sum(abs(a - b) for a, b in zip(*shares, strict=True)) / 2
    return MeasureDrift(
        name=name,
        is_score=is_score,
        distance=distance,
        usual=0.1,
        p=0.001 if has_moved else 0.5,
        has_moved=has_moved,
        bins=bins,
        reference=shares[0],
        now=shares[1],
    )


LOST = measure("service", {"http": 1.0}, {"<absent>": 1.0})
OTHER = measure("proto", {"tcp": 0.9, "udp": 0.1}, {"tcp": 0.4, "udp": 0.6})
ALERTS = measure("alerts", {"pass": 0.99, "alert": 0.01}, {"pass": 0.8, "alert": 0.2}, is_score=True)
NOVEL = measure("novelty", {"0": 1.0}, {"9": 1.0}, is_score=True)
UNSEEN = measure("unseen values", {"none": 1.0}, {"none": 0.7, "<unseen>": 0.3}, is_score=True)
QUIET = measure("bytes", {"0": 1.0}, {"0": 0.97, "<above>": 0.03}, has_moved=False)


@pytest.mark.parametrize(
    ("measures", "codes", "words"),
    [
        ((), [], ""),
        ((QUIET,), [], ""),
        ((LOST,), ["drift_lost"], "'service' lack values"),
        ((OTHER,), ["drift_features"], "renew the reference"),
        ((OTHER, ALERTS), ["drift_scores"], "wirebert calibrate"),
        ((ALERTS, NOVEL), ["drift_unknown"], "learn again"),
        ((UNSEEN, QUIET), ["drift_unknown"], "'bytes'"),  # the feature with new values is named
        ((LOST, ALERTS), ["drift_lost", "drift_scores"], "check the sensor"),
    ],
)
def test_what_moved_decides_the_advice(
    measures: tuple[MeasureDrift, ...], codes: list[str], words: str
) -> None:
    found = advise(measures)
    assert [one.code for one in found] == codes
    assert words in "".join(one.message for one in found)


def test_terminal_json_and_page_tell_the_same() -> None:
    drift = TrafficDrift(
        name="conn<b>", num_flows=7_000, false_alarm_rate=0.01, measures=(OTHER, ALERTS, QUIET)
    )
    screen = io.StringIO()
    show_drift(drift, Console(file=screen, width=120))
    assert "2 of 3 features and scores have moved" in screen.getvalue()
    assert ["proto", "yes", "0.500"] in [line.split()[:3] for line in screen.getvalue().splitlines()]
    plain = json.loads(drift.to_json())
    assert plain["has_drifted"]
    assert [one["code"] for one in plain["findings"]] == ["drift_scores"]
    assert plain["measures"][0]["now"] == [0.4, 0.6]
    page = drift.to_page()
    assert "conn&lt;b&gt;, 7,000 flows" in page
    assert page.count("<svg") == 3
    assert "reference 90.0%, now 40.0%" in page


def test_a_reference_of_traffic_holds_what_the_detector_says_of_it(
    artifact: Artifact, table: pa.Table
) -> None:
    detector = Detector(artifact, backend="torch")
    reference = fit_reference(detector, [table] * 20)
    assert reference is not None
    assert detector.drift is None  # later flows are not counted
    counts = reference.counts.sum(axis=0)[reference.starts[-4] : reference.starts[-3]]
    scores = detector.score(table).attack_score
    assert scores is not None
    assert counts.sum() == 20 * 60
    assert (counts > 0).sum() >= np.ptp(scores) > 0
    assert fit_reference(detector, [table]) is None
    assert reference_of(replace(artifact, reference=reference)) is reference


def test_a_model_without_reference_says_how_to_get_one(artifact: Artifact) -> None:
    with pytest.raises(ConfigError, match="wirebert calibrate MODEL LOGS"):
        reference_of(replace(artifact, name="runs/demo/model"))
