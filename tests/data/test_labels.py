from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.config import DataConfig
from wirebert.data.labels import (
    UNKNOWN_CLASS,
    UNLABELLED,
    ClassMap,
    distribution,
    fit_classes,
    imbalance_ratio,
)
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.errors import DataError


def schema(label_map: dict[str, str] | None = None, benign: str | None = None) -> FlowSchema:
    label = Column(name="attack", kind=ColumnKind.LABEL, is_feature=False)
    return FlowSchema(name="flows", columns=(label,), label_map=label_map or {}, benign=benign)


def test_benign_class_comes_first_and_the_others_by_name():
    classes = ClassMap.fit(schema(), {"worm": 1, "Normal": 9, "dos": 3})
    assert classes.classes == ("Normal", "dos", "worm")
    assert classes.benign == "Normal"


def test_classes_do_not_depend_on_the_order_in_which_labels_are_met():
    assert ClassMap.fit(schema(), {"b": 1, "a": 2}) == ClassMap.fit(schema(), {"a": 2, "b": 1})


def test_the_schema_names_the_benign_class_by_class_or_by_label():
    label_map = {"web": "quiet", "mail": "quiet", "flood": "attack"}
    for benign in ("quiet", "mail"):
        classes = ClassMap.fit(schema(label_map, benign), {"web": 1, "flood": 1})
        assert classes.classes == ("quiet", "attack")


def test_a_benign_class_that_no_row_has_is_refused():
    with pytest.raises(DataError, match=r"benign class 'Benign'.*found 'ok', 'worm'.*--benign"):
        ClassMap.fit(schema(benign="Benign"), {"ok": 1, "worm": 1})


def test_zero_is_benign_only_beside_other_numbers():
    assert ClassMap.fit(schema(), {"1": 5, "0": 5}).benign == "0"
    assert ClassMap.fit(schema(), {"worm": 5, "0": 5}).benign is None


def test_false_is_benign_beside_true():
    assert ClassMap.fit(schema(), {"True": 5, "False": 5}).classes == ("False", "True")


def test_without_a_known_name_there_is_no_benign_class():
    classes = ClassMap.fit(schema(), {"worm": 1, "dos": 1})
    assert classes.benign is None
    assert classes.classes == ("dos", "worm")


def test_a_training_label_that_the_map_lacks_is_refused_by_name():
    with pytest.raises(DataError, match=r"schema 'flows', column 'attack'.*'teardrop'.*label map"):
        ClassMap.fit(schema({"normal": "normal", "smurf": "dos"}), {"normal": 1, "smurf": 2, "teardrop": 3})


def test_a_label_without_rows_makes_no_class():
    assert ClassMap.fit(schema(), {"normal": 1, "dos": 1, "worm": 0}).classes == ("normal", "dos")


def test_one_class_only_is_refused():
    with pytest.raises(DataError, match=r"at least two classes.*only 'dos'"):
        ClassMap.fit(schema({"smurf": "dos", "pod": "dos"}), {"smurf": 1, "pod": 1})


def test_no_labels_at_all_are_refused():
    with pytest.raises(DataError, match=r"column 'attack'.*found none.*--label"):
        ClassMap.fit(schema(), {})


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_missing_and_unknown_labels_have_ids_of_their_own(as_dictionary: bool):
    classes = ClassMap(classes=("normal", "dos"), label_map={"normal": "normal", "smurf": "dos", "x": "r2l"})
    chunks = pa.chunked_array([["smurf", None, "normal"], ["x"], ["never seen"]], pa.string())
    labels = chunks.dictionary_encode() if as_dictionary else chunks
    assert classes.encode(labels).tolist() == [1, UNLABELLED, 0, UNKNOWN_CLASS, UNKNOWN_CLASS]


def test_no_labels_encode_to_no_ids():
    assert ClassMap(classes=("a", "b")).encode(pa.chunked_array([], pa.string())).tolist() == []


def test_class_counts_add_up_the_labels_of_a_class():
    classes = ClassMap(
        classes=("normal", "dos"), label_map={"normal": "normal", "smurf": "dos", "pod": "dos"}
    )
    assert classes.counts({"smurf": 2, "pod": 3, "worm": 4}) == {"normal": 0, "dos": 5, "worm": 4}


