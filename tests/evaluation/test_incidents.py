"""Incidents of labelled flows, worked out by hand."""

from typing import Any

import pyarrow as pa

from wirebert.evaluation.incidents import LabelledIncidents


def records(**changes: Any) -> pa.Table:
    columns: dict[str, list[object]] = {
        "ts": ["0", "10", "20", "5000", "5010"],
        "src_ip": ["a", "a", "b", "a", "a"],
        "predicted_class": ["scan", "ok", "scan", "ok", "scan"],
        "p_ok": [0.1, 0.6, 0.1, 0.9, 0.2],
        "p_scan": [0.9, 0.4, 0.9, 0.1, 0.8],
        "attack_score": [0.9, 0.4, 0.9, 0.1, 0.8],
        "verdict": ["alert", "alert", "alert", "pass", "alert"],
        "true_class": ["scan", "scan", "ok", "scan", None],
    }
    return pa.table({**columns, **changes})


def test_alerts_of_one_source_and_class_are_one_incident():
    collected = LabelledIncidents("ok")
    collected.add(records().slice(0, 2))
    collected.add(records().slice(2))
    found = collected.metrics()
    assert found is not None
    assert (found.num_raised, found.num_right, found.num_true, found.num_found) == (2, 1, 2, 1)
    assert (found.num_alerts, found.flow_precision, found.time_to_alert_s) == (3, 2 / 3, 0.0)


def test_weak_alerts_count_by_flow_and_raise_no_incident():
    collected = LabelledIncidents("ok")
    collected.add(records(attack_score=[0.3, 0.2, 0.9, 0.1, 0.8]))  # 1 - 0.7 * 0.8 = 0.44
    found = collected.metrics()
    assert found is not None
    assert (found.num_raised, found.num_right, found.num_true, found.num_found) == (1, 0, 2, 0)
    assert (found.num_alerts, found.flow_precision) == (3, 2 / 3)


def test_without_sources_times_verdicts_labels_or_a_benign_class_there_is_none():
    for lacking in ("ts", "src_ip", "verdict"):
        collected = LabelledIncidents("ok")
        collected.add(records().drop_columns([lacking]))
        assert collected.metrics() is None
    without_benign = LabelledIncidents(None)
    without_benign.add(records())
    assert without_benign.metrics() is None
    unlabelled = LabelledIncidents("ok")
    unlabelled.add(records(true_class=pa.nulls(5, pa.string())))
    assert unlabelled.metrics() is None
