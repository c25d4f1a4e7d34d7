"""Context against a slow reference on random logs, however they are cut and wherever they stop and go on."""

import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.checks.checks import validate
from wirebert.data.checks.profile import profile_table
from wirebert.data.config import DataConfig
from wirebert.data.context.context import FlowContext, context_columns, has_context, with_context
from wirebert.data.flows import open_flows
from wirebert.data.schema.library import write_schema
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.windows import ContextWindows
from wirebert.errors import ConfigError, SchemaError

WINDOWS = ContextWindows(short_s=5, long_s=40, max_flows=30)
DAY_S = 86_400

Flow = tuple[float | None, str | None, str | None, float | None, str | None, float | None, float | None]
FIELDS = ("ts", "src_ip", "dst_ip", "dst_port", "conn_state", "src_ip_bytes", "dst_ip_bytes")
TYPES = (pa.float64(), pa.string(), pa.string(), pa.float64(), pa.string(), pa.float64(), pa.float64())


def table_of(flows: Sequence[Flow]) -> pa.Table:
    columns = list(zip(*flows, strict=True)) or [()] * len(FIELDS)
    arrays = [pa.array(values, dtype) for values, dtype in zip(columns, TYPES, strict=True)]
    # Times stand in files as text.
    return pa.table(dict(zip(FIELDS, [arrays[0].cast(pa.string()), *arrays[1:]], strict=True)))


def slow_reference(flows: Sequence[Flow], windows: ContextWindows) -> Iterator[list[float]]:
    """The context of each flow, by looking at all flows before it."""
    log: list[tuple[float, Flow, float]] = []  # arrival, flow, gap
    now, last, latest = 0.0, None, 0.0
    for flow in flows:
        time, source, destination, port = flow[:4]
        if source is None or destination is None:
            yield [math.nan] * 19
            continue
        if time is not None:
            is_new = last is not None and time < last - DAY_S
            step = 0.0 if last is None else windows.long_s if is_new else max(0.0, time - latest)
            now += min(step, windows.long_s)
            last, latest = time, time if is_new or last is None else max(latest, time)
        inside = [
            [f for f in log[-windows.max_flows :] if f[0] > now - s]
            for s in (windows.short_s, windows.long_s)
        ]
        row: list[float] = []
        for seen in inside:
            ours = [f for _, f, _ in seen if f[1] == source]
            to = [f for _, f, _ in seen if f[2] == destination]
            failed = sum(f[4] == "REJ" for f in ours) / len(ours) if ours else math.nan
            row += [len(ours), len({f[2] for f in ours}), len({f[3] for f in ours}), failed]
            row += [
                sum(f[5] or 0 for f in ours),
                sum(f[6] or 0 for f in ours),
                len(to),
                len({f[1] for f in to}),
            ]
        channel = [f for f in inside[1] if f[1][1:4] == (source, destination, port)]
        gap = now - channel[-1][0] if channel else math.nan
        gaps = [g for _, _, g in [*channel, (now, flow, gap)] if not math.isnan(g)]
        sizes = [np.rint(256 * np.log2(1 + (f[5] or 0))) / 256 for f in [*(f for _, f, _ in channel), flow]]
        variation = float(np.std(gaps)) / float(np.mean(gaps)) if len(gaps) > 1 and sum(gaps) else 0.0
        yield [
            *row,
            gap,
            variation if len(gaps) > 1 else math.nan,
            float(np.std(sizes)) if len(sizes) > 1 else math.nan,
        ]
        log.append((now, flow, gap))


def values_of(table: pa.Table) -> np.ndarray:
    names = [column.name for column in context_columns(WINDOWS)]
    assert table.column_names[-len(names) :] == names
    return np.array([table.column(name).to_numpy() for name in names]).T


STEPS_S = [0.0, 0.0, 0.25, 0.25, 1.0, 1.0, 4.75, 5.0, 17.0, 40.0, -1.0, -3.0, -50.0]
JUMPS_S = [2.0 * DAY_S, -2.0 * DAY_S]


@st.composite
def logs(draw: st.DrawFn) -> list[Flow]:
    """Few hosts and ports; times that stand still, go on, come late, jump by days, or are missing."""
    generator = random.Random(draw(st.integers(0, 2**32)))
    pick, time, flows = generator.choice, 1_000.0, list[Flow]()
    for _ in range(draw(st.integers(0, 80))):
        time += pick(JUMPS_S if generator.random() < 0.02 else STEPS_S)
        flows.append(
            (
                time if generator.random() < 0.95 else None,
                pick("aaabbbc") if generator.random() < 0.95 else None,
                pick("axxxy") if generator.random() < 0.95 else None,
                pick([None, 22.0, 80.0]),
                pick(["SF", "REJ", None]),
                pick([None, 0.0, 40.0, 1_500.0, 2e6]),
                pick([None, 0.0, 40.0, 1_500.0, 2e6]),
            )
        )
    return flows


