"""Verdicts on the files of a folder as rotation or a collector puts them there, each file whole and once."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, final

import pyarrow as pa

from wirebert.alerts.ecs import carried_columns
from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig, find_files, open_flows
from wirebert.errors import DataError, NoFlowsError, SchemaError, UserError
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import SourceProgress
from wirebert.inference.followed_log import Scoring
from wirebert.inference.log_archives import begins_as, open_plain
from wirebert.inference.predictions import predict_blocks

SETTLED_S: Final = 10.0
"""Seconds without a change after which a file is complete."""
_MAX_FINISHED: Final = 16_384


class _Version(NamedTuple):
    """A file as it is now."""

    inode: int
    size: int
    modified_ns: int


@final
class FollowedFolder:
    """Scores the complete files of a folder or glob, oldest first, by whatever reads them in `predict`.

    A file is known by how it begins, so renaming or packing it does not score it again.
    """

    is_over = False

    def __init__(self, place: str, progress: SourceProgress, scoring: Scoring) -> None:
        self.name, self.progress, self._scoring = place, progress, scoring
        self.fit: TrafficFit | None = None
        """Of the last file; None before the first."""
        finished: tuple[str, ...] = tuple((progress.position or {}).get("finished", ()))
        self._finished = dict.fromkeys(finished)
        self._known: dict[_Version, None] = {}
        """Files that need not be opened to know that they are finished."""

    def num_behind(self) -> int:
        """Bytes of the files that are not scored."""
        return sum(version.size for _, version in self._unknown())

    def tables(self) -> Generator[pa.Table]:
        """Verdicts on the next complete file; none if there is none. At the end, `progress` is behind it."""
        for path, version in self._unknown():
            if time.time() - version.modified_ns / 1e9 < SETTLED_S:
                return  # those that follow are newer
            beginning = f"damaged {version.inode}"
            try:
                if (opened := open_plain(path)) is None:
                    continue
                with opened[0] as file:
                    beginning = begins_as(file)
                if beginning not in self._finished:
                    yield from self._verdicts(path)
            except (DataError, SchemaError) as error:
                if not isinstance(error, NoFlowsError):  # logs of other kinds stand in such folders
                    self._scoring.tell([_unread(path, version.size, error)])
            self._known[version] = None
            if beginning not in self._finished:
                self._finish(beginning)
                return

    def under(self, detector: Detector) -> "FollowedFolder":
        """The same folder from here on under another model."""
        return FollowedFolder(self.name, self.progress, replace(self._scoring, detector=detector))

    def close(self) -> None:
        """Nothing is held."""

    def _verdicts(self, path: Path) -> Iterator[pa.Table]:
        detector, num_flows = self._scoring.detector, self.progress.num_flows
        config = DataConfig(allow_absent=detector.allow_absent)
        flows = open_flows(path, config, schema=detector.schema)
        fit = TrafficFit.of(detector.artifact.tokenizer, flows)
        fit.invalid_values.lines.keep = lambda row: self._scoring.keep(replace(row, file=str(path)))
        if self.fit is None or self.fit.opened != fit.opened:
            self._scoring.tell(fit.opened)
        self.fit = fit
        for table in predict_blocks(
            detector,
            flows,
            fit,
            explained=self._scoring.explained,
            context=self.progress.context,
            first_row=num_flows,
            carried=carried_columns(detector.schema.names),
        ):
            num_flows += table.num_rows
            if table.num_rows:
                yield table
        self._scoring.tell(fit.scored)
        self.progress = replace(self.progress, num_flows=num_flows)

    def _finish(self, beginning: str) -> None:
        self._finished[beginning] = None
        while len(self._finished) > _MAX_FINISHED:
            del self._finished[next(iter(self._finished))]
        self.progress = replace(self.progress, position={"finished": [*self._finished]})

    def _unknown(self) -> list[tuple[Path, _Version]]:
        """Files that may not be scored yet, oldest first."""
        found: list[tuple[Path, _Version]] = []
        try:
            paths = find_files(self.name)
        except DataError:  # none yet
            paths = ()
        for path in paths:
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path, _Version(status.st_ino, status.st_size, status.st_mtime_ns)))
        self._known = {version: None for _, version in found if version in self._known}
        found = [one for one in found if one[1] not in self._known]
        return sorted(found, key=lambda one: (one[1].modified_ns, str(one[0])))


def _unread(path: Path, num_bytes: int, error: UserError) -> Finding:
    return Finding(
        code="lost_lines",
        severity="warning",
        count=num_bytes,
        example=str(path),
        message=f"{path}: its flows have no verdicts: {error}",
    )
