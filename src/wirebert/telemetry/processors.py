"""Processors that this process may use, and the memory that it has used."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_NVIDIA_DRIVER: Final = Path("/dev/nvidiactl")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_OWN_STATUS: Final = Path("/proc/self/status")


def num_processors() -> int:
    """Processors by affinity (`taskset`, a job scheduler) and by quota (a container), at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, *(math.ceil(quota) for quota in _quotas()), affinity))


def has_nvidia_gpu() -> bool:
    """Whether this machine has a GPU of NVIDIA, without PyTorch, which takes seconds to import."""
    return _NVIDIA_DRIVER.exists()


def peak_memory_mb() -> int:
    """Most memory (MB) that this process has had.

    `getrusage` gives a process at least what its parent had when it started it, so that comes second.
    """
    with suppress(OSError):
        for line in _OWN_STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) >> 10
    import resource  # here, as not every system has it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _quotas() -> Iterator[float]:
    """Processors that each control group of this process allows, in versions 2 and 1 of Linux's cgroups."""
    with suppress(OSError):
        for line in _OWN_CGROUP.read_text(encoding="utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            root = _CGROUPS if number == "0" else _CGROUPS / "cpu"
            if number != "0" and "cpu" not in controllers.split(","):
                continue
            own = root / path.lstrip("/")
            for folder in (own, *own.parents):
                yield from _quota(folder)
                if folder == root:
                    break


def _quota(folder: Path) -> Iterator[float]:
    """Processors that one control group allows; nothing if it allows all."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        if quota != "max":
            yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period")
        )
        if quota > 0:
            yield quota / period