def test_distribution_is_sorted_by_rows_and_sums_to_one():
    shares = distribution({"dos": 1, "normal": 8, "probe": 1})
    assert [share.class_name for share in shares] == ["normal", "dos", "probe"]
    assert sum(share.share for share in shares) == pytest.approx(1.0)
    assert distribution({}) == []


def test_imbalance_of_nothing_is_one():
    assert imbalance_ratio({}) == 1.0


def classes_for(counts: dict[str, int], **settings: Any) -> ClassMap:
    return fit_classes(FlowSchema(name="flows", columns=()), counts, DataConfig(**settings))


@pytest.mark.parametrize(
    ("labels", "benign"),
    [
        (("0", "1"), "0"),
        (("0", "1", "2"), "0"),
        (("0.0", "1.0"), "0.0"),
        (("false", "true"), "false"),
        (("True", "False"), "False"),
        (("F", "T"), "F"),
        (("no", "yes"), "no"),
        (("0", "dos"), None),
        (("1", "2"), None),
    ],
)
def test_zero_and_false_are_benign_among_numbers_and_truth_values(
    labels: tuple[str, ...], benign: str | None
):
    classes = classes_for(dict.fromkeys(labels, 10))
    assert classes.benign == benign
    assert sorted(classes.classes) == sorted(labels)


def test_a_positive_label_stands_against_all_others_even_those_training_lacks():
    classes = classes_for({"normal": 5, "dos": 3, "worm": 2}, positive="dos")
    assert (classes.classes, classes.benign) == (("rest", "dos"), "rest")
    assert classes.encode_names(["dos", "normal", "worm", "never met"]).tolist()[:-1] == [1, 0, 0, 0]


def test_the_only_other_class_keeps_its_name():
    assert classes_for({"normal": 5, "dos": 3}, positive="dos").classes == ("normal", "dos")


def test_a_positive_class_of_the_label_map_takes_all_its_labels():
    schema = FlowSchema(name="flows", columns=(), label_map={"smurf": "dos", "land": "dos", "ok": "normal"})
    classes = fit_classes(schema, {"smurf": 1, "land": 1, "ok": 1}, DataConfig(positive="dos"))
    assert classes.encode_names(["smurf", "land", "ok"]).tolist()[:-1] == [1, 1, 0]
    classes = fit_classes(schema, {"smurf": 1, "land": 1, "ok": 1}, DataConfig(positive="smurf"))
    assert classes.encode_names(["smurf", "land", "ok"]).tolist()[:-1] == [1, 0, 0]


def test_rare_classes_are_kept_merged_or_refused():
    counts = {"benign": 90, "dos": 20, "worm": 2, "scan": 3}
    assert classes_for(counts, min_class_rows=5).classes == ("benign", "dos", "scan", "worm")
    merged = classes_for(counts, min_class_rows=5, rare_classes="merge")
    assert merged.classes == ("benign", "dos", "other")
    assert merged.class_of_label("worm") == merged.class_of_label("scan") == "other"
    with pytest.raises(DataError, match=r"at least 5 rows in every class, found fewer in 'scan', 'worm'"):
        classes_for(counts, min_class_rows=5, rare_classes="refuse")


def test_the_benign_class_is_never_merged():
    assert classes_for({"benign": 1, "dos": 20}, min_class_rows=5, rare_classes="merge").benign == "benign"


def test_a_left_out_class_is_no_class():
    counts = {"benign": 1, "dos": 1, "worm": 1}
    classes = fit_classes(FlowSchema(name="flows", columns=()), counts, left_out="worm")
    assert classes.classes == ("benign", "dos")
    assert classes.encode_names(["worm"])[0] == UNKNOWN_CLASS


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=3), st.integers(1, 9), min_size=2, max_size=6))
def test_classes_do_not_depend_on_the_order_in_which_labels_were_met(counts: dict[str, int]):
    turned = dict(reversed(list(counts.items())))
    assert classes_for(counts) == classes_for(turned)
