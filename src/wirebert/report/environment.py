"""The environment of a run: versions of the packages, and the machine."""

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wirebert.telemetry.processors import num_processors

_PACKAGES = ("wirebert", "torch", "numpy", "pyarrow", "tokenizers", "scikit-learn")
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """The machine of a run."""

    cpu: str
    num_cores: int
    """Cores available to this process."""
    gpus: tuple[str, ...] = ()
    system: str = ""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    packages = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that is not installed
            packages[package] = "not installed"
    return packages


def hardware() -> Hardware:
    """This machine, with the GPUs that PyTorch can use; without PyTorch none can be used."""
    torch = sys.modules.get("torch")  # not imported: an export is evaluated without it
    gpus: tuple[str, ...] = ()
    if torch is not None and torch.cuda.is_available():
        gpus = tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Hardware(
        cpu=_cpu_name(),
        num_cores=num_processors(),
        gpus=gpus,
        system=f"{platform.system()} {platform.machine()}",
    )


def _cpu_name() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
