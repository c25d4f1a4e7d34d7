from pathlib import Path

import pytest

from wirebert.alerts.toml_tables import read_tables, tables_of
from wirebert.errors import ConfigError


def test_tables_are_those_of_the_file(tmp_path: Path):
    path = tmp_path / "quiet.toml"
    path.write_text("[[rule]]\nport = 1\n[[rule]]\nport = 2\n")
    assert tables_of(read_tables(path, "rule"), "rule", "quiet.toml") == [{"port": 1}, {"port": 2}]
    assert tables_of({}, "rule", "quiet.toml") == []


@pytest.mark.parametrize("plain", [{"rules": []}, {"rule": {"port": 1}}, {"rule": [], "other": 1}])
def test_other_content_is_refused_in_a_sentence(plain: dict[str, object]):
    with pytest.raises(ConfigError, match=r"^quiet\.toml: expected \[\[rule\]\] tables, found .*"):
        tables_of(plain, "rule", "quiet.toml")


DEEP = b"a = " + b"[" * 200 + b"]" * 200


@pytest.mark.parametrize("content", [b"[[rule", b"\xff\x00", b"a = " + b"[" * 20_000, DEEP])
def test_a_file_that_is_no_toml_or_too_deep_is_refused_in_a_sentence(content: bytes, tmp_path: Path):
    path = tmp_path / "quiet.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"quiet\.toml: expected TOML with \[\[rule\]\] tables"):
        read_tables(path, "rule")


def test_a_device_or_a_missing_file_is_refused_in_a_sentence(tmp_path: Path):
    for path in (Path("/dev/zero"), tmp_path / "none.toml"):
        with pytest.raises(ConfigError, match="found none that can be read"):
            read_tables(path, "rule")
