import csv
import io
import json
import math
from pathlib import Path

import pytest
from pyarrow import parquet

from wirebert.cli import main
from wirebert.commands import COMMANDS, Output
from wirebert.config import resolve_run


@pytest.mark.slow
def test_a_report_is_printed(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained)]) == 0
    out = capfd.readouterr().out
    assert "valid: 150 flows" in out or "valid: 149 flows" in out
    assert "test: 300 flows" in out
    assert f"report: {trained / 'report.html'}" in out


@pytest.mark.slow
def test_two_reports_stand_side_by_side(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained), str(trained)]) == 0
    out = capfd.readouterr().out
    assert "tiny (1)" in out
    assert "tiny (2)" in out
    assert "settings that differ" not in out


@pytest.mark.slow
def test_evaluating_gives_the_figures_of_the_run_again(
    trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    arguments = [str(trained / "model"), str(traffic / "test.csv")]
    assert main(["evaluate", *arguments, "--out", str(out)]) == 0
    screen = capfd.readouterr().out
    assert f"report: {out / 'report.html'}" in screen
    ours, first = (json.loads((folder / "report.json").read_text()) for folder in (out, trained))
    for name in ("num_flows", "accuracy", "macro_f1", "per_class", "confusion", "classes_not_in_training"):
        assert ours["splits"]["test"][name] == first["splits"]["test"][name]
    rows = [parquet.read_table(folder / "predictions" / "test.parquet") for folder in (out, trained)]
    assert rows[0].equals(rows[1])
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        *("predictions", "plots", "report.json", "report.html")
    }
    assert main(["report", str(out), str(trained)]) == 0
    # Without --out the same is printed, and nothing is written.
    assert main(["evaluate", *arguments]) == 0
    assert capfd.readouterr().out.endswith(screen.rpartition("report: ")[0])


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", None])
def test_verdicts_are_those_of_the_report_in_input_order(
    ending: str | None, trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(trained / "model"), str(traffic / "test.csv")]
    path = tmp_path / f"verdicts.{ending}"
    assert main([*arguments, *(["--out", str(path)] if ending else [])]) == 0
    captured = capfd.readouterr()
    if ending is None:
        verdicts = list(csv.DictReader(io.StringIO(captured.out)))
        assert captured.err == ""
    else:
        assert captured.err == f"300 flows: {path}\n"
        verdicts = {
            "csv": lambda: list(csv.DictReader(io.StringIO(path.read_text()))),
            "jsonl": lambda: [json.loads(line) for line in path.read_text().splitlines()],
            "parquet": lambda: parquet.read_table(path).to_pylist(),
        }[ending]()
    kept = parquet.read_table(trained / "predictions" / "test.parquet").to_pylist()
    for verdict, known in zip(verdicts, kept, strict=True):
        assert int(verdict["row"]) == known["row"]
        assert verdict["predicted_class"] == known["predicted_class"]
        assert verdict["uid"] == known["uid"]
        assert math.isclose(float(verdict["attack_score"]), known["attack_score"], abs_tol=1e-6)


@pytest.mark.slow
def test_inspecting_says_what_is_there(traffic: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(traffic / "train.csv")]) == 0
    out = capfd.readouterr().out
    assert "comma-separated" in out
    assert "schema synthetic" in out
    assert "benign 1,0" in out
    assert main(["inspect", str(traffic / "train.csv"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["num_rows"] == 1500


@pytest.mark.slow
def test_nsl_kdd_is_known_by_itself(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(data_dir / "nsl-kdd" / "KDDTrain+.txt.gz")]) == 0
    out = capfd.readouterr().out
    assert "gzip" in out
    assert "no header" in out
    assert "schema nsl_kdd" in out
    assert (
        "normal 67,343 (53.46%), dos 45,927 (36.46%), probe 11,656 (9.25%), r2l 995 (0.79%), u2r 52 (0.04%)"
        in out
    )
    for code in ("constant_column", "conflicting_labels", "duplicate_rows"):
        assert code in out
    assert "num_outbound_cmds" in out


@pytest.mark.slow
def test_the_demo_is_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[int, list[str]]] = []

    def fit(run: object, folder: object, console: object) -> None:
        resolved = resolve_run(tmp_path / "runs" / "demo" / "run.toml")
        assert run == resolved
        calls.append((resolved.seed, [resolved.train, *resolved.test]))

    monkeypatch.setattr("wirebert.commands.fit", fit)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--rows", "1200", "--seed", "4"]) == 0
    ((seed, files),) = calls
    assert seed == 4
    assert [len(Path(file).read_text().splitlines()) - 1 for file in files] == [1200, 400]


def test_an_output_whose_reader_is_gone_leaves_it_to_the_command_line() -> None:
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    output = Output()
    output.file = Gone()
    with pytest.raises(BrokenPipeError):
        output.print("figures")


@pytest.mark.slow
def test_data_sets_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    assert "nsl" in capfd.readouterr().out.lower()


def test_commands_stand_in_the_order_of_the_help() -> None:
    assert list(COMMANDS) == ["demo", "inspect", "train", "evaluate", "predict", "report", "datasets"]
