"""What the training takes of the machine, sampled once a second in a thread beside it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, cast, final

import psutil
import torch
from pynvml import NVMLError

from wirebert.telemetry.events import Event, Listener, ResourceEvent, StartEvent

SECONDS_BETWEEN_SAMPLES: Final = 1.0
SAMPLER_END_S: Final = 2.0
"""A driver that does not answer holds up the end of the training no longer than this."""

Reading = Callable[[], float | int]
UNREADABLE: Final = (
    OSError,
    RuntimeError,
    LookupError,
    ImportError,
    psutil.Error,
    cast(type[Exception], NVMLError),
)
GAUGES: Final = tuple(field.name for field in fields(ResourceEvent) if field.name != "step")


@final
class Gauges:
    """Reads processors, memory and disk, and the GPU that is trained on; what can not be read is None."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._readings = {**_machine(folder), **(_gpu(device) if device.type == "cuda" else {})}
        self.read(0)  # shares are of the time since the reading before

    def read(self, step: int) -> ResourceEvent:
        """One sample, taken when `step` steps were done."""
        values: dict[str, Any] = {name: self._read(name) for name in GAUGES}
        return ResourceEvent(step=step, **values)

    def _read(self, name: str) -> float | int | None:
        reading = self._readings.get(name)
        try:
            return None if reading is None else reading()
        except UNREADABLE:
            return None  # this driver, or this system, does not tell


def _machine(folder: Path) -> Mapping[str, Reading]:
    process, num_processors = psutil.Process(), psutil.cpu_count() or 1
    return {
        "cpu_share": lambda: psutil.cpu_percent() / 100,
        "process_cpu_share": lambda: min(1.0, process.cpu_percent() / 100 / num_processors),
        "resident_bytes": lambda: process.memory_info().rss,
        "memory_free_bytes": lambda: psutil.virtual_memory().available,
        "disk_free_bytes": lambda: psutil.disk_usage(str(folder)).free,
    }


def _gpu(device: torch.device) -> Mapping[str, Reading]:
    cuda = torch.cuda
    return {
        "gpu_share": lambda: cuda.utilization(device) / 100,
        "gpu_memory_used_bytes": lambda: cuda.device_memory_used(device),
        "gpu_memory_total_bytes": lambda: cast(int, cuda.get_device_properties(device).total_memory),
        "gpu_memory_allocated_bytes": lambda: cuda.memory_allocated(device),
        "gpu_power_w": lambda: cuda.power_draw(device) / 1000,
        "gpu_temperature_c": lambda: float(cuda.temperature(device)),
    }


@final
class ResourceSampler:
    """A listener that tells the others what the machine does, from the start of training on. Use it as a
    context.

    Its thread ends with the process, and whatever fails in it fails there alone.
    """

    def __init__(
        self, listeners: Sequence[Listener], folder: Path, *, every_s: float = SECONDS_BETWEEN_SAMPLES
    ) -> None:
        self._listeners, self._folder, self._every_s = tuple(listeners), folder, every_s
        self._step = 0
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "ResourceSampler":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join(SAMPLER_END_S)

    def receive(self, event: Event) -> None:
        """Remember the step; the first event of a training starts the sampling."""
        self._step = event.step
        if isinstance(event, StartEvent) and self._thread is None:
            device = torch.device(event.device)
            self._thread = threading.Thread(target=self._run, args=(device,), name="resources", daemon=True)
            self._thread.start()

    def _run(self, device: torch.device) -> None:
        gauges = Gauges(self._folder, device)
        while not self._is_over.wait(self._every_s):
            self._tell(gauges.read(self._step))

    def _tell(self, event: Event) -> None:
        if self._is_over.is_set():
            return  # it took the driver so long to answer that the listeners have gone
        try:
            for listener in self._listeners:
                listener.receive(event)
        except OSError:
            self._is_over.set()  # the disk is full or gone; training finds that out itself, and says so
