from pathlib import Path

import pytest

from wirebert.data.files import find_files, open_file, stem_of
from wirebert.data.intake import Intake
from wirebert.data.loading import open_flows
from wirebert.data.settings import DataConfig
from wirebert.errors import DataError


@pytest.mark.parametrize(
    ("name", "stem"),
    [("KDDTrain+.txt.gz", "KDDTrain+"), ("a.b.csv", "a.b"), ("flows", "flows"), ("conn.log.labeled", "conn")],
)
def test_a_stem_is_the_name_without_what_says_how_it_is_written(name: str, stem: str):
    assert stem_of(Path(name)) == stem


def test_rows_and_lines_of_a_messy_file_add_up(tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text('Report\n\n# made by x\na,b\n1,"x\ny"\n\n2,"z\n3,w\n# pause\nTotal\n')
    intake = Intake()
    part = open_file(path, "flows.csv", DataConfig(), None)
    assert part.names == ("a", "b")
    assert [row for block in part.raw_blocks(1 << 20, intake) for row in block.to_pylist()] == [
        {"a": "1", "b": "x\ny"},
        {"a": "3", "b": "w"},
    ]
    assert (intake.num_before, intake.num_rows, intake.num_blank, intake.num_comments) == (4, 2, 1, 1)
    assert (intake.num_set_aside, intake.num_footer, intake.num_line_breaks, intake.num_lines) == (
        1,
        1,
        1,
        11,
    )


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
