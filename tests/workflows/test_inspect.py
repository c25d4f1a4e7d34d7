import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.cli.main import main
from wirebert.data.flows import DataConfig
from wirebert.errors import UserError
from wirebert.workflows.inspect import inspect_data, next_commands, plain_lines

TABLE = "Report\nid,bytes,service,label\n" + "".join(
    f"{row},{row * 7 % 50},{'http' if row % 3 else '-'},{'benign' if row % 2 else ' scan'}\n"
    for row in range(1, 201)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "flows.csv").write_text(TABLE)
    return tmp_path / "flows.csv"


def test_json_says_all_that_was_found(path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", str(path), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["num_rows"], plain["label"], plain["benign"]) == (200, "label", "benign")
    assert plain["classes"] == {"benign": 100, "scan": 100}
    assert plain["dialect"]["skip_lines"] == 1
    assert plain["lines"]["lines"] == 202
    kinds = {column["name"]: column["kind"] for column in plain["columns"]}
    assert kinds == {"id": "identifier", "bytes": "count", "service": "category", "label": "label"}
    service = plain["columns"][2]
    assert (service["missing"], service["missing_as"]) == (66, {"-": 66})
    assert {"missing_markers", "padded_values", "duplicate_rows"} <= {f["code"] for f in plain["findings"]}


def test_in_a_pipe_each_column_and_each_finding_is_a_line(path: Path):
    lines = list(plain_lines(inspect_data(str(path), DataConfig())))
    assert "1 line before the table" in lines[0]
    assert "200 rows, 2 lines of header and above" in lines
    assert any(line.startswith("info: missing_markers: '-' ") for line in lines)
    above = next(number for number, line in enumerate(lines) if line.startswith("column "))
    assert [line.split()[:4] for line in lines[above : above + 5]] == [
        ["column", "kind", "feature", "missing"],
        ["id", "identifier", "no", "0"],
        ["bytes", "count", "yes", "0"],
        ["service", "category", "yes", "66"],
        ["label", "label", "no", "0"],
    ]


def test_the_next_commands_train_on_labelled_and_score_unlabelled_traffic(path: Path, tmp_path: Path):
    inspection = inspect_data(str(path), DataConfig())
    assert next_commands(inspection, "my flows.csv")[0] == "wirebert train 'my flows.csv' --label label"
    (tmp_path / "plain.csv").write_text("bytes,service\n" + "1,http\n2,dns\n" * 20)
    unlabelled = inspect_data(str(tmp_path / "plain.csv"), DataConfig())
    assert next_commands(unlabelled, "plain.csv")[0].startswith("wirebert predict MODEL plain.csv")
    lines = list(plain_lines(unlabelled, "plain.csv"))
    assert lines[lines.index("next:") + 1].startswith("  wirebert predict")


def test_strict_fails_on_errors_until_they_are_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    text = "serial,label\n" + "".join(
        f"{(row * 7919) % 100003},{('normal', 'scan')[row % 2]}\n" for row in range(100)
    )
    (tmp_path / "flows.csv").write_text(text)
    arguments = ["inspect", str(tmp_path / "flows.csv"), "--strict"]
    assert main(arguments) == 2
    assert "set data.accepted_findings='identifier_like:serial' to accept it" in capsys.readouterr().err
    assert main([*arguments, "--set", 'data.accepted_findings=["identifier_like:serial"]']) == 0
    assert "accepted: identifier_like" in capsys.readouterr().out


def test_test_data_are_compared(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "test.csv").write_text("id,bytes,service,label\n1,7,http,worm\n2,8,http,benign\n")
    assert main(["inspect", str(path), "--test", str(tmp_path / "test.csv")]) == 0
    assert "new_labels: 1 labels" in capsys.readouterr().out


def test_two_classes_by_positive(path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", str(path), "--positive", "scan", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["classes"], plain["benign"]) == ({"benign": 100, "scan": 100}, "benign")
    assert main(["inspect", str(path), "--positive", "scam"]) == 2
    assert "did you mean 'scan'?" in capsys.readouterr().err


def test_data_without_labels_or_with_one_class_can_be_inspected(tmp_path: Path):
    (tmp_path / "a.csv").write_text("bytes,proto\n1,tcp\n2,udp\n")
    (tmp_path / "b.csv").write_text("bytes,label\n1,benign\n2,benign\n")
    assert inspect_data(str(tmp_path / "a.csv"), DataConfig()).class_counts == {}
    assert inspect_data(str(tmp_path / "b.csv"), DataConfig()).class_counts == {"benign": 2}


EDITS = st.tuples(
    st.floats(0, 1), st.sampled_from(['"', ",", "\n", "\r", "\0", "#", ";", " ", "x", '""', "", "\n\n"])
)


@given(edits=st.lists(EDITS, min_size=1, max_size=8), cut=st.floats(0, 1))
def test_any_damage_ends_in_a_result_or_in_one_sentence(
    edits: list[tuple[float, str]], cut: float, tmp_path_factory: pytest.TempPathFactory
):
    text = TABLE[:800]
    for place, mark in edits:
        at = int(place * len(text))
        text = text[:at] + mark + text[at + (mark == "") :]
    text = text[: max(1, int(cut * len(text)))] if cut < 0.5 else text
    path = tmp_path_factory.mktemp("flows") / "flows.csv"
    path.write_bytes(text.encode())
    try:
        found = inspect_data(str(path), DataConfig(max_invalid_fraction=1.0))
    except UserError as error:
        message = str(error)
    else:
        message = ""
        lines = found.profile.invalid_values.lines
        assert found.profile.num_rows == lines.num_rows
        if found.flows.dialect.format == "delimited":
            assert lines.num_lines == len(re.findall(r"\r\n|\r|\n|[^\r\n]\Z", text))
            assert lines.num_line_breaks >= 0
    assert "\n" not in message
