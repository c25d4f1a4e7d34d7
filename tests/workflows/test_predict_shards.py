from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv

from wirebert.cli.main import main
from wirebert.errors import ConfigError, DataError
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.workflows.predict_shards import Output


@pytest.mark.parametrize(
    ("out", "folder", "file", "ending"),
    [
        ("{}/a/", "{}/a", None, ".parquet"),
        ("{}/a.csv/", "{}/a.csv", None, ".csv"),
        ("{}/a.jsonl", "{}/a.jsonl.shards", "{}/a.jsonl", ".jsonl"),
        ("file://{}/a", "file://{}/a", None, ".parquet"),
        ("file://{}/a.csv", "file://{}/a.csv.shards", "file://{}/a.csv", ".csv"),
    ],
)
def test_out_names_a_folder_or_a_file(out: str, folder: str, file: str | None, ending: str, tmp_path: Path):
    found = Output.of(out.format(tmp_path))
    assert found.folder.name == folder.format(tmp_path)
    assert (found.file and found.file.name) == (file and file.format(tmp_path))
    assert found.ending == ending
    assert found.rejected.name == f"{(file or folder).format(tmp_path)}.rejected.jsonl"


def test_an_output_that_is_missing_taken_or_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(ConfigError, match="need --out"):
        Output.of(None)
    with pytest.raises(ConfigError, match="rename it"):
        Output.of(tmp_path / "a.txt")
    with pytest.raises(DataError, match="exists and is kept"):
        Output.of(tmp_path / "a.csv")
    with pytest.raises(DataError, match="create it first"):
        Output.of(tmp_path / "none" / "a.csv")


def test_a_second_start_keeps_what_is_finished_and_refuses_other_settings(
    artifact: Artifact, table: pa.Table, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    save_artifact(artifact, tmp_path / "model", card="")
    csv.write_csv(table, tmp_path / "flows.csv")
    command = ["predict", str(tmp_path / "model"), str(tmp_path / "flows.csv"), "--out", f"{tmp_path}/out/"]
    assert main(command) == 0
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert main(command) == 0
    assert "1 of 1 shards were finished before" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")} == files
    assert main([*command, "--explain"]) == 2
    assert "another model or other settings" in capfd.readouterr().err
    with (tmp_path / "flows.csv").open("a") as more:
        more.write((tmp_path / "flows.csv").read_text().splitlines()[-1] + "\n")
    assert main(command) == 2
    assert "other data" in capfd.readouterr().err
    assert main([*command[:-1], str(tmp_path / "x.jsonl"), "--workers", "1", "--format", "ecs"]) == 2
    assert "by one process" in capfd.readouterr().err
