"""The commands `evaluate`, `calibrate` and `export`, which use a trained model."""

import argparse
from contextlib import nullcontext

from wirebert.console import SafeConsole, warn
from wirebert.data.flows import DataConfig, open_flows
from wirebert.errors import ConfigError
from wirebert.inference.artifact import save_artifact
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.export import add_default_export, export_model
from wirebert.run_folder import new_run_folder
from wirebert.workflows.calibrate import AlertBudgetRequest, fit_alert_budget
from wirebert.workflows.evaluate import evaluate_flows
from wirebert.workflows.findings import require_no_warnings, tell
from wirebert.workflows.model_card import model_card
from wirebert.workflows.report import show_report, write_report


def evaluate(options: argparse.Namespace) -> None:
    """Print the metrics of a saved model on another labelled file."""
    console = SafeConsole()
    allow_absent = bool(options.allow_absent)
    detector = Detector.load(options.model, device=options.device, backend="torch", allow_absent=allow_absent)
    schema = detector.schema if options.label is None else detector.schema.labelled_by(options.label)
    flows = open_flows(options.data, DataConfig(allow_absent=allow_absent), schema=schema)
    with new_run_folder(options.out) if options.out else nullcontext() as folder:
        report = evaluate_flows(
            detector,
            flows,
            data=options.data,
            model=options.model,
            folder=folder,
            label_map=options.label_map,
            benign=options.benign,
        )
        if folder:
            write_report(report, folder)
    show_report(report, folder, console)
    require_no_warnings(report.data.findings, strict=options.strict)


def export(options: argparse.Namespace) -> None:
    """Write the model as an ONNX file into its folder."""
    path, agreement = export_model(options.model, "onnx-int8" if options.int8 else "onnx", data=options.data)
    SafeConsole().print(f"{agreement.summary}\n{path}", highlight=False, markup=False, soft_wrap=True)


def calibrate(options: argparse.Namespace) -> None:
    """Write a model folder with an alert threshold for the budget of the user."""
    out = options.out or options.model.with_name(f"{options.model.name}-calibrated")
    if out.exists():
        raise ConfigError(f"--out {out}: this folder exists and is not overwritten; choose another")
    budget = AlertBudgetRequest(
        per_day=options.alerts_per_day,
        per_10000=options.alerts_per_10000,
        days=options.days,
        prior=tuple(entry for entry in options.prior if entry != "estimate"),
        estimates_prior="estimate" in options.prior,
    )
    allow_absent = bool(options.allow_absent)
    detector = Detector.load(
        options.model, device=options.device, precision="fp32", backend="torch", allow_absent=allow_absent
    )
    flows = open_flows(options.data, DataConfig(allow_absent=allow_absent), schema=detector.schema)
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    tell(fit.opened)
    artifact = fit_alert_budget(detector, flows, budget, fit)
    tell(fit.scored)
    save_artifact(artifact, out, card=model_card(artifact))
    if (reason := add_default_export(out)) is not None:
        warn(f"no ONNX export was written, so scoring needs PyTorch: {reason}")
    console = SafeConsole()
    for line in (*(artifact.operating_point.notes if artifact.operating_point else ()), f"model: {out}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    require_no_warnings(fit.findings, strict=options.strict)
