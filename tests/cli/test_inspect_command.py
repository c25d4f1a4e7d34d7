import json
from pathlib import Path

import pytest

from wirebert.cli.main import main


def test_inspecting_says_what_is_there(traffic: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(traffic / "train.csv")]) == 0
    out = capfd.readouterr().out
    assert "comma-separated" in out
    assert "schema synthetic" in out
    assert "benign 1,0" in out
    assert main(["inspect", str(traffic / "train.csv"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["num_rows"] == 1500


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


def test_an_inferred_schema_can_be_written_edited_and_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, schema = tmp_path / "flows.csv", tmp_path / "mine.toml"
    rows = [f"{row % 5},{row % 3}.5,{'normal' if row % 2 else 'dos'}" for row in range(100)]
    data.write_text("\n".join(["bytes,load,label", *rows, ""]), encoding="utf-8")
    assert main(["inspect", str(data), "--write-schema", str(schema), "--drop", "count"]) == 0
    text = schema.read_text(encoding="utf-8")
    assert "dropped by data.drop" in text
    schema.write_text(text.replace('kind = "count"', 'kind = "category"'), encoding="utf-8")
    assert main(["inspect", str(data), "--schema", str(schema), "--json"]) == 0
    found = json.loads(capfd.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert [column["kind"] for column in found["columns"]] == ["category", "number", "label"]
    assert main(["inspect", str(data), "--write-schema", str(schema)]) == 2
    assert (
        "mine.toml: the schema cannot be written (File exists); choose another name" in capfd.readouterr().err
    )


def test_a_column_that_is_not_there_can_not_be_dropped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flows.csv").write_text("dport,label\n80,normal\n22,dos\n", encoding="utf-8")
    assert main(["inspect", str(tmp_path / "flows.csv"), "--drop", "dprt"]) == 2
    assert "there is no column or kind 'dprt', did you mean 'dport'" in capfd.readouterr().err
