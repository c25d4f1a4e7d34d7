import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.checks.checks import (
    Finding,
    check_unscored_rows,
    compare_with_training,
    mark_accepted,
    validate,
)
from wirebert.data.checks.profile import profile_table
from wirebert.data.findings import CODES
from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.errors import ConfigError

SCHEMA = FlowSchema(
    name="flows",
    columns=(
        Column(name="count", kind=ColumnKind.COUNT, is_feature=True),
        Column(name="rate", kind=ColumnKind.RATE, is_feature=True),
        Column(name="service", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="uri", kind=ColumnKind.TEXT, is_feature=True),
        Column(name="label", kind=ColumnKind.LABEL, is_feature=False),
    ),
)


class Tables:
    """One typed table in memory."""

    schema = SCHEMA

    def __init__(self, name: str, /, **columns: Sequence[float | None] | Sequence[str | None]) -> None:
        self.name = name
        kinds = {"count": pa.float64(), "rate": pa.float64()}
        self.table = pa.table(
            {key: pa.array(values, kinds.get(key, pa.string())) for key, values in columns.items()}
        )

    def blocks(self, invalid: InvalidValues | None = None) -> Iterator[pa.Table]:
        yield self.table


def findings(
    classes: ClassMap | None = None, **columns: Sequence[float | None] | Sequence[str | None]
) -> dict[str, Finding]:
    """Findings by code; of several with the same code, the first."""
    found = validate(profile_table(Tables("flows", **columns)), classes)
    return {finding.code: finding for finding in reversed(found)}


def test_a_clean_table_has_no_findings():
    rows = [float(number) for number in range(200)]
    found = findings(
        count=[*rows[:100], *rows[:100]],
        service=["http"] * 100 + ["dns"] * 100,
        label=["benign", "scan"] * 100,
    )
    assert found == {}


def test_missing_values_are_counted_and_warned_of_when_they_are_most():
    finding = findings(count=[1.0, None, 2.0])["missing_values"]
    assert (finding.severity, finding.column, finding.count) == ("info", "count", 1)
    assert findings(count=[1.0, None, None])["missing_values"].severity == "warning"


def test_constant_columns_are_found_with_their_value():
    finding = findings(count=[7.0, 7.0], service=["a", "b"])["constant_column"]
    assert (finding.column, finding.count, finding.example) == ("count", 2, "7")
    assert "'count' is 7 in every row" in finding.message


def test_a_column_that_is_missing_everywhere_is_constant_not_missing():
    found = findings(count=[None, None], service=["a", "b"])
    assert found["constant_column"].example == "missing"
    assert "missing_values" not in found


def test_duplicate_rows_repeat_an_earlier_one():
    finding = findings(service=["a", "b", "a", "a"], label=["x", "x", "x", "y"])["duplicate_rows"]
    assert (finding.count, finding.example) == (2, "row 3")
    assert "(1 with the same label)" in finding.message


def test_equal_features_with_different_labels_conflict():
    finding = findings(service=["a", "b", "a", "c", "a", "b"], label=["x", "x", "y", "z", "x", "x"])[
        "conflicting_labels"
    ]
    assert (finding.count, finding.example) == (3, "row 1")
    assert "in 1 group have" in finding.message


def test_labels_of_one_class_do_not_conflict():
    classes = ClassMap(
        classes=("normal", "dos"), label_map={"n": "normal", "x": "dos", "y": "dos"}, benign="normal"
    )
    assert "conflicting_labels" not in findings(classes, service=["a", "a", "b"], label=["x", "y", "n"])
    finding = findings(classes, service=["a", "a", "b"], label=["x", "n", "n"])["conflicting_labels"]
    assert "(both normal and attack rows in 1 of the groups)" in finding.message


def test_classes_that_training_lacks_conflict_with_each_other():
    classes = ClassMap(classes=("normal", "dos"), benign="normal")
    assert findings(classes, service=["a", "a"], label=["new", "newer"])["conflicting_labels"].count == 2


def test_unlabelled_rows_are_counted_and_conflict_with_none():
    found = findings(service=["a", "a", "b"], label=["x", None, None])
    assert (found["unlabelled_rows"].count, found["unlabelled_rows"].example) == (2, "row 2")
    assert "conflicting_labels" not in found


def test_a_table_without_label_column_is_not_called_unlabelled():
    assert findings(service=["a", "b"]) == {}


def test_imbalance_and_rare_classes_name_the_class():
    counts = {"benign": 1_050, "scan": 50}
    labels: list[str | None] = [label for label, count in counts.items() for _ in range(count)]
    found = findings(label=labels)
    assert found["imbalance"].example == "benign: 1,050, scan: 50"
    assert "21 times" in found["imbalance"].message
    assert "rare_class" not in found
    assert findings(label=labels[:-1])["rare_class"].example == "scan"


def test_a_feature_whose_values_never_repeat_looks_like_an_identifier():
    numbers: list[float | None] = [float(number) for number in range(60)]
    finding = findings(count=numbers)["identifier_like"]
    assert (finding.severity, finding.column, finding.count) == ("error", "count", 60)


