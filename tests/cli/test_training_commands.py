import io
import json
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from wirebert.cli.main import main
from wirebert.cli.training_commands import batch_of_all, tell_batch
from wirebert.config import resolve_run


@pytest.mark.slow
def test_a_run_fits_thresholds_on_validation_flows_and_reports_what_they_do_on_test(trained: Path) -> None:
    kept = json.loads((trained / "model" / "wirebert.json").read_text())["operating_point"]["thresholds"]
    splits = json.loads((trained / "report.json").read_text())["splits"]
    assert [point["target_fpr"] for point in kept] == [0.01, 0.001, 0.0001]
    for split in ("valid", "test"):
        points = splits[split]["operating_points"]
        assert [point["threshold"] for point in points] == [point["threshold"] for point in kept]
        assert splits[split]["thresholds_from"] == "valid"
    for point, limit in zip(splits["valid"]["operating_points"], kept, strict=True):
        assert point["fpr"] == pytest.approx(limit["num_false_positives"] / limit["num_benign"])


@pytest.mark.parametrize(
    ("num_processes", "has_gpus", "given", "expected"),
    [
        (1, True, [], 256),
        (2, False, [], 256),
        (2, True, [], 512),
        (2, True, ["training.batch_size=128"], 128),
    ],
)
def test_each_of_several_gpus_keeps_the_batch_of_one(
    monkeypatch: pytest.MonkeyPatch, num_processes: int, has_gpus: bool, given: list[str], expected: int
) -> None:
    monkeypatch.setattr("wirebert.cli.training_commands.has_nvidia_gpu", lambda: has_gpus)
    run = resolve_run(None, given, inherited=batch_of_all(num_processes))
    assert run.training.batch_size == expected
    console = Console(file=io.StringIO(), width=200)
    tell_batch(run, num_processes, console)
    told = cast(io.StringIO, console.file).getvalue()
    assert ("256 flows on each of 2 GPUs, 512 in a step" in told) == (expected == 512)


@pytest.mark.parametrize("number", [0, 2])
def test_gpus_that_are_not_there_are_refused_before_anything_is_read(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wirebert.cli.training_commands.has_nvidia_gpu", lambda: False)
    assert main(["train", "missing.csv", "--gpus", str(number)]) == 2
    assert f"--gpus must be at least 1, and 1 on a machine without a GPU of NVIDIA, got {number}" in (
        capsys.readouterr().err
    )
