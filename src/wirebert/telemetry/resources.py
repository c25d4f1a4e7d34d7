"""Resource usage of the training, sampled once a second in a background thread."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, cast, final

import psutil
from pynvml import NVMLError

from wirebert.telemetry.events import Event, Listener, ResourceEvent, StartEvent

SECONDS_BETWEEN_SAMPLES: Final = 1.0
SAMPLER_END_S: Final = 2.0
"""Maximum wait for an unresponsive driver at the end of training."""

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
    """Reads CPU, memory, disk and the training GPU; a value that cannot be read is None."""

    def __init__(self, folder: Path, device: str) -> None:
        self._readings = {**_machine(folder), **(_gpu(device) if device.startswith("cuda") else {})}
        self.read(0)  # utilisation is measured since the previous reading

    def read(self, step: int) -> ResourceEvent:
        """One sample, taken after `step` steps."""
        values: dict[str, Any] = {name: self._read(name) for name in GAUGES}
        return ResourceEvent(step=step, **values)

    def _read(self, name: str) -> float | int | None:
        reading = self._readings.get(name)
        try:
            return None if reading is None else reading()
        except UNREADABLE:
            return None  # not supported by this driver or system


def _machine(folder: Path) -> Mapping[str, Reading]:
    process, num_processors = psutil.Process(), psutil.cpu_count() or 1
    return {
        "cpu_share": lambda: psutil.cpu_percent() / 100,
        "process_cpu_share": lambda: min(1.0, process.cpu_percent() / 100 / num_processors),
        "resident_bytes": lambda: process.memory_info().rss,
        "memory_free_bytes": lambda: psutil.virtual_memory().available,
        "disk_free_bytes": lambda: psutil.disk_usage(str(folder)).free,
    }


def _gpu(device: str) -> Mapping[str, Reading]:
    import torch  # loaded already by a training on a GPU; without one, this room needs no torch

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
    """A listener that sends resource samples to the other listeners from the start of training. Use it as a
    context.

    Its thread ends with the process, and an exception in it does not affect training.
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
        """Store the step; the start event begins the sampling."""
        self._step = event.step
        if isinstance(event, StartEvent) and self._thread is None:
            device = event.device
            self._thread = threading.Thread(target=self._run, args=(device,), name="resources", daemon=True)
            self._thread.start()

    def _run(self, device: str) -> None:
        gauges = Gauges(self._folder, device)
        while not self._is_over.wait(self._every_s):
            self._send(gauges.read(self._step))

    def _send(self, event: Event) -> None:
        if self._is_over.is_set():
            return  # the driver answered after the end of training
        try:
            for listener in self._listeners:
                listener.receive(event)
        except OSError:
            self._is_over.set()  # the disk is full or gone; training reports that itself
