"""The dashboard: layout of the training state on a screen of any size.

This module knows neither terminal nor clock: the same state at the same time gives the same lines.
"""

from collections.abc import Sequence
from datetime import timedelta
from math import floor
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from wirebert.telemetry.events import EpochEvent, ResourceEvent
from wirebert.telemetry.sparkline import Sparkline
from wirebert.telemetry.state import DashboardState

PLAIN: Final = Style()
BOLD: Final = Style(bold=True)
DIM: Final = Style(dim=True)
GOOD: Final = Style(color="green")
CURVE: Final = Style(color="cyan")
WARNING: Final = Style(color="yellow")

Line = list[Segment]
MIN_WIDTH: Final = 80
MIN_HEIGHT: Final = 24
PANEL_HEIGHT: Final = 10
CHART_HEIGHT: Final = 10
"""Height of the smallest chart."""

TABLE_HEIGHT: Final = 12
COLUMN_WIDTH: Final = 11
WIDE: Final = 150
"""Minimum width for three charts side by side."""

ROW_WIDTH: Final = 40
"""Maximum width of a name and its value; a wider gap is hard to read."""

AXIS_WIDTH: Final = 8
LOG_FROM: Final = 10.0
"""A loss is drawn on a logarithmic axis if its highest value is this many times the lowest."""

SHORTEST_BAR: Final = 8
GIB: Final = 2.0**30
UNKNOWN: Final = "-"


class Row(NamedTuple):
    """A name and its value."""

    name: str
    value: str


class CurvePanel(NamedTuple):
    """A panel with one curve."""

    title: str
    value: str
    sparkline: Sparkline | None
    is_share: bool = False
    may_be_log: bool = False


def frame(state: DashboardState, width: int, height: int, now_s: float) -> list[Line]:
    """The state as `height` lines of `width` characters.

    From 80 x 24 on all panels are shown; more room goes to the curves and a table of evaluations. A smaller
    screen shows one value per line, as many as fit.
    """
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        validation = [Row(f"validation {row.name}", row.value) for row in validation_rows(state)[:3]]
        body = [
            _row(row, min(width, ROW_WIDTH))
            for row in (*validation, *training_rows(state), *machine_rows(state.resource))
        ]
    else:
        body = _body(state, width, height - 4)
    room = max(0, height - 4)
    body = [*body[:room], *([] for _ in range(room - len(body)))]
    head = [_header(state, width), _progress(state, width, now_s)]
    lines = [*head, *body, _note(state), [Segment(f" {state.hint}", DIM)]][:height]
    return [Segment.adjust_line_length(line, width, PLAIN) for line in lines]


