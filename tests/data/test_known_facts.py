"""Facts about public data sets that are known from elsewhere, found by inspection without being told."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig
from wirebert.workflows.inspect import Inspection, inspect_data


@cache
def inspected(path: Path, tests: tuple[Path, ...] = (), **settings: Any) -> Inspection:
    return inspect_data(str(path), DataConfig(**settings), [str(test) for test in tests])


def finding(found: Inspection, code: str, column: str | None = None) -> Finding:
    """The only finding of this code (about this column)."""
    chosen = [f for f in found.findings if f.code == code and (column is None or f.column == column)]
    assert len(chosen) == 1, [(f.code, f.column) for f in found.findings]
    return chosen[0]


def accuracy(found: Inspection, code: str, column: str | None = None) -> float:
    return float(finding(found, code, column).example)


def marker(found: Inspection, text: str) -> Finding:
    """How often this text means that a value is missing."""
    chosen = [f for f in found.findings if f.code == "missing_markers" and f.example == repr(text)]
    assert len(chosen) == 1
    return chosen[0]


def test_nsl_kdd_train(data_dir: Path):
    found = inspected(data_dir / "nsl-kdd" / "KDDTrain+.txt.gz")
    assert found.flows.described == "gzip, utf-8, comma-separated, no header"
    assert (found.profile.num_rows, len(found.flows.schema.columns), len(found.profile.label_names)) == (
        125_973,
        43,
        23,
    )
    assert finding(found, "constant_column").column == "num_outbound_cmds"
    assert finding(found, "nearly_boolean_column", "su_attempted").example == "2"
    assert finding(found, "label_derived").column == "difficulty"


def test_nsl_kdd_test_beside_train(data_dir: Path):
    folder = data_dir / "nsl-kdd"
    found = inspected(folder / "KDDTrain+.txt.gz", (folder / "KDDTest+.txt.gz",))
    new = finding(found, "new_labels")
    assert new.count == 3_750
    assert new.message.startswith("17 labels ")
    assert finding(found, "shared_rows").count == 664


def test_nsl_kdd_test_holds_equal_rows_of_both_kinds(data_dir: Path):
    found = inspected(data_dir / "nsl-kdd" / "KDDTest+.txt.gz")
    assert len(found.profile.label_names) == 38
    assert "both normal and attack rows in 54 of the groups" in finding(found, "conflicting_labels").message
    assert inspected(data_dir / "nsl-kdd" / "KDDTest-21.txt.gz").profile.num_rows == 11_850


def nothing(names: object, rows: object) -> None:
    """No schema is recognised."""


def test_difficulty_is_found_by_its_relation_to_the_label_where_no_schema_tells(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wirebert.data.flows.match_schema", nothing)
    found = inspect_data(str(data_dir / "nsl-kdd" / "KDDTest+.txt.gz"), DataConfig())
    assert found.flows.schema.label == "column_42"
    derived = finding(found, "label_derived")
    assert derived.column == "column_43"
    assert "comes after the label, which explains" in derived.message


@pytest.mark.slow
def test_unsw_nb15_partition(data_dir: Path):
    found = inspected(data_dir / "unsw-nb15" / "UNSW_NB15_training-set.csv.gz")
    assert (
        found.flows.described == "gzip, utf-8 with byte-order mark, comma-separated, header, CRLF line ends"
    )
    assert found.profile.num_rows == 82_332
    assert finding(found, "label_leak").column == "id"
    assert accuracy(found, "label_leak") > 0.99
    assert accuracy(found, "sorted_by_label") > 0.99
    assert "(26,387 with the same label)" in finding(found, "duplicate_rows").message
    assert (finding(found, "conflicting_labels").count, finding(found, "conflicting_labels").column) == (
        8_809,
        "attack_cat",
    )
    assert (marker(found, "-").column, marker(found, "-").count) == ("service", 47_153)


def test_unsw_nb15_raw_slice(data_dir: Path):
    found = inspected(data_dir / "unsw-nb15" / "UNSW-NB15_1.rows_0-10000.csv.gz")
    assert (found.profile.num_rows, len(found.flows.schema.columns)) == (10_000, 49)
    assert finding(found, "padded_values", "attack_cat").example == "' Fuzzers'"
    assert finding(found, "odd_column_name").column == "ct_src_ ltm"
    blank = finding(found, "missing_with_a_class", "attack_cat")
    assert (blank.example, blank.count) == ("0", 9_327)
    assert "every attack row has '175.45.176.x'" in finding(found, "label_leak", "srcip").message


def test_ton_iot(data_dir: Path):
    found = inspected(data_dir / "ton-iot" / "train_test_network.csv.gz")
    assert (found.profile.num_rows, len(found.class_counts)) == (211_043, 10)
    assert accuracy(found, "sorted_by_label") > 0.99
    assert accuracy(found, "label_leak", "src_ip") == pytest.approx(0.9905, abs=0.002)
    assert "(117,118 with the same label)" in finding(found, "duplicates_without_endpoints").message


@pytest.mark.slow
def test_ton_iot_as_a_table_like_any(data_dir: Path):
    found = inspected(data_dir / "ton-iot" / "train_test_network.csv.gz", delimiter=",")
    assert (
        found.flows.described == "gzip, utf-8 with byte-order mark, comma-separated, header, CRLF line ends"
    )
    assert "in 22 columns" in marker(found, "-").message
    assert "(117,118 with the same label)" in finding(found, "duplicates_without_endpoints").message
    assert (found.flows.schema.label, finding(found, "label_derived").column) == ("type", "label")


def test_http_params(data_dir: Path):
    folder = data_dir / "http-params"
    found = inspected(folder / "payload_train.csv", (folder / "payload_test.csv",))
    assert found.flows.described == "utf-8, comma-separated, header, CRLF line ends"
    assert (found.profile.num_rows, len(found.class_counts)) == (20_712, 5)
    assert found.profile.invalid_values.lines.num_quoted > 0  # values that hold commas or quotes
    assert not [f for f in found.findings if f.code == "shared_rows"]
    assert finding(found, "no_shared_rows").count == 0
    near = finding(found, "near_duplicate_texts_in_test")
    assert near.count / 10_355 == pytest.approx(0.25, abs=0.005)


def test_iot_23(data_dir: Path):
    folder = data_dir / "iot-23"
    large = inspected(folder / "CTU-IoT-Malware-Capture-42-1.conn.log.labeled.gz")
    assert large.profile.num_rows == 4_426
    assert large.class_counts["Malicious"] == 6
    small = inspected(folder / "CTU-Honeypot-Capture-4-1.conn.log.labeled.gz")
    assert (small.profile.num_rows, small.class_counts) == (452, {"benign": 452})
    assert marker(small, "-").count > 100
    whole = inspected(folder)
    assert set(whole.class_counts) == {"Benign", "Malicious"}
    assert "as class 'Benign'" in finding(whole, "labels_matched").message


@pytest.mark.parametrize(
    ("path", "num_rows", "format_name"),
    [
        ("zeek-json/conn.log", 576, "Zeek conn log, JSON"),
        ("zeek-tsv/conn.log", 141, "Zeek conn log, tab-separated"),
        ("suricata/eve.json.gz", 3_512, "Suricata EVE"),
        ("argus/tab.binetflow", 300, "Argus binetflow, tab-separated"),
        ("argus/comma.binetflow.gz", 6_751, "Argus binetflow, comma-separated"),
    ],
)
def test_sensor_logs(path: str, num_rows: int, format_name: str, data_dir: Path):
    found = inspected(data_dir / "sensors" / path)
    assert found.profile.num_rows == num_rows
    assert found.flows.described.startswith(format_name)


def test_labelled_zeek_log(data_dir: Path):
    found = inspected(data_dir / "sensors" / "zeek-labeled" / "conn.log.labeled")
    assert found.class_counts == {"Benign": 44, "Malicious": 719, "Unknown": 3}


def test_nfdump_records_are_one_way_and_the_summary_is_no_record(data_dir: Path):
    found = inspected(data_dir / "sensors" / "netflow" / "nfdump.csv.gz")
    assert found.profile.invalid_values.lines.num_rows == 4_593
    found = inspected(data_dir / "sensors" / "netflow" / "nfdump.csv.gz", delimiter=",")
    assert found.profile.num_rows == 4_593
    assert (finding(found, "footer").count, finding(found, "footer").example[:15]) == (3, "line 4595: Summ")


def test_what_is_found_is_json_too(data_dir: Path):
    plain = json.loads(inspected(data_dir / "http-params" / "payload_test.csv").to_json())
    assert plain["dialect"]["quote"] == '"'
    assert plain["lines"]["rows"] == plain["num_rows"] == sum(plain["classes"].values()) == 10_355
    assert {"code", "severity", "column", "count", "example", "message", "is_accepted"} == set(
        plain["findings"][0]
    )
