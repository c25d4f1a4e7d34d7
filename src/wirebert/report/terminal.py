"""A report as terminal tables: readable at 80 columns, plain text when the output is no terminal."""

from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wirebert.metrics.intervals import Interval
from wirebert.metrics.registry import METRICS, headline_titles
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.metrics.student_gap import GAP_HEAD, SplitGap, gap_remarks, gap_rows
from wirebert.plurals import counted
from wirebert.report.report import FileUsage, Report
from wirebert.serialization import flatten

OFF_TARGET = "off target"
"""Mark of a rate whose target is outside its interval."""

_WIDE = 1000
"""Wider than any table."""


def print_report(report: Report, console: Console) -> None:
    """Per split, test data first: the headline metrics beside those of the baselines, then the classes."""
    for name, metrics in reversed(list(report.splits.items())):
        console.print(_methods(name, report, plain=not console.is_terminal))
        trees = report.trees(name)
        table = _classes(name, metrics, trees, plain=not console.is_terminal)
        if console.measure(table, options=console.options.update(width=_WIDE)).maximum > console.width:
            # Long class names need the room. The accuracy of a class is the least useful column, and
            # report.json has it.
            table = _classes(name, metrics, trees, plain=not console.is_terminal, with_accuracy=False)
        console.print(table)
        remarks: list[str] = []
        if report.teacher is not None and name in report.teacher.splits:
            console.print(_teacher(name, report.teacher.splits[name], plain=not console.is_terminal))
            remarks += gap_remarks(report.teacher, name)
        for line in [*remarks, *split_remarks(metrics), *format_file_usage(report.data.test_usage.get(name))]:
            console.print(Text(line))
        console.print()


def differing_settings(reports: Sequence[Report]) -> dict[str, tuple[str, ...]]:
    """Dotted setting -> its value in each run, for those that are not the same in all; a dash where a run has
    none."""
    flat = [{**dict(flatten(report.settings)), "seed": report.seed} for report in reports]
    names = dict.fromkeys(name for settings in flat for name in settings)
    values = {name: tuple(str(settings.get(name, "-")) for settings in flat) for name in names}
    return {name: row for name, row in values.items() if len(set(row)) > 1}


def split_remarks(metrics: SplitMetrics) -> list[str]:
    """Notes on how to read the metrics of a split."""
    lines: list[str] = []
    if metrics.classes_not_in_training:
        listed = ", ".join(f"{name} ({count:,})" for name, count in metrics.classes_not_in_training.items())
        lines.append(f"Classes not in training, always wrong here: {listed}.")
    if metrics.intervals and metrics.intervals.clusters:
        lines.append(
            f"Intervals: {100 * metrics.intervals.level:.0f} % bootstrap CI over flows; resampling the "
            f"{metrics.intervals.num_clusters} attack names instead: macro F1 "
            f"{interval(metrics.intervals.clusters['macro_f1'])}."
        )
    elif metrics.intervals:
        lines.append(f"Intervals: {100 * metrics.intervals.level:.0f} % bootstrap CI over flows.")
    if metrics.train_overlap is not None:
        seen, unseen = metrics.train_overlap.seen, metrics.train_overlap.unseen
        lines.append(
            "No flow is identical to a training flow after tokenisation."
            if not seen.num_flows
            else f"{counted(seen.num_flows, 'flow is', 'flows are')} identical to a training flow after "
            f"tokenisation (accuracy {seen.accuracy:.3f}, macro F1 {seen.macro_f1:.3f}); the other "
            f"{unseen.num_flows:,}: accuracy {unseen.accuracy:.3f}, macro F1 {unseen.macro_f1:.3f}."
        )
    if metrics.alert_score == "attack_and_novelty":
        lines.append("AUROC, thresholds and TPR at an FPR are of the attack score and novelty combined.")
    return lines


def format_file_usage(usage: FileUsage | None) -> list[str]:
    """How often a test file was used, by the test ledger of the folder; nothing for a file that is not a test
    file.

    >>> format_file_usage(FileUsage("ab" * 32, 2, 1))
    ['Used for 2 tests, with 1 set of settings (all runs in this folder).']
    """
    if usage is None or not usage.num_reads:
        return []
    tests, sets = counted(usage.num_reads, "test"), counted(usage.num_settings, "set")
    return [f"Used for {tests}, with {sets} of settings (all runs in this folder)."]


def side_by_side(value: str, ends: str) -> str:
    """A value and its interval in one cell."""
    return f"{value} {ends}".rstrip()


def metric_rows(
    methods: Iterable[SplitMetrics], cell: Callable[[str, str], str] = side_by_side
) -> list[tuple[str, ...]]:
    """Rows of a table: the title of a metric, and its value by each method; a dash where one has none.

    Args:
        cell: Joins a value and its interval, which is empty for an empty split.
    """
    columns = [deployed_rows(one) | _headline(one, cell) | tpr_rows(one) for one in methods]
    return [
        (METRICS[name].title if name in METRICS else name, *(column.get(name, "-") for column in columns))
        for name in columns[0]
    ]


