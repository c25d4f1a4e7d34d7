"""Tables for notebooks, which have no style sheet of ours: what a detector, metrics and traffic show of
themselves."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from wirebert.data.findings import Finding
from wirebert.data.schema.schema import FlowSchema
from wirebert.report.html.parts import facts, join, paragraph, table
from wirebert.report.report import Report
from wirebert.report.terminal import class_rows, metric_rows, split_remarks


def html_of_facts(title: str, named: Mapping[str, str]) -> Markup:
    """Names and values."""
    return join(paragraph(title), facts(title, named))


def html_of_schema(title: str, schema: FlowSchema, findings: Sequence[Finding] = ()) -> Markup:
    """The columns, with what they mean, then the findings."""
    columns = [
        (column.name, column.kind.value, "yes" if column.is_feature else "no", column.note)
        for column in schema.columns
    ]
    told = [
        (finding.severity, finding.code, finding.column or "", f"{finding.count:,}", finding.message)
        for finding in findings
    ]
    head = ("severity", "finding", "column", "rows", "what is wrong, and what to do")
    return join(
        paragraph(title),
        table("Columns", ("column", "kind", "feature", "note"), columns, text=(1, 2, 3)),
        table("Findings", head, told, text=(1, 2, 4)) if told else "",
    )


def html_of_report(report: Report) -> Markup:
    """The metrics of each split beside those of the baselines, then its classes."""
    parts: list[str] = []
    for name, metrics in report.splits.items():
        methods = report.methods(name)
        parts += [
            table(
                f"{name}: {metrics.num_flows:,} flows", ("metric", *methods), metric_rows(methods.values())
            ),
            table(f"{name}: classes", ("class", "flows", "precision", "recall", "F1"), class_rows(metrics)),
            *(paragraph(line) for line in split_remarks(metrics)),
        ]
    return join(*parts)
