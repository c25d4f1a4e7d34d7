import gzip
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.accounting import ParseStats
from wirebert.data.config import DataConfig
from wirebert.data.files import find_files, open_file, stem_of
from wirebert.data.flows import open_flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.errors import DataError
from wirebert.workflows.inspect import inspect_data


@pytest.mark.parametrize(
    ("name", "stem"),
    [("KDDTrain+.txt.gz", "KDDTrain+"), ("a.b.csv", "a.b"), ("flows", "flows"), ("conn.log.labeled", "conn")],
)
def test_a_stem_is_the_name_without_what_says_how_it_is_written(name: str, stem: str):
    assert stem_of(Path(name)) == stem


def test_rows_and_lines_of_a_messy_file_add_up(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text('Report\n\n# made by x\na,b\n1,"x\ny"\n\n2,"z\n3,w\n# pause\nTotal\n')
    parse_stats = ParseStats()
    part = open_file(path, "flows.csv", DataConfig(), None)
    assert part.names == ("a", "b")
    assert [row for block in part.raw_blocks(1 << 20, parse_stats) for row in block.to_pylist()] == [
        {"a": "1", "b": "x\ny"},
        {"a": "3", "b": "w"},
    ]
    assert (
        parse_stats.num_before,
        parse_stats.num_rows,
        parse_stats.num_blank,
        parse_stats.num_comments,
    ) == (4, 2, 1, 1)
    assert (
        parse_stats.num_rejected,
        parse_stats.num_footer,
        parse_stats.num_line_breaks,
        parse_stats.num_lines,
    ) == (
        1,
        1,
        1,
        11,
    )


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from(["tcp", "it's", "/a b"]), st.sampled_from("ab")),
        min_size=2,
        max_size=90,
    ),
    place=st.integers(0, 1_000),
    column=st.integers(0, 2),
    delimiter=st.sampled_from(",;\t|"),
)
def test_an_open_quote_costs_its_row_in_a_table_of_any_size(
    rows: list[tuple[int, str, str]],
    place: int,
    column: int,
    delimiter: str,
    tmp_path_factory: pytest.TempPathFactory,
):
    cells = [[str(value) for value in row] for row in rows]
    sound = cells.copy()
    del sound[place % len(cells)]
    cells[place % len(cells)][column] = f'"{cells[place % len(cells)][column]}'
    path, parse_stats = tmp_path_factory.getbasetemp() / "open_quote.csv", ParseStats()
    path.write_text("".join(delimiter.join(row) + "\n" for row in [["n", "uri", "kind"], *cells]))
    blocks = open_file(path, "flows.csv", DataConfig(), None).raw_blocks(1 << 20, parse_stats)
    assert [[*row.values()] for block in blocks for row in block.to_pylist()] == sound
    assert [(row.line, row.text) for row in parse_stats.examples] == [
        (place % len(cells) + 2, delimiter.join(cells[place % len(cells)]))
    ]


def test_a_short_table_with_an_open_quote_has_a_finding_that_names_the_line(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text('dur,proto,label\n1,tcp,a\n2,udp,b\n"3,tcp,a\n4,udp,b\n')
    findings = inspect_data(str(path), DataConfig(max_invalid_fraction=0.5)).findings
    assert [(f.count, f.example) for f in findings if f.code == "rejected_rows"] == [(1, 'line 4: "3,tcp,a')]
    with pytest.raises(DataError, match=r"line 4: a quote .* 1 of 4 rows .* data.quote"):
        inspect_data(str(path), DataConfig())


def test_rows_that_all_have_an_open_quote_are_refused_by_that_name(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text('dur,proto\n"1,tcp\n')
    with pytest.raises(DataError, match=r"found none whose quotes \(\"\) are closed .* data.quote"):
        open_file(path, "flows.csv", DataConfig(), None)


def test_lines_after_a_table_are_no_table(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text("dur,proto\n9,all\n")
    with pytest.raises(DataError, match="expected rows below the header, found none; give a file"):
        open_file(path, "flows.csv", DataConfig(footer_lines=1), None)


def test_without_quotes_a_file_without_rows_is_not_blamed_on_them(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text("dur,proto\n1,tcp\\")
    with pytest.raises(DataError, match="expected rows below the header, found none; give a file"):
        open_file(path, "flows.csv", DataConfig(quote="", escape="\\", has_header=True), None)


def test_a_delimiter_that_the_user_names_makes_a_sensor_file_a_table(tmp_path: Path):
    path = tmp_path / "conn.log"
    path.write_text("#separator \\x09\n#fields\tts\tuid\n1\tx\n2\ty\n")
    assert open_file(path, "conn.log", DataConfig(delimiter="\t"), None).source is None


def test_a_decimal_comma_makes_numbers(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text("dur;note;label\n1,5;1,5 s;a\n0,25;2,5 s;b\n7,0;x;a\n")
    flows = open_flows(path)
    (table,) = flows.blocks()
    assert table["dur"].to_pylist() == [1.5, 0.25, 7.0]
    assert table["note"].to_pylist() == ["1,5 s", "2,5 s", "x"]


def test_a_folder_without_traffic_is_one_sentence(tmp_path: Path):
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(DataError, match="found none in the folder"):
        find_files(str(tmp_path))


def test_totals_as_wide_as_rows_are_no_rows_if_their_number_is_named(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text("1.5,tcp,10\n0,udp,20\ntcp,udp,30\n\n")
    for data in (str(path), str(tmp_path)):
        flows = open_flows(data, DataConfig(footer_lines=1))
        assert [row for block in flows.blocks() for row in block.to_pylist()] == [
            {"column_1": 1.5, "column_2": "tcp", "column_3": 10.0},
            {"column_1": 0.0, "column_2": "udp", "column_3": 20.0},
        ]


def test_rows_that_can_not_be_used_are_refused_whichever_file_has_them(tmp_path: Path):
    rows = "dur,proto\n" + "1,tcp\n2,udp\n" * 5
    (tmp_path / "a.csv").write_text(rows)
    (tmp_path / "b.csv").write_text(rows + "3\n" * 5 + "4,tcp\n")
    with pytest.raises(DataError, match="5 of 26 rows cannot be parsed"):
        open_flows(tmp_path)


def test_each_file_loses_its_own_lines_after_the_table_packed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = b"dur,proto,n\n1.5,tcp,10\n0,udp,20\n9,all,30\n\n"
    (tmp_path / "a.csv").write_bytes(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    for data, num_files in ((str(tmp_path), 2), ("-", 1)):
        parse_stats = InvalidValues()
        blocks = open_flows(data, DataConfig(footer_lines=1)).blocks(parse_stats)
        assert [n for block in blocks for n in block["n"].to_pylist()] == [10, 20] * num_files
        assert [row.text for row in parse_stats.lines.footer] == ["9,all,30"] * num_files


def test_each_file_of_a_folder_may_have_lines_after_its_table(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("dur,proto\n" + "1,tcp\n2,udp\n" * 50 + "Summary\nflows\n")
    parse_stats = InvalidValues()
    blocks = list(open_flows(tmp_path).blocks(parse_stats))
    assert sum(block.num_rows for block in blocks) == 200
    assert (parse_stats.lines.num_footer, parse_stats.lines.num_rejected) == (4, 0)
