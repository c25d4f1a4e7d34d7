"""`wirebert monitor`: verdicts, alerts and incidents of what grows; start reading at `monitor`."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Final, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.alerts.counts import MonitorCounts
from wirebert.alerts.ecs import EcsContext
from wirebert.alerts.incident_records import IncidentSettings
from wirebert.alerts.incidents import IncidentTracker
from wirebert.alerts.outputs import Batch, Outputs, Target
from wirebert.alerts.suppression import Suppressions
from wirebert.data.accounting import RejectedRow
from wirebert.data.findings import Finding, Severity
from wirebert.errors import ConfigError, DataError, UserError
from wirebert.files import try_lock
from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import MonitorState, read_state, write_state
from wirebert.inference.followed_log import Scoring
from wirebert.inference.rejected_rows import rejected_line
from wirebert.inference.sources import Followed, Sources, with_keys
from wirebert.shapes import Bool
from wirebert.workflows.predict import ecs_context

POLL_S: Final = 0.5
"""Seconds between two looks at idle sources."""
_SAVE_S: Final = 1.0
_SAVING_SHARE: Final = 0.05
_TEST_S: Final = 15.0
_ERRORS = ("sink_down", "spool_full", "state_unsaved", "reload_refused", "output_changed")

Tell = Callable[[Iterable[Finding]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorSettings:
    """What a monitor writes where, and how flows become incidents."""

    targets: tuple[Target, ...]
    state: Path | None = None
    """Folder of positions, open incidents, rejected rows and what waits for remote targets."""
    spool_mb: int = 1024
    """Most megabytes that wait for each remote target."""
    heartbeat_s: float = 60.0
    suppressions: Path | None = None
    techniques: Path | None = None
    """Table of classes, severities and ATT&CK techniques; None: the built-in one."""
    incidents: IncidentSettings = field(default_factory=IncidentSettings)
    explained: Literal["alerts", "all"] | None = None

    def __post_init__(self) -> None:
        if self.state is None and any(target.is_spooled or target.is_file for target in self.targets):
            raise ConfigError("monitor: expected --state DIR for positions and what waits, got none")
        if self.spool_mb < 1 or not self.heartbeat_s > 0:
            raise ConfigError("monitor: --spool-mb must be at least 1 and --heartbeat above 0")


@dataclass(frozen=True, slots=True)
class Requests:
    """What signals ask for."""

    stop: Event = field(default_factory=Event)
    reload: Event = field(default_factory=Event)


def monitor(
    load: Callable[[], Detector],
    places: Sequence[str],
    settings: MonitorSettings,
    requests: Requests,
    tell: Tell,
    on_status: Callable[[Mapping[str, object]], None] = lambda _: None,
) -> int:
    """Score what comes until asked to stop, or until standard input ends; the number of flows.

    Positions are saved after what was scored is written. So each flow is in a file exactly once, and goes to
    other targets at least once, with the same `event_id`.

    Raises:
        DataError: a source or the state cannot be read, or a target is in use.
        ConfigError: a target, a source or a file of settings is not valid.
    """
    detector, desk = load(), None
    with ExitStack() as stack:
        stack.enter_context(
            _removed_if_refused(settings, lambda: desk is not None and desk.counts.flows.total() > 0)
        )
        state = _open_state(settings, detector, stack)
        desk = _Desk(detector, settings, state, requests, tell, on_status)
        stack.enter_context(closing(desk.outputs))
        has_incidents = any("incidents" in target.contents for target in settings.targets)
        explained = settings.explained or ("incidents" if has_incidents else None)
        scoring = Scoring(
            detector=detector, tell=tell, keep=desk.keep, explained=explained, stop=requests.stop
        )
        sources = stack.enter_context(closing(Sources(places, state.sources, scoring)))
        desk.save(sources, must=True)  # before the first verdict: from now on the files are ours
        try:
            while not requests.stop.is_set() and not sources.are_over:
                has_read = False
                for source in sources.poll():
                    has_read |= _score_next(source, desk, sources)
                    desk.save(sources)
                desk.tick(sources, is_idle=not has_read)
                if requests.reload.is_set():
                    requests.reload.clear()
                    desk.reload(load, sources)
                if not has_read:
                    requests.stop.wait(POLL_S)
            desk.end(sources)
        except InterruptedError as error:  # what could not be written is scored again later
            desk.tell_event("sink_down", str(error))
        for source in sources.poll():
            tell(source.fit.scored if source.fit is not None else ())
        return desk.counts.flows.total()


@contextmanager
def _removed_if_refused(settings: MonitorSettings, has_verdicts: Callable[[], bool]) -> Generator[None]:
    """Within it, an error of the user before the first verdict leaves no file and no state that it made."""
    made = [Path(target.place) for target in settings.targets if target.is_file]
    made = [path for path in (*made, settings.state) if path is not None and not os.path.lexists(path)]
    try:
        yield
    except UserError:
        for path in made if not has_verdicts() else ():
            if path == settings.state:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file() and not path.stat().st_size:
                path.unlink()
        raise


def send_test_event(load: Callable[[], Detector], settings: MonitorSettings, tell: Tell) -> None:
    """Write one event to each target, and return when it is delivered.

    Raises:
        DataError: a target did not take it.
    """
    detector, left = load(), list[str]()
    with ExitStack() as stack:
        state = _open_state(settings, detector, stack)
        desk = _Desk(detector, settings, state, Requests(), tell, lambda _: None)
        with closing(desk.outputs) as outputs:
            outputs.write_health("test", {"message": "wirebert monitor was asked for a test event"})
            deadline = time.monotonic() + _TEST_S
            while left := [name for name, one in outputs.spools.items() if one.num_waiting_bytes]:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            if settings.state is not None:
                write_state(settings.state / "monitor.state", replace(state, outputs=outputs.ends()))
    if left:
        raise DataError(
            f"--to {left[0]}: took no test event within {_TEST_S:.0f} s; check its address and the receiver"
        )


def _score_next(source: Followed, desk: "_Desk", sources: Sources) -> bool:
    """Score and write the next flows of a source; False if there are none."""
    before = reached = source.progress
    for table in source.tables():
        if source.progress is not reached:  # all that is written is before it
            reached = source.progress
            desk.write_rejected()
            desk.save(sources)
        desk.write(source, table, sources)
        desk.tick(sources, is_idle=False)
    desk.write_rejected()
    return source.progress is not before


def _open_state(settings: MonitorSettings, detector: Detector, stack: ExitStack) -> MonitorState:
    if settings.state is None:
        return MonitorState()
    settings.state.mkdir(parents=True, exist_ok=True)
    lock = stack.enter_context((settings.state / "lock").open("wb"))
    if not try_lock(lock):
        raise DataError(f"--state {settings.state}: another monitor uses it; stop it first or choose another")
    return read_state(settings.state / "monitor.state", detector.schema)


@final
class _Desk:
    """Turns verdicts into events, writes them, and remembers how far it came."""

    def __init__(
        self,
        detector: Detector,
        settings: MonitorSettings,
        state: MonitorState,
        requests: Requests,
        tell: Tell,
        on_status: Callable[[Mapping[str, object]], None],
    ) -> None:
        self._detector, self._settings, self._tell, self._on_status = detector, settings, tell, on_status
        self.tell_event = _teller(tell)
        self.counts = MonitorCounts()
        self._suppressions, self._context = self._read_settings(detector)
        techniques = self._context.techniques
        benign = detector.artifact.classes.benign
        self._tracker = (
            IncidentTracker(settings.incidents, techniques, benign=benign)
            if state.incidents is None
            else IncidentTracker.from_state(settings.incidents, state.incidents, techniques, benign=benign)
        )
        self.outputs = Outputs(
            settings.targets,
            state.outputs,
            settings.state,
            settings.spool_mb << 20,
            requests.stop,
            self.tell_event,
        )
        self._rejected: list[bytes] = []
        self._heard_at: dict[str, float] = {}
        """Source -> when it last had flows."""
        now = time.monotonic()
        self._beat_at = self._status_at = self._read_at = self._started = now
        self._latency_s = 0.0
        self._saved_at, self._took_s = -1e9, 0.0
        self._saved: MonitorState | None = None
        tell(self._suppressions.findings())

    def keep(self, row: RejectedRow) -> None:
        """Count a row that has no verdict, and write it later."""
        self.counts.num_rejected += 1
        if self._settings.state is not None:
            self._rejected.append(rejected_line(row))

    def write(self, source: Followed, table: pa.Table, sources: Sources) -> None:
        """Write what comes of some verdicts."""
        now, gap_s = time.monotonic(), self._settings.incidents.gap_s
        self._heard_at[source.name] = now
        behind = [
            name
            for name, lag in sources.lags().items()
            if lag.num_behind and now - self._heard_at.get(name, now) < gap_s
        ]
        records = with_keys(table, source)
        is_alert = _is_alert(records, self._detector.artifact.classes.benign)
        rows = np.flatnonzero(is_alert)
        hidden = rows[self._suppressions.hides(records.filter(pa.array(is_alert)))]
        is_alert[hidden] = False
        self.counts.num_suppressed += len(hidden)
        seen = np.ones(len(is_alert), np.bool_)
        seen[hidden] = False
        seen_records = records.filter(pa.array(seen)) if len(hidden) else records
        incidents = self._tracker.add(seen_records, source.name, behind)
        if self._settings.explained is None and "explanation" in records.column_names:
            records = records.drop_columns(["explanation"])  # that of incidents alone
        self.outputs.write(Batch(records=records, is_alert=is_alert, incidents=incidents), self._context)
        self.counts.add(source.name, records, is_alert, self._context.benign)
        self._latency_s = time.monotonic() - self._read_at

    def write_rejected(self) -> None:
        """Write the rows without a verdict of the last piece."""
        rows, self._rejected = self._rejected, []
        if rows and self._settings.state is not None:
            self.outputs.write_rejected(self._settings.state / "rejected.jsonl", rows)

    def tick(self, sources: Sources, *, is_idle: bool) -> None:
        """Write a heartbeat when it is time, and close incidents that became quiet."""
        now = time.monotonic()
        if not is_idle:
            self._read_at = now
        elif now - self._read_at > self._settings.incidents.gap_s and not self._tracker.is_empty:
            self._write_incidents(self._tracker.advance(self._tracker.watermark_s + now - self._read_at))
        if now - self._status_at >= 1.0 or now - self._beat_at >= self._settings.heartbeat_s:
            self._status_at = now
            status, drift = self._status(sources), self._detector.drift_status()
            self._on_status({**status, "drift": drift})
            if now - self._beat_at >= self._settings.heartbeat_s:
                self._beat_at = now
                self.outputs.write_health("heartbeat", status)

    def save(self, sources: Sources, *, must: bool = False) -> None:
        """Save how far everything is written, often enough to lose little work and rarely enough to cost
        little."""
        now = time.monotonic()
        if not must and now - self._saved_at < max(_SAVE_S, self._took_s / _SAVING_SHARE):
            return
        try:
            state = MonitorState(
                sources=sources.progress(), outputs=self.outputs.ends(), incidents=self._tracker.state()
            )
            if self._settings.state is not None and state != self._saved:
                write_state(self._settings.state / "monitor.state", state)
        except OSError as error:
            self._saved_at = now
            self.tell_event("state_unsaved", f"the state cannot be saved ({error.strerror}); trying again")
            return
        if state != self._saved:
            sources.commit(state.sources)
        self._saved, self._saved_at = state, time.monotonic()
        self._took_s = self._saved_at - now
        if self.outputs.follow_rotation():
            self.save(sources, must=True)

    def end(self, sources: Sources) -> None:
        """Close incidents that no later run would, say good-bye, and save."""
        if sources.are_over or self._settings.state is None:
            self._write_incidents(self._tracker.close_all())
        self.outputs.write_health("stopped", self._status(sources))
        self.save(sources, must=True)

    def reload(self, load: Callable[[], Detector], sources: Sources) -> None:
        """Go on under the model and the settings as they are on disk now, if all of them are valid."""
        try:
            detector = load()
            suppressions, context = self._read_settings(detector)
            sources.reload(detector)
        except UserError as error:
            self.tell_event("reload_refused", f"the old model and suppressions go on: {error}")
            return
        self._detector, self._suppressions, self._context = detector, suppressions, context
        self.tell_event("reloaded", f"model {context.model_sha256[:12]} and its settings are loaded")

    def _read_settings(self, detector: Detector) -> tuple[Suppressions, EcsContext]:
        hidden = self._settings.suppressions
        context = ecs_context(detector.artifact, self._settings.techniques)
        return Suppressions() if hidden is None else Suppressions.load(hidden), context

    def _write_incidents(self, incidents: Sequence[Any]) -> None:
        if incidents:
            nothing = pa.table({"row": pa.array([], pa.int64())})
            empty = Batch(records=nothing, is_alert=np.zeros(0, np.bool_), incidents=incidents)
            self.outputs.write(empty, self._context)

    def _status(self, sources: Sources) -> dict[str, object]:
        lags, found = sources.lags(), self._detector.cache_counts
        routed = self._detector.routed or (0, 0)
        return {
            **self.counts.to_dict(len(self._detector.artifact.tokenizer.slots)),
            "incidents_open": self._tracker.num_open,
            "incidents_by_class": dict(self._tracker.opened),
            "lag": {name: lag._asdict() for name, lag in lags.items()},
            "latency_s": self._latency_s,
            "cache_share": found[0] / max(1, found[1]),
            "routed_share": routed[0] / max(1, routed[1]),
            "targets": {name: one.status for name, one in self.outputs.spools.items()},
            "drift_moved": self._detector.drift_status().get("moved", 0),
            "model_sha256": self._context.model_sha256,
            "uptime_s": time.monotonic() - self._started,
        }


def _is_alert(records: pa.Table, benign: str | None) -> Bool[np.ndarray, " flows"]:
    """Whether a flow is to be looked at."""
    if "verdict" in records.column_names:
        wanted = pc.is_in(records.column("verdict"), value_set=pa.array(["alert", "unknown"]))
    else:
        wanted = pc.not_equal(records.column("predicted_class"), pa.scalar(benign or "", pa.string()))
    return np.array(wanted.to_numpy(zero_copy_only=False), np.bool_)


def _teller(tell: Tell) -> Callable[[str, str], None]:
    """Tells events of the monitor as findings."""

    def tell_event(code: str, sentence: str) -> None:
        severity: Severity = "warning" if code in _ERRORS else "info"
        tell([Finding(code=code, severity=severity, message=sentence)])

    return tell_event
