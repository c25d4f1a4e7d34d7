"""The metrics of a report as tables for papers: LaTeX with intervals, and CSV with one figure a row."""

import csv
import io
import re
from typing import Final

from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.report.report import Report, baseline_title
from wirebert.report.terminal import metric_title

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
    for split, methods in _methods(report).items():
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
    for split, methods in _methods(report).items():
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
            lines.append(" & ".join([latex(metric_title(metric)), *cells]) + r" \\")
        parts.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def latex(text: str) -> str:
    """The text with what LaTeX gives a meaning escaped.

    >>> print(latex("TPR at 1 % FPR_x"))
    TPR at 1 \\% FPR\\_x
    """
    return " ".join(text.translate(_SPECIAL).split())


def _methods(report: Report) -> dict[str, dict[str, SplitMetrics]]:
    """Split -> method -> its metrics there."""
    return {
        split: {"wirebert": metrics}
        | {
            baseline_title(key): one.splits[split]
            for key, one in report.baselines.items()
            if split in one.splits
        }
        for split, metrics in report.splits.items()
    }


def _cell(metrics: SplitMetrics, metric: str) -> str:
    if metric not in metrics.headline:
        return "--"
    ends = None if metrics.intervals is None else metrics.intervals.rows.get(metric)
    small = "" if ends is None else f" {{\\scriptsize [{ends[0]:.3f}, {ends[1]:.3f}]}}"
    return f"{metrics.headline[metric]:.3f}{small}"


def _no_formula(text: str) -> str:
    """A text that a spreadsheet would take for a formula, with an apostrophe before it."""
    return f"'{text}" if re.match(r"[=+\-@\t\r\n]", text) else text
