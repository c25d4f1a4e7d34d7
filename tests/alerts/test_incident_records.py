"""Settings, times and classes of alerts; what becomes of them is in test_incidents.py."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wirebert.alerts.incident_records import IncidentRecord, IncidentSettings, alert_classes, event_times
from wirebert.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [("gap_s", 0.0), ("gap_s", float("inf")), ("late_s", -1.0), ("max_open", 0), ("max_alerts_per_hour", -1)],
)
def test_a_setting_out_of_range_is_one_sentence(name: str, value: Any):
    with pytest.raises(ConfigError, match=rf"incidents\.{name} must be .*, got {value}"):
        IncidentSettings(**{name: value})


def test_a_flow_without_a_time_has_the_latest_before_it():
    records = pa.table({"ts": pa.array([None, "5.0", None, "3.0"])})
    time_s, latest_s = event_times(records, 2.0)
    assert time_s.tolist() == [2.0, 5.0, 5.0, 3.0]
    assert latest_s.tolist() == [2.0, 5.0, 5.0, 5.0]
    assert event_times(pa.table({"row": [1]}), float("-inf"))[0].tolist() == [0.0]


def test_classes_of_alerts_are_never_benign():
    records = pa.table(
        {
            "predicted_class": ["ok", "dos", "ok"],
            "p_ok": [0.6, 0.1, 0.9],
            "p_dos": [0.1, 0.9, 0.05],
            "p_scan": [0.3, 0.0, 0.05],
            "p_note": ["a", "b", "c"],
            "verdict": ["alert", "alert", "unknown"],
        }
    )
    assert alert_classes(records, "ok").to_pylist() == ["scan", "dos", "unknown"]
    assert alert_classes(records.drop_columns(["verdict"]), None).to_pylist() == ["ok", "dos", "ok"]
    assert np.array(alert_classes(records.slice(0, 0), "ok")).tolist() == []


@pytest.mark.parametrize(("first_s", "last_s"), [(0.0, 89.0), (211.0, 300.0)])
def test_flows_more_than_a_gap_before_or_behind_are_another_incident(first_s: float, last_s: float):
    def record(first: float, last: float) -> IncidentRecord:
        return IncidentRecord(key="k", source="s", incident_id="i", first_s=first, last_s=last)

    mine, step = record(100.0, 200.0), 1.0 if last_s < 100 else -1.0
    assert not mine.touches(record(first_s, last_s), 10.0)
    assert mine.touches(record(first_s + step, last_s + step), 10.0)
