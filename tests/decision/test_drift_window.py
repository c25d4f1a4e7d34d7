import numpy as np
import pytest
from tests.decision.drifting import traffic

from wirebert.decision.drift import DriftReference
from wirebert.decision.drift_window import WINDOW, DriftWindow
from wirebert.decision.traffic_blocks import ScoredFlows
from wirebert.encoding.tokenizer import FlowTokenizer


def add(window: DriftWindow, tokenizer: FlowTokenizer, num_flows: int, seed: int, factor: float = 1) -> None:
    table = traffic(num_flows, seed, factor=factor)
    alerts = np.arange(num_flows) % 4 == 0
    block = tokenizer.encode(table)
    window.add(ScoredFlows(block, np.zeros(num_flows, np.bool_), np.full(num_flows, 0.1), None, alerts))


def test_a_window_tells_of_the_last_flows_alone(reference: DriftReference, tokenizer: FlowTokenizer) -> None:
    window, size = DriftWindow(reference, tokenizer), reference.num_flows
    add(window, tokenizer, size, 1)
    assert window.status() == {"flows": size, "moved": 0}
    add(window, tokenizer, (WINDOW - 1) * size, 2)
    usual = window.status()["distance"]
    add(window, tokenizer, WINDOW * size, 3, factor=20)
    status = window.status()
    assert status["flows"] == WINDOW * size
    assert status["moved"]
    assert status["distance"]["bytes"] > 2 * usual["bytes"]  # pyright: ignore
    assert status["alerts_share"] == pytest.approx(0.25, abs=0.01)
    add(window, tokenizer, WINDOW * size, 4)
    assert window.status()["distance"]["bytes"] < status["distance"]["bytes"] / 2  # pyright: ignore


def test_what_is_asked_again_is_not_computed_again(
    reference: DriftReference, tokenizer: FlowTokenizer
) -> None:
    window = DriftWindow(reference, tokenizer)
    add(window, tokenizer, 3 * reference.num_flows, 1)
    assert window.measures() is window.measures()
