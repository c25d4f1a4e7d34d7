"""The commands `predict` and `serve`, which do not import PyTorch if an export can score."""

import argparse
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager, nullcontext

from wirebert.cluster.predict import predict_planned
from wirebert.console import SafeConsole, warn
from wirebert.data.accounting import ParseStats
from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.folders import listing_lines, with_rows
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import (
    CsvWriter,
    JsonLinesWriter,
    TableWriter,
    open_writer,
    predict_blocks,
)
from wirebert.inference.rejected_rows import rejected_rows_file
from wirebert.service.memory import bound_heap
from wirebert.workflows.findings import require_no_warnings, tell
from wirebert.workflows.predict import follow_until_asked, until_asked
from wirebert.workflows.predict_shards import needs_shards, predict_by_shards


def predict(options: argparse.Namespace) -> None:
    """Write a verdict for every flow of a file, in input order."""
    if needs_shards(options):
        predict_by_shards(options)
        return
    is_stdin = options.data == "-"
    if options.follow or is_stdin:
        bound_heap()  # before the model is loaded: such a process runs for months
    detector = _detector(options)
    if options.follow and not is_stdin:
        follow_until_asked(detector, options)
        return
    config = DataConfig(allow_absent=detector.allow_absent)
    flows = open_flows(options.data, config, schema=detector.schema, is_live=is_stdin)
    if flows.is_read_whole and flows.spool is not None and not flows.spool.is_complete:
        warn(f"stdin: {flows.described} is read to its end before the first verdict")
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    score = predict_planned if flows.spool is None else predict_blocks
    opened, num_flows = (*fit.opened, *_threshold_findings(detector, options)), 0
    with (
        nullcontext() if flows.spool is None else until_asked(flows.spool.stop),
        _writer(options, fit.invalid_values.lines) as writer,
        closing(score(detector, flows, fit, explained=options.explain)) as tables,
        nullcontext() if flows.spool is None else closing(flows.spool),  # first: no reader may wait for more
    ):
        tell(opened)
        for table in tables:
            writer.write(table)
            num_flows += table.num_rows
            if options.out is None and is_stdin:
                sys.stdout.buffer.flush()
    for line in listing_lines(with_rows(flows.listing, fit.invalid_values.lines.rows_by_file)):
        warn(line)
    if options.out is not None:
        done = f"{num_flows:,} flows by {detector.backend} on {detector.device}: {options.out}"
        SafeConsole(stderr=True).print(done, highlight=False, markup=False, soft_wrap=True)
    tell(fit.scored)
    require_no_warnings((*opened, *fit.scored), strict=options.strict)


@contextmanager
def _writer(options: argparse.Namespace, lines: ParseStats) -> Generator[TableWriter]:
    """The writer of verdicts: to the file that was named, and of rows without one; or standard output."""
    if options.out is not None:
        with open_writer(options.out) as writer, rejected_rows_file(options.out) as lines.keep:
            yield writer
        return
    kind = JsonLinesWriter if options.follow else CsvWriter
    with closing(kind(sys.stdout.buffer)) as writer:
        yield writer


def serve(options: argparse.Namespace) -> None:
    """Serve verdicts over HTTP."""
    from wirebert.service import limits
    from wirebert.service import server as service

    bound_heap()
    server = {name: getattr(options, name) for name in ("host", "port", "keys", "allow_anonymous")}
    bounds = {name: getattr(options, name) for name in ("max_body_mb", "max_rows", "max_queue")}
    detector = _detector(options)
    tell(_threshold_findings(detector, options))
    service.serve(detector, service.ServerConfig(**server), limits.Limits(**bounds))


def _threshold_findings(detector: Detector, options: argparse.Namespace) -> tuple[Finding, ...]:
    """Findings on the threshold that the verdicts use."""
    operating = detector.artifact.operating_point
    return operating.findings(options.fpr) if operating else ()


def _detector(options: argparse.Namespace) -> Detector:
    """The detector that the options describe; exports that it cannot use are named on standard error."""
    detector = Detector.load(
        options.model,
        device=options.device,
        precision=options.precision,
        backend=options.backend,
        threads=options.threads,
        fpr=options.fpr,
        novelty=options.novelty,
        allow_absent=bool(options.allow_absent),
    )
    for reason in detector.rejected_backends.values():
        warn(reason)
    return detector
