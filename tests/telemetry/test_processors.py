import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wirebert.telemetry import processors
from wirebert.telemetry.processors import has_nvidia_gpu, num_processors, peak_memory_mb


def eight(_: int) -> set[int]:
    return set(range(8))


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control group `/a/b` of this process, without limits; 8 processors by affinity."""
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "fs" / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr(processors, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(processors, "_CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(os, "sched_getaffinity", eight)
    return tmp_path / "fs" / "a" / "b"


def test_without_a_quota_affinity_decides(cgroup: Path):
    assert num_processors() == 8
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert num_processors() == 8


@pytest.mark.parametrize(
    ("quota", "expected"), [("200000 100000", 2), ("250000 100000", 3), ("5000 100000", 1)]
)
def test_a_quota_is_rounded_up(cgroup: Path, quota: str, expected: int):
    (cgroup / "cpu.max").write_text(quota)
    assert num_processors() == expected


def test_the_smallest_quota_of_the_groups_around_it_counts(cgroup: Path):
    (cgroup / "cpu.max").write_text("600000 100000")
    (cgroup.parent / "cpu.max").write_text("300000 100000")
    assert num_processors() == 3


def test_a_quota_of_version_1_counts(cgroup: Path):
    (cgroup.parent.parent.parent / "own").write_text("4:cpu,cpuacct:/\n2:memory:/\n")
    folder = cgroup.parent.parent / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text("150000")
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert num_processors() == 2
    (folder / "cpu.cfs_quota_us").write_text("-1")
    assert num_processors() == 8


def test_what_cannot_be_read_limits_nothing(cgroup: Path):
    (cgroup / "cpu.max").write_text("garbage")
    assert num_processors() == 8
    (cgroup.parent.parent.parent / "own").unlink()
    assert num_processors() == 8


def test_a_gpu_is_known_by_the_file_of_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processors, "_NVIDIA_DRIVER", tmp_path / "nvidiactl")
    assert not has_nvidia_gpu()
    (tmp_path / "nvidiactl").touch()
    assert has_nvidia_gpu()


def test_the_memory_of_a_process_is_not_that_of_the_one_which_started_it(monkeypatch: pytest.MonkeyPatch):
    held = np.ones(1 << 28, np.uint8)  # 256 MB
    code = "from wirebert.telemetry.processors import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 5 < int(done.stdout) < 200
    assert peak_memory_mb() >= held.nbytes >> 20
    monkeypatch.setattr(processors, "_OWN_STATUS", Path("nowhere"))
    assert peak_memory_mb() >= held.nbytes >> 20
