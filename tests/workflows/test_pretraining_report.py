from pathlib import Path

from wirebert.workflows.pretraining_report import read_pretraining


def test_what_is_no_report_of_a_pretraining_is_read_as_none(tmp_path: Path):
    (tmp_path / "report.json").write_text('{"format_version": 1}')
    assert read_pretraining(tmp_path / "report.json") is None
    assert read_pretraining(tmp_path / "nothing.json") is None
