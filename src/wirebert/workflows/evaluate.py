"""A saved model on another labelled file: its metrics, and whether the file fits."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from wirebert.data.checks.checks import check_unscored_rows
from wirebert.data.checks.profile import profile_table
from wirebert.data.findings import Finding
from wirebert.data.flows import Flows, FlowSubset
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.errors import DataError
from wirebert.evaluation.evaluate import evaluate_detector
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.report.columns import ColumnDrift, describe_columns
from wirebert.report.report import FileUsage, Report
from wirebert.run_folder import RunFolder
from wirebert.workflows.drift import as_columns
from wirebert.workflows.findings import tell as print_findings
from wirebert.workflows.report import evaluation_report, record_evaluation


def evaluate_flows(
    detector: Detector,
    flows: Flows,
    *,
    data: str,
    model: Path | None,
    folder: RunFolder | None = None,
    label_map: Mapping[str, str] | None = None,
    benign: str | None = None,
    tell: Callable[[Iterable[Finding]], None] = print_findings,
) -> Report:
    """The report on these labelled flows; `tell` gets its findings as soon as they are known.

    Args:
        data: the flows as the user named them, for the test ledger.
        model: the model folder, in whose run the test is recorded; None: it is not saved.
        folder: receives the predictions.
        label_map: label -> class, where labels are not those of the model.
        benign: the label that is benign.

    Raises:
        SchemaError: there is no label column, or fewer than half of the features.
        DataError: no flow has a label of a known class.
    """
    flows.require_label()
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    tell(fit.opened)
    part = FlowSubset(flows.name, flows)
    profile = profile_table(flows)
    classes = detector.artifact.classes.for_file(profile.label_names, label_map or {}, benign, flows.name)
    predictions = folder.predictions(part.name) if folder else None
    out = folder.path if folder else None
    usage = (
        FileUsage(flows.fingerprint())
        if model is None
        else record_evaluation(model, out, data, detector, flows)
    )
    reference, tokenizer = detector.artifact.reference, detector.artifact.tokenizer
    detector.drift = None if reference is None else reference.new_blocks(tokenizer)
    metrics = evaluate_detector(
        detector, part, predictions, fit=fit, seed=1, num_resamples=1000, classes=classes
    )
    if metrics.num_flows == 0:
        raise DataError(f"{flows.name}: no flow has a label; use `wirebert predict` for unlabelled flows")
    drift: dict[str, tuple[ColumnDrift, ...]] = {}
    if reference is not None and isinstance(detector.drift, TrafficBlocks) and detector.drift.num_closed > 1:
        drift[part.name] = as_columns(reference.compare(detector.drift, tokenizer))
    detector.drift = None
    operating = detector.artifact.operating_point
    untrusted = operating.findings() if operating else ()
    found = (*fit.scored, *check_unscored_rows(profile, classes), *untrusted)
    tell(found)
    report = evaluation_report(detector, part, metrics, (*fit.opened, *found))
    return replace(
        report,
        model_sha256=detector.artifact.sha256,
        columns=replace(describe_columns(profile.sample.table, flows.schema, classes), drift=drift),
        data=replace(report.data, benign=classes.benign, test_usage={part.name: usage}),
    )
