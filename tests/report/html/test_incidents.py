"""What the page says of incidents."""

import numpy as np

from wirebert.metrics.incidents import incident_metrics
from wirebert.report.html.incidents import incident_part


def test_incidents_stand_beside_flows():
    raised, true = np.array([0, 0, 1, -1]), np.array([0, -1, -1, 0])
    (heading, shown) = incident_part("test", incident_metrics(raised, true, np.array([5.0, 6, 7, 0])))
    assert "Incidents" in heading
    text = str(shown)
    assert "flows" in text
    assert "0.333" in text
    assert "0.500" in text
    assert "the first alert comes 5.0 s after its first flow" in text


def test_without_incidents_nothing_is_said():
    assert incident_part("test", None) == ()
    none = np.full(2, -1)
    assert "nan" not in str(incident_part("test", incident_metrics(none, none, np.zeros(2))))
