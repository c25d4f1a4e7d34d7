"""Context against a slow reference on random logs, however they are cut and wherever they stop and go on."""

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.context import FlowContext, context_columns, has_context
from wirebert.data.windows import ContextWindows

WINDOWS = ContextWindows(short_s=5, long_s=40, max_flows=12)
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


def hosts(letters: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([*letters, None]) if letters else st.none()


@st.composite
def logs(draw: st.DrawFn) -> list[Flow]:
    """Few hosts and ports; times that stand still, go on, come late, jump by days, or are missing."""
    time, flows = 1_000.0, list[Flow]()
    steps = st.sampled_from(
        [0.0, 0.0, 0.25, 1.0, 4.75, 5.0, 17.0, 40.0, -3.0, -50.0, 2.0 * DAY_S, -2.0 * DAY_S]
    )
    some = st.sampled_from([None, 0.0, 40.0, 1_500.0, 2e6])
    for step in draw(st.lists(steps, max_size=40)):
        time += step
        flows.append(
            (
                None if draw(st.integers(0, 19)) == 0 else time,
                draw(st.sampled_from("aabbc") if draw(st.integers(0, 19)) else st.none()),
                draw(st.sampled_from("abxxy") if draw(st.integers(0, 19)) else st.none()),
                draw(st.sampled_from([None, 22.0, 80.0])),
                draw(st.sampled_from(["SF", "REJ", None])),
                draw(some),
                draw(some),
            )
        )
    return flows


@given(logs())
def test_columns_equal_the_slow_reference(flows: list[Flow]):
    found = values_of(FlowContext(WINDOWS).append(table_of(flows)))
    expected = np.array([*slow_reference(flows, WINDOWS)]).reshape(-1, 19)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@given(logs(), st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_columns_are_the_same_however_the_log_is_cut_and_across_restarts(
    flows: list[Flow], cuts: list[int], restarts: bool
):
    table = table_of(flows)
    whole = values_of(FlowContext(WINDOWS).append(table))
    bounds = [0, *sorted(min(cut, len(flows)) for cut in cuts), len(flows)]
    context, parts = FlowContext(WINDOWS), list[np.ndarray]()
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        parts.append(values_of(context.append(table.slice(start, stop - start))))
        context = resumed(context) if restarts else context
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def resumed(context: FlowContext) -> FlowContext:
    """The context as a new process finds it in a file."""
    file = io.BytesIO()
    state = context.to_table()
    with pa.ipc.new_file(file, state.schema) as writer:
        writer.write_table(state)
    return FlowContext.from_table(pa.ipc.open_file(file.getvalue()).read_all())
