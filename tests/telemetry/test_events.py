import json
import threading
from collections.abc import Callable
from dataclasses import replace
from math import isnan
from pathlib import Path

from wirebert.telemetry.events import (
    KINDS,
    CheckpointEvent,
    EndEvent,
    EpochEvent,
    Event,
    Listener,
    MetricsFollower,
    MetricsLog,
    ResourceEvent,
    StartEvent,
    StepEvent,
    WarningEvent,
    from_record,
    read_metrics,
    to_record,
)

Tell = Callable[..., list[tuple[Event, float]]]


def step_event(step: int, *, grad_norm: float = 1.0, elapsed_s: float = 1.0) -> StepEvent:
    return StepEvent(
        step=step,
        epoch=step / 10,
        loss=0.5,
        accuracy=0.8,
        lr_backbone=1e-4,
        lr_classifier=1e-3,
        grad_norm=grad_norm,
        loss_scale=1.0,
        overflows=0,
        micro_batch_tokens=0,
        rows_per_s=1000.0,
        tokens_per_s=9000.0,
        elapsed_s=elapsed_s,
    )


def test_a_line_is_readable_as_soon_as_it_is_written(tmp_path: Path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.receive(step_event(10))
        (record,) = read_metrics(log.path)
    assert (record["v"], record["event"], record["step"], record["lr_classifier"]) == (2, "step", 10, 1e-3)


def test_line_cut_short_is_left_out(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.receive(step_event(10))
    with path.open("a") as file:
        file.write('{"v": 1, "event": "st')
    assert len(read_metrics(path)) == 1


def test_going_back_forgets_what_came_after_the_step(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in (10, 20, 30):
            log.receive(step_event(step))
        with path.open("a") as file:
            file.write('{"torn')
        log.go_back_to(20)
        log.receive(WarningEvent(step=20, message="again"))
    assert [record["step"] for record in read_metrics(path)] == [10, 20, 20]


def test_going_back_to_the_start_forgets_everything(tmp_path: Path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.receive(WarningEvent(step=0, message="of the first try"))
        log.go_back_to(0)
        assert read_metrics(log.path) == []


def test_number_that_is_not_finite_is_null(tmp_path: Path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.receive(step_event(1, grad_norm=float("inf")))
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line)["grad_norm"] is None


def test_the_log_is_a_listener_and_kinds_have_names_of_their_own(tmp_path: Path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        assert isinstance(log, Listener)
    kinds = (StartEvent, StepEvent, EpochEvent, CheckpointEvent, WarningEvent, ResourceEvent, EndEvent)
    assert list(KINDS) == ["start", "step", "epoch", "checkpoint", "warning", "resource", "end"]
    assert tuple(KINDS.values()) == kinds


def test_every_event_comes_back_from_its_line(tell: Tell):
    events = [event for gpu in (True, False) for event, _ in tell(gpu=gpu)]
    assert {event.kind for event in events} == KINDS.keys() - {"warning"}
    for event in events:
        assert from_record(json.loads(json.dumps(to_record(event, time_s=1.0)))) == event


def test_a_number_that_was_not_finite_comes_back_as_not_a_number():
    event = from_record(to_record(step_event(1, grad_norm=float("inf")), time_s=0.0))
    assert isinstance(event, StepEvent)
    assert isnan(event.grad_norm)


def test_what_a_reader_does_not_know_is_passed_over():
    record = to_record(step_event(1), time_s=0.0)
    assert from_record(record | {"field_of_tomorrow": 1}) == step_event(1)
    assert from_record(record | {"event": "kind_of_tomorrow"}) is None
    assert from_record(record | {"loss": "low"}) is None
    assert from_record({"event": "step", "step": 1}) is None


def test_what_an_older_run_did_not_write_is_what_it_is_by_default(tell: Tell):
    start, time_s = tell()[0]
    assert isinstance(start, StartEvent)
    written = to_record(start, time_s=time_s)
    older = {name: value for name, value in written.items() if name not in ("num_ranks", "feeding")}
    assert from_record(older) == replace(start, num_ranks=1, feeding="")


def test_lines_of_many_threads_come_whole(tmp_path: Path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        message = "x" * 20_000

        def write() -> None:
            for step in range(20):
                log.receive(WarningEvent(step=step, message=message))

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = log.path.read_text().splitlines()
    assert len(lines) == 80
    assert all(json.loads(line)["message"] == message for line in lines)


def test_a_follower_reads_each_line_once_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    follower = MetricsFollower(path)
    assert follower.new_events() == []  # not there yet
    lines = [json.dumps(to_record(step_event(step), time_s=float(step))) + "\n" for step in (1, 2)]
    path.write_text(lines[0] + lines[1][:30])
    assert follower.new_events() == [(step_event(1), 1.0)]
    assert follower.new_events() == []
    path.write_text("".join(lines))
    assert follower.new_events() == [(step_event(2), 2.0)]


def test_a_follower_reads_on_in_a_file_that_a_resume_replaced(tmp_path: Path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        follower = MetricsFollower(log.path)
        for step in (10, 20, 30):
            log.receive(step_event(step))
        follower.new_events()
        log.go_back_to(20)
        log.receive(replace(step_event(30), loss=0.4))
        assert [event.step for event, _ in follower.new_events()] == [30]
