"""Opened traffic, from files and tables."""

from pathlib import Path

import pyarrow as pa
import pytest

import wirebert as wb
from wirebert.api.traffic import traffic_source

pytestmark = pytest.mark.filterwarnings("ignore::wirebert.FindingWarning")


def test_a_table_is_opened_as_its_file_is(traffic: Path, test_table: pa.Table):
    table, file = wb.open(test_table), wb.open(traffic / "test.csv")
    assert table.columns == file.columns
    assert table.features == file.features
    assert table.label == file.label == "label"
    assert sum(block.num_rows for block in table.blocks()) == test_table.num_rows


def test_the_file_of_a_table_is_deleted_with_it(test_table: pa.Table):
    opened = wb.open(test_table)
    path = Path(opened.source.path)
    assert path.exists()
    del opened
    assert not path.parent.exists()


def test_the_file_of_a_table_is_deleted_after_an_error():
    with pytest.raises(wb.UserError, match=r"^the table: ") as caught:
        wb.open(pa.table({"a": pa.array([], pa.string())}))
    assert "wirebert-" not in str(caught.value)


def test_what_is_opened_can_be_used_again(detector: wb.Detector, test_table: pa.Table):
    opened = wb.open(test_table)
    assert detector.predict(opened).equals(detector.predict(test_table))
    with traffic_source(opened) as source:
        assert Path(source.path).exists()
    assert Path(opened.source.path).exists()


def test_a_notebook_shows_the_columns(test_table: pa.Table):
    html = wb.open(test_table)._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert '<th scope="row">src_payload_bytes</th>' in html.replace("<wbr>", "")
