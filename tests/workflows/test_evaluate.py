"""A saved model on another labelled file; the command and the library are tested in their own rooms."""

from pathlib import Path

import pytest

from wirebert.data.findings import Finding
from wirebert.data.flows import open_flows
from wirebert.errors import DataError, SchemaError
from wirebert.inference.detector import Detector
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
