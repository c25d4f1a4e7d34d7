"""The commands `predict` and `serve`, which do not import PyTorch if an export can score."""

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Final

from wirebert.console import SafeConsole, warn
from wirebert.data.flows import DataConfig, open_flows
from wirebert.errors import ConfigError
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import CsvWriter, open_writer, predict_blocks
from wirebert.workflows.findings import require_no_warnings, tell
from wirebert.workflows.predict import follow_until_asked


def predict(options: argparse.Namespace) -> None:
    """Write a verdict for every flow of a file, in input order."""
    detector = _detector(options)
    if options.follow:
        follow_until_asked(detector, options)
        return
    flows = open_flows(options.data, DataConfig(allow_absent=detector.allow_absent), schema=detector.schema)
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    tell(fit.opened)
    num_flows = 0
    out = closing(CsvWriter(sys.stdout.buffer)) if options.out is None else open_writer(options.out)
    with out as writer:
        for table in predict_blocks(detector, flows, fit, explained=options.explain):
            writer.write(table)
            num_flows += table.num_rows
    if options.out is not None:
        done = f"{num_flows:,} flows by {detector.backend} on {detector.device}: {options.out}"
        SafeConsole(stderr=True).print(done, highlight=False, markup=False, soft_wrap=True)
    tell(fit.scored)
    require_no_warnings(fit.findings, strict=options.strict)


def serve(options: argparse.Namespace) -> None:
    """Serve verdicts over HTTP."""
    try:
        from wirebert.service import limits
        from wirebert.service import server as service
    except ImportError as error:
        raise ConfigError(
            "the service needs packages that are not installed; install them with `pip install "
            "'wirebert[serve]'`"
        ) from error
    server = {name: getattr(options, name) for name in ("host", "port", "keys", "allow_anonymous")}
    bounds = {name: getattr(options, name) for name in ("max_body_mb", "max_rows", "max_queue")}
    service.serve(_detector(options), service.ServerConfig(**server), limits.Limits(**bounds))


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


SCORING_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], None]]] = {
    "predict": predict,
    "serve": serve,
}
