"""The commands `predict`, `hunt`, `monitor`, `serve`, which import no PyTorch if an export can score."""

import argparse
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from wirebert.alerts.attack_techniques import AttackTechniques
from wirebert.alerts.ecs import EcsContext, carried_columns
from wirebert.cli.arguments import executor_of
from wirebert.cluster.storage import is_uri
from wirebert.console import SafeConsole, say
from wirebert.data.accounting import ParseStats
from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.folders import listing_lines, with_rows
from wirebert.errors import ConfigError
from wirebert.inference.artifact import Artifact, load_artifact
from wirebert.inference.cascade import routed_words
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import (
    CsvWriter,
    TableWriter,
    ecs_writer,
    open_writer,
    predict_blocks,
)
from wirebert.inference.rejected_rows import rejected_rows_file
from wirebert.plurals import counted
from wirebert.service.memory import bound_heap
from wirebert.telemetry.processors import num_processors
from wirebert.untrusted_text import warn
from wirebert.workflows.findings import require_no_warnings, tell
from wirebert.workflows.predict import VerdictCounts, ecs_context, until_asked
from wirebert.workflows.predict_shards import Output, predict_by_shards


def predict(options: argparse.Namespace) -> None:
    """Write a verdict for every flow of a file, in input order."""
    is_stdin = options.data == "-"
    if options.follow:
        _follow(options)
        return
    if (
        options.workers is not None
        or options.cluster is not None
        or isinstance(options.out, str)
        or is_uri(options.data)
    ):
        _predict_by_shards(options)
        return
    if is_stdin:
        bound_heap()  # before the model is loaded: such a process runs for months
    detector = _detector(options)
    config = DataConfig(allow_absent=detector.allow_absent)
    flows = open_flows(options.data, config, schema=detector.schema, is_live=is_stdin)
    if flows.is_read_whole and flows.spool is not None and not flows.spool.is_complete:
        warn(f"stdin: {flows.described} is read to its end before the first verdict")
    ecs = ecs_context(detector.artifact, options.attack_techniques) if options.format == "ecs" else None
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    carried = () if ecs is None else carried_columns(flows.schema.names)
    opened, num_flows = (*fit.opened, *_threshold_findings(detector.artifact, options)), 0
    counts = VerdictCounts()
    with (
        nullcontext() if flows.spool is None else until_asked(flows.spool.stop),
        _writer(options, fit.invalid_values.lines, ecs) as writer,
        closing(predict_blocks(detector, flows, fit, explained=options.explain, carried=carried)) as tables,
        nullcontext() if flows.spool is None else closing(flows.spool),  # first: no reader may wait for more
    ):
        tell(opened)
        for table in tables:
            writer.write(table)
            num_flows += table.num_rows
            counts.add(table)
            if options.out is None and is_stdin:
                sys.stdout.buffer.flush()
    for line in listing_lines(with_rows(flows.listing, fit.invalid_values.lines.rows_by_file)):
        warn(line)
    if options.out is not None or (sys.stderr.isatty() and not is_stdin):
        SafeConsole(stderr=True).print(counts.to_table())
    if options.out is not None:
        done = f"{counted(num_flows, 'flow')} by {detector.backend} on {detector.device}"
        say(SafeConsole(stderr=True), f"{done}{routed_words(detector.routed)}: {options.out}")
    tell(fit.scored)
    require_no_warnings((*opened, *fit.scored), strict=options.strict)


def _predict_by_shards(options: argparse.Namespace) -> None:
    if options.data == "-":
        raise ConfigError("--workers, --cluster and folders of shards are for files: no standard input (-)")
    if options.format == "ecs":
        raise ConfigError(
            "--format ecs is written by one process to one file: leave out --workers, --cluster and folders"
        )
    with closing(executor_of(options)) as executor:
        predict_by_shards(
            options.data,
            Output.of(options.out),
            options.model,
            detector_arguments(options),
            executor,
            explained=options.explain,
            strict=options.strict,
        )


@contextmanager
def _writer(options: argparse.Namespace, lines: ParseStats, ecs: EcsContext | None) -> Generator[TableWriter]:
    """The writer of verdicts: to the file that was named, and of rows without one; or standard output."""
    if options.out is not None:
        with open_writer(options.out, ecs) as writer, rejected_rows_file(options.out) as lines.keep:
            yield writer
        return
    sink = sys.stdout.buffer
    with closing(CsvWriter(sink) if ecs is None else ecs_writer(ecs)(sink)) as writer:
        yield writer


def hunt(options: argparse.Namespace) -> None:
    """Rank and explain what is unusual in logs without labels."""
    from wirebert.workflows import hunt as hunting

    if options.top < 1 or not options.gap > 0:
        raise ConfigError("--top must be at least 1 and --gap above 0")
    options.model, places = hunting.model_and_logs(options.places)
    if len(places) == len(options.places):
        warn("no model was given: this is the one in the box, which was trained on generated traffic alone")
    detector = _detector(options)
    findings: list[Finding] = [*_threshold_findings(detector.artifact, options)]

    def tables() -> Iterator[pa.Table]:
        for place in places:
            config = DataConfig(allow_absent=detector.allow_absent)
            flows = open_flows(place, config, schema=detector.schema)
            fit = TrafficFit.of(detector.artifact.tokenizer, flows)
            carried = tuple(column.name for column in detector.schema.features)
            with closing(predict_blocks(detector, flows, fit, carried=carried)) as blocks:
                yield from blocks
            findings.extend((*fit.opened, *fit.scored))

    with nullcontext() if options.out is None else open_writer(options.out) as writer:
        found = hunting.hunt(
            detector,
            tables(),
            options.top,
            gap_s=options.gap,
            techniques=AttackTechniques.load(options.attack_techniques),
        )
        if writer is not None:
            rows = pa.Table.from_pylist(hunting.suspect_rows(found))
            nested = ("examples", "reasons") if options.out and options.out.suffix.lower() == ".csv" else ()
            writer.write(rows.drop_columns([name for name in nested if name in rows.column_names]))
    tell(findings)
    hunting.show(found, SafeConsole())
    require_no_warnings(findings, strict=options.strict)


