"""The detector of the library gives what the commands give."""

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

import wirebert as wb
from wirebert.cli.main import main
from wirebert.errors import ArtifactError, ConfigError, RunError, SchemaError
from wirebert.inference.artifact import load_artifact, save_artifact
from wirebert.inference.engines import CASCADE
from wirebert.report.report import read_json

pytestmark = pytest.mark.filterwarnings("ignore::wirebert.FindingWarning")


def by_command(model: Path, data: Path, folder: Path) -> pa.Table:
    out = folder / f"{data.stem}.parquet"
    assert main(["predict", str(model), str(data), "--out", str(out)]) == 0
    return parquet.read_table(out)


def same_verdicts(own: pa.Table, other: pa.Table) -> bool:
    """Equal but for what only a file has: its lines, and times as they were written."""
    columns = [name for name in own.column_names if name != "ts"]
    return bool(own.select(columns).equals(other.select(columns)))


def test_a_table_gets_the_verdicts_that_the_command_gives_its_csv(
    detector: wb.Detector, trained: Path, test_table: pa.Table, tmp_path: Path
):
    csv.write_csv(test_table, tmp_path / "same.csv")
    by_file = by_command(trained, tmp_path / "same.csv", tmp_path)
    assert set(by_file.column_names) - {"line"} == set(detector.predict(test_table).column_names)
    assert same_verdicts(detector.predict(test_table), by_file)


def test_records_get_the_verdicts_that_the_command_gives_their_json_lines(
    detector: wb.Detector, trained: Path, test_table: pa.Table, tmp_path: Path
):
    records = [
        {name: value for name, value in record.items() if name not in ("ts", "label") and value is not None}
        for record in test_table.slice(0, 20).to_pylist()
    ]
    from wirebert.api.tables import write_traffic

    by_file = by_command(trained, write_traffic(records, tmp_path, "same"), tmp_path)
    found = detector.predict(records)
    assert [record["verdict"] for record in found] == by_file["verdict"].to_pylist()
    # Rows that were scored before in other batches differ in the last bits.
    assert [record["p_benign"] for record in found] == pytest.approx(by_file["p_benign"].to_pylist())
    assert list(found[0]) == by_file.column_names


def test_a_file_gets_the_same_verdicts_in_batches_in_a_file_and_at_once(
    detector: wb.Detector, trained: Path, traffic: Path, tmp_path: Path
):
    expected = by_command(trained, traffic / "test.csv", tmp_path)
    assert detector.predict(traffic / "test.csv").equals(expected)
    assert pa.concat_tables(detector.predict_batches(traffic / "test.csv")).equals(expected)
    out = detector.predict(traffic / "test.csv", out=tmp_path / "own.parquet")
    assert parquet.read_table(out).equals(expected)


def test_columns_of_another_spelling_are_matched_and_told(detector: wb.Detector, test_table: pa.Table):
    renamed = test_table.rename_columns(
        ["Dst Port" if name == "dst_port" else name for name in test_table.column_names]
    )
    with pytest.warns(wb.FindingWarning, match=r"^names_matched: "):
        found = detector.predict(renamed)
    assert found["p_benign"].equals(detector.predict(test_table)["p_benign"])


def test_a_warning_is_at_the_line_of_the_user(detector: wb.Detector, test_table: pa.Table):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        detector.predict(test_table)
    assert told
    between = {"_decorator.py"}  # jaxtyping's, which checks types in tests alone
    assert {Path(one.filename).name for one in told} <= {Path(__file__).name, *between}


def test_a_table_without_the_features_is_refused_by_name(detector: wb.Detector, test_table: pa.Table):
    with pytest.raises(SchemaError, match=r"^the table: expected at least half"):
        detector.predict(test_table.select(["ts", "src_ip", "dst_ip"]))


def test_a_table_without_rows_gets_a_table_without_rows(detector: wb.Detector, test_table: pa.Table):
    none = detector.predict(test_table.slice(0, 0))
    assert none.num_rows == 0
    assert "predicted_class" in none.column_names


