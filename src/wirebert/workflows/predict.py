"""`wirebert predict`: counts of its verdicts, and ending what reads on without an end."""

import signal
from collections import Counter
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

import wirebert
from wirebert.alerts.attack_techniques import AttackTechniques
from wirebert.alerts.ecs import EcsContext
from wirebert.decision.operating_point import ALERT, PASS, UNKNOWN
from wirebert.inference.artifact import Artifact

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end."""


@final
class VerdictCounts:
    """Flows of each predicted class by verdict, counted table by table."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """Predicted class and verdict (empty without a threshold) -> flows."""

    def add(self, table: pa.Table) -> None:
        """Count the verdicts of a table."""
        names = table.select([name for name in ("predicted_class", "verdict") if name in table.column_names])
        for row in names.group_by(names.column_names).aggregate([([], "count_all")]).to_pylist():
            self.counts[row["predicted_class"], row.get("verdict", "")] += row["count_all"]

    def to_table(self) -> Table:
        """The counts for a terminal: a row for each class, the largest first, then all."""
        verdicts = [name for name in (ALERT, UNKNOWN, PASS) if any(own == name for _, own in self.counts)]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="")  # no escapes beside verdicts
        table.add_column("predicted class", overflow="fold")
        for name in ("flows", *verdicts):
            table.add_column(name, justify="right", no_wrap=True)
        totals: Counter[str] = Counter()
        for (name, _), count in self.counts.items():
            totals[name] += count

        def row(title: str, classes: Collection[str]) -> list[Text]:
            flows = [sum(totals[name] for name in classes)]
            flows += [sum(self.counts[name, verdict] for name in classes) for verdict in verdicts]
            return [Text(title), *(Text(f"{count:,}") for count in flows)]

        for name, _ in totals.most_common():
            table.add_row(*row(name, [name]))
        if len(totals) > 1:
            table.add_row(*row("all", list(totals)))
        return table


def ecs_context(artifact: Artifact, techniques: Path | None) -> EcsContext:
    """What events say of the model; `techniques` is a user's table of classes.

    Raises:
        ConfigError: the table is not valid.
    """
    return EcsContext(
        model_sha256=artifact.sha256,
        benign=artifact.classes.benign,
        version=wirebert.__version__,
        techniques=AttackTechniques.load(techniques),
    )


@contextmanager
def until_asked(stop: Callable[[], None], on_hangup: Callable[[], None] | None = None) -> Generator[None]:
    """Within it, the first signal of `ENDING` calls `stop`; a second one ends at once.

    With `on_hangup`, SIGHUP calls that instead, each time.
    """

    def ask(number: int, _: object) -> None:
        if number == signal.SIGHUP and on_hangup is not None:
            on_hangup()
            return
        stop()
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # nohup
    try:
        for number in before:
            signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
