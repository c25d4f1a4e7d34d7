"""`Evaluation`: the metrics of a detector, for programs and notebooks."""

from dataclasses import dataclass
from pathlib import Path

from wirebert.report.html.notebook import html_of_report
from wirebert.report.report import Report
from wirebert.report.tables import as_csv, as_latex


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Metrics of a detector on one or several splits."""

    report: Report
    """Everything: per class, intervals, curves, findings, baselines. `report.to_json()` is report.json."""
    page: Path | None = None
    """The report as a page with charts, if there is one."""

    @property
    def metrics(self) -> dict[str, float]:
        """The headline metrics of the last split, by name; fractions are in [0, 1]."""
        return dict(list(self.report.splits.values())[-1].headline)

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """Class -> precision, recall, F1 and number of flows, of the last split."""
        split = list(self.report.splits.values())[-1]
        return {
            name: {"precision": row.precision, "recall": row.recall, "f1": row.f1, "num_flows": row.support}
            for name, row in split.per_class.items()
        }

    def to_csv(self) -> str:
        """Every metric with its interval, one a row, of every split, method and class."""
        return as_csv(self.report)

    def to_latex(self) -> str:
        """A booktabs table of each split: the headline metrics with intervals, beside the baselines."""
        return as_latex(self.report)

    def __repr__(self) -> str:
        name, split = list(self.report.splits.items())[-1]
        figures = ", ".join(f"{metric} {value:.3f}" for metric, value in self.metrics.items())
        return f"Evaluation({name}: {split.num_flows:,} flows, {figures})"

    def _repr_html_(self) -> str:
        return html_of_report(self.report)