def test_probabilities_are_those_of_the_verdicts(detector: wb.Detector, test_table: pa.Table):
    probabilities = detector.predict_proba(test_table)
    verdicts = detector.predict(test_table)
    assert probabilities.shape == (test_table.num_rows, len(detector.classes))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert [detector.classes[at] for at in probabilities.argmax(axis=1)] == verdicts[
        "predicted_class"
    ].to_pylist()


def test_contributions_are_those_behind_the_explanations(detector: wb.Detector, test_table: pa.Table):
    rows = test_table.slice(0, 5)
    found = detector.explain(rows)
    texts = detector.predict(rows, explain="all")["explanation"].to_pylist()
    for row, reasons in zip(found.to_pylist(), texts, strict=True):
        for reason in reasons:
            feature, value = re.split(r":| \(", reason)[0], float(reason.rpartition("(")[2].rstrip(")"))
            assert abs(abs(row[feature]) - abs(value)) < 0.006
    assert set(detector.explain(rows, class_name="benign")["class"].to_pylist()) == {"benign"}
    with pytest.raises(ConfigError, match="class_name must be one of benign"):
        detector.explain(rows, class_name="worm")


def test_metrics_are_those_of_the_command(
    detector: wb.Detector, trained: Path, traffic: Path, test_table: pa.Table, tmp_path: Path
):
    assert (
        main(["evaluate", str(trained / "model"), str(traffic / "test.csv"), "--out", str(tmp_path / "o")])
        == 0
    )
    expected = next(iter(read_json(tmp_path / "o" / "report.json").splits.values()))
    assert detector.evaluate(test_table).metrics == pytest.approx(dict(expected.headline), abs=1e-6)


def test_a_budget_makes_the_threshold_of_the_command(
    detector: wb.Detector, trained: Path, traffic: Path, test_table: pa.Table, tmp_path: Path
):
    out = tmp_path / "calibrated"
    arguments = ["--alerts-per-10000", "500", "--out", str(out)]
    assert main(["calibrate", str(trained / "model"), str(traffic / "test.csv"), *arguments]) == 0
    own, other = detector.calibrate(test_table, alerts_per_10000=500.0), wb.load(out)
    budgets = [one.artifact.operating_point for one in (own, other)]
    assert all(one is not None and one.alert_budget is not None for one in budgets)
    assert own.predict(test_table)["verdict"].equals(other.predict(test_table)["verdict"])
    with pytest.raises(ConfigError, match="give one of them"):
        detector.calibrate(test_table)
    with pytest.raises(RunError, match="found a model alone"):
        own.report()


def test_a_cascade_is_calibrated_on_its_own_scores_and_saved_as_one(
    detector: wb.Detector, test_table: pa.Table, tmp_path: Path
):
    export = detector.artifact.exports["onnx"]
    small = replace(export, about={**export.about, "margin": 1.0})  # the same model stands in front of itself
    cascade = replace(detector.artifact, exports={CASCADE: small, **detector.artifact.exports})
    save_artifact(cascade, tmp_path / "cascade", card="", with_exports=True)
    own = wb.load(tmp_path / "cascade").calibrate(test_table, alerts_per_10000=500.0)
    again = wb.load(own.save(tmp_path / "calibrated"))
    assert own.scorer.backend == again.scorer.backend == CASCADE
    assert own.scorer.routed is not None
    assert own.predict(test_table)["verdict"].equals(again.predict(test_table)["verdict"])
    shares = {"benign": 0.9}
    others = [name for name in own.artifact.classes.classes if name != "benign"]
    shares |= dict.fromkeys(others, 0.1 / len(others))
    other = wb.load(tmp_path / "cascade").calibrate(test_table, alerts_per_10000=500.0, prior=shares)
    assert not other.artifact.exports  # the small model has other priors


