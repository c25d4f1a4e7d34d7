import os
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import psutil
import pytest
import torch

from wirebert.telemetry.events import Event, MetricsLog, ResourceEvent, WarningEvent, read_metrics
from wirebert.telemetry.resources import Gauges, ResourceSampler, contention

Tell = Callable[..., list[tuple[Event, float]]]
CPU = "cpu"
GPU = "cuda:0"


class Kept:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def receive(self, event: Event) -> None:
        self.events.append(event)


def constantly(value: object) -> Callable[[str], object]:
    def answer(device: str) -> object:
        return value

    return answer


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "nothing came in 20 seconds"
        time.sleep(0.01)


def sampled(tell: Tell, folder: Path, *, num_events: int = 2) -> list[Event]:
    kept = Kept()
    with ResourceSampler([kept], folder, every_s=0.01) as sampler:
        sampler.receive(tell()[0][0])
        wait_for(lambda: len(kept.events) >= num_events)
    return kept.events


def test_memory_and_disk_are_what_the_system_says(tmp_path: Path):
    sample = Gauges(tmp_path, CPU).read(7)
    status = os.statvfs(tmp_path)
    assert sample.step == 7
    assert sample.resident_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    assert sample.disk_free_bytes == pytest.approx(status.f_bavail * status.f_frsize, rel=0.01)
    assert sample.gpu_share is None


def test_a_busy_processor_counts_as_busy(tmp_path: Path):
    gauges = Gauges(tmp_path, CPU)
    began_s, used_s = time.perf_counter(), time.process_time()
    while time.process_time() - used_s < 0.3:
        pass
    sample = gauges.read(0)
    share = (time.process_time() - used_s) / (time.perf_counter() - began_s) / (os.cpu_count() or 1)
    assert sample.process_cpu_share == pytest.approx(share, rel=0.25)
    assert sample.cpu_share is not None
    assert 0 < sample.cpu_share <= 1


def test_a_gpu_is_read_in_the_units_of_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Properties:
        total_memory = 139 * 2**30

    for name, value in {
        "utilization": 88,  # percent
        "device_memory_used": 12 * 2**30,
        "get_device_properties": Properties(),
        "memory_allocated": 8 * 2**30,
        "power_draw": 612_300,  # milliwatts
        "temperature": 65,
    }.items():
        monkeypatch.setattr(torch.cuda, name, constantly(value))
    sample = Gauges(tmp_path, GPU).read(0)
    assert (sample.gpu_share, sample.gpu_power_w, sample.gpu_temperature_c) == (0.88, 612.3, 65.0)
    assert (
        sample.gpu_memory_used_bytes,
        sample.gpu_memory_total_bytes,
        sample.gpu_memory_allocated_bytes,
    ) == (
        12 * 2**30,
        139 * 2**30,
        8 * 2**30,
    )


def test_a_gauge_that_fails_is_unknown_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from pynvml import NVMLError

    def fail(device: str) -> int:
        raise NVMLError(3)  # not supported

    for name in (
        "utilization",
        "device_memory_used",
        "get_device_properties",
        "memory_allocated",
        "power_draw",
    ):
        monkeypatch.setattr(torch.cuda, name, fail)
    monkeypatch.setattr(torch.cuda, "temperature", constantly(65))
    sample = Gauges(tmp_path, GPU).read(0)
    assert (sample.gpu_power_w, sample.gpu_temperature_c) == (None, 65.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_real_gpu_tells_everything(tmp_path: Path):
    kept = torch.ones(2**20, device=GPU)
    sample = Gauges(tmp_path, GPU).read(0)
    assert sample.gpu_memory_allocated_bytes is not None
    assert sample.gpu_memory_allocated_bytes >= kept.nbytes
    assert None not in (
        sample.gpu_share,
        sample.gpu_memory_used_bytes,
        sample.gpu_power_w,
        sample.gpu_temperature_c,
    )


def test_samples_carry_the_step_of_the_event_before(tell: Tell, tmp_path: Path):
    kept = Kept()
    with ResourceSampler([kept], tmp_path, every_s=0.01) as sampler:
        for event, _ in tell(until=40):
            sampler.receive(event)
        wait_for(lambda: len(kept.events) > 0)
    assert [type(event) for event in kept.events[:1]] == [ResourceEvent]
    assert kept.events[0].step == 40


def test_nothing_is_sampled_before_the_training_begins(tell: Tell, tmp_path: Path):
    kept = Kept()
    with ResourceSampler([kept], tmp_path, every_s=0.001) as sampler:
        sampler.receive(tell()[1][0])
        time.sleep(0.05)
    assert kept.events == []


def test_a_full_disk_ends_the_sampling_and_nothing_else(tell: Tell, tmp_path: Path):
    class Full(Kept):
        def receive(self, event: Event) -> None:
            super().receive(event)
            raise OSError(28, "No space left on device")

    full = Full()
    with ResourceSampler([full], tmp_path, every_s=0.01) as sampler:
        sampler.receive(tell()[0][0])
        wait_for(lambda: len(full.events) > 0)
        time.sleep(0.05)
    assert len(full.events) == 1


def test_samples_survive_a_resume_up_to_its_step(tell: Tell, tmp_path: Path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        for event, _ in tell(until=100):
            log.receive(event)
        log.go_back_to(60)
    samples = [record for record in read_metrics(log.path) if record["event"] == "resource"]
    assert [record["step"] for record in samples] == [0, 20, 40, 60]


def shares(machine: float, own: float, *, num: int = 10) -> list[ResourceEvent]:
    unread = dict.fromkeys(field.name for field in fields(ResourceEvent))
    sample = ResourceEvent(**{**unread, "step": 1, "cpu_share": machine, "process_cpu_share": own})  # pyright: ignore[reportArgumentType]
    return [sample] * num


def test_threads_that_others_leave_no_processor_for_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wirebert.telemetry.resources.psutil.cpu_count", lambda: 8)
    monkeypatch.setattr("wirebert.telemetry.resources.num_processors", lambda: 8)
    told = contention(shares(1.0, 0.4), num_threads=8)
    assert told == "other processes use 4.8 of 8 processors; training.threads=3 may be faster"
    assert contention(shares(1.0, 0.4), num_threads=3) is None  # it has no more threads than are left
    assert contention(shares(1.0, 0.98), num_threads=8) is None  # nobody else is there
    assert contention(shares(1.0, 0.4, num=9), num_threads=8) is None  # too early to say


def test_others_are_told_once(tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def told(_samples: object, _num_threads: int) -> str:
        return "others are here"

    monkeypatch.setattr("wirebert.telemetry.resources.contention", told)
    kept = Kept()
    with ResourceSampler([kept], tmp_path, every_s=0.01, num_threads=2) as sampler:
        sampler.receive(tell()[0][0])
        wait_for(lambda: len(kept.events) >= 5)
    assert [event.message for event in kept.events if isinstance(event, WarningEvent)] == ["others are here"]
