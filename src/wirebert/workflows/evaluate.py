"""A saved model on another labelled file: its metrics, and whether the file fits."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from wirebert.cluster.remote import fingerprint_of
from wirebert.data.checks.checks import check_unscored_rows
from wirebert.data.checks.profile import profile_table
from wirebert.data.findings import Finding
from wirebert.data.flows import Flows, FlowSubset
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.errors import DataError
from wirebert.evaluation.evaluate import score_and_write
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.report.columns import ColumnDrift, describe_columns
from wirebert.report.report import FileUsage, Report
from wirebert.run_folder import RunFolder
from wirebert.workflows.drift import as_columns
from wirebert.workflows.evaluate_shards import ShardedScoring
from wirebert.workflows.findings import tell as print_findings
from wirebert.workflows.report import evaluation_report, record_evaluation


def evaluate_flows(
    detector: Detector,
    flows: Flows,
    *,
    data: str,
    model: Path | None,
    folder: RunFolder | None = None,
    sharded: ShardedScoring | None = None,
    label_map: Mapping[str, str] | None = None,
    benign: str | None = None,
    tell: Callable[[Iterable[Finding]], None] = print_findings,
) -> Report:
    """The report on these labelled flows; `tell` gets its findings as soon as they are known.

    Args:
        data: the flows as the user named them, for the test ledger.
        model: the model folder, in whose run the test is recorded; None: it is not saved.
        folder: receives the predictions.
        sharded: who scores shards of the files; None: this process scores them as one. Needs `folder`.
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
    placed = () if sharded is None else sharded.place(flows)
    profile = profile_table(flows) if sharded is None else sharded.profile(flows, placed)
    classes = detector.artifact.classes.for_file(profile.label_names, label_map or {}, benign, flows.name)
    predictions = folder.predictions(part.name) if folder else None
    usage = FileUsage(fingerprint_of(flows))
    if model is not None:
        usage = record_evaluation(model, folder and folder.path, data, detector, usage.sha256)
    reference, tokenizer = detector.artifact.reference, detector.artifact.tokenizer
    detector.drift = None if reference is None else reference.new_blocks(tokenizer)
    if sharded is None:
        scored = score_and_write(detector, part, predictions, classes, fit)
    else:
        assert predictions is not None, "shards are written to the folder"
        scored = sharded.score(detector, flows, placed, profile.num_rows, predictions, classes, fit)
    metrics = scored.metrics(detector, seed=1, num_resamples=1000)
    if metrics.num_flows == 0:
        raise DataError(f"{flows.name}: no flow has a label; use `wirebert predict` for unlabelled flows")
    drift = _drift(detector, part.name)
    operating, detector.drift = detector.artifact.operating_point, None
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


def _drift(detector: Detector, part: str) -> dict[str, tuple[ColumnDrift, ...]]:
    """How the flows that `detector.drift` counted differ from the reference of the model, by part."""
    artifact, blocks = detector.artifact, detector.drift
    if artifact.reference is None or not isinstance(blocks, TrafficBlocks) or blocks.num_closed < 2:
        return {}
    return {part: as_columns(artifact.reference.compare(blocks, artifact.tokenizer))}
