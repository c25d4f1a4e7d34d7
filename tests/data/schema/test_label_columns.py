import pyarrow as pa
import pytest

from wirebert.data.schema.inference import infer_schema
from wirebert.data.schema.label_columns import (
    benign_by_sibling,
    is_second_label,
    label_candidates,
    label_meaning,
)
from wirebert.data.schema.schema import ColumnKind

LABEL = pa.array(["Benign", "dos", "Benign", "scan", "dos"])
BENIGN = frozenset({"Benign"})


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("anything", ["normal", "hping", "normal", "nmap", "slowloris"]),
        ("Attack Tool", ["-", "hping", "-", "nmap", "nmap"]),
        ("tactic", [None, "impact", None, "discovery", "impact"]),
    ],
)
def test_what_is_quiet_in_just_the_benign_rows_is_a_second_label(name: str, texts: list[str | None]):
    assert is_second_label(name, pa.array(texts), LABEL, BENIGN)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("service", ["-", "http", "-", "http", "ssh"]),  # no word about attacks: it may be a feature
        ("service", ["dns", "http", "dns", "http", "http"]),
        ("Attack Tool", ["-", "hping", "-", "-", "nmap"]),  # an attack without a tool
        ("Attack Tool", ["-", "hping", "x", "nmap", "nmap"]),  # a benign row with one
        ("Attack Tool", ["-", "-", "-", "-", "-"]),
    ],
)
def test_other_columns_are_no_second_label(name: str, texts: list[str]):
    assert not is_second_label(name, pa.array(texts), LABEL, BENIGN)


def test_a_sibling_tells_nothing_where_it_knows_no_benign_or_calls_every_label_so():
    assert benign_by_sibling(LABEL, [pa.array(["a", "b", "a", "b", "b"])]) == ()
    assert benign_by_sibling(LABEL, [pa.array(["normal"] * 5)]) == ()


def test_a_label_with_one_row_of_an_attack_is_not_benign_by_its_sibling():
    label = pa.array(["web", "web", "scan", "mail"])
    assert benign_by_sibling(label, [pa.array(["0", "1", "1", "0"])]) == ("mail",)


def test_several_benign_labels_are_one_class_the_most_frequent():
    meaning = label_meaning(pa.array(["web", "mail", "web", "scan"]), [pa.array(["0", "0", "0", "1"])])
    assert (meaning.benign, meaning.label_map) == ("web", {"*": "*", "mail": "web"})


@pytest.mark.parametrize(("nothing", "benign"), [("-", "-"), ("", "benign")])
def test_an_empty_label_is_benign_only_where_a_sibling_says_so(nothing: str, benign: str):
    columns = {"bytes": [str(n) for n in range(40)], "attack_cat": [nothing, "dos"] * 20}
    alone = infer_schema(pa.table(columns), name="flows", label="attack_cat")
    assert (alone.benign, nothing in alone.column("attack_cat").null_values) == (None, True)
    told = infer_schema(pa.table({**columns, "label": ["0", "1"] * 20}), name="flows", label="attack_cat")
    assert (told.benign, nothing in told.column("attack_cat").null_values) == (benign, False)
    assert told.column("label").kind is ColumnKind.LABEL_DERIVED


def test_a_column_is_a_label_by_its_name_or_by_its_benign_values():
    distinct = {"proto": ["tcp"], "Label": ["1"], "verdict": ["ok", "BenignTraffic"], "a": ["x"], "y": ["1"]}
    assert label_candidates(distinct) == {"Label": 1, "verdict": 0, "y": 0}
