import platform
import sys

import pytest

from wirebert.report.environment import hardware, versions


def test_versions_name_what_decides_numbers() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert {"wirebert", "torch", "numpy"} <= set(found)


def test_hardware_names_processor_and_cores() -> None:
    machine = hardware()
    assert machine.cpu
    assert machine.num_cores >= 1


def test_hardware_is_known_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert hardware().gpus == ()
    assert "torch" not in sys.modules