def test_fractions_texts_and_short_columns_are_no_identifiers():
    assert "identifier_like" not in findings(rate=[number + 0.25 for number in range(60)])
    assert "identifier_like" not in findings(uri=[f"/{number}" for number in range(60)])
    assert "identifier_like" not in findings(count=[float(number) for number in range(20)])


def test_errors_come_first_then_the_most_rows():
    numbers: list[float | None] = [float(number) for number in range(60)]
    found = validate(
        profile_table(
            Tables("flows", count=numbers, rate=[None, *[0.5] * 59], service=[None, None, *["a", "b"] * 29])
        )
    )
    assert [(finding.severity, finding.count) for finding in found] == [
        ("error", 60),
        ("info", 2),
        ("info", 1),
    ]


def test_every_message_is_one_sentence_with_a_remedy():
    numbers: list[float | None] = [float(number) for number in range(60)]
    for finding in validate(
        profile_table(Tables("flows", count=numbers, service=["a"] * 60, label=["x"] * 59 + [None]))
    ):
        assert ". " not in finding.message
        assert not finding.message.endswith(".")


def test_an_empty_table_has_no_findings():
    assert findings(count=[], label=[]) == {}


def test_shared_rows_are_counted_in_the_test_table():
    train = profile_table(Tables("train", service=["a", "b"], count=[1.0, 2.0]))
    test = profile_table(Tables("test", service=["b", "a", "b", "b"], count=[2.0, 9.0, 2.0, None]))
    (finding,) = compare_with_training(train, test)
    assert (finding.code, finding.count, finding.example) == ("shared_rows", 2, "row 1")
    assert "2 of 4 rows (50.0 %) of test" in finding.message
    (finding,) = compare_with_training(train, profile_table(Tables("flows", service=["c"], count=[1.0])))
    assert finding.code == "no_shared_rows"


@pytest.fixture(scope="module")
def nsl_kdd(data_dir: Path) -> Path:
    return data_dir / "nsl-kdd"


def test_the_known_facts_of_nsl_kdd_are_found(nsl_kdd: Path):
    train = profile_table(open_flows(nsl_kdd / "KDDTrain+.txt.gz"))
    test = profile_table(open_flows(nsl_kdd / "KDDTest+.txt.gz"))
    assert (train.num_rows, test.num_rows) == (125_973, 22_544)
    classes = ClassMap.fit(train.schema, train.label_counts)
    assert classes.classes == ("normal", "dos", "probe", "r2l", "u2r")
    assert classes.counts(test.label_counts) == {
        "normal": 9_711,
        "dos": 7_458,
        "probe": 2_421,
        "r2l": 2_754,
        "u2r": 200,
    }
    assert {finding.code: finding.count for finding in compare_with_training(train, test)}[
        "shared_rows"
    ] == 664
    constant = [finding.column for finding in validate(train, classes) if finding.code == "constant_column"]
    assert constant == ["num_outbound_cmds"]
    conflict = next(finding for finding in validate(test, classes) if finding.code == "conflicting_labels")
    assert "both normal and attack rows in 54 of the groups" in conflict.message


def test_a_finding_that_no_check_makes_cannot_be_accepted():
    with pytest.raises(
        ConfigError,
        match=r"data\.accepted_findings: there is no finding 'duplicate_row', did you mean 'duplicate_rows'",
    ):
        mark_accepted([], ["duplicate_row"])
    with pytest.raises(ConfigError, match=r"no finding 'drifts', did you mean 'drift'"):
        mark_accepted([], ["drifts:dur"])
    assert mark_accepted([], ["drift:dur", "imbalance"]) == ()


def test_every_code_in_the_source_can_be_accepted():
    source = Path(__file__).parents[3] / "src" / "wirebert"
    text = "".join(file.read_text(encoding="utf-8") for file in sorted(source.rglob("*.py")))
    made = set(re.findall(r'tell(?:_event)?\(\s*"([a-z_]+)"', text))  # those of the monitor
    made |= set(re.findall(r'code="([a-z_]+)"', text)) | set(re.findall(r'"(split_[a-z]+_[a-z_]+)"', text))
    assert made == set(CODES)
    assert len(CODES) == len(set(CODES))


def test_what_counts_in_no_figure_adds_up_to_the_rows_of_the_file(tmp_path: Path):
    rows = [f"{row},{'dos' if row % 2 else 'benign'}" for row in range(300)]
    rows[5], rows[9], rows[20], rows[33] = "5,dos,extra", "many,dos", "20,", "33,"
    path = tmp_path / "flows.csv"
    path.write_text("bytes,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    seen = profile_table(open_flows(path, DataConfig(max_invalid_fraction=0.1)))
    found = {finding.code: finding for finding in check_unscored_rows(seen)}
    assert {code: finding.count for code, finding in found.items()} == {
        "rejected_rows": 1,
        "invalid_values": 1,
        "unlabelled_rows": 2,
    }
    assert sum(seen.label_counts.values()) + 1 + 2 == len(rows)
    assert all(finding.message.startswith("flows: ") for finding in found.values())
    assert "line 7" in found["rejected_rows"].message
