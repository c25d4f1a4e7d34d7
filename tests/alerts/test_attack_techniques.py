"""The built-in table, and tables of users."""

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from wirebert.alerts.attack_techniques import SEVERITIES, AttackTechniques
from wirebert.data.schema.library import known_schemas
from wirebert.errors import ConfigError

EXPECTED = {
    "dos": "T1498",
    "probe": "T1046",
    "r2l": "T1133",
    "u2r": "T1068",
    "PortScan": "T1046",
    "scanning": "T1046",
    "DoS Hulk": "T1499",
    "DoS slowloris": "T1499",
    "DDoS": "T1498",
    "FTP-Patator": "T1110",
    "SSH-Patator": "T1110",
    "Web Attack - XSS": "T1190",
    "Bot": "T1071",
    "Infiltration": "T1210",
    "Heartbleed": "T1210",
    "Reconnaissance": "T1046",
    "Backdoors": "T1505",
    "Backdoor": "T1505",
    "Shellcode": "T1210",
    "Worms": "T1210",
    "Fuzzers": "T1190",
    "Exploits": "T1190",
    "ransomware": "T1486",
    "mitm": "T1557",
    "password": "T1110",
    "sqli": "T1190",
    "path-traversal": "T1190",
    "beacon": "T1071",
    "exfiltration": "T1048",
    "brute_force": "T1110",
    "flood": "T1498",
    "scan": "T1046",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_classes_of_known_data_sets_have_their_technique(name: str):
    assert AttackTechniques.built_in().of(name).technique_id == EXPECTED[name]


def test_classes_of_the_known_schemas_are_all_in_the_table():
    techniques, lacking = AttackTechniques.built_in(), set[str]()
    for schema in known_schemas().values():
        classes = set(schema.label_map.values()) - {schema.benign}
        lacking |= {name for name in classes if not techniques.of(name).tactic_id}
    assert lacking <= {"generic", "Generic"}


def test_tactic_and_technique_are_named_together():
    text = resources.files("wirebert.alerts").joinpath("attack_techniques.toml").read_text("utf-8")
    for entry in tomllib.loads(text)["class"]:
        assert (
            bool(entry.get("tactic_id"))
            == bool(entry.get("technique_id"))
            == bool(entry.get("technique_name"))
        )
        assert entry["severity"] in SEVERITIES
        re.compile(entry["pattern"])


def test_a_table_of_the_user_goes_first(tmp_path: Path):
    path = tmp_path / "own.toml"
    path.write_text('[[class]]\npattern = "probe|odd"\nseverity = "low"\n')
    own = AttackTechniques.load(path)
    assert (own.of("probe").severity_number, own.of("odd").severity, own.of("dos").technique_id) == (
        *(21, "low"),
        "T1498",
    )
    assert AttackTechniques.built_in().of("probe").severity == "medium"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[class]]\nseverity = 'low'", "class 1: expected pattern as a regular expression, got None"),
        ("[[class]]\npattern = '('", "class 1: expected pattern as a regular expression"),
        ("[[class]]\npattern = 'a'\nseverity = 'bad'", "class 1: expected severity like .*, got 'bad'"),
        ("[[class]]\npattern = 'a'\ntactic_id = '7'", "class 1: expected tactic_id like"),
        ("[[class]]\npatern = 'a'", "class 1: expected keys among .*, got 'patern'"),
        ("[[class]]\npattern = 3", "class 1: expected a table of texts"),
        ("[other]\na = 1", "expected \\[\\[class\\]\\] tables, found other"),
        ("[[", "expected TOML"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, text: str, message: str):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        AttackTechniques.load(path)
    with pytest.raises(ConfigError, match="none that can be read"):
        AttackTechniques.load(tmp_path / "no.toml")
