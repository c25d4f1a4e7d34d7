import gzip
import io
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.library import known_schemas, write_schema
from wirebert.data.schema.schema import ColumnKind
from wirebert.errors import ConfigError, DataError, SchemaError

TABLE = "dur,proto,label\n1.5,tcp,normal\n0,udp,dos\n2,tcp,normal\n"


def write(path: Path, text: str = TABLE) -> Path:
    path.write_bytes(text.encode())
    return path


def rows_of(flows: Flows) -> list[dict[str, object]]:
    return [row for table in flows.blocks() for row in table.to_pylist()]


def label_counts(flows: Flows, invalid: InvalidValues | None = None) -> Counter[str]:
    label = flows.require_label()
    return Counter(str(name) for table in flows.blocks(invalid) for name in table[label].to_pylist())


def test_a_file_is_read_typed_and_can_be_read_again(tmp_path: Path):
    flows = open_flows(write(tmp_path / "my.flows.csv"))
    assert flows.name == "my.flows"
    assert flows.schema.label == "label"
    assert rows_of(flows) == rows_of(flows)
    assert rows_of(flows)[0] == {"dur": 1.5, "proto": "tcp", "label": "normal"}


def test_a_folder_a_glob_and_standard_input_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "flows"
    folder.mkdir()
    write(folder / "b.csv", "proto,label,dur\nudp,dos,7\n")
    (folder / "a.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    write(folder / "README.md", "# notes")
    write(folder / ".hidden.csv", "x")
    found = rows_of(open_flows(folder))
    assert [row["dur"] for row in found] == [1.5, 0.0, 2.0, 7.0]
    assert rows_of(open_flows(str(folder / "*.csv*"))) == found
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TABLE.encode())))
    flows = open_flows("-")
    assert (flows.name, rows_of(flows)) == ("stdin", found[:3])


def test_key_value_lines_and_parquet_are_read_like_a_table(tmp_path: Path):
    lines = "dur:1.5, proto:tcp, label:normal\ndur=0, proto=udp, label=dos\ndur:2, label:normal, proto:tcp\n"
    expected = rows_of(open_flows(write(tmp_path / "flows.csv")))
    assert rows_of(open_flows(write(tmp_path / "flows.kv", lines))) == expected
    table = pa.table(
        {"dur": [1.5, 0, 2], "proto": ["tcp", "udp", "tcp"], "label": ["normal", "dos", "normal"]}
    )
    pq.write_table(table, tmp_path / "flows.parquet")
    assert rows_of(open_flows(tmp_path / "flows.parquet")) == expected


def test_a_trained_schema_matches_by_name_in_any_order_and_without_label(tmp_path: Path):
    schema = open_flows(write(tmp_path / "train.csv")).schema
    flows = open_flows(write(tmp_path / "new.csv", "extra,proto,dur\nx,tcp,5\n"), schema=schema)
    assert rows_of(flows) == [{"dur": 5.0, "proto": "tcp"}]
    assert flows.absent == ()
    flows = open_flows(write(tmp_path / "less.csv", "proto\ntcp\nudp\n"), schema=schema)
    assert flows.absent == ("dur",)
    with pytest.raises(SchemaError, match="no label column 'label'"):
        flows.require_label()


def test_a_trained_schema_matches_by_position_without_header(tmp_path: Path):
    schema = open_flows(write(tmp_path / "train.csv")).schema
    assert rows_of(open_flows(write(tmp_path / "a.csv", "5,tcp,dos\n"), schema=schema)) == [
        {"dur": 5.0, "proto": "tcp", "label": "dos"}
    ]
    assert rows_of(open_flows(write(tmp_path / "b.csv", "5,tcp\n"), schema=schema)) == [
        {"dur": 5.0, "proto": "tcp"}
    ]
    with pytest.raises(SchemaError, match=r"expected the 3 columns .* found 4 and no header"):
        open_flows(write(tmp_path / "c.csv", "5,tcp,dos,1\n"), schema=schema)


def test_a_schema_that_shares_no_feature_is_refused(tmp_path: Path):
    path = write(tmp_path / "flows.csv")
    with pytest.raises(SchemaError, match=r"expected columns of schema 'nsl_kdd' .* found dur, proto, label"):
        open_flows(path, DataConfig(schema="nsl_kdd"))
    with pytest.raises(SchemaError, match="did you mean 'nsl_kdd'"):
        open_flows(path, DataConfig(schema="nsl_kd"))


