# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from wirebert.data.synthetic.attacks import beaconing, exfiltration, ssh_brute_force
from wirebert.data.synthetic.benign import BENIGN, BENIGN_CALLS, admin_scripts, uploads
from wirebert.data.synthetic.network import Network
from wirebert.data.synthetic.wire import Scene


def scene() -> Scene:
    return Scene(Network(0), np.random.default_rng(0), 1 / 3, 2 / 3)


@pytest.mark.parametrize("activity", BENIGN)
@pytest.mark.parametrize("count", [0, 1, 200])
def test_as_many_flows_as_asked_for_within_the_span(activity: Callable[[Scene, int], pa.Table], count: int):
    found = activity(scene(), count)
    assert found.num_rows == count
    if count:
        start_s, stop_s = scene().span_s
        assert start_s <= pc.min(found["time_s"]).as_py() <= pc.max(found["time_s"]).as_py() < stop_s


@pytest.mark.parametrize("activity", BENIGN_CALLS)
def test_steady_calls_come_at_least_hourly(activity: Callable[[Scene], pa.Table]):
    start_s, stop_s = scene().span_s
    assert activity(scene()).num_rows > (stop_s - start_s) / 3_600


def overlap(first: pa.Table, second: pa.Table, column: str) -> float:
    """Share of the first's values that lie among the middle nine tenths of the second's."""
    values = np.nan_to_num(first[column].to_numpy())
    low, high = np.quantile(np.nan_to_num(second[column].to_numpy()), [0.05, 0.95])
    return float(((values >= low) & (values <= high)).mean())


def test_what_is_harmless_looks_like_what_is_not():
    assert overlap(ssh_brute_force(scene(), 500), admin_scripts(scene(), 500), "duration_s") > 0.5
    assert overlap(exfiltration(scene(), 500), uploads(scene(), 500), "src_payload_bytes") > 0.5
    harmless_calls = pa.concat_tables([call(scene()) for call in BENIGN_CALLS])
    assert overlap(beaconing(scene()), harmless_calls, "src_payload_bytes") > 0.5