def monitor(options: argparse.Namespace) -> None:
    """Score what grows, and write verdicts, alerts and incidents until asked to stop."""
    from wirebert.alerts.incident_records import IncidentSettings
    from wirebert.alerts.outputs import Target
    from wirebert.workflows import monitor as monitoring

    bound_heap()
    targets = tuple(Target.parse(text) for text in options.to or ["-"])
    state, files = options.state, [target.place for target in targets if target.is_file]
    limits = {"gap_s": options.gap} | {
        name: getattr(options, name) for name in ("min_score", "max_alerts_per_hour")
    }
    settings = monitoring.MonitorSettings(
        targets=targets,
        state=Path(f"{files[0]}.state") if state is None and files else state,
        spool_mb=options.spool_mb,
        heartbeat_s=options.heartbeat,
        suppressions=options.suppress,
        techniques=options.attack_techniques,
        incidents=IncidentSettings(opens_on_unknown=options.novelty, **limits),
        explained=options.explain,
    )
    told: list[Finding] = []

    def hear(findings: Iterable[Finding]) -> None:
        new = list(findings)
        told.extend(new if options.strict else ())
        tell(new)

    if options.test_event:
        monitoring.send_test_event(partial(_ready_detector, options), settings, hear)
        return
    requests = monitoring.Requests()
    with _monitor_server(options) as on_status, until_asked(requests.stop.set, requests.reload.set):
        load = partial(_ready_detector, options)
        num_flows = monitoring.monitor(load, options.sources, settings, requests, hear, on_status)
    warn(f"{counted(num_flows, 'flow')}: {', '.join(target.place for target in targets)}")
    require_no_warnings(told, strict=options.strict)


def _follow(options: argparse.Namespace) -> None:
    """`predict --follow`, the name that `monitor` had for one log; until 0.1.0 it goes on as that."""
    from wirebert.cli.main import build_parser

    to = ["--to", str(options.out)] if options.out is not None else []
    words = ["monitor", str(options.model), options.data, *to]
    warn(f"predict --follow is a command of its own now: `wirebert {' '.join(words)}`")
    monitor(argparse.Namespace(**{**vars(build_parser().parse_args(words)), **vars(options)}))


@contextmanager
def _monitor_server(options: argparse.Namespace) -> Generator[Callable[[Mapping[str, object]], None]]:
    """Serves health and metrics, if an address was given; receives what to serve."""
    if options.listen is None:
        yield lambda _: None
        return
    from wirebert.service.monitor_server import MonitorServer
    from wirebert.service.server import ServerConfig

    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--listen {options.listen}: expected HOST:PORT, such as 127.0.0.1:9118")
    config = ServerConfig(
        host=host.strip("[]"), port=int(port), keys=options.keys, allow_anonymous=options.allow_anonymous
    )
    with MonitorServer(config).running() as server:
        yield server.update


def serve(options: argparse.Namespace) -> None:
    """Serve verdicts over HTTP."""
    from wirebert.service import limits
    from wirebert.service import server as service

    bound_heap()
    server = {
        name: getattr(options, name)
        for name in ("host", "port", "keys", "allow_anonymous", "incidents", "feedback")
    }
    bounds = {name: getattr(options, name) for name in ("max_body_mb", "max_rows", "max_queue")}
    config, bounded = service.ServerConfig(**server), limits.Limits(**bounds)
    if options.workers is not None:
        from wirebert.service.workers import serve_by_workers

        options.threads = options.threads or max(1, num_processors() // max(1, options.workers))
        _tell_of_model(load_artifact(options.model), options)
        serve_by_workers(partial(_watched_detector, options), config, bounded, options.workers)
        return
    service.serve(_ready_detector(options), config, bounded)


def _threshold_findings(artifact: Artifact, options: argparse.Namespace) -> tuple[Finding, ...]:
    """Findings on the threshold that the verdicts use."""
    operating = artifact.operating_point
    return operating.findings(options.fpr) if operating else ()


def _tell_of_model(artifact: Artifact, options: argparse.Namespace) -> None:
    """Tell findings on the model before it is used for long; with `--strict` a warning is an error."""
    findings = _threshold_findings(artifact, options)
    tell(findings)
    require_no_warnings(findings, strict=options.strict)


def _ready_detector(options: argparse.Namespace) -> Detector:
    """A detector for long use, of which all findings are told."""
    detector = _watched_detector(options)
    _tell_of_model(detector.artifact, options)
    return detector


def _watched_detector(options: argparse.Namespace) -> Detector:
    """The detector that the options describe, which compares what it scores with its drift reference."""
    detector = _detector(options)
    detector.watch_drift()
    return detector


def _detector(options: argparse.Namespace) -> Detector:
    """The detector that the options describe; exports that it cannot use are named on standard error."""
    detector = Detector.load(options.model, **detector_arguments(options))
    for reason in detector.rejected_backends.values():
        warn(reason)
    return detector


def detector_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `Detector.load` that the options name."""
    names = ("device", "precision", "backend", "threads", "fpr", "novelty", "community_id_seed")
    given = {name: getattr(options, name) for name in names}
    return {**given, "allow_absent": bool(options.allow_absent)}