def test_a_schema_file_decides_over_inference(tmp_path: Path):
    flows = open_flows(write(tmp_path / "flows.csv"))
    write_schema(flows.schema.with_label("proto"), tmp_path / "mine.toml")
    again = open_flows(tmp_path / "flows.csv", DataConfig(schema=str(tmp_path / "mine.toml"), benign="udp"))
    assert (again.schema.label, again.schema.benign) == ("proto", "udp")


def test_label_by_name_or_position_and_a_wrong_one_lists_the_columns(tmp_path: Path):
    path = write(tmp_path / "flows.csv")
    assert open_flows(path, DataConfig(label="proto")).schema.label == "proto"
    assert open_flows(path, DataConfig(label="2")).schema.label == "proto"
    with pytest.raises(SchemaError, match=r"'lbl', did you mean 'label'\? known: dur, proto, label"):
        open_flows(path, DataConfig(label="lbl"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "an empty file"),
        ("dur,proto,label\n", "expected rows below the header"),
        ("dur,proto\n1,tcp\n1,tcp,x\n", "line 3: expected 2 fields, found 3"),
    ],
)
def test_bad_files_are_one_sentence(text: str, complaint: str, tmp_path: Path):
    with pytest.raises(DataError, match=complaint) as caught:
        open_flows(write(tmp_path / "flows.csv", text))
    assert "\n" not in str(caught.value)
    assert "flows.csv" in str(caught.value)


def test_missing_paths_empty_folders_and_differing_files_are_one_sentence(tmp_path: Path):
    with pytest.raises(DataError, match="no such file, folder or pattern"):
        open_flows(tmp_path / "none.csv")
    with pytest.raises(DataError, match="found none in the folder"):
        open_flows(tmp_path)
    write(tmp_path / "a.csv")
    write(tmp_path / "b.csv", "dur,service,label\n1,http,x\n")
    with pytest.raises(SchemaError, match=r"b\.csv: expected the columns of .*a\.csv"):
        open_flows(tmp_path)


def test_values_that_do_not_fit_fail_above_the_limit_and_are_counted_below(tmp_path: Path):
    schema = open_flows(write(tmp_path / "train.csv")).schema
    path = write(tmp_path / "new.csv", "dur,proto\n" + "1,tcp\n" * 99 + "5?,tcp\n")
    invalid = InvalidValues()
    assert sum(table.num_rows for table in open_flows(path, schema=schema).blocks(invalid)) == 100
    assert (invalid.counts, invalid.num_rows) == ({"dur": 1}, 100)
    with pytest.raises(DataError, match=r"column 'dur', row 100: expected a number, found '5\?'"):
        rows_of(
            replace(open_flows(path, DataConfig(max_invalid_fraction=0.0), schema=schema), is_trained_on=True)
        )


def test_bytes_that_are_not_utf_8_after_the_head_are_read_as_windows_1252(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_bytes(b"proto,label\n" + b"tcp,normal\n" * 40_000 + b"caf\xe9,dos\n")
    flows = open_flows(path)
    assert flows.dialect.encoding == "cp1252"
    assert rows_of(flows)[-1] == {"proto": "café", "label": "dos"}


def test_detection_can_be_overridden(tmp_path: Path):
    config = DataConfig(delimiter=":", has_header=False, encoding="latin-1")
    flows = open_flows(write(tmp_path / "flows.csv", "a:b,c\nd:e,f\n"), config)
    assert flows.schema.names == ("column_1", "column_2")
    assert [list(row.values()) for row in rows_of(flows)] == [["a", "b,c"], ["d", "e,f"]]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"data\.block_mb must be in \[1, 1024\], got 0"):
        DataConfig(block_mb=0)
    with pytest.raises(ConfigError, match=r"data\.valid_fraction"):
        DataConfig(valid_fraction=1.0)
    with pytest.raises(ConfigError, match=r"data\.max_invalid_fraction"):
        DataConfig(max_invalid_fraction=-0.1)
    with pytest.raises(ConfigError, match=r"data\.delimiter"):
        DataConfig(delimiter="::")


def test_fingerprint_changes_with_content_and_not_with_place(tmp_path: Path):
    first = open_flows(write(tmp_path / "a.csv"))
    second = open_flows(write(tmp_path / "b.csv"))
    third = open_flows(write(tmp_path / "c.csv", TABLE + "3,tcp,dos\n"))
    assert first.fingerprint() == second.fingerprint() != third.fingerprint()
    assert first.size_bytes == len(TABLE)


