import csv as lines_of_csv
import io
import json
import os
import pty
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from wirebert.alerts.ecs import EcsContext, carried_columns
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError, NoFlowsError
from wirebert.inference.artifact import Artifact
from wirebert.inference.detector import Detector
from wirebert.inference.explanations import top_reasons
from wirebert.inference.predictions import (
    WRITERS,
    CsvWriter,
    open_writer,
    predict_blocks,
)

ENDINGS = tuple(WRITERS)
PROBABILITIES = ["p_normal", "p_dos", "p_probe", "attack_score"]
COLUMNS = [
    *("row", "file", "line", "ts", "uid", "src_ip", "dst_port", "predicted_class"),
    *("p_normal", "p_dos", "p_probe", "attack_score"),
    *("community_id", "num_absent", "num_unseen", "warnings", "schema_version"),
]


@pytest.fixture(scope="module")
def detector(artifact: Artifact) -> Detector:
    return Detector(artifact)


@pytest.fixture
def flows(schema: FlowSchema, table: pa.Table, tmp_path: Path) -> Flows:
    """The table as three files, each a block."""
    (tmp_path / "in").mkdir()
    for number, first in enumerate((0, 25, 50)):
        csv.write_csv(table.slice(first, 25), tmp_path / "in" / f"{number}.csv")
    return open_flows(tmp_path / "in", schema=schema)