def _body(state: DashboardState, width: int, height: int) -> list[Line]:
    """Charts, panels of values, and evaluations if there is room."""
    thirds = _parts(width, 3)
    panels = [
        _box(title, [_row(row, min(third - 4, ROW_WIDTH)) for row in rows], third, PANEL_HEIGHT)
        for third, (title, rows) in zip(
            thirds,
            {
                "training": training_rows(state),
                "validation": validation_rows(state),
                "machine": machine_rows(state.resource),
            }.items(),
            strict=True,
        )
    ]
    rest = height - PANEL_HEIGHT
    table_height = TABLE_HEIGHT if rest >= 2 * CHART_HEIGHT + TABLE_HEIGHT else 0
    per_row = 3 if width >= WIDE else 2
    charts = _charts(state)
    num_rows = min((rest - table_height) // CHART_HEIGHT, -(-len(charts) // per_row))
    lines: list[Line] = []
    for index, part in enumerate(_parts(rest - table_height, num_rows)):
        chosen = charts[index * per_row : (index + 1) * per_row]
        lines += _side_by_side(
            [
                _chart(chart, chart_width, part)
                for chart, chart_width in zip(chosen, _parts(width, per_row), strict=False)
            ]
        )
    lines += _side_by_side(panels)
    if table_height:
        lines += _box("evaluations", _table(state.evaluations, table_height - 2), width, table_height)
    return lines


def training_rows(state: DashboardState) -> list[Row]:
    """Metrics of the last steps."""
    step = state.step
    names = ("loss", "accuracy", "backbone LR", "classifier LR")
    names += ("gradient norm", "loss scale", "rows/s", "tokens/s")
    if step is None:
        return [Row(name, UNKNOWN) for name in names]
    values = (
        f"{step.loss:.4f}",
        f"{step.accuracy:.4f}",
        _short(step.lr_backbone),
        _short(step.lr_classifier),
        _short(step.grad_norm),
        f"{step.loss_scale:g}",
        f"{step.rows_per_s:,.0f}",
        f"{step.tokens_per_s:,.0f}",
    )
    return [Row(name, value) for name, value in zip(names, values, strict=True)]


def validation_rows(state: DashboardState) -> list[Row]:
    """Metrics of the last evaluation and of the best one."""
    last, best = state.epoch, state.best
    return [
        Row("loss", UNKNOWN if last is None else f"{last.valid_loss:.4f}"),
        Row("accuracy", UNKNOWN if last is None else f"{last.valid_accuracy:.4f}"),
        Row("macro-F1", UNKNOWN if last is None else f"{last.valid_macro_f1:.4f}"),
        Row("after epoch", UNKNOWN if last is None else f"{last.epoch:.4g}"),
        Row("best loss", UNKNOWN if best is None else f"{best.valid_loss:.4f}"),
        Row("best macro-F1", UNKNOWN if best is None else f"{best.valid_macro_f1:.4f}"),
        Row("best epoch", UNKNOWN if best is None else f"{best.epoch:.4g}"),
    ]


def machine_rows(resource: ResourceEvent | None) -> list[Row]:
    """Resource usage; rows of the GPU only if there is one."""
    if resource is None:
        return [Row("CPU", UNKNOWN), Row("memory", UNKNOWN), Row("free disk", UNKNOWN)]
    rows = [
        Row("CPU", f"{_percent(resource.cpu_share)} (run {_percent(resource.process_cpu_share)})"),
        Row("memory", _gib(resource.resident_bytes)),
        Row("free disk", _gib(resource.disk_free_bytes)),
    ]
    if resource.gpu_memory_total_bytes is not None:
        used = _gib(resource.gpu_memory_used_bytes).removesuffix(" GiB")
        rows += [
            Row("GPU", _percent(resource.gpu_share)),
            Row("GPU memory", f"{used}/{_gib(resource.gpu_memory_total_bytes)}"),
            Row("this run", _gib(resource.gpu_memory_allocated_bytes)),
            Row("GPU power", UNKNOWN if resource.gpu_power_w is None else f"{resource.gpu_power_w:.0f} W"),
            Row(
                "GPU temperature",
                UNKNOWN if resource.gpu_temperature_c is None else f"{resource.gpu_temperature_c:.0f} °C",
            ),
        ]
    return rows


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.0f} %"


def _gib(size_bytes: int | None) -> str:
    if size_bytes is None:
        return UNKNOWN
    gib = size_bytes / GIB
    return f"{gib:,.0f} GiB" if gib >= 100 else f"{gib:.1f} GiB"


def _charts(state: DashboardState) -> list[CurvePanel]:
    """Curves, the most important first."""
    traces, step, epoch, resource = state.sparklines, state.step, state.epoch, state.resource
    has_gpu = "gpu_share" in traces
    share = None if resource is None else (resource.gpu_share if has_gpu else resource.cpu_share)
    return [
        CurvePanel("loss", f"{step.loss:.4f}" if step else "", traces.get("loss"), may_be_log=True),
        CurvePanel(
            "validation loss",
            f"{epoch.valid_loss:.4f}" if epoch else "after the first evaluation",
            traces.get("valid_loss"),
            may_be_log=True,
        ),
        CurvePanel(
            "validation macro-F1",
            f"{epoch.valid_macro_f1:.4f}" if epoch else "",
            traces.get("valid_macro_f1"),
        ),
        CurvePanel("backbone LR", _short(step.lr_backbone) if step else "", traces.get("lr_backbone")),
        CurvePanel("rows/s", f"{step.rows_per_s:,.0f}" if step else "", traces.get("rows_per_s")),
        CurvePanel(
            "GPU" if has_gpu else "CPU",
            _percent(share),
            traces.get("gpu_share" if has_gpu else "cpu_share"),
            is_share=True,
        ),
    ]


