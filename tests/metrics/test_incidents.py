"""Metrics of incidents, worked out by hand."""

import numpy as np

from wirebert.metrics.incidents import incident_metrics

DAY_S = 86_400.0


def test_incidents_are_right_by_half_and_found_by_one_alert():
    #                   0    1     2     3     4      5     6
    raised = np.array([-1, 0, 0, 1, 1, -1, 2])
    true = np.array([0, 0, -1, -1, -1, 1, -1])
    time_s = np.array([0.0, 30.0, 40.0, 50.0, 60.0, 70.0, 2 * DAY_S])
    found = incident_metrics(raised, true, time_s)
    assert (found.num_raised, found.num_right, found.precision) == (3, 1, 1 / 3)
    assert (found.num_true, found.num_found, found.recall) == (2, 1, 0.5)
    assert (found.num_alerts, found.flow_precision, found.flow_recall) == (5, 0.2, 1 / 3)
    assert (found.days, found.per_day, found.time_to_alert_s) == (2.0, 1.5, 30.0)


def test_without_alerts_or_attacks_there_is_nothing_to_divide():
    nothing = np.full(3, -1)
    found = incident_metrics(nothing, nothing, np.zeros(3))
    assert (found.precision, found.recall, found.per_day, found.time_to_alert_s) == (None,) * 4
    assert (found.flow_precision, found.flow_recall) == (None, None)
    none = np.empty(0, np.int64)
    assert incident_metrics(none, none, np.empty(0)).num_raised == 0