@given(logs(), st.sampled_from([3, 1_000]))
def test_columns_equal_the_slow_reference(flows: list[Flow], max_flows: int):
    windows = replace(WINDOWS, max_flows=max_flows)
    found = values_of(FlowContext(windows).append(table_of(flows)))
    expected = np.array([*slow_reference(flows, windows)]).reshape(-1, 19)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@given(logs(), st.lists(st.integers(0, 80), max_size=6), st.booleans())
def test_columns_are_the_same_however_the_log_is_cut_and_across_restarts(
    flows: list[Flow], cuts: list[int], restarts: bool
):
    table = table_of(flows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wirebert.data.context.context._BATCH", 2)  # so that keys are forgotten at this size
        cut = values_of(FlowContext(WINDOWS).append(table))
    whole = values_of(FlowContext(WINDOWS).append(table))
    bounds = [0, *sorted(min(cut, len(flows)) for cut in cuts), len(flows)]
    context, parts = FlowContext(WINDOWS), list[np.ndarray]()
    for start, stop in pairwise(bounds):
        parts.append(values_of(context.append(table.slice(start, stop - start))))
        context = resumed(context) if restarts else context
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(cut, whole)


def resumed(context: FlowContext) -> FlowContext:
    """The context as a new process finds it in a file."""
    file = io.BytesIO()
    state = context.to_table()
    with pa.ipc.new_file(file, state.schema) as writer:
        writer.write_table(state)
    return FlowContext.from_table(pa.ipc.open_file(file.getvalue()).read_all())


@pytest.mark.slow
def test_hosts_that_left_the_window_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wirebert.data.context.context._BATCH", 100)
    context = FlowContext(ContextWindows(short_s=1, long_s=10))
    sizes = list[int]()
    for start in range(0, 30_000, 1_000):
        # A new source every hundredth of a second: 1,000 of them in any 10 seconds.
        flows = [
            (number / 100, f"h{number}", "x", 80.0, "SF", 1.0, 1.0) for number in range(start, start + 1_000)
        ]
        context.append(table_of(flows))
        sizes.append(context.size_bytes)
    assert max(sizes[5:]) < 2 * sizes[3]


def test_a_table_without_times_or_addresses_comes_back_as_it_is():
    table = pa.table({"ts": ["1"], "src_ip": ["a"], "dst_port": [80.0]})
    assert FlowContext(WINDOWS).append(table) is table
    assert not has_context(table.column_names)


def test_context_that_a_table_brings_is_replaced_by_what_its_flows_say():
    table = table_of([(1.0, "a", "x", 80.0, "SF", 1.0, 1.0)] * 2)
    made_up = table.append_column("ctx_src_flows_5s", pa.array([9.0, 9.0]))
    assert FlowContext(WINDOWS).append(made_up).equals(FlowContext(WINDOWS).append(table))


def test_a_scan_stands_out_and_a_beacon_has_no_variation():
    """Sixty flows, one a second: each looks like any, their context does not."""
    scan = [(float(at), "a", f"h{at}", 22.0, "REJ", 40.0, 40.0) for at in range(60)]
    found = FlowContext(ContextWindows()).append(table_of(scan))
    assert found.column("ctx_src_dst_hosts_60s").to_pylist() == list(range(60))
    assert found.column("ctx_src_dst_ports_60s").to_pylist()[1:] == [1.0] * 59
    beacon = [(60.0 * at, "a", "x", 443.0, "SF", 300.0, 500.0) for at in range(5)]
    found = FlowContext(ContextWindows()).append(table_of(beacon))
    assert found.column("ctx_channel_gap_s").to_pylist() == [None, 60.0, 60.0, 60.0, 60.0]
    assert found.column("ctx_channel_gap_variation").to_pylist() == [None, None, 0.0, 0.0, 0.0]
    assert found.column("ctx_channel_size_variation").to_pylist() == [None, 0.0, 0.0, 0.0, 0.0]


def test_missing_is_null_as_in_every_typed_table():
    found = FlowContext(WINDOWS).append(table_of([(1.0, None, "x", 80.0, "SF", 1.0, 1.0)]))
    assert found.column("ctx_src_flows_5s").null_count == 1


def write_log(path: Path, num_flows: int) -> Path:
    """A table of flows with times and addresses, of more than a megabyte."""
    generator = np.random.default_rng(0)
    hosts = generator.integers(0, 30, (2, num_flows)).tolist()
    lines = [
        f"{1.7e9 + at / 8:.3f},10.0.0.{source},10.0.1.{destination},{22 + at % 3},{'padding' * 30},{at % 2}"
        for at, source, destination in zip(range(num_flows), *hosts, strict=True)
    ]
    path.write_text("\n".join(["ts,src_ip,dst_ip,dst_port,note,label", *lines]) + "\n")
    return path


def test_training_and_scoring_read_equal_columns(tmp_path: Path):
    """The windows travel with the schema; blocks of another size and a log in two files change nothing."""
    path = write_log(tmp_path / "flows.csv", 20_000)
    config = DataConfig(context=True, context_short_s=10, context_long_s=300, block_mb=1)
    trained = open_flows(path, config)
    tables = list(trained.blocks())
    assert len(tables) > 1
    names = [column.name for column in context_columns(ContextWindows(short_s=10, long_s=300))]
    assert [column.name for column in trained.schema.features][-19:] == names
    assert trained.absent == ()
    schema = FlowSchema.from_dict(trained.schema.to_dict())
    lines = path.read_text().splitlines(keepends=True)
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "1.csv").write_text("".join(lines[:7_001]))
    (folder / "2.csv").write_text("".join([lines[0], *lines[7_001:]]))
    for data in (path, folder):
        scored = pa.concat_tables(open_flows(data, schema=schema).blocks())
        for name in names:
            assert scored.column(name).to_pylist() == pa.concat_tables(tables).column(name).to_pylist()
    assert trained.schema.positional_names(6) == ("ts", "src_ip", "dst_ip", "dst_port", "note", "label")


