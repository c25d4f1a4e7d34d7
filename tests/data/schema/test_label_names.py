import pytest

from wirebert.data.schema.label_names import (
    benign_names,
    fold_label,
    is_doubtful,
    is_placeholder,
    means_benign,
)


@pytest.mark.parametrize(
    "spelling",
    ["Web Attack - XSS", "web_attack_xss", "WEB ATTACK \u2013 XSS", "Web Attack \ufffd XSS", "WebAttackXSS.",
     " web-attack-xss ", "\uff37eb attack xss"],
)  # fmt: skip
def test_spellings_of_one_label_fold_to_one_text(spelling: str):
    assert fold_label(spelling) == "webattackxss"


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "-1"), ("DoS", "DDoS"), ("scan", "scans"), ("class 1", "class 2"), ("---", "-"), ("1", "10")],
)
def test_different_labels_stay_different(one: str, other: str):
    assert fold_label(one) != fold_label(other)


@pytest.mark.parametrize(
    "label",
    ["Benign", "BENIGN", "benign.", "BenignTraffic", "Normal", "normal_traffic", "Legitimate", "legit",
     "clean", "Non-Attack", "no attack", "Not Malicious", "norm"],
)  # fmt: skip
def test_these_labels_say_that_there_was_no_attack(label: str):
    assert means_benign(label)


@pytest.mark.parametrize(
    "label",
    ["abnormal", "Background", "Unknown", "normalised", "attack", "unclean", "---", "", "0", "notable"],
)
def test_these_labels_do_not(label: str):
    assert not means_benign(label)


@pytest.mark.parametrize("label", ["-", "---", "", "None", "N/A", "?", "*", "no label"])
def test_placeholders_stand_for_nothing(label: str):
    assert is_placeholder(label)
    assert is_doubtful(label)


@pytest.mark.parametrize(
    ("names", "benign"),
    [
        (["Benign", "Normal", "dos"], ("Benign", "Normal")),
        (["0", "1", "2"], ("0",)),
        (["0.0", "1.0"], ("0.0",)),
        (["1", "-1"], ()),
        (["False", "True"], ("False",)),
        (["no", "yes", "maybe"], ()),
        (["Background", "Botnet"], ("Background",)),
        (["Background", "Botnet", "Normal"], ("Normal",)),
        (["---", "dos"], ()),
    ],
)
def test_the_benign_names_of_a_file(names: list[str], benign: tuple[str, ...]):
    assert benign_names(names) == benign
