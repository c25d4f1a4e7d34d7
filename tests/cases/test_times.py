"""Times in any order, unit and clock: cases/times."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.cli.main import main
from wirebert.data.flows import Flows, open_flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.times import seconds_of
from wirebert.inference.artifact import load_artifact
from wirebert.workflows.inspect import DataConfig, inspect_data

CASES = Path(__file__).parent / "times"
DAYS = 1_519_603_200.0 + 86_400 * np.arange(40)


def seconds(flows: Flows, column: str = "Timestamp") -> list[float]:
    return np.concatenate([seconds_of(block[column]) for block in flows.blocks()]).tolist()


@pytest.mark.parametrize(
    "name", ["day-first.csv", "month-first.csv", "month-first-12h.csv", "dots.csv", "two-digit-year.csv"]
)
def test_all_forty_days_are_right(name: str):
    found = inspect_data(str(CASES / name), DataConfig())
    assert seconds(found.flows) == DAYS.tolist()
    assert not [finding for finding in found.findings if finding.code == "unreadable_times"]


def test_milliseconds_are_the_same_times_as_seconds():
    assert seconds(open_flows(CASES / "epoch-ms.csv")) == seconds(open_flows(CASES / "epoch-s.csv"))


def test_a_file_in_milliseconds_scored_by_a_model_of_seconds_is_read_as_it_is_written_and_told():
    schema = open_flows(CASES / "epoch-s.csv").schema
    invalid = InvalidValues()
    flows = open_flows(CASES / "epoch-ms.csv", schema=schema)
    for _ in flows.blocks(invalid):
        pass
    assert seconds(flows) == seconds(open_flows(CASES / "epoch-s.csv"))
    assert invalid.noted["times_written_differently"]["Timestamp"] == (48, "ms, in training s")


def test_the_order_of_the_training_file_reads_a_later_file_of_few_days(tmp_path: Path):
    schema = open_flows(CASES / "month-first.csv").schema
    lines = (CASES / "month-first.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    later = tmp_path / "later.csv"
    later.write_text(lines[0] + "".join(lines[9:12]), encoding="utf-8")  # 6 to 8 March fit both orders
    assert seconds(open_flows(later, schema=schema)) == DAYS[8:11].tolist()


def test_times_that_cannot_be_read_are_told_with_an_example(tmp_path: Path):
    text = (CASES / "month-first.csv").read_text(encoding="utf-8").replace("2/27/2018 0:00", "yesterday")
    (tmp_path / "flows.csv").write_text(text, encoding="utf-8")
    found = inspect_data(str(tmp_path / "flows.csv"), DataConfig())
    (told,) = [finding for finding in found.findings if finding.code == "unreadable_times"]
    assert (told.column, told.count, told.example, told.severity) == ("Timestamp", 1, "yesterday", "warning")
    assert np.isnan(seconds(found.flows)).tolist() == [False, True, *[False] * 38]


def test_zeek_with_milliseconds_gives_the_table_of_zeek_with_seconds():
    def table(name: str) -> pa.Table:
        config = DataConfig(context=True)
        return pa.concat_tables(open_flows(CASES / name / "conn.log", config).blocks())

    assert table("zeek-ms").equals(table("zeek-s"))
    assert table("zeek-ms")["ctx_dst_flows_60s"].to_pylist()[:4] == [0, 1, 1, 1]


@pytest.mark.slow
def test_a_budget_fitted_on_milliseconds_is_that_of_seconds(
    train_case: Callable[[Path], Path], tmp_path: Path
):
    model, fitted = train_case(CASES / "epoch-s.csv"), list[tuple[float, int]]()
    for name in ("epoch-s.csv", "epoch-ms.csv"):
        out, verdicts = tmp_path / f"{name}-model", tmp_path / f"{name}-verdicts.csv"
        budget = ["--alerts-per-day", "4000", "--out", str(out)]
        assert main(["calibrate", str(model), str(CASES / name), *budget]) == 0
        assert main(["predict", str(out), str(CASES / name), "--out", str(verdicts)]) == 0
        operating = load_artifact(out).operating_point
        assert operating is not None
        threshold = operating.threshold_at(None)
        assert threshold is not None
        fitted.append((round(threshold, 9), verdicts.read_text().count('"alert"')))
    assert fitted[0] == fitted[1]
    assert 0 < fitted[0][1] < 20