def test_what_is_saved_can_be_loaded(
    detector: wb.Detector, trained: Path, test_table: pa.Table, tmp_path: Path
):
    folder = detector.save(tmp_path / "model")
    # Not `detector`, which may have scored some of these rows in other batches.
    assert wb.load(folder).predict(test_table).equals(wb.load(trained).predict(test_table))
    assert "## Evaluation" in (folder / "README.md").read_text(encoding="utf-8")
    exports = {name: export.path.read_bytes() for name, export in detector.artifact.exports.items()}
    assert exports
    for name, export in load_artifact(folder).exports.items():
        assert export.path.read_bytes() == exports[name]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").touch()
    with pytest.raises(ArtifactError, match="choose another folder"):
        detector.save(tmp_path / "other")


def test_a_detector_shows_itself(detector: wb.Detector):
    assert repr(detector).startswith("Detector(14 features, ")
    assert "alert threshold" in detector._repr_html_()  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_gets_a_frame(library: str, detector: wb.Detector, test_table: pa.Table):
    frames = pytest.importorskip(library)
    frame: Any = test_table.to_pandas() if library == "pandas" else frames.from_arrow(test_table)
    if library == "pandas":
        frame.index = frames.Index([f"flow {at}" for at in range(len(frame))])
    found = detector.predict(frame)
    assert isinstance(found, frames.DataFrame)
    expected = detector.predict(test_table)["predicted_class"].to_pylist()
    assert list(found["predicted_class"]) == expected
    if library == "pandas":
        assert found.index.tolist() == frame.index.tolist()
        assert [
            name for part in detector.predict_batches(frame) for name in part.index
        ] == found.index.tolist()


KINDS = ("pandas", "polars", "arrow", "records")


def of_kind(kind: str, table: pa.Table) -> Any:
    if kind == "pandas":
        return table.to_pandas().set_index("uid", drop=False)
    if kind == "polars":
        return pytest.importorskip("polars").from_arrow(table)
    return table if kind == "arrow" else table.to_pylist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_opened", [False, True])
def test_the_kind_of_table_that_goes_in_comes_out(
    kind: str, is_opened: bool, detector: wb.Detector, test_table: pa.Table
):
    rows = test_table.slice(0, 12)
    data = of_kind(kind, rows)
    given: Any = wb.open(data) if is_opened else data
    for found in (detector.predict(given), detector.explain(given), next(detector.predict_batches(given))):
        assert type(found) is type(data)
        assert len(found) == 12
        if kind == "pandas":
            assert found.index.tolist() == rows["uid"].to_pylist()
    assert detector.predict_proba(given).shape == (12, len(detector.classes))


def test_every_type_of_a_frame_means_its_values(detector: wb.Detector, test_table: pa.Table):
    """Categories, nullable numbers, times with a zone and lengths of time."""
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    plain: Any = test_table.slice(0, 40).to_pandas()
    for name in ("service", "tcp_flags", "duration_s", "src_payload_bytes", "dst_payload_bytes"):
        plain[name] = plain[name].replace("-", None)
    plain["duration_s"] = plain["duration_s"].astype(float)
    expected = detector.predict(plain)["p_benign"].tolist()
    typed: Any = plain.astype({"protocol": "category", "service": "category", "dst_port": "Int64"})
    typed["ts"] = pandas.to_datetime(typed["ts"])
    typed["duration_s"] = pandas.to_timedelta(typed["duration_s"], unit="s")
    assert detector.predict(typed)["p_benign"].tolist() == expected
    assert detector.predict(plain.convert_dtypes(dtype_backend="pyarrow"))["p_benign"].tolist() == expected
    frame = polars.from_pandas(plain).with_columns(
        polars.col("protocol").cast(polars.Categorical),
        polars.col("conn_state").cast(polars.Enum(sorted(set(plain["conn_state"])))),
        (polars.col("duration_s") * 1e6).round().cast(polars.Duration("us")),
    )
    assert detector.predict(frame)["p_benign"].to_list() == expected


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_series_is_refused_in_one_sentence(library: str, detector: wb.Detector):
    series = pytest.importorskip(library).Series([1.0, 2.0])
    with pytest.raises(wb.UserError, match=r"found Series; make it a data frame"):
        detector.predict(series)
