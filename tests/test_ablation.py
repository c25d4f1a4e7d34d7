"""A run that is asked what context adds trains a second model without it and says so in its report."""

import json
from pathlib import Path

import pytest

from wirebert.ablation import bare, require_context
from wirebert.cli import main
from wirebert.data.loading import open_flows
from wirebert.data.synthetic import generate, write_csv
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.errors import ConfigError
from wirebert.judging import Part


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "conn.log"
    write_conn_log(path, generate(1_200, seed=1, quiet=True))
    return path


def test_bare_rows_are_the_same_without_context(log: Path):
    part = Part("all", open_flows(log))
    with_context = next(part.tables())
    without = next(bare(part).tables())
    gone = set(with_context.column_names) - set(without.column_names)
    assert len(gone) == 19
    assert all(name.startswith("ctx_") for name in gone)
    assert without.equals(with_context.select(without.column_names))


def test_data_without_context_can_not_lose_it(tmp_path: Path):
    write_csv(tmp_path / "flows.csv", 50, seed=1)
    with pytest.raises(ConfigError, match="ablate_context must be false"):
        require_context(open_flows(tmp_path / "flows.csv"))


@pytest.mark.slow
def test_the_report_says_what_context_adds(log: Path, tmp_path: Path, tiny: list[str]):
    out = tmp_path / "run"
    words = ["train", str(log), "--out", str(out), *tiny, "--set", "evaluation.ablate_context=true"]
    assert main(words) == 0
    report = json.loads((out / "report.json").read_text())
    gain = report["context"]["splits"]["valid"]
    assert len(report["context"]["columns"]) == 19
    assert gain["macro_f1"]["with_context"] == report["splits"]["valid"]["macro_f1"]
    assert set(gain["per_class"]) == {
        name for name, figures in report["splits"]["valid"]["per_class"].items() if figures["support"]
    }
    bare_manifest = json.loads((out / "without_context" / "model" / "wirebert.json").read_text())
    assert "context" not in bare_manifest["tokenizer"]["schema"]
