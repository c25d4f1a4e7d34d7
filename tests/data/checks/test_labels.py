from collections.abc import Callable

import pytest

from wirebert.data.checks import labels
from wirebert.data.checks.subject import Subject
from wirebert.data.schema.conversion import InvalidValues

Make = Callable[..., Subject]


def test_spellings_of_one_label_are_found(subject: Make):
    names = ["Backdoor", "Backdoors", "benign", "Benign", "dos", "Backdoor"]
    found = labels.label_spellings(subject(label=names))
    assert [(f.example, f.count) for f in found] == [("Backdoor / Backdoors", 1)]


def test_spellings_that_are_read_as_one_class_are_told(subject: Make):
    (found,) = labels.labels_matched(subject(label=["BENIGN", "benign", "Benign", "BENIGN", "dos"]))
    assert found.count == 2
    assert "'benign (1)', 'Benign (1)' as class 'BENIGN'" in found.message
    assert not [*labels.labels_matched(subject(label=["benign", "dos"]))]


def test_a_label_that_may_be_unlabelled_traffic_is_told_with_both_ways_out(subject: Make):
    (found,) = labels.doubtful_labels(subject(label=["Benign", "Background", "dos"]))
    assert (found.example, found.count, found.severity) == ("Background", 1, "warning")
    assert "counts as an attack" in found.message
    assert "--map=Background=Benign" in found.message
    assert "--map=Background= leaves out" in found.message


@pytest.mark.parametrize(
    ("one", "other"), [("dos", "ddos"), ("scan", "scam"), ("class 1", "class 2"), ("xss", "xs")]
)
def test_other_labels_are_no_spellings(one: str, other: str, subject: Make):
    assert not [*labels.label_spellings(subject(label=[one, other]))]


def test_values_between_blanks_are_shown_as_they_stand(subject: Make):
    (found,) = labels.padded_values(
        subject(InvalidValues(padded={"label": {" Fuzzers": 3}}), label=["a", "b"])
    )
    assert (found.column, found.count, found.example) == ("label", 3, "' Fuzzers'")


def test_rare_classes_are_one_finding_the_rarest_first(subject: Make):
    table = subject(label=["benign"] * 100 + ["worm"] * 20 + ["scan"] * 3)
    (found,) = labels.rare_classes(table)
    assert (found.example, found.count) == ("scan", 23)
    assert found.message.startswith("'scan (3)', 'worm (20)': fewer than 50 rows")


def test_without_a_benign_class_the_way_to_name_it_is_told(subject: Make):
    (found,) = labels.benign_unknown(subject(label=["dos", "scan"]))
    assert "--benign" in found.message
    assert not [*labels.benign_unknown(subject(label=["benign", "scan"]))]


def test_rare_classes_and_imbalance_are_findings_of_their_own(subject: Make):
    table = subject(label=["benign"] * 100 + ["worm"] * 2)
    assert [f.code for check in (labels.imbalance, labels.rare_classes) for f in check(table)] == [
        "imbalance",
        "rare_class",
    ]


def test_labels_with_control_characters_are_told_escaped(subject: Make):
    (found,) = labels.control_characters(subject(label=["worm\x01", "benign", "worm\x01", "\u202edos"]))
    assert (found.code, found.count, found.example) == ("control_characters", 3, "worm\\x01")
    assert not [*labels.control_characters(subject(label=["benign", "caf\u00e9"]))]
