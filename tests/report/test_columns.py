"""What is usual in columns, by small tables worked out by hand, and drift by scipy."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp

from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.report.columns import column_drift, describe_columns

KINDS = {"bytes": ColumnKind.COUNT, "service": ColumnKind.CATEGORY, "label": ColumnKind.LABEL}
SCHEMA = FlowSchema(
    name="flows",
    columns=tuple(
        Column(name=name, kind=kind, is_feature=kind.can_be_feature) for name, kind in KINDS.items()
    ),
)
CLASSES = ClassMap(classes=("normal", "dos"), label_map={"normal": "normal", "smurf": "dos"}, benign="normal")


def test_each_class_has_its_quantiles_and_commonest_values():
    table = pa.table(
        {
            "bytes": pa.array([1.0, 2.0, 3.0, None, 50.0]),
            "service": ["http", "http", "dns", None, "ssh"],
            "label": ["normal"] * 4 + ["smurf"],
        }
    )
    columns = describe_columns(table, SCHEMA, CLASSES)
    assert columns.kinds == {"bytes": "count", "service": "category", "label": "label"}
    assert set(columns.typical) == {"normal", "dos"}
    normal = columns.typical["normal"]
    assert normal["bytes"].quantiles[1] == 2
    assert normal["bytes"].missing == pytest.approx(0.25)
    assert normal["service"].values == {"http": 0.5, "dns": 0.25}
    assert columns.typical["dos"]["bytes"].quantiles == (50, 50, 50)
    assert "label" not in normal


def test_the_most_drifted_column_is_first_and_shares_add_up_to_one():
    rng = np.random.default_rng(0)
    train, test = rng.exponential(1, 500), rng.exponential(3, 400)
    trained, tested = (
        pa.table({"bytes": pa.array(numbers), "service": pa.array(["http", "dns"] * (len(numbers) // 2))})
        for numbers in (train, test)
    )
    bytes_, service = column_drift(trained, tested, SCHEMA)
    assert (bytes_.column, service.column) == ("bytes", "service")
    assert bytes_.distance == pytest.approx(float(ks_2samp(train, test)[0]), abs=1e-4)  # pyright: ignore
    assert service.distance == 0
    for one in (bytes_, service):
        assert sum(one.train) == pytest.approx(1, abs=0.01)
        assert sum(one.test) == pytest.approx(1, abs=0.01)
    assert dict(zip(service.bins, service.train, strict=True)) == {"dns": 0.5, "http": 0.5}


def test_a_value_that_is_most_of_a_column_has_a_bin_of_its_own():
    train = pa.table({"bytes": [0.0] * 300 + list(np.linspace(1, 100, 100))})
    test = pa.table({"bytes": [0.0] * 100 + list(np.linspace(1, 100, 300))})
    (one,) = column_drift(train, test, SCHEMA)
    shares = dict(zip(one.bins, zip(one.train, one.test, strict=True), strict=True))
    assert shares["0"] == (0.75, 0.25)


def test_small_samples_and_columns_without_numbers_are_no_error():
    few = pa.table({"bytes": [1.0] * 5})
    assert column_drift(few, few, SCHEMA) == ()
    nothing = pa.table({"bytes": pa.array([None] * 200, pa.float64())})
    (one,) = column_drift(nothing, nothing, SCHEMA)
    assert (one.bins, one.distance) == (("missing",), 0)
    assert describe_columns(few, SCHEMA, CLASSES).typical == {}