def test_a_scored_table_without_times_lacks_the_columns_and_says_so(tmp_path: Path):
    schema = open_flows(write_log(tmp_path / "flows.csv", 50), DataConfig(context=True)).schema
    (tmp_path / "other.csv").write_text("src_ip,dst_ip,dst_port\n10.0.0.1,10.0.0.2,80\n")
    flows = open_flows(tmp_path / "other.csv", schema=schema)
    assert set(schema.names) > set(flows.absent) >= {"ctx_channel_gap_s"}
    assert next(iter(flows.blocks())).column_names == ["src_ip", "dst_ip", "dst_port"]


def test_context_is_off_for_tables_unless_asked_for_and_says_what_it_needs(tmp_path: Path):
    path = write_log(tmp_path / "flows.csv", 50)
    assert open_flows(path).schema.context is None
    (tmp_path / "other.csv").write_text("tss,src_ip,dst_ip,dst_port\n1,10.0.0.1,10.0.0.2,80\n")
    with pytest.raises(
        SchemaError,
        match=r"data\.context needs times and addresses, there is no column 'ts', did you mean 'tss'",
    ):
        open_flows(tmp_path / "other.csv", DataConfig(context=True))
    with pytest.raises(ConfigError, match=r"data\.context_short_s must be at least 1, data\.context_long_s"):
        DataConfig(context_short_s=60, context_long_s=60)


def test_context_is_on_for_sensors_logs(data_dir: Path):
    flows = open_flows(data_dir / "sensors" / "zeek-tsv")
    assert flows.schema.context == ContextWindows()
    table = next(iter(flows.blocks()))
    assert {column.name for column in context_columns(ContextWindows())} <= set(table.column_names)
    assert open_flows(data_dir / "sensors" / "zeek-tsv", DataConfig(context=False)).schema.context is None


def test_columns_of_these_names_in_the_table_are_left_as_they_are():
    schema = FlowSchema(
        name="own", columns=(Column(name="ctx_channel_gap_s", kind=ColumnKind.NUMBER, is_feature=True),)
    )
    assert with_context(schema, WINDOWS) is schema


def test_what_is_missing_alike_or_all_different_in_context_is_no_finding(tmp_path: Path):
    seen = profile_table(open_flows(write_log(tmp_path / "flows.csv", 200), DataConfig(context=True)))
    assert any(column.num_missing for column in seen.columns if column.name == "ctx_channel_gap_s")
    found = {finding.column or "" for finding in validate(seen, None)}
    assert not [name for name in found if seen.schema.is_context(name)]


def test_context_can_be_left_out_of_a_schema_that_has_it(tmp_path: Path):
    log = write_log(tmp_path / "flows.csv", 20)
    write_schema(open_flows(log, DataConfig(context=True)).schema, tmp_path / "own.toml")
    own = str(tmp_path / "own.toml")
    assert open_flows(log, DataConfig(schema=own)).schema.context is not None
    bare = open_flows(log, DataConfig(schema=own, context=False)).schema
    assert (bare.context, bare.names) == (None, open_flows(log, DataConfig(context=False)).schema.names)
