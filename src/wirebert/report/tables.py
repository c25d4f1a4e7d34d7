"""The metrics of a report as tables for papers: LaTeX with intervals, and CSV with one figure a row."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

from wirebert.metrics.registry import METRICS
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.report.report import Report

_SPECIAL: Final = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)


def as_csv(report: Report) -> str:
    """One row per split, method, class (empty: all of them) and metric, with its 95 % interval."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["split", "method", "class", "metric", "value", "low", "high", "flows"])
    for split in report.splits:
        methods = report.methods(split)
        for method, metrics in methods.items():
            intervals = metrics.intervals
            for metric, value in metrics.headline.items():
                ends = ("", "") if intervals is None else intervals.rows.get(metric, ("", ""))
                rows.writerow([split, method, "", metric, value, *ends, metrics.num_flows])
            for name, row in metrics.per_class.items():
                own = {} if intervals is None else intervals.per_class.get(name, {})
                for metric in ("precision", "recall", "f1"):
                    ends = own.get(metric, ("", ""))
                    label = _no_formula(name)
                    rows.writerow([split, method, label, metric, getattr(row, metric), *ends, row.support])
    return text.getvalue()


def as_latex(report: Report) -> str:
    """A booktabs table per split: methods beside each other, intervals in small print."""
    parts = ["% \\usepackage{booktabs}"]
    for split in report.splits:
        methods = report.methods(split)
        first = next(iter(methods.values()))
        lines = [
            f"% {split}: {first.num_flows:,} flows, in brackets 95 % bootstrap intervals over flows",
            f"\\begin{{tabular}}{{l{'r' * len(methods)}}}",
            "\\toprule",
            " & ".join(["metric", *map(latex, methods)]) + r" \\",
            "\\midrule",
        ]
        for metric in first.headline:
            cells = [_cell(metrics, metric) for metrics in methods.values()]
            lines.append(" & ".join([latex(METRICS[metric].title), *cells]) + r" \\")
        parts.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, of cells that are escaped already.

    >>> print(markdown(["class", "F1"], [("dos", "0.9")]))
    | class | F1 |
    | --- | --- |
    | dos | 0.9 |
    """
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def latex(text: str) -> str:
    """The text with what LaTeX gives a meaning escaped.

    >>> print(latex("TPR at 1 % FPR_x"))
    TPR at 1 \\% FPR\\_x
    """
    return " ".join(text.translate(_SPECIAL).split())


def _cell(metrics: SplitMetrics, metric: str) -> str:
    if metric not in metrics.headline:
        return "--"
    ends = None if metrics.intervals is None else metrics.intervals.rows.get(metric)
    small = "" if ends is None else f" {{\\scriptsize [{ends[0]:.3f}, {ends[1]:.3f}]}}"
    return f"{metrics.headline[metric]:.3f}{small}"


def _no_formula(text: str) -> str:
    """A text that a spreadsheet would take for a formula, with an apostrophe before it."""
    return f"'{text}" if re.match(r"[=+\-@\t\r\n]", text) else text
