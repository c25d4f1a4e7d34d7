from io import StringIO

from rich.console import Console

from wirebert.alerts.incidents import Incident
from wirebert.alerts.suspects import Reason, Suspect, SuspectHost
from wirebert.workflows.hunt_terminal import print_hunt


def shown(suspect: Suspect, width: int) -> str:
    host = SuspectHost(
        source="2001:db8:0:0:0:0:dead:beef",
        score=40.25,
        num_unusual=46,
        num_flows=50,
        num_destinations=1,
        num_ports=46,
    )
    output = StringIO()
    print_hunt(Console(file=output, width=width), [host], [suspect], summary=["50 flows"])
    return output.getvalue()


def suspect(source: str = "10.0.0.1", first_s: float | int = 1_700_828_217.0) -> Suspect:
    incident = Incident(
        incident_id="i",
        source=source,
        class_name="scan",
        severity=47,
        first_s=first_s,
        last_s=first_s + 1,
        num_flows=46,
        num_destinations=1,
        num_ports=46,
        num_sources=1 if source else 300,
    )
    reason = Reason(feature="f", what="ports the source reached in 60 s", value="46", normal="about 2")
    return Suspect(
        incident=incident, score=40.25, what="46 ports of x", num_above=40, rows=(0,), reasons=(reason,)
    )


def test_a_group_is_readable_in_80_and_in_120_columns():
    for width in (80, 120):
        text = shown(suspect(), width)
        assert max(map(len, text.splitlines())) <= width
        assert "1. scan from 10.0.0.1, 2023-11-24 12:16:57 UTC, score 40.2" in text
        assert "46 ports of x (6 of 46 flows just below the threshold)" in text
        assert "about 2" in text


def test_many_sources_and_a_relative_clock_are_said():
    text = shown(suspect(source="", first_s=929.2), 80)
    assert "scan from 300 sources, second 929, score" in text