def test_duplicate_and_blank_names_are_made_unique_and_noted(tmp_path: Path):
    flows = open_flows(write(tmp_path / "flows.csv", "a,, a \n5,x,1\n1,y,2\n3,x,0\n"))
    assert flows.schema.names == ("a", "column_2", "a_2")
    assert "another column named 'a'" in flows.schema.column("a_2").note


def test_nsl_kdd_test_has_the_known_class_counts(data_dir: Path):
    flows = open_flows(data_dir / "nsl-kdd" / "KDDTest+.txt.gz")
    assert flows.schema == known_schemas()["nsl_kdd"]
    assert flows.dialect.describe() == "gzip, utf-8, comma-separated, no header"
    classes: Counter[str] = Counter()
    for label, count in label_counts(flows).items():
        classes[flows.schema.label_map[label]] += count
    assert classes == {"normal": 9711, "dos": 7458, "probe": 2421, "r2l": 2754, "u2r": 200}


@pytest.mark.parametrize(
    ("file", "label", "num_classes", "num_rows", "left_out"),
    [
        ("unsw-nb15/UNSW_NB15_training-set.csv.gz", "attack_cat", 10, 82_332, {"id", "label"}),
        ("unsw-nb15/UNSW-NB15_1.rows_0-10000.csv.gz", "Label", 2, 10_000, {"sport", "Stime", "Ltime"}),
        ("ton-iot/train_test_network.csv.gz", "type", 10, 211_043, {"label", "src_port"}),
        ("http-params/payload_train.csv", "attack_type", 5, 20_712, {"label"}),
    ],
)
def test_real_data_sets_are_understood_without_being_told(
    file: str, label: str, num_classes: int, num_rows: int, left_out: set[str], data_dir: Path
):
    flows, invalid = open_flows(data_dir / file), InvalidValues()
    counts = label_counts(flows, invalid)
    assert flows.schema.label == label
    assert len(counts) == num_classes
    assert counts.total() == num_rows
    assert left_out <= {column.name for column in flows.schema.columns if not column.is_feature}
    assert invalid.total == 0


def test_a_payload_column_is_text(data_dir: Path):
    schema = open_flows(data_dir / "http-params" / "payload_test.csv").schema
    assert schema.column("payload").kind is ColumnKind.TEXT


def test_a_packet_capture_is_refused_with_the_remedy(data_dir: Path):
    file = "pcap/malicious-ssh-bruteforce.pcap"
    with pytest.raises(DataError, match="convert it to flows with a sensor such as Zeek or Suricata"):
        open_flows(data_dir / "sensors" / file)


def test_what_does_not_fit_is_named_with_its_file_among_several(tmp_path: Path):
    good = "dur,proto,label\n" + "".join(f"{row},tcp,a\n{row}.5,udp,b\n" for row in range(100))
    write(tmp_path / "a.csv", good)
    write(tmp_path / "b.csv", good + "5?,tcp,a\n7,tcp,a,x\n7,tcp,a\n")
    invalid = InvalidValues()
    for _ in open_flows(tmp_path).blocks(invalid):
        pass
    assert invalid.examples["dur"][0].location == f"row 201 of {tmp_path / 'b.csv'}"
    assert invalid.lines.examples[0].location == f"line 203 of {tmp_path / 'b.csv'}"


ARGUS = (
    "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,Label\n"
)


def test_the_name_of_a_sensor_is_a_schema(tmp_path: Path):
    (tmp_path / "flows.binetflow").write_text(
        ARGUS
        + "2011/08/10 09:46:53,1.0,tcp,10.0.0.1,1024,   ->,10.0.0.2,80,FSPA_FSPA,0,0,4,276,156,flow=Normal\n"
        * 3
    )
    found = open_flows(tmp_path / "flows.binetflow")
    named = open_flows(tmp_path / "flows.binetflow", DataConfig(schema="argus"))
    assert found.schema.name == "argus"
    assert named.schema == found.schema
    assert next(named.blocks()).equals(next(found.blocks()))


def test_a_file_that_is_not_of_the_sensor_is_one_sentence(tmp_path: Path):
    (tmp_path / "flows.csv").write_text(TABLE)
    with pytest.raises(
        SchemaError, match=r"flows\.csv: expected columns of schema 'zeek' \(ts, uid, .*found dur, proto"
    ):
        open_flows(tmp_path / "flows.csv", DataConfig(schema="zeek"))
    with pytest.raises(
        SchemaError, match=r"no schema or file 'zeekk', did you mean 'zeek'\? known: .*nsl_kdd.*suricata"
    ):
        open_flows(tmp_path / "flows.csv", DataConfig(schema="zeekk"))


