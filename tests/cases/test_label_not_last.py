"""Features behind the label: cases/label-not-last."""

from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.data.schema.inference import infer_schema
from wirebert.data.schema.schema import ColumnKind

CASES = Path(__file__).parent / "label-not-last"


def features(name: str) -> dict[str, ColumnKind]:
    return {column.name: column.kind for column in open_flows(CASES / name).schema.features}


@pytest.mark.parametrize("name", ["first.csv", "middle.csv", "score-behind.csv"])
def test_the_place_of_the_label_changes_no_feature(name: str):
    assert features(name) == features("last.csv")
    assert len(features(name)) == 7


def test_a_score_behind_the_label_is_derived_from_it():
    schema = open_flows(CASES / "score-behind.csv").schema
    assert schema.column("severity").kind is ColumnKind.LABEL_DERIVED


@pytest.mark.parametrize(
    ("name", "values", "is_feature"),
    [
        ("anything", [9, 3, 4], False),  # one value per class
        ("confidence", [90, 30, 35], False),
        ("dport", [53, 80, 22], True),  # nearly follows, but not in enough rows
    ],
)
def test_what_the_label_gives_is_derived_and_what_goes_with_it_is_not(
    name: str, values: list[int], is_feature: bool
):
    rows = range(300)
    labels = ["benign", "dos", "scan"]
    behind = [
        values[row % 3] if (is_feature and row % 4) or not is_feature else 443 + row % 7 for row in rows
    ]
    table = pa.table(
        {
            "bytes": [str(row * 7 % 31) for row in rows],
            "label": [labels[row % 3] for row in rows],
            name: list(map(str, behind)),
            "packets": [str(row % 11) for row in rows],
        }
    )
    assert infer_schema(table, name="flows").column(name).is_feature is is_feature