def refuse(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def read(path: Path) -> pa.Table:
    """What a file of verdicts says, whatever its form."""
    if path.suffix == ".parquet":
        return parquet.read_table(path)
    if path.suffix == ".csv":
        texts = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        return csv.read_csv(path, convert_options=texts)
    with path.open(encoding="utf-8") as file:
        return pa.Table.from_pylist([json.loads(line, parse_constant=refuse) for line in file])


def write(path: Path, *tables: pa.Table) -> Path:
    with open_writer(path) as writer:
        for table in tables:
            writer.write(table)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_has_a_line_per_flow_in_input_order(
    detector: Detector, flows: Flows, table: pa.Table, tmp_path: Path, ending: str
):
    blocks = list(predict_blocks(detector, flows))
    assert [block.num_rows for block in blocks] == [25, 25, 10]
    found = read(write(tmp_path / f"verdicts{ending}", *blocks))
    assert found.column_names == COLUMNS
    assert found["row"].to_pylist() == list(range(60))
    # Three files, each with a header.
    assert found["line"].to_pylist() == [*range(2, 27), *range(2, 27), *range(2, 12)]
    assert [Path(str(name)).name for name in found["file"].to_pylist()] == ["0.csv"] * 25 + ["1.csv"] * 25 + [
        "2.csv"
    ] * 10
    assert found["uid"].to_pylist() == table["uid"].to_pylist()
    assert found["src_ip"].to_pylist() == table["src_ip"].to_pylist()
    assert found["dst_port"].to_pylist() == table["dst_port"].to_pylist()
    assert pa.types.is_integer(found["dst_port"].type)
    scores = detector.score(table)
    classes = [detector.classes[index] for index in scores.class_ids.tolist()]
    assert found["predicted_class"].to_pylist() == classes
    for index, name in enumerate(detector.classes):
        np.testing.assert_allclose(found[f"p_{name}"], scores.probabilities[:, index], atol=1e-6)
    assert scores.attack_score is not None
    np.testing.assert_allclose(found["attack_score"], scores.attack_score, atol=1e-6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_numbers_are_written_to_the_last_bit(tmp_path: Path, ending: str):
    values = [1 / 3, 1e-300, 5e-324, 1.0, 0.0, 1 - 2**-53, 123456789.125]
    path = write(tmp_path / f"out{ending}", pa.table({"p": values, "i": [2**53 + 1] * 7}))
    assert read(path)["p"].to_pylist() == values
    assert read(path)["i"].to_pylist() == [2**53 + 1] * 7


@pytest.mark.parametrize("ending", ENDINGS)
def test_texts_are_written_as_they_are(tmp_path: Path, ending: str):
    texts = ['say "hi", all', "two\nlines\r\n", "\0\x01", "é\u2028😀", "=1+1", " ", "\\", "null", None]
    path = write(tmp_path / f"out{ending}", pa.table({'a "b", c': texts, "uid": texts}))
    if ending == ".csv":
        content = path.read_bytes().decode()
        found = list(lines_of_csv.reader(io.StringIO(content.replace("\0", "\\0"), newline="")))
        assert found[0] == ['a "b", c', "uid"]
        read_back = [row[1].replace("\\0", "\0") for row in found[1:]]
        assert read_back == ["'=1+1" if text == "=1+1" else text or "" for text in texts]
    else:
        assert read(path).to_pylist() == [{'a "b", c': text, "uid": text} for text in texts]


def test_json_has_null_for_what_is_no_number(tmp_path: Path):
    values = [0.5, None, float("nan"), float("inf"), -float("inf")]
    path = write(tmp_path / "out.jsonl", pa.table({"p": values, "i": [1, None, 2, 3, 4]}))
    assert read(path)["p"].to_pylist() == [0.5, None, None, None, None]
    assert read(path)["i"].to_pylist() == [1, None, 2, 3, 4]


def test_a_block_is_judged_before_the_next_is_read(detector: Detector, flows: Flows):
    blocks = predict_blocks(detector, flows)
    for path in flows.files[1:]:
        path.unlink()
    assert next(blocks)["uid"].to_pylist() == [f"C{number}" for number in range(25)]
    with pytest.raises((DataError, OSError)):
        next(blocks)


@pytest.mark.parametrize("ending", ENDINGS)
def test_without_flows_there_are_columns(detector: Detector, flows: Flows, tmp_path: Path, ending: str):
    for path in flows.files:
        path.write_text("ts,uid,src_ip,dst_port,duration,bytes,service,flags,label\n")
    with pytest.raises(NoFlowsError, match="expected flows, found none"):
        list(predict_blocks(detector, flows))
    blocks = list(predict_blocks(detector, replace(flows, can_be_empty=True)))  # a piece of a log
    assert [(block.num_rows, block.column_names) for block in blocks] == [(0, COLUMNS)]
    path = write(tmp_path / f"verdicts{ending}", *blocks)
    if ending == ".jsonl":
        assert path.read_text() == ""
    else:
        assert read(path).column_names == COLUMNS
        assert read(path).num_rows == 0


def test_blocks_with_rows_and_without_have_one_layout(detector: Detector, flows: Flows):
    full = next(predict_blocks(detector, flows))
    for path in flows.files:  # they were opened, and have lost their rows since
        path.write_text(path.read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8")
    (none,) = predict_blocks(detector, replace(flows, can_be_empty=True))
    assert (none.num_rows, none.schema) == (0, full.schema)


def test_on_a_terminal_nothing_of_a_verdict_is_obeyed(tmp_path: Path):
    hostile = "\x1b[2J\x1b]0;x\x07\x9b31m\u202e"
    table = pa.table({hostile: [hostile, "plain"], "list": [[hostile], []], "n": [1.5, None]})

    for kind in (CsvWriter, WRITERS[".jsonl"]):
        leader, follower = pty.openpty()
        with open(follower, "wb") as terminal, closing(kind(terminal)) as writer:  # noqa: PTH123
            writer.write(table)
            terminal.flush()
            shown = os.read(leader, 1 << 16).decode().replace("\r\n", "\n")
        os.close(leader)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
        assert "plain" in shown
        with (tmp_path / "verdicts").open("wb") as file, closing(kind(file)) as writer:
            writer.write(table)
        assert "\u202e" in (tmp_path / "verdicts").read_text(encoding="utf-8")  # a file holds what came


# The file


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_exists_is_left_alone(tmp_path: Path, ending: str):
    path = tmp_path / f"out{ending}"
    path.write_text("mine")
    with pytest.raises(DataError, match=f"--out .*out{ending}: expected a new file"), open_writer(path):
        raise AssertionError("opened")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["out", "out.txt", "out.csv.gz", ".csv"])
def test_another_ending_is_refused(tmp_path: Path, name: str):
    with (
        pytest.raises(DataError, match=r"ends in one of \.csv, \.jsonl, \.parquet"),
        open_writer(tmp_path / name),
    ):
        raise AssertionError("opened")
    assert list(tmp_path.iterdir()) == []


def test_the_ending_may_be_in_capitals(tmp_path: Path):
    assert read(write(tmp_path / "OUT.CSV", pa.table({"a": [1]})).rename(tmp_path / "o.csv")).num_rows == 1


def test_a_place_that_can_not_be_written_is_refused(tmp_path: Path):
    with (
        pytest.raises(DataError, match=r"the folder .* does not exist"),
        open_writer(tmp_path / "no" / "o.csv"),
    ):
        raise AssertionError("opened")
    (tmp_path / "o.csv.part").mkdir()
    with pytest.raises(DataError, match=r"o\.csv\.part in the way"), open_writer(tmp_path / "o.csv"):
        raise AssertionError("opened")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("num_blocks", [0, 2])
def test_failure_midway_leaves_no_file(tmp_path: Path, ending: str, num_blocks: int):
    def blocks() -> Iterator[pa.Table]:
        yield from [pa.table({"a": [1, 2]})] * num_blocks
        assert not (tmp_path / f"out{ending}").exists()
        raise DataError("the file ends in the middle of a row")

    with pytest.raises(DataError, match="in the middle of a row"):
        write_all(tmp_path / f"out{ending}", blocks)
    assert list(tmp_path.iterdir()) == []


def write_all(path: Path, blocks: Callable[[], Iterator[pa.Table]]) -> None:
    with open_writer(path) as writer:
        for block in blocks():
            writer.write(block)


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path):
    (tmp_path / "out.csv.part").write_text("half a li")
    found: Any = read(write(tmp_path / "out.csv", pa.table({"a": [1]})))
    assert found.to_pylist() == [{"a": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_table_in_a_spreadsheet_runs_nothing_that_a_host_has_sent(tmp_path: Path, start: str):
    texts = [f"{start}cmd|'/C calc'!A0", f"a{start}1", None]
    path = write(tmp_path / "out.csv", pa.table({f"{start}uid": texts, "p": [-1.5, 1.0, -2.0]}))
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = lines_of_csv.reader(file)
    assert header == [f"'{start}uid", "p"]
    assert [row[0] for row in rows] == [f"'{texts[0]}", texts[1], ""]
    assert [float(row[1]) for row in rows] == [-1.5, 1.0, -2.0]  # numbers are what they were


def test_a_verdict_names_the_line_of_its_flow(
    detector: Detector, schema: FlowSchema, table: pa.Table, tmp_path: Path
):
    csv.write_csv(table, tmp_path / "flows.csv")
    header, *rows = (tmp_path / "flows.csv").read_text(encoding="utf-8").splitlines()
    rows[10:10] = ["", "one,field"]
    path = tmp_path / "gaps.csv"
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    flows = open_flows(path, DataConfig(max_invalid_fraction=0.1), schema=schema)
    found = pa.concat_tables(predict_blocks(detector, flows))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "file" not in found.column_names
    assert found.num_rows == table.num_rows
    positions: list[int] = found["line"].cast(pa.int64()).to_numpy().tolist()
    for line, uid in zip(positions, found["uid"].to_pylist(), strict=True):
        assert str(uid) in lines[line - 1]


def test_formats_without_lines_have_rows_alone(
    detector: Detector, schema: FlowSchema, table: pa.Table, tmp_path: Path
):
    parquet.write_table(table, tmp_path / "flows.parquet")
    found = pa.concat_tables(predict_blocks(detector, open_flows(tmp_path / "flows.parquet", schema=schema)))
    assert "line" not in found.column_names
    assert found["row"].to_pylist() == list(range(table.num_rows))


# Reasons


@pytest.mark.parametrize("explained", ["alerts", "all"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_why_names_the_features_of_each_explained_flow(
    detector: Detector,
    flows: Flows,
    table: pa.Table,
    tmp_path: Path,
    explained: Literal["alerts", "all"],
    ending: str,
):
    """A list in JSON and Parquet, one text in CSV."""
    path = write(tmp_path / f"out{ending}", *predict_blocks(detector, flows, explained=explained))
    found = read(path)["explanation"].to_pylist()
    is_alert = detector.score(table).class_ids != 0
    if ending == ".csv":
        found = [None if text in (None, "") else text.split("; ") for text in found]
    expected = top_reasons(detector.explain(table), detector.artifact.tokenizer).to_pylist()
    for texts, wanted, alert in zip(found, expected, is_alert, strict=True):
        assert (texts or []) == (wanted if alert or explained == "all" else [])
    assert explained == "all" or {
        texts is None for texts, alert in zip(found, is_alert, strict=True) if not alert
    } == {True}


def test_a_large_block_is_judged_in_parts(detector: Detector, flows: Flows, monkeypatch: pytest.MonkeyPatch):
    whole = pa.concat_tables(predict_blocks(detector, flows))
    monkeypatch.setattr("wirebert.inference.predictions.PART_ROWS", 7)
    parts = list(predict_blocks(detector, flows))
    assert [part.num_rows for part in parts] == [7, 7, 7, 4, 7, 7, 7, 4, 7, 3]
    assert pa.concat_tables(parts).drop_columns(PROBABILITIES).equals(whole.drop_columns(PROBABILITIES))


def test_events_of_ecs_are_one_line_a_flow(detector: Detector, flows: Flows, table: pa.Table, tmp_path: Path):
    context = EcsContext(model_sha256="ab", benign="normal")
    names = carried_columns(flows.schema.names)
    with open_writer(tmp_path / "out.jsonl", context) as writer:
        for part in predict_blocks(detector, flows, carried=names):
            writer.write(part)
    events = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [event["wirebert"]["row"] for event in events] == list(range(table.num_rows))
    assert {event["wirebert"]["model_sha256"] for event in events} == {"ab"}
    with pytest.raises(DataError, match=r"ends in one of \.jsonl"), open_writer(tmp_path / "o.csv", context):
        pass