def test_dropped_columns_are_no_features_and_duplicates_are_found_without_them(tmp_path: Path):
    rows = "".join(f"{row % 2},{1000 + row},{'normal' if row % 2 else 'dos'}\n" for row in range(60))
    (tmp_path / "flows.csv").write_text("dur,dport,label\n" + rows)
    whole = open_flows(tmp_path / "flows.csv")
    dropped = open_flows(tmp_path / "flows.csv", DataConfig(drop=("port",)))
    assert [column.name for column in whole.schema.features] == ["dur", "dport"]
    assert [column.name for column in dropped.schema.features] == ["dur"]
    assert "dropped by data.drop" in dropped.schema.column("dport").note
    assert len(np.unique(profile_table(whole).feature_hashes)) == 60
    assert len(np.unique(profile_table(dropped).feature_hashes)) == 2


def test_infinity_among_decimal_commas_is_a_number(tmp_path: Path):
    cells = ["1,5", "Infinity", "0,250", "NaN"] * 20
    (tmp_path / "f.csv").write_text("rate;label\n" + "".join(f"{cell};benign\n" for cell in cells))
    flows = open_flows(tmp_path / "f.csv")
    (table,) = flows.blocks()
    assert flows.dialect.decimal_comma
    assert table["rate"].to_pylist()[:4] == [1.5, float("inf"), 0.25, None]


def test_times_in_seconds_may_have_a_decimal_comma(tmp_path: Path):
    rows = [f"{1_700_000_000 + row},{row % 10};1,{row}\n" for row in range(80)]
    (tmp_path / "f.csv").write_text("ts;rate\n" + "".join(rows))
    flows, invalid = open_flows(tmp_path / "f.csv"), InvalidValues()
    (table,) = flows.blocks(invalid_values=invalid)
    assert flows.schema.column("ts").kind is ColumnKind.TIME
    assert table["ts"].to_pylist()[1] == "1700000001.1"
    assert not invalid.noted


def test_a_label_column_that_is_empty_is_told_as_such(tmp_path: Path):
    (tmp_path / "f.csv").write_text("bytes,label\n" + "".join(f"{row},\n" for row in range(60)))
    with pytest.raises(
        SchemaError, match=r"found none among bytes, label \(always missing\); name it with --label"
    ):
        open_flows(tmp_path / "f.csv").require_label()


def test_more_columns_than_flows_have_are_one_sentence(tmp_path: Path):
    path = tmp_path / "f.csv"
    path.write_text(",".join(f"c{i}" for i in range(2001)) + "\n" + ",".join(["1"] * 2001) + "\n")
    with pytest.raises(DataError, match=r"f.csv: expected at most 2,000 columns, found 2,001; keep"):
        open_flows(str(path))


@pytest.mark.parametrize("compression", ["none", "gzip", "parquet", "arrow"])
def test_a_file_whose_name_is_no_utf_8_is_read_and_told_printable(tmp_path: Path, compression: str):
    path, table = tmp_path / os.fsdecode(b"caf\xe9.data"), pa.table({"bytes": [1, 2], "packets": [3, 4]})
    text = b"bytes,packets\n1,3\n2,4\n"
    if compression == "parquet":
        pq.write_table(table, tmp_path / "plain")
        text = (tmp_path / "plain").read_bytes()
    elif compression == "arrow":
        with pa.ipc.new_file(str(tmp_path / "plain"), table.schema) as file:
            file.write_table(table)
        text = (tmp_path / "plain").read_bytes()
    path.write_bytes(gzip.compress(text) if compression == "gzip" else text)
    flows = open_flows(str(path))
    assert sum(block.num_rows for block in flows.blocks()) == 2
    assert flows.name == "caf\\udce9"
    assert flows.listing[0].path.endswith("caf\\udce9.data")


def test_a_gap_of_zeros_in_a_table_costs_no_other_row(tmp_path: Path):
    rows = [f"tcp,{row}\n".encode() for row in range(100)]
    content = b"proto,bytes\n" + b"".join([*rows[:50], bytes(300_000), b"\n", *rows[50:]])
    (tmp_path / "flows.csv").write_bytes(content)
    flows, invalid = open_flows(str(tmp_path / "flows.csv")), InvalidValues()
    table = pa.concat_tables(flows.blocks(invalid))
    assert table["bytes"].to_pylist() == [str(row) for row in range(100)]
    assert [row.line for row in invalid.lines.examples] == [52]
