from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from wirebert.errors import RunError
from wirebert.evaluation.predictions_file import read_predictions


def test_rows_without_a_label_are_passed_over(tmp_path: Path) -> None:
    table = pa.table(
        {
            "row": [0, 1, 2],
            "label": ["smurf", None, "normal"],
            "true_class": ["dos", None, "normal"],
            "predicted_class": ["dos", "dos", "dos"],
        }
    )
    parquet.write_table(table, tmp_path / "test.parquet")
    found = read_predictions(tmp_path / "test.parquet")
    assert (found.labels, found.true, found.names) == (("smurf", "normal"), ("dos", "normal"), ("dos",))
    assert found.label_ids.tolist() == [0, 1]
    assert found.scores is None


def test_missing_predictions_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"test\.parquet: expected the predictions"):
        read_predictions(tmp_path / "test.parquet")
