import hmac
import os
from pathlib import Path

import pytest

from wirebert.errors import ConfigError
from wirebert.service import api_keys as keys
from wirebert.service.api_keys import ApiKeys

OLD, NEW = "a" * 16, "b" * 16


def test_each_key_of_the_environment_opens():
    found = ApiKeys(text=f"{OLD}, {NEW}\n")
    assert found.are_needed
    assert found.admit(OLD)
    assert found.admit(NEW)
    assert not found.admit(OLD + NEW)
    assert not found.admit("")


def test_without_keys_none_is_needed():
    assert not ApiKeys().are_needed


def test_a_file_goes_before_the_environment(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text(f"# of the collector\n{NEW}\n")
    found = ApiKeys(path, OLD)
    assert found.admit(NEW)
    assert not found.admit(OLD)


def test_keys_are_compared_all_of_them_in_constant_time(monkeypatch: pytest.MonkeyPatch):
    compared: list[bytes] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append(second)
        assert len(first) == len(second) == 32
        return first == second

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert ApiKeys(text=f"{OLD} {NEW}").admit(OLD)
    assert len(compared) == 2


def test_keys_change_with_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keys, "LOOK_EVERY_S", 0.0)
    path = tmp_path / "keys"
    path.write_text(OLD)
    told: list[str] = []
    found = ApiKeys(path, tell=told.append)
    path.write_text(f"{OLD}\n{NEW}\n")
    assert found.admit(NEW)
    assert found.admit(OLD)
    path.write_text(f"{NEW}\n# only this one now\n")
    assert not found.admit(OLD)
    assert len(told) == 2
    assert OLD not in "".join(told)


@pytest.mark.parametrize("content", ["", "short\n", None])
def test_a_file_that_is_spoiled_later_locks_nobody_out_and_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
):
    monkeypatch.setattr(keys, "LOOK_EVERY_S", 0.0)
    path = tmp_path / "keys"
    path.write_text(OLD)
    told: list[str] = []
    found = ApiKeys(path, tell=told.append)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
        os.utime(path, ns=(1, 1))
    assert found.admit(OLD)
    assert not found.admit("short")
    assert told[0].startswith("the previous keys stay valid")


@pytest.mark.parametrize("content", ["", "# none\n", "short\n"])
def test_a_file_without_a_usable_key_is_refused_at_the_start(tmp_path: Path, content: str):
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(ConfigError, match="expected"):
        ApiKeys(path)
    with pytest.raises(ConfigError, match="expected a file of keys"):
        ApiKeys(tmp_path / "none")