def loss_row(methods: Iterable[SplitMetrics]) -> tuple[str, ...]:
    """The row of the loss, in the same form."""
    return ("loss (nats)", *("-" if one.loss is None else f"{one.loss:.3f}" for one in methods))


def class_rows(metrics: SplitMetrics) -> list[tuple[str, ...]]:
    """Rows of a table: class, flows, precision, recall and F1."""
    return [
        (label, f"{row.support:,}", f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}")
        for label, row in metrics.per_class.items()
    ]


def _headline(metrics: SplitMetrics, cell: Callable[[str, str], str]) -> dict[str, str]:
    """Headline figure -> value with its row interval."""
    rows = metrics.intervals.rows if metrics.intervals else {}
    return {
        name: cell(f"{value:.3f}", interval(rows[name]) if name in rows else "")
        for name, value in metrics.headline.items()
    }


def deployed_rows(metrics: SplitMetrics) -> dict[str, str]:
    """Figures at the threshold that is stored with the model, by their names for people."""
    point = metrics.deployed
    if point is None:
        return {}
    ends = "" if point.fpr_interval is None else f" {interval(point.fpr_interval, 4)}"
    rate = "-" if point.fpr is None else f"{point.fpr:.4f}{ends}{f' {OFF_TARGET}' * point.is_off_target}"
    return {
        f"FPR at the stored threshold (target {point.target_fpr:.4g})": rate,
        "TPR at the stored threshold": "-" if point.tpr is None else f"{point.tpr:.3f}",
    }


def tpr_rows(metrics: SplitMetrics) -> dict[str, str]:
    """Attack-or-not figures of the score, by their names for people."""
    if metrics.binary is None:
        return {}
    figures: dict[str, float | None] = {
        "true positive rate by class": metrics.binary.recall,
        "false positive rate by class": metrics.binary.false_positive_rate,
        "AUROC": metrics.binary.auroc,
    }
    for rate, detection in metrics.binary.tpr_at_fpr.items():
        figures[f"TPR at {100 * float(rate):.4g} % FPR (best threshold here)"] = detection
    return {name: "-" if value is None else f"{value:.3f}" for name, value in figures.items()}


def interval(ends: Interval, digits: int = 3) -> str:
    """An interval in brackets.

    >>> interval((0.51234, 0.6))
    '[0.512, 0.600]'
    """
    return f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def _methods(name: str, report: Report, *, plain: bool) -> Table:
    methods = report.methods(name)
    table = titled_table(f"{name}: {report.splits[name].num_flows:,} flows", plain=plain)
    table.add_column("metric")
    for title in methods:
        table.add_column(Text(title), justify="right", no_wrap=True)
    for row in (*metric_rows(methods.values()), loss_row(methods.values())):
        _add_row(table, *row, style="red" if row[1].endswith(OFF_TARGET) else "")
    return table


def _classes(
    name: str, metrics: SplitMetrics, trees: SplitMetrics | None, *, plain: bool, with_accuracy: bool = True
) -> Table:
    table = titled_table(f"{name}: classes", plain=plain)
    table.add_column("class", overflow="fold")
    columns = ["precision", "recall", "F1"] + ["trees' F1"] * bool(trees) + ["accuracy"] * with_accuracy
    for column in ("flows", *columns):
        table.add_column(column, justify="right", no_wrap=True)
    for row in class_rows(metrics):
        more = [f1_of(trees, row[0])] * bool(trees)
        more += [f"{metrics.per_class[row[0]].accuracy:.3f}"] * with_accuracy
        _add_row(table, *row, *more)
    return table


def _teacher(name: str, gap: SplitGap, *, plain: bool) -> Table:
    table = titled_table(f"{name}: student and teacher", plain=plain)
    for index, title in enumerate(GAP_HEAD):
        table.add_column(title, justify="right" if index else "left")
    for row in gap_rows(gap, headline_titles()):
        _add_row(table, *row)
    return table


def _add_row(table: Table, *cells: str, style: str = "") -> None:
    """Add the cells as plain text: a class called `[red]` is not markup."""
    table.add_row(*map(Text, cells), style=style)


def f1_of(metrics: SplitMetrics | None, label: str) -> str:
    """F1 of a class; a dash where there is none."""
    return "-" if metrics is None or label not in metrics.per_class else f"{metrics.per_class[label].f1:.3f}"


def titled_table(title: str, *, plain: bool) -> Table:
    """An empty table; `plain` where the output is no terminal."""
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.ASCII2 if plain else box.SIMPLE_HEAD,
        title_style="bold",
    )
