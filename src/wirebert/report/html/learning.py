"""The page of `wirebert learn`: what is normal, and the most unusual later flows with reasons."""

from markupsafe import Markup

from wirebert.report.html.parts import disclosure, document, facts, heading, join, paragraph, table
from wirebert.report.html.script import policy
from wirebert.report.learning import LearningReport, learning_lines

NO_ADDRESS = "Addresses are in this report alone: the model folder has none."


def learning_page(report: LearningReport) -> str:
    """The page as HTML text; it runs no script and fetches nothing."""
    sections = [
        ("summary", "Summary", join(*(paragraph(f"{line}.") for line in learning_lines(report)))),
        ("unusual", "Most unusual later flows", _unusual(report)),
        ("normal", "Normal here", _normal(report)),
        ("provenance", "Provenance", _provenance(report)),
    ]
    return document(
        report.name,
        "wirebert learn",
        sections,
        about=f"seed {report.seed}, wirebert {report.versions.get('wirebert', '')}",
        policy=policy(),
    )


def _unusual(report: LearningReport) -> Markup:
    names = list(dict.fromkeys(name for flow in report.unusual for name in flow.columns))
    rows = [
        [
            f"{flow.score:.2f}",
            flow.verdict,
            f"{flow.num_equal:,}",
            *(flow.columns.get(name, "") for name in names),
            "; ".join(flow.reasons),
        ]
        for flow in report.unusual
    ]
    head = ("alert score", "verdict", "flows alike", *names, "reasons")
    return join(
        table("Most unusual later flows", head, rows, text=range(1, len(head)), hide_caption=True),
        paragraph(NO_ADDRESS, "faint"),
    )


def _normal(report: LearningReport) -> Markup:
    normal = report.normal
    parts = [
        join(
            heading(f"{one.column}: {one.num_distinct:,} different"),
            table(
                one.column,
                ("value", "flows", "share"),
                [[name, f"{n:,}", f"{n / max(1, normal.num_flows):.2%}"] for name, n in one.counts.items()],
                hide_caption=True,
            ),
        )
        for one in normal.columns
    ]
    if normal.flows_by_hour:
        rows = [[f"{hour}:00", f"{count:,}"] for hour, count in enumerate(normal.flows_by_hour)]
        hours = table("Flows by hour (UTC)", ("hour (UTC)", "flows"), rows, hide_caption=True)
        parts.append(disclosure("Flows by hour (UTC)", hours))
    return join(*parts)


def _provenance(report: LearningReport) -> Markup:
    told = {
        "files": ", ".join(report.files),
        "sha256": report.fingerprint,
        "command": report.command,
        "flows": f"{report.num_train:,} to learn from, {report.num_later:,} later ones for thresholds",
        **{f"{name} (s)": f"{seconds:.1f}" for name, seconds in report.timing.items()},
    }
    masked = [
        [name or "all", f"{one.accuracy:.3f}", f"{one.frequent_accuracy:.3f}", f"{one.loss:.3f}"]
        for name, one in report.columns.items()
    ]
    head = ("column", "predicted right", "most frequent value", "loss (nats)")
    return join(
        paragraph(report.split),
        facts("Provenance", told),
        disclosure(
            "Masked features of later flows", table("Masked features", head, masked, hide_caption=True)
        ),
    )
