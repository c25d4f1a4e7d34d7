import numpy as np
import pyarrow as pa

from wirebert.alerts.counts import MonitorCounts


def test_counts_add_up_over_sources_and_alerts_are_counted_by_attack():
    counts = MonitorCounts()
    records = pa.table(
        {
            "predicted_class": ["benign", "scan", "benign"],
            "p_benign": [0.9, 0.1, 0.6],
            "p_scan": [0.1, 0.9, 0.4],
            "verdict": ["pass", "alert", "alert"],
            "num_absent": [1, 0, 1],
            "num_unseen": [0, 0, 4],
        }
    )
    for source in ("a", "b"):
        counts.add(source, records, np.array([False, True, True]), "benign")
    found = counts.to_dict(num_features=2)
    assert found["flows_by_source"] == {"a": 3, "b": 3}
    assert found["verdicts"] == {"pass": 2, "alert": 4}
    assert found["alerts_by_class"] == {"scan": 4}
    assert found["alert_share"] == 4 / 6
    assert (found["absent_share"], found["unseen_share"]) == (4 / 12, 8 / 12)
