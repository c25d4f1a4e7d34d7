"""A saved model on another labelled file; the command and the library are tested in their own rooms."""

from dataclasses import replace
from pathlib import Path

import pytest

from wirebert.data.findings import Finding
from wirebert.data.flows import open_flows
from wirebert.data.synthetic import write_csv
from wirebert.errors import DataError, SchemaError
from wirebert.inference.detector import Detector
from wirebert.workflows.drift import fit_reference
from wirebert.workflows.evaluate import evaluate_flows


@pytest.fixture(scope="module")
def detector(trained: Path) -> Detector:
    return Detector.load(trained / "model")


def test_findings_are_told_and_stand_in_the_report(detector: Detector, traffic: Path):
    told: list[Finding] = []
    flows = open_flows(traffic / "test.csv", schema=detector.schema)
    report = evaluate_flows(detector, flows, data="test.csv", model=None, tell=told.extend)
    assert tuple(told) == report.data.findings
    assert {"untrusted_threshold"} <= {finding.code for finding in told}
    assert report.data.test_usage["test"].num_reads == 0  # there is no ledger without a run


def test_a_file_without_labels_is_refused(detector: Detector, traffic: Path, tmp_path: Path):
    lines = (traffic / "test.csv").read_text(encoding="utf-8").splitlines()
    for name, keep in {"none": "", "empty": ","}.items():
        rows = [line.rpartition(",")[0] + keep for line in lines]
        rows[0] += "label" if keep else ""
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    flows = {name: open_flows(tmp_path / f"{name}.csv", schema=detector.schema) for name in ("none", "empty")}
    with pytest.raises(SchemaError, match="label"):
        evaluate_flows(detector, flows["none"], data="none.csv", model=None, tell=lambda _: None)
    with pytest.raises(DataError, match="label"):
        evaluate_flows(detector, flows["empty"], data="empty.csv", model=None, tell=lambda _: None)


def test_the_page_shows_drift_from_the_reference_of_the_model(
    detector: Detector, traffic: Path, tmp_path: Path
) -> None:
    write_csv(tmp_path / "usual.csv", 2_000, seed=5)
    usual = open_flows(tmp_path / "usual.csv", schema=detector.schema)
    assert detector.artifact.reference is None
    plain = evaluate_flows(detector, usual, data="usual.csv", model=None, tell=lambda _: None)
    assert not plain.columns.drift
    reference = fit_reference(detector, usual.blocks())
    other = Detector(replace(detector.artifact, reference=reference))
    report = evaluate_flows(other, usual, data="usual.csv", model=None, tell=lambda _: None)
    drift = {one.column: one for one in report.columns.drift["usual"]}
    assert drift["attack score"].distance == pytest.approx(
        0, abs=0.02
    )  # the same flows, but for the last block
    assert sum(drift["attack score"].test) == pytest.approx(1)
    assert report.splits["usual"].headline == plain.splits["usual"].headline
    assert report.splits["usual"].loss == pytest.approx(plain.splits["usual"].loss)
