"""`Traffic`: opened data, before anything is trained or scored."""

import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias, cast, final
from weakref import finalize

import pyarrow as pa

from wirebert.api.settings import nested_settings
from wirebert.api.tables import TableData, TrafficSource, write_traffic
from wirebert.config import resolve_run
from wirebert.data.config import DataConfig
from wirebert.data.findings import Finding
from wirebert.data.flows import Flows, open_flows
from wirebert.errors import UserError
from wirebert.report.html.notebook import html_of_schema


@final
class Traffic:
    """Opened traffic: its format, and the meaning of its columns. `wirebert.open` gives it."""

    def __init__(self, data: TableData, config: DataConfig | None = None) -> None:
        self.source = _as_files(data, "table")
        """The files that hold it."""
        if self.source.folder is not None:
            finalize(self, shutil.rmtree, self.source.folder, ignore_errors=True)
        with _named(self.source):
            self.flows: Flows = open_flows(self.source.path, config)
        """The same for the functions behind the commands."""

    @property
    def columns(self) -> dict[str, str]:
        """Column -> its kind: number, category, label, ..."""
        return {column.name: column.kind.value for column in self.flows.schema.columns}

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a model reads."""
        return tuple(column.name for column in self.flows.schema.features)

    @property
    def label(self) -> str | None:
        """The label column; None: there is none."""
        return self.flows.schema.label

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was noticed while it was opened."""
        return self.flows.findings

    def blocks(self) -> Iterator[pa.Table]:
        """Typed Arrow tables in order, of bounded size: numbers are float64, other kinds text."""
        yield from self.flows.blocks()

    def __repr__(self) -> str:
        return (
            f"Traffic({self.flows.name!r}: {self.flows.described}, {len(self.columns)} columns, "
            f"{len(self.features)} of them features, label {self.label!r})"
        )

    def _repr_html_(self) -> str:  # pyright: ignore[reportUnusedFunction]
        return html_of_schema(repr(self), self.flows.schema)


TrafficData: TypeAlias = TableData | Traffic
"""What every function takes as data."""


@contextmanager
def traffic_source(data: TrafficData, name: str = "table") -> Generator[TrafficSource]:
    """The traffic as files; those of a table are deleted at the end.

    Raises:
        DataError: it is no table.
    """
    source = data.source if isinstance(data, Traffic) else _as_files(data, name)
    try:
        with _named(source):
            yield source
    finally:
        if source.folder is not None and not isinstance(data, Traffic):
            shutil.rmtree(source.folder, ignore_errors=True)


def open_traffic(data: TrafficData, **settings: object) -> Traffic:
    """Open traffic: detect its format, and what its columns mean.

    Args:
        data: a path, a pattern, a pandas, polars or Arrow table, or a list of records.
        settings: settings of the section `data` (docs/settings.md), such as `label`.

    Raises:
        UserError: it cannot be read.
    """
    given = (data.source.given or data.source.path) if isinstance(data, Traffic) else data
    return Traffic(cast(TableData, given), resolve_run(given=nested_settings(settings)).data)


def _as_files(data: TableData, name: str) -> TrafficSource:
    """The files of traffic; a table becomes one inside a new temporary folder."""
    if isinstance(data, str | Path):
        return TrafficSource(path=str(data))
    folder = Path(tempfile.mkdtemp(prefix="wirebert-"))
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        source = TrafficSource(path=str(write_traffic(data, folder, name)), given=data, folder=folder)
        undo.pop_all()
    return source


@contextmanager
def _named(source: TrafficSource) -> Generator[None]:
    """Errors name the table and not its temporary file."""
    try:
        yield
    except UserError as error:
        if source.folder is None:
            raise
        path = Path(source.path)
        raise type(error)(str(error).replace(str(path), f"the {path.stem}")) from error
