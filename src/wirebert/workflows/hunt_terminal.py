"""Unusual hosts and groups of flows for the terminal, readable in 80 columns."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wirebert.alerts.suspects import Suspect, SuspectHost

_YEAR_S = 31_536_000.0


def print_hunt(
    console: Console, hosts: Sequence[SuspectHost], suspects: Sequence[Suspect], *, summary: Sequence[str]
) -> None:
    """Print the summary, the hosts, then each group with its reasons."""
    for line in summary:
        console.print(Text(line), soft_wrap=False)
    if hosts:
        console.print(_hosts(hosts))
    for rank, suspect in enumerate(suspects, 1):
        console.print()
        for line in _lines(rank, suspect):
            console.print(line)


def _hosts(hosts: Sequence[SuspectHost]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("host", overflow="fold", min_width=15)
    for name in ("score", "unusual flows", "of", "hosts", "ports"):
        table.add_column(name, justify="right", no_wrap=True)
    for host in hosts:
        counts = (host.num_unusual, host.num_flows, host.num_destinations, host.num_ports)
        cells = [f"{host.score:.1f}", *(f"{count:,}" for count in counts)]
        table.add_row(Text(host.source or "unknown"), *map(Text, cells))
    return table


def _lines(rank: int, suspect: Suspect) -> Iterator[Text | Padding]:
    incident = suspect.incident
    source = incident.source or (
        f"{incident.num_sources:,} sources" if incident.num_sources > 1 else "unknown"
    )
    head = Text(f"{rank}. {incident.class_name}", style="bold")
    head.append(
        f" from {source}, {_time_text(incident.first_s)}, score {suspect.score:.1f}", style="not bold"
    )
    yield head
    below = incident.num_flows - suspect.num_above
    among = (
        f" ({below:,} of {incident.num_flows:,} flows just below the threshold)"
        if 0 < below < incident.num_flows
        else ""
    )
    yield Padding(Text(suspect.what + among), (0, 0, 0, 3))
    if suspect.reasons:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("main evidence, least usual flow", overflow="fold", ratio=None)
        table.add_column("here", justify="right", overflow="fold")
        if any(reason.normal for reason in suspect.reasons):
            table.add_column("nearest normal flow", overflow="fold")
        for reason in suspect.reasons:
            table.add_row(*map(Text, (reason.what, reason.value, reason.normal)[: len(table.columns)]))
        yield Padding(table, (0, 0, 0, 3))


def _time_text(time_s: float) -> str:
    """Date and time, or seconds of a clock that does not count from 1970."""
    if time_s < _YEAR_S:
        return f"second {time_s:,.0f}"
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
