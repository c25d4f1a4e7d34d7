"""The dashboard: how the picture of a training fills a screen of any size.

Nothing here knows a terminal or a clock: the same picture at the same moment gives the same lines.
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
"""Of the smallest chart worth a row of its own."""

TABLE_HEIGHT: Final = 12
COLUMN_WIDTH: Final = 10
WIDE: Final = 150
"""From this width on, three charts stand side by side."""

ROW_WIDTH: Final = 40
"""Of a figure with its name at most: further apart, the eye loses the line."""

AXIS_WIDTH: Final = 8
LOG_FROM: Final = 10.0
"""A loss whose highest value is this many times the lowest is drawn over a logarithmic axis."""

SHORTEST_BAR: Final = 8
GIB: Final = 2.0**30
UNKNOWN: Final = "-"


class Row(NamedTuple):
    """One figure."""

    name: str
    value: str


class CurvePanel(NamedTuple):
    """One curve."""

    title: str
    value: str
    sparkline: Sparkline | None
    is_share: bool = False
    may_be_log: bool = False


def frame(picture: DashboardState, width: int, height: int, now_s: float) -> list[Line]:
    """The picture as `height` lines that are each `width` characters wide.

    From 80 x 24 on everything has its place, and the room beyond that goes to the curves and a table of
    evaluations. On a smaller screen the figures stand one a line, and what finds no room is left out.
    """
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        judged = [Row(f"validation {row.name}", row.value) for row in validation_rows(picture)[:3]]
        body = [
            _row(row, min(width, ROW_WIDTH))
            for row in (*judged, *training_rows(picture), *machine_rows(picture.resource))
        ]
    else:
        body = _body(picture, width, height - 4)
    room = max(0, height - 4)
    body = [*body[:room], *([] for _ in range(room - len(body)))]
    head = [_header(picture, width), _progress(picture, width, now_s)]
    lines = [*head, *body, _note(picture), [Segment(f" {picture.hint}", DIM)]][:height]
    return [Segment.adjust_line_length(line, width, PLAIN) for line in lines]


def _body(picture: DashboardState, width: int, height: int) -> list[Line]:
    """Charts, panels of figures, and evaluations where there is room."""
    thirds = _parts(width, 3)
    panels = [
        _box(title, [_row(row, min(third - 4, ROW_WIDTH)) for row in rows], third, PANEL_HEIGHT)
        for third, (title, rows) in zip(
            thirds,
            {
                "training": training_rows(picture),
                "validation": validation_rows(picture),
                "machine": machine_rows(picture.resource),
            }.items(),
            strict=True,
        )
    ]
    rest = height - PANEL_HEIGHT
    table_height = TABLE_HEIGHT if rest >= 2 * CHART_HEIGHT + TABLE_HEIGHT else 0
    per_row = 3 if width >= WIDE else 2
    charts = _charts(picture)
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
        lines += _box("evaluations", _table(picture.evaluations, table_height - 2), width, table_height)
    return lines


def training_rows(picture: DashboardState) -> list[Row]:
    """How the steps go."""
    step = picture.step
    names = ("loss", "accuracy", "backbone rate", "classifier rate")
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


def validation_rows(picture: DashboardState) -> list[Row]:
    """How the last evaluation went, and the best."""
    last, best = picture.epoch, picture.best
    return [
        Row("loss", UNKNOWN if last is None else f"{last.valid_loss:.4f}"),
        Row("accuracy", UNKNOWN if last is None else f"{last.valid_accuracy:.4f}"),
        Row("macro-F1", UNKNOWN if last is None else f"{last.valid_macro_f1:.4f}"),
        Row("after epoch", UNKNOWN if last is None else f"{last.epoch:.4g}"),
        Row("best loss", UNKNOWN if best is None else f"{best.valid_loss:.4f}"),
        Row("its macro-F1", UNKNOWN if best is None else f"{best.valid_macro_f1:.4f}"),
        Row("its epoch", UNKNOWN if best is None else f"{best.epoch:.4g}"),
    ]


def machine_rows(resource: ResourceEvent | None) -> list[Row]:
    """What the training takes of the machine; the GPU's rows only where there is one."""
    if resource is None:
        return [Row("CPU", UNKNOWN), Row("memory", UNKNOWN), Row("disk left", UNKNOWN)]
    rows = [
        Row("CPU", f"{_percent(resource.cpu_share)} (run {_percent(resource.process_cpu_share)})"),
        Row("memory", _gib(resource.resident_bytes)),
        Row("disk left", _gib(resource.disk_free_bytes)),
    ]
    if resource.gpu_memory_total_bytes is not None:
        used = _gib(resource.gpu_memory_used_bytes).removesuffix(" GiB")
        rows += [
            Row("GPU", _percent(resource.gpu_share)),
            Row("GPU memory", f"{used}/{_gib(resource.gpu_memory_total_bytes)}"),
            Row("by this run", _gib(resource.gpu_memory_allocated_bytes)),
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


def _charts(picture: DashboardState) -> list[CurvePanel]:
    """Curves, those that matter most first."""
    traces, step, epoch, resource = picture.sparklines, picture.step, picture.epoch, picture.resource
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
        CurvePanel(
            "learning rate, backbone", _short(step.lr_backbone) if step else "", traces.get("lr_backbone")
        ),
        CurvePanel("rows/s", f"{step.rows_per_s:,.0f}" if step else "", traces.get("rows_per_s")),
        CurvePanel(
            "GPU" if has_gpu else "CPU",
            _percent(share),
            traces.get("gpu_share" if has_gpu else "cpu_share"),
            is_share=True,
        ),
    ]


