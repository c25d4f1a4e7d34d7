"""The commands `evaluate`, `calibrate` and `drift`, which do not import PyTorch if an export can score."""

import argparse
from contextlib import closing, nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any

from wirebert.cli.arguments import executor_of
from wirebert.cluster.predict import fingerprint
from wirebert.cluster.remote import open_any
from wirebert.cluster.results import ShardFolder
from wirebert.cluster.storage import Storage, is_uri, next_to
from wirebert.console import SafeConsole, say
from wirebert.data.flows import DataConfig, open_flows
from wirebert.errors import ConfigError
from wirebert.files import write_atomic
from wirebert.inference.artifact import load_artifact, save_artifact
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.engines import CASCADE
from wirebert.plurals import counted
from wirebert.run_folder import new_run_folder
from wirebert.untrusted_text import warn
from wirebert.workflows.calibrate import AlertBudgetRequest, fit_alert_budget
from wirebert.workflows.cascade import with_cascade, without_cascade
from wirebert.workflows.drift import DRIFTED, compare_traffic, reference_of, show_drift
from wirebert.workflows.evaluate import evaluate_flows
from wirebert.workflows.evaluate_shards import ShardedScoring
from wirebert.workflows.findings import require_no_warnings, tell
from wirebert.workflows.report import show_report, write_report


def evaluate(options: argparse.Namespace) -> None:
    """Print the metrics of a saved model on another labelled file."""
    if options.out is not None:
        import_module("vl_convert")  # draws the charts; if it is missing, that is told before the scoring
    console = SafeConsole()
    allow_absent = bool(options.allow_absent)
    arguments: dict[str, Any] = {
        "device": options.device,
        "backend": options.backend,
        "allow_absent": allow_absent,
    }
    is_sharded = options.workers is not None or options.cluster is not None or is_uri(options.data)
    if is_sharded and (options.out is None or options.data == "-"):
        raise ConfigError("--workers, --cluster and URIs need --out and files: no standard input (-)")
    executor = executor_of(options)
    detector = Detector.load(options.model, **arguments)
    for reason in detector.rejected_backends.values():
        warn(reason)
    schema = detector.schema if options.label is None else detector.schema.labelled_by(options.label)
    flows = open_any(options.data, DataConfig(allow_absent=allow_absent), schema)
    if is_uri(options.data):  # its predictions are named like those of a folder
        flows = replace(flows, name=options.data.partition("?")[0].rstrip("/").rpartition("/")[2])
    sharded = None
    if is_sharded:
        chosen = {"label": schema.label, "label_map": options.label_map, "benign": options.benign}
        sharded = ShardedScoring(
            executor=executor,
            model=options.model,
            detector={**arguments, "threads": 1},
            folder=ShardFolder(
                storage=Storage.of(next_to(str(options.out), ".shards")),
                settings=fingerprint(options.model, {**arguments, **chosen}, None),
                ending=".parquet",
            ),
        )
    goes_on = sharded is not None and sharded.folder.is_begun
    with (
        closing(executor),
        new_run_folder(options.out, goes_on=goes_on) if options.out else nullcontext() as folder,
    ):
        report = evaluate_flows(
            detector,
            flows,
            data=options.data,
            model=options.model,
            folder=folder,
            sharded=sharded,
            label_map=options.label_map,
            benign=options.benign,
        )
        if folder:
            write_report(report, folder)
        if sharded:
            sharded.folder.storage.delete()
    show_report(report, folder, console)
    num_flows = sum(metrics.num_flows for metrics in report.splits.values())
    scored = f"{counted(num_flows, 'flow')} by {detector.backend} on {detector.device}"
    say(console, scored)
    require_no_warnings(report.data.findings, strict=options.strict)


def calibrate(options: argparse.Namespace) -> None:
    """Write a model folder with an alert threshold for the budget of the user.

    Other priors change the weights, so the model is exported again, which needs PyTorch; otherwise its
    exports are copied.
    """
    from wirebert.workflows.model_card import model_card

    if options.prior:
        import_module("wirebert.inference.export")  # what is missing is told before anything is scored
        if options.cascade is not None:
            raise ConfigError("--prior and --cascade are for two calls: first --prior for each of the models")
    out = options.out or options.model.with_name(f"{options.model.name}-calibrated")
    if out.exists():
        raise ConfigError(f"--out {out}: this folder exists and is not overwritten; choose another")
    budget = AlertBudgetRequest(
        per_day=options.alerts_per_day,
        per_10000=options.alerts_per_10000,
        incidents_per_day=options.incidents_per_day,
        days=options.days,
        prior=tuple(entry for entry in options.prior if entry != "estimate"),
        estimates_prior="estimate" in options.prior,
    )
    allow_absent = bool(options.allow_absent)
    known = load_artifact(options.model)
    flows = open_flows(options.data, DataConfig(allow_absent=allow_absent), schema=known.schema)
    if options.cascade is not None:
        small = load_artifact(options.cascade)
        known = with_cascade(known, small, flows, device=options.device, allow_absent=allow_absent)
    elif options.prior and CASCADE in known.exports:
        warn("the cascade is left out: its small model has other priors; make it again with --cascade")
        known = without_cascade(known)
    detector = Detector(
        known,
        device="cpu" if CASCADE in known.exports else options.device,
        precision="fp32",
        allow_absent=allow_absent,
        novelty=known.novelty_is_usable,  # for the drift reference
    )
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    tell(fit.opened)
    artifact = fit_alert_budget(detector, flows, budget, fit)
    tell(fit.scored)
    artifact = replace(artifact, exports={} if options.prior else known.exports)
    if not {*save_artifact(artifact, out, card=model_card(artifact), with_exports=True)} - {CASCADE}:
        from wirebert.inference.export import add_default_export

        if (reason := add_default_export(out)) is not None:
            warn(f"no ONNX export was written, so scoring needs PyTorch: {reason}")
    console = SafeConsole()
    for line in (*(artifact.operating_point.notes if artifact.operating_point else ()), f"model: {out}"):
        say(console, line)
    require_no_warnings(fit.findings, strict=options.strict)


def drift(options: argparse.Namespace) -> int:
    """Compare traffic with the reference of a model; 3 if it has drifted."""
    artifact = load_artifact(options.model)
    reference_of(artifact)
    detector = Detector(
        artifact,
        device=options.device,
        backend=options.backend,
        novelty=artifact.novelty_is_usable,
        allow_absent=True,  # what is absent is told as drift
    )
    for reason in detector.rejected_backends.values():
        warn(reason)
    flows = open_flows(options.data, DataConfig(allow_absent=True), schema=detector.schema)
    fit = TrafficFit.of(artifact.tokenizer, flows)
    tell(fit.opened)
    found = compare_traffic(detector, flows, fit, options.false_alarm_rate)
    tell((*fit.scored, *found.findings))
    if options.out is not None:
        write_atomic(options.out, found.to_page())
    console = SafeConsole()
    if options.json:
        say(console, found.to_json())
    else:
        show_drift(found, console)
    return DRIFTED if found.moved else 0