def _chart(chart: CurvePanel, width: int, height: int) -> list[Line]:
    """A curve in a box with the limits of its axes."""
    trace, rows, columns = chart.sparkline, height - 2, width - 4 - AXIS_WIDTH
    title = f"{chart.title} {chart.value}".rstrip()
    if trace is None or not trace.values:
        return _box(title, [], width, height)
    low, high = min(trace.values), max(trace.values)
    is_log = chart.may_be_log and low > 0 and high > LOG_FROM * low
    ends = {rows // 2: high} if high == low else {0: high, rows - 1: low}
    lines = [
        [Segment(f"{_tick(ends.get(index), chart.is_share):>{AXIS_WIDTH - 1}} ", DIM), Segment(dots, CURVE)]
        for index, dots in enumerate(trace.draw(columns, rows, is_log=is_log))
    ]
    scale = ", logarithmic" if is_log else ""
    foot = f"step {floor(trace.steps[0]):,} to {floor(trace.steps[-1]):,}{scale}"
    return _box(title, lines, width, height, foot)


def _tick(value: float | None, is_share: bool) -> str:
    if value is None:
        return ""
    return _percent(value) if is_share else _short(value)


def _short(value: float) -> str:
    """A number in at most seven characters.

    >>> [_short(value) for value in (0.0, 0.00299, 0.02151, 1.73, 12_345.6, 1_234_567.0)]
    ['0', '3.0e-3', '0.0215', '1.73', '12,346', '1.2e+6']
    """
    if 0 < abs(value) < 1e-2 or abs(value) >= 1e6:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(evaluations: Sequence[EpochEvent], num_rows: int) -> list[Line]:
    """The latest evaluations, one per line, the newest last."""
    heads = ("epoch", "step", "train loss", "loss", "accuracy", "macro-F1")
    lines = [[Segment("".join(f"{head:>{COLUMN_WIDTH}}" for head in heads), DIM)]]
    for event in list(evaluations)[1 - num_rows :]:
        values = (event.train_loss, event.valid_loss, event.valid_accuracy, event.valid_macro_f1)
        texts = (f"{event.epoch:.4g}", f"{event.step:,}", *(f"{value:.4f}" for value in values))
        best = Segment("  best" if event.is_best else "", GOOD)
        lines.append([Segment("".join(f"{text:>{COLUMN_WIDTH}}" for text in texts)), best])
    return lines


def _header(state: DashboardState, width: int) -> Line:
    start, title = state.start, f" wirebert {state.title} "
    what = ""
    if start is not None and width >= MIN_WIDTH:
        what = (
            f"{start.num_train:,} flows, {start.num_parameters:,} parameters, {start.precision} on "
            f"{start.device} "
        )
    room = max(0, width - len(what))
    if cell_len(title) > room:
        title = f"{set_cell_size(title, max(0, room - 2))}… "
    return [*Segment.adjust_line_length([Segment(title, BOLD)], room, PLAIN), Segment(what, DIM)]


def _progress(state: DashboardState, width: int, now_s: float) -> Line:
    start, step = state.start, state.step
    if start is None:
        return [Segment(" waiting for training to start", DIM)]
    done = step.step if step is not None else start.step
    epoch = step.epoch if step is not None else 0.0
    left_s = state.left_s(now_s)
    left = "-:--:-- left" if left_s is None else f"{_duration(left_s)} left"
    if state.end is not None:
        left = "stopped early" if state.end.stopped_early else "done"
    before = f" epoch {epoch:.2f}/{start.num_epochs}  "
    after = f"  {done:,}/{start.num_steps:,}  elapsed {_duration(state.elapsed_s(now_s))}  {left} "
    room = width - len(before) - len(after)
    if room < SHORTEST_BAR:
        return [Segment(f"{before}{left}")]
    full = min(room, round(room * done / max(1, start.num_steps)))
    return [Segment(before), Segment("━" * full, GOOD), Segment("━" * (room - full), DIM), Segment(after)]


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _note(state: DashboardState) -> Line:
    return [Segment(f" {state.note}", WARNING if state.is_warning else PLAIN)]


def _row(row: Row, width: int) -> Line:
    value = f" {row.value}"
    name = Segment.adjust_line_length([Segment(row.name)], max(0, width - len(value)), PLAIN)
    return [*name, Segment(value, BOLD)]


def _box(title: str, body: Sequence[Line], width: int, height: int, foot: str = "") -> list[Line]:
    """Lines in a frame of this size, with a title and optionally a footer."""
    inner = width - 4
    head = f"─ {title[: inner - 2]} "
    below = f" {foot[: inner - 2]} ─" if foot else ""
    lines: list[Line] = [
        [
            Segment("╭", DIM),
            Segment("─ ", DIM),
            Segment(head[2:]),
            Segment("─" * (width - 2 - len(head)) + "╮", DIM),
        ]
    ]
    for index in range(height - 2):
        content = body[index] if index < len(body) else []
        lines.append(
            [
                Segment("│ ", DIM),
                *Segment.adjust_line_length(content, inner, PLAIN),
                Segment(" │", DIM),
            ]
        )
    lines.append([Segment("╰" + "─" * (width - 2 - len(below)) + below + "╯", DIM)])
    return lines


def _side_by_side(boxes: Sequence[list[Line]]) -> list[Line]:
    """Boxes of the same height, side by side."""
    return [[segment for line in lines for segment in line] for lines in zip(*boxes, strict=True)]


def _parts(whole: int, num_parts: int) -> list[int]:
    """Split a length into nearly equal parts.

    >>> _parts(80, 3)
    [26, 27, 27]
    """
    return [whole * (index + 1) // num_parts - whole * index // num_parts for index in range(num_parts)]
