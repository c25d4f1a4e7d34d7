"""The part of a split's section on incidents, beside the same figures by flow."""

from markupsafe import Markup

from wirebert.metrics.incidents import IncidentMetrics
from wirebert.report.html.parts import heading, join, paragraph, table


def incident_part(name: str, metrics: IncidentMetrics | None) -> tuple[Markup, ...]:
    """What the alerts are, taken together as incidents; empty where that is not known."""
    if metrics is None:
        return ()
    rows = [
        ["flows", f"{metrics.num_alerts:,}", _share(metrics.flow_precision), _share(metrics.flow_recall), ""],
        [
            "incidents",
            f"{metrics.num_raised:,}",
            _share(metrics.precision),
            _share(metrics.recall),
            "" if metrics.per_day is None else f"{metrics.per_day:,.1f}",
        ],
    ]
    head = ("alerts by", "alerted", "precision", "recall", "a day")
    told = (
        "Alerts of one source and class without a gap of 5 minutes are one incident, if their joint score "
        "is at least 0.5. It counts as right if "
    )
    told += "at least half of its flows are attacks, and an attack as found if one of its flows is alerted"
    if metrics.time_to_alert_s is not None:
        told += f"; the first alert comes {metrics.time_to_alert_s:,.1f} s after its first flow (median)"
    return (
        heading("Incidents"),
        join(table(f"Incidents on {name}", head, rows, hide_caption=True), paragraph(f"{told}.", "faint")),
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
