"""What a monitor reads side by side: growing files, folders, standard input, partitions of Kafka topics."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.findings import Finding
from wirebert.errors import ConfigError
from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import SourceProgress
from wirebert.inference.followed_folder import FollowedFolder
from wirebert.inference.followed_log import FollowedLog, Scoring, check_followable
from wirebert.inference.line_source import StreamedLines, piped_lines
from wirebert.inference.tail import Position, Tail

if TYPE_CHECKING:
    from wirebert.inference.kafka_topic import KafkaTopic


Followed = FollowedLog | FollowedFolder
"""One source: what it is called, how far it is scored, and the verdicts on what comes next."""


class Lag(NamedTuple):
    """How far a source is behind."""

    num_behind: int
    """Bytes, or messages of Kafka."""
    seconds: float
    """Since all that was there was scored."""


@final
class Sources:
    """All sources of a monitor.

    Args:
        places: paths of logs, folders, globs, `-`, and `kafka://BROKERS/TOPIC?group=NAME`.
        saved: name of a source -> how far it was scored.

    Raises:
        DataError: a log is missing or cannot be followed.
        ConfigError: a place is not valid.
    """

    def __init__(self, places: Sequence[str], saved: Mapping[str, SourceProgress], scoring: Scoring) -> None:
        self._scoring, self._saved = scoring, dict(saved)
        self._followed: dict[str, Followed] = {}
        self._topics: list[KafkaTopic] = []
        self._up_to_date_at: dict[str, float] = {}
        if len(set(places)) < len(places):
            raise ConfigError("monitor: a source is named twice; name each once")
        for place in places:
            if place.startswith("kafka://"):
                self._subscribe(place)
            else:
                self._follow(place)

    @property
    def are_over(self) -> bool:
        """Whether nothing more will come of any of them."""
        return not self._topics and all(one.is_over for one in self._followed.values())

    def poll(self) -> tuple[Followed, ...]:
        """The sources as they are now: partitions of a topic come and go."""
        for topic in self._topics:
            topic.poll()
        return tuple(self._followed.values())

    def progress(self) -> dict[str, SourceProgress]:
        """How far each is scored, and was scored where it is not here now."""
        return {**self._saved, **{name: one.progress for name, one in self._followed.items()}}

    def commit(self, saved: Mapping[str, SourceProgress]) -> None:
        """Tell Kafka how far was scored and written."""
        counts = {
            name: (one.position["offset"], one.num_flows)
            for name, one in saved.items()
            if one.position is not None and "base" in one.position
        }
        for topic in self._topics:
            topic.commit(counts)

    def lags(self) -> dict[str, Lag]:
        """How far each source is behind."""
        now, lags = time.monotonic(), dict[str, Lag]()
        for name, one in self._followed.items():
            num_behind = one.num_behind()
            if not num_behind:
                self._up_to_date_at[name] = now
            lags[name] = Lag(num_behind, now - self._up_to_date_at.setdefault(name, now))
        return lags

    def reload(self, detector: Detector) -> None:
        """Go on under another model.

        Raises:
            UserError: a source does not fit it; then all go on under the old one.
        """
        if detector.schema.context != self._scoring.detector.schema.context:
            raise ConfigError("the model has other context windows; start again with another --state")
        followed = {name: one.under(detector) for name, one in self._followed.items()}
        self._followed, self._scoring = followed, replace(self._scoring, detector=detector)

    def close(self) -> None:
        """Close all of them."""
        for one in (*self._followed.values(), *self._topics):
            one.close()

    def _follow(self, place: str) -> None:
        name = "stdin" if place == "-" else place
        progress = self._saved.get(name) or SourceProgress.fresh(self._scoring.detector.schema)
        if place == "-":
            self._followed[name] = FollowedLog(piped_lines(sys.stdin.buffer), progress, self._scoring)
        elif Path(place).is_dir() or any(letter in place for letter in "*?["):
            self._followed[name] = FollowedFolder(place, progress, self._scoring)
        else:
            check_followable(Path(place))
            position = None if progress.position is None else Position.from_plain(progress.position)
            tail = Tail(Path(place), position, lambda lost: self._scoring.tell([_lost(lost)]))
            progress = replace(progress, position=tail.saved_position)
            self._followed[name] = FollowedLog(tail, progress, self._scoring)

    def _subscribe(self, place: str) -> None:
        from wirebert.alerts.kafka import KafkaPlace
        from wirebert.inference.kafka_topic import KafkaTopic

        saved = {
            name: {**one.position, "num_flows": one.num_flows}
            for name, one in self._saved.items()
            if one.position is not None and "base" in one.position
        }
        self._topics.append(KafkaTopic(KafkaPlace.parse(place), saved, self._open, self._close))

    def _open(self, lines: StreamedLines, num_flows: int, identity: str) -> None:
        saved = self._saved.get(lines.name)
        progress = SourceProgress.fresh(self._scoring.detector.schema, identity)
        if saved is not None and saved.position == lines.saved_position:
            progress = saved
        progress = replace(progress, position=lines.saved_position, num_flows=num_flows, identity=identity)
        self._followed[lines.name] = FollowedLog(lines, progress, self._scoring)

    def _close(self, name: str) -> None:
        if (gone := self._followed.pop(name, None)) is not None:
            self._saved[name] = gone.progress
            gone.close()


def with_keys(table: pa.Table, source: Followed) -> pa.Table:
    """The verdict records with the source that they come from, and an id of each flow."""
    digest = sha256(f"{source.name}\0{source.progress.identity}".encode()).hexdigest()[:16]
    rows = table.column("row").cast(pa.string())
    ids = pc.binary_join_element_wise(pa.scalar(digest), rows, "-")
    files = pa.repeat(source.name, table.num_rows)
    table = table.drop_columns(["file"]) if "file" in table.column_names else table
    return table.add_column(1, "file", files).append_column("event_id", ids)


def _lost(message: str) -> Finding:
    return Finding(code="lost_lines", severity="warning", message=message)
