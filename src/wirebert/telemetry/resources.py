"""Resource usage of the training, sampled once a second in a background thread."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, cast, final

import psutil
from pynvml import NVMLError

from wirebert.telemetry.events import Event, Listener, ResourceEvent, StartEvent, WarningEvent
from wirebert.telemetry.processors import num_processors

SECONDS_BETWEEN_SAMPLES: Final = 1.0
SAMPLER_END_S: Final = 2.0
"""Maximum wait for an unresponsive driver at the end of training."""

CONTENTION_SAMPLES: Final = 10
"""Samples on which other processes are judged to use the machine."""

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


def contention(samples: Sequence[ResourceEvent], num_threads: int) -> str | None:
    """Which setting may help where other processes leave fewer processors than a training has threads.

    None: too few samples, or they leave enough.
    """
    num_machine = psutil.cpu_count() or 1
    shares = [
        max(0.0, one.cpu_share - one.process_cpu_share)
        for one in samples
        if one.cpu_share is not None and one.process_cpu_share is not None
    ]
    if len(shares) < CONTENTION_SAMPLES:
        return None
    num_used = sum(shares) / len(shares) * num_machine
    num_left = max(1, min(num_processors(), round(num_machine - num_used)))
    if num_used < 0.5 or num_left >= num_threads:
        return None
    used = f"other processes use {num_used:.1f} of {num_machine} processors"
    return f"{used}; training.threads={num_left} may be faster"


@final
class ResourceSampler:
    """A listener that sends resource samples to the other listeners from the start of training. Use it as a
    context.

    Its thread ends with the process, and an exception in it does not affect training.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        folder: Path,
        *,
        every_s: float = SECONDS_BETWEEN_SAMPLES,
        num_threads: int | None = None,
    ) -> None:
        self._listeners, self._folder, self._every_s = tuple(listeners), folder, every_s
        self._num_threads = num_threads
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
        gauges, samples = Gauges(self._folder, device), deque[ResourceEvent](maxlen=CONTENTION_SAMPLES)
        num_threads = None if device.startswith("cuda") else self._num_threads
        while not self._is_over.wait(self._every_s):
            samples.append(gauges.read(self._step))
            self._send(samples[-1])
            if num_threads is not None and (message := contention(samples, num_threads)) is not None:
                self._send(WarningEvent(step=self._step, message=message))
                num_threads = None  # told once

    def _send(self, event: Event) -> None:
        if self._is_over.is_set():
            return  # the driver answered after the end of training
        try:
            for listener in self._listeners:
                listener.receive(event)
        except OSError:
            self._is_over.set()  # the disk is full or gone; training reports that itself
