# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.synthetic.network import Network
from wirebert.data.synthetic.wire import FLAGS, Scene, bursts, calls, connections, same, scattered, texts


def scene(place: int = 1) -> Scene:
    return Scene(Network(0), np.random.default_rng(0), place / 3, (place + 1) / 3)


def some_connections(count: int, states: dict[str, float]) -> pa.Table:
    here, ones = scene(), np.ones(count, np.int64)
    return connections(
        here, ones * 1.0, ones, ones, ones, service=same("http", count), duration_s=ones * 2.0,
        sent=ones * 400.0, received=ones * 9_000.0, states=states, uri=same("/", count),
    )  # fmt: skip


def test_flags_follow_from_how_the_connection_ended():
    found = some_connections(300, {"SF": 0.5, "S0": 0.3, "REJ": 0.2})
    pairs = set(zip(found["conn_state"].to_pylist(), found["tcp_flags"].to_pylist(), strict=True))
    assert pairs == {(state, FLAGS[state]) for state in ("SF", "S0", "REJ")}


def test_an_answered_connection_has_content_and_packets_for_it():
    row = some_connections(1, {"SF": 1.0}).to_pylist()[0]
    assert (row["service"], row["uri"], row["src_payload_bytes"], row["dst_payload_bytes"]) == (
        "http",
        "/",
        400,
        9_000,
    )
    assert row["dst_packets"] > row["src_packets"] > 3


def test_a_silent_connection_has_neither_answer_nor_content():
    found = some_connections(200, {"S0": 1.0})
    assert found["service"].null_count == found["uri"].null_count == 200
    assert pc.max(found["dst_packets"]).as_py() == 0
    once = found.filter(pc.equal(found["src_packets"], 1))
    assert once["duration_s"].null_count == once["src_payload_bytes"].null_count == once.num_rows > 0


def test_bursts_stay_in_their_span_and_each_is_short():
    here = scene()
    burst, time_s = bursts(here, 1_000, mean_size=50, gap_s=0.01)
    start_s, stop_s = here.span_s
    assert ((time_s >= start_s) & (time_s < stop_s)).all()
    assert len(time_s) == 1_000
    for index in np.unique(burst):
        assert np.ptp(time_s[burst == index]) < 30


def test_a_burst_too_long_for_its_span_is_quickened():
    here = scene()
    _, time_s = bursts(here, 300, mean_size=300, gap_s=10_000)
    assert time_s.max() < here.span_s[1]


def test_calls_keep_their_beat_from_block_to_block():
    tables = [
        calls(
            scene(place), Network(0).beacons, jitter=0.0, size_spread=0.1, received=300, received_spread=0.1
        )
        for place in range(3)
    ]
    found = pa.concat_tables(tables)
    for source, period_s in zip(Network(0).beacons.source, Network(0).beacons.period_s, strict=True):
        times_s = np.sort(found.filter(pc.equal(found["source"], int(source)))["time_s"].to_numpy())
        assert np.allclose(np.diff(times_s), period_s, atol=0.01)


def test_values_are_scattered_in_order():
    found = scattered(pa.array(["a", "b"]), np.array([False, True, False, True]))
    assert found.to_pylist() == [None, "a", None, "b"]


def test_empty_text_means_missing():
    assert texts(np.array(["a", ""])).to_pylist() == ["a", None]
