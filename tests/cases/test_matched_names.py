"""Names that mean the same: cases/absent-columns, and columns of exporters under the names of a model."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.cli.main import main
from wirebert.data.flows import open_flows

CASES = Path(__file__).parent / "absent-columns"


def figures(model: Path, name: str, out: Path) -> dict[str, object]:
    assert main(["evaluate", str(model), str(CASES / name), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (split,) = report["splits"].values()
    return {"confusion": split["confusion"], **split["headline"]}


def test_snake_names_give_the_figures_of_the_usual_names(cases_model: Path, tmp_path: Path):
    usual = figures(cases_model, "same-names.csv", tmp_path / "usual")
    assert (usual["accuracy"], usual["binary_accuracy"]) == (0.925, 0.975)
    assert figures(cases_model, "snake-names.csv", tmp_path / "snake") == usual


@pytest.mark.parametrize(("name", "counts"), [("snake-names.csv", [10]), ("long-names.csv", [7])])
def test_columns_under_other_names_are_the_same_table_and_told(name: str, counts: list[int]):
    schema = open_flows(CASES / "train.csv").schema
    flows = open_flows(CASES / name, schema=schema)
    usual = pa.concat_tables(open_flows(CASES / "same-names.csv", schema=schema).blocks())
    assert pa.concat_tables(flows.blocks()).equals(usual)
    assert [finding.count for finding in flows.findings if finding.code == "names_matched"] == counts


def test_what_is_not_there_stays_absent():
    flows = open_flows(CASES / "two-lacking.csv", schema=open_flows(CASES / "train.csv").schema)
    assert flows.absent == ("TotLen Fwd Pkts", "SYN Flag Cnt")
    assert flows.findings == ()
