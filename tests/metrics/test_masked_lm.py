import numpy as np
import pytest

from wirebert.metrics.masked_lm import (
    SUBWORDS,
    MaskedMetrics,
    column_metrics,
    masked_metrics,
)

# Tokens 1 and 2 are of slot 0, 3 and 4 of slot 1, 5 is a piece. Most frequent: 1 and 4.
SLOTS = (np.array([1, 4]), np.array([-1, 0, 0, 1, 1, -1]))
TOKENS, GUESSED = np.array([1, 2, 2, 3, 4, 5]), np.array([1, 2, 1, 3, 3, 5])
LOSSES = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])


def test_figures_are_those_worked_out_by_hand():
    found = masked_metrics(TOKENS, GUESSED, LOSSES, *SLOTS)
    assert found == MaskedMetrics(num_masked=6, loss=2.5, accuracy=4 / 6, frequent_accuracy=2 / 6)
    assert found.gain == pytest.approx(1 / 3)


def test_each_column_has_its_own_and_pieces_come_last():
    found = column_metrics(TOKENS, GUESSED, LOSSES, *SLOTS, ("protocol", "service"))
    assert list(found) == ["protocol", "service", SUBWORDS]
    assert found["protocol"] == MaskedMetrics(num_masked=3, loss=1.0, accuracy=2 / 3, frequent_accuracy=1 / 3)
    assert found["service"] == MaskedMetrics(num_masked=2, loss=3.5, accuracy=0.5, frequent_accuracy=0.5)
    assert found[SUBWORDS] == MaskedMetrics(num_masked=1, loss=5.0, accuracy=1.0, frequent_accuracy=0.0)
