from pathlib import Path

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.sensors.zeek_log import header_values, recognise

HEAD = "#separator \\x2c\n#unset_field,NIL\n#empty_field,(none)\n#path,conn\n#fields,ts,uid,note\n"


def test_header_lines_use_the_separator_of_the_rows():
    assert header_values(HEAD.encode(), "fields", ",") == [b"ts,uid,note"]
    log = recognise(Path("conn.log"), HEAD.encode(), "none", "f")
    assert log is not None
    assert (log.kind, log.fields, log.separator) == ("conn", ("ts", "uid", "note"), ",")
    assert log.marks == {"NIL": "-", "(none)": "(empty)"}


def test_only_zeeks_own_lines_are_comments(tmp_path: Path):
    rows = "1,a,NIL\n#close,2020\n#hidden,b,(none)\n#short\n"
    (tmp_path / "conn.log").write_text(HEAD + rows)
    log = recognise(tmp_path / "conn.log", HEAD.encode(), "none", "f")
    assert log is not None
    parse_stats = ParseStats()
    table = pa.concat_tables(log.blocks(1 << 20, parse_stats))
    assert table["ts"].to_pylist() == ["1", "#hidden"]
    assert table["note"].to_pylist() == ["-", "(empty)"]
    assert (parse_stats.num_comments, parse_stats.num_rejected) == (6, 1)
