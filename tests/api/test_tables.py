"""Tables of any library come back as they came in."""

from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.api.tables import TrafficSource, arrow_table, as_arrow, write_traffic
from wirebert.errors import DataError


class Stream:
    """A table of another library: all that Arrow asks of it."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


TABLE = pa.table({"dur": [1.5, 2.0], "proto": ["tcp", None]})


def test_any_table_that_arrow_can_read_is_read():
    assert arrow_table(Stream(TABLE)).equals(TABLE)


def test_what_is_no_table_is_refused_in_one_sentence():
    with pytest.raises(DataError, match="found int; make it a data frame"):
        arrow_table(3)  # pyright: ignore[reportArgumentType]


def test_values_of_several_types_become_text():
    assert as_arrow(np.array([1, "a", None, float("nan")], object)).to_pylist() == ["1", "a", None, None]
    assert as_arrow(np.array([ip_address("10.0.0.1")], object)).to_pylist() == ["10.0.0.1"]


def test_records_become_json_lines_with_times_and_numbers_of_numpy(tmp_path: Path):
    records = [{"n": np.int64(3), "at": datetime(2026, 1, 2)}, {"other": 1.5}]
    path = write_traffic(records, tmp_path, "flows")
    assert path.read_text() == '{"n": 3, "at": "2026-01-02 00:00:00"}\n{"other": 1.5}\n'


def test_a_record_that_is_no_dictionary_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="found int"):
        write_traffic([3], tmp_path, "flows")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("given", "kind"), [(None, pa.Table), (TABLE, pa.Table), ([{"dur": 1}], list)])
def test_a_result_is_the_kind_of_table_that_came_in(given: object, kind: type):
    assert type(TrafficSource(path="x", given=given).alike(TABLE)) is kind


def test_a_pandas_frame_comes_back_with_its_index(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"dur": [1.5, 2.0], "x": [1, "a"]}, index=["a", "b"])
    assert arrow_table(frame)["x"].to_pylist() == ["1", "a"]
    back = TrafficSource(path="x", given=frame).alike(TABLE)
    assert back.index.tolist() == ["a", "b"]
    assert TrafficSource(path="x", given=frame).alike(TABLE.slice(1), np.array([1])).index.tolist() == ["b"]


def test_a_polars_frame_comes_back_as_one(tmp_path: Path):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"dur": [1.5, 2.0], "proto": ["tcp", None]})
    assert pa.ipc.open_file(str(write_traffic(frame, tmp_path, "f"))).read_all().num_rows == 2
    assert isinstance(TrafficSource(path="x", given=frame).alike(TABLE), polars.DataFrame)
