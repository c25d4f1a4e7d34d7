import json
from pathlib import Path

from wirebert.training.monitoring import (
    CheckpointEvent,
    EndEvent,
    EpochEvent,
    Listener,
    MetricsLog,
    StartEvent,
    StepEvent,
    WarningEvent,
    read_metrics,
)


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
    assert (record["v"], record["event"], record["step"], record["lr_classifier"]) == (1, "step", 10, 1e-3)


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
    kinds = [
        event.kind for event in (StartEvent, StepEvent, EpochEvent, CheckpointEvent, WarningEvent, EndEvent)
    ]
    assert kinds == ["start", "step", "epoch", "checkpoint", "warning", "end"]
