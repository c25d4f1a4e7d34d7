import pytest
from tests.decision.drifting import SCHEMA, counted, traffic

from wirebert.decision.drift import DriftReference
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.encoding.tokenizer import FlowTokenizer


@pytest.fixture(scope="package")
def tokenizer() -> FlowTokenizer:
    return FlowTokenizer.fit(SCHEMA, lambda: iter([traffic(20_000, 99)]))


@pytest.fixture(scope="package")
def reference(tokenizer: FlowTokenizer) -> DriftReference:
    fitted = DriftReference.fit(counted(tokenizer, traffic(20_000, 0), TrafficBlocks(tokenizer)), tokenizer)
    assert fitted is not None
    return fitted
