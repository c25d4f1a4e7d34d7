import io
from pathlib import Path

from rich.console import Console

from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig
from wirebert.workflows.inspect import inspect_data
from wirebert.workflows.inspect_terminal import grouped_findings, show_inspection


def shown(path: Path, width: int) -> str:
    """What a terminal of this width shows."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    show_inspection(inspect_data(str(path), DataConfig()), console, "flows.csv")
    return out.getvalue()


def test_a_terminal_gets_a_table_and_what_comes_next(tmp_path: Path):
    (tmp_path / "flows.csv").write_text("time,label\n" + "2024-05-01 10:00:00,scan\n,benign\n" * 50)
    text = shown(tmp_path / "flows.csv", 120)
    assert "100 rows, 1 line of header and above" in text
    assert "recording times do not generalise" in next(line for line in text.splitlines() if " time " in line)
    assert "next:\n  wirebert train" in text


def test_findings_of_one_code_are_one_paragraph_and_the_most_severe_come_first():
    findings = [
        Finding(code="drift", severity="info", column="a", message="column 'a' has drifted"),
        Finding(code="constant_column", severity="warning", column="b", message="column 'b' is 0"),
        Finding(code="drift", severity="info", column="c", message="column 'c' has drifted"),
        Finding(code="label_leak", severity="error", message="leaks", is_accepted=True),
    ]
    assert grouped_findings(findings) == [
        "warning: constant_column: column 'b' is 0",
        "info: drift (2): column 'a' has drifted; the same of 'c'",
        "accepted: label_leak: leaks",
    ]


def test_no_name_is_cut_at_eighty_columns(tmp_path: Path):
    name = "dst_host_same_src_port_rate"
    (tmp_path / "flows.csv").write_text(f"{name},label\n" + "0.5,scan\n0.25,benign\n" * 50)
    text = shown(tmp_path / "flows.csv", 80)
    assert name in text
    assert max(map(len, text.partition("next:")[0].splitlines()[3:])) <= 80


def test_a_long_name_stands_on_one_line_where_its_note_can_stand_below(tmp_path: Path):
    name = "average bytes per bulk in the backward direction"
    (tmp_path / "flows.csv").write_text(f"{name},same,label\n" + "0.5,1,scan\n0.25,1,benign\n" * 50)
    text = shown(tmp_path / "flows.csv", 120)
    assert name in text
    assert "same: always '1'" in text
