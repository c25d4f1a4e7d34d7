"""Rules of a file, what they hide, and what is said of wrong ones."""

from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.alerts.suppression import Suppressions
from wirebert.errors import ConfigError

RECORDS = pa.table(
    {
        "src_ip": ["10.0.0.1", "10.1.0.1", "fe80::1", "host", None],
        "dst_ip": ["10.9.0.1"] * 5,
        "dst_port": pa.array([80, 443, 80, None, 80], pa.int64()),
        "predicted_class": ["scan", "scan", "dos", "scan", "scan"],
    }
)
NOW_S = 1_800_000_000.0


def rules(text: str, folder: Path) -> Suppressions:
    path = folder / "quiet.toml"
    path.write_text(text)
    return Suppressions.load(path)


@pytest.mark.parametrize(
    ("conditions", "hidden"),
    [
        ('source = "10.0.0.0/16"', [True, False, False, False, False]),
        ('source = "fe80::/10"', [False, False, True, False, False]),
        ('source = "10.0.0.1"', [True, False, False, False, False]),
        ('destination = "10.9.0.0/24"', [True] * 5),
        ('class = "scan"', [True, True, False, True, True]),
        ("port = 80", [True, False, True, False, True]),
        ('class = "scan"\nport = 80', [True, False, False, False, True]),
        ('class = "scan"\nexpires = 2027-01-14', [False] * 5),
        ('class = "scan"\nexpires = 2027-01-16', [True, True, False, True, True]),
        ('class = "scan"\nexpires = 2027-01-15T09:00:00+01:00', [False] * 5),
    ],
)
def test_a_rule_hides_what_meets_all_its_conditions(tmp_path: Path, conditions: str, hidden: list[bool]):
    found = rules(f'[[rule]]\n{conditions}\nreason = "known"', tmp_path)
    assert found.hides(RECORDS, NOW_S).tolist() == hidden


def test_a_condition_on_a_column_that_is_not_there_hides_nothing():
    plain = Suppressions.parse({"rule": [{"source": "0.0.0.0/0", "reason": "all"}]}, "quiet")
    assert not plain.hides(RECORDS.select(["predicted_class"]), NOW_S).any()


def test_an_expired_rule_is_told(tmp_path: Path):
    found = rules('[[rule]]\nport = 1\nreason = "ticket 7"\nexpires = 2027-01-14', tmp_path)
    (finding,) = found.findings(NOW_S)
    assert finding.code == "expired_suppression"
    assert "rule 1 (ticket 7) expired on 2027-01-14" in finding.message
    assert found.findings(0.0) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]]\nport = 1", "rule 1: expected a reason as text, got None"),
        ('[[rule]]\nreason = "x"', "rule 1: expected source, destination, class or port"),
        ('[[rule]]\nreason = "x"\nsource = "10.0.0.1/8"', "rule 1: expected source as a network"),
        ('[[rule]]\nreason = "x"\nport = 70000', "rule 1: expected port from 0 to 65535, got 70000"),
        ('[[rule]]\nreason = "x"\nport = true', "rule 1: expected port from 0 to 65535, got True"),
        ('[[rule]]\nreason = "x"\nclass = 3', "rule 1: expected class as text, got 3"),
        ('[[rule]]\nreason = "x"\nport = 1\nexpires = "soon"', "rule 1: expected expires as a date"),
        ('[[rule]]\nreason = "x"\nsorce = "10.0.0.0/8"', "rule 1: expected keys among .*, got 'sorce'"),
        ('[[rules]]\nreason = "x"', r"expected \[\[rule\]\] tables, found rules"),
        ("rule = 3", r"expected \[\[rule\]\] tables, found rule"),
        ("rule = [3]", "rule 1: expected a table, got 3"),
        ("[[", "expected TOML"),
    ],
)
def test_a_wrong_rule_is_one_sentence(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        rules(text, tmp_path)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(ConfigError, match="found none that can be read"):
        Suppressions.load(tmp_path / "no.toml")