def _chart(chart: CurvePanel, width: int, height: int) -> list[Line]:
    """A boxed curve with the ends of its axes written beside it."""
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
    """The latest evaluations, one a line, the newest last."""
    heads = ("epoch", "step", "train loss", "loss", "accuracy", "macro-F1")
    lines = [[Segment("".join(f"{head:>{COLUMN_WIDTH}}" for head in heads), DIM)]]
    for event in list(evaluations)[1 - num_rows :]:
        figures = (event.train_loss, event.valid_loss, event.valid_accuracy, event.valid_macro_f1)
        texts = (f"{event.epoch:.4g}", f"{event.step:,}", *(f"{figure:.4f}" for figure in figures))
        best = Segment("  best so far" if event.is_best else "", GOOD)
        lines.append([Segment("".join(f"{text:>{COLUMN_WIDTH}}" for text in texts)), best])
    return lines


def _header(picture: DashboardState, width: int) -> Line:
    start, title = picture.start, f" wirebert {picture.title} "
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


def _progress(picture: DashboardState, width: int, now_s: float) -> Line:
    start, step = picture.start, picture.step
    if start is None:
        return [Segment(" waiting for the training to begin", DIM)]
    done = step.step if step is not None else start.step
    epoch = step.epoch if step is not None else 0.0
    left_s = picture.left_s(now_s)
    left = "-:--:-- left" if left_s is None else f"{_duration(left_s)} left"
    if picture.end is not None:
        left = "stopped early" if picture.end.stopped_early else "done"
    before = f" epoch {epoch:.2f}/{start.num_epochs}  "
    after = f"  {done:,}/{start.num_steps:,}  {_duration(picture.elapsed_s(now_s))} gone  {left} "
    room = width - len(before) - len(after)
    if room < SHORTEST_BAR:
        return [Segment(f"{before}{left}")]
    full = min(room, round(room * done / max(1, start.num_steps)))
    return [Segment(before), Segment("━" * full, GOOD), Segment("━" * (room - full), DIM), Segment(after)]


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _note(picture: DashboardState) -> Line:
    return [Segment(f" {picture.note}", WARNING if picture.is_warning else PLAIN)]


def _row(row: Row, width: int) -> Line:
    value = f" {row.value}"
    name = Segment.adjust_line_length([Segment(row.name)], max(0, width - len(value)), PLAIN)
    return [*name, Segment(value, BOLD)]


def _box(title: str, body: Sequence[Line], width: int, height: int, foot: str = "") -> list[Line]:
    """Lines in a frame of exactly this size, with a title above and perhaps words below."""
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
    """Boxes of one height, side by side."""
    return [[segment for line in lines for segment in line] for lines in zip(*boxes, strict=True)]


def _parts(whole: int, num_parts: int) -> list[int]:
    """A length in nearly equal parts.

    >>> _parts(80, 3)
    [26, 27, 27]
    """
    return [whole * (index + 1) // num_parts - whole * index // num_parts for index in range(num_parts)]
