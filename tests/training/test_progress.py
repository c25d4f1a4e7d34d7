import io

import pytest
from rich.console import Console

from wirebert.training.monitoring import EndEvent, EpochEvent, Event, StartEvent, StepEvent, WarningEvent
from wirebert.training.progress import LiveBar, PlainLines, display

START = StartEvent(
    step=0,
    num_steps=100,
    num_epochs=2,
    num_train=5000,
    num_valid=500,
    num_parameters=12345,
    batch_size=100,
    device="cpu",
    precision="fp32",
    seed=1,
)
STEP = StepEvent(
    step=25,
    epoch=0.5,
    loss=0.1234,
    accuracy=0.9,
    lr_backbone=3e-4,
    lr_classifier=3e-3,
    grad_norm=1.0,
    loss_scale=1.0,
    overflows=0,
    micro_batch_tokens=0,
    rows_per_s=4567.0,
    tokens_per_s=1.0,
    elapsed_s=20.0,
)
EPOCH = EpochEvent(
    step=50,
    epoch=1.0,
    train_loss=0.5,
    train_accuracy=0.9,
    valid_loss=0.25,
    valid_accuracy=0.95,
    valid_macro_f1=0.75,
    is_best=True,
    lr_backbone=0.0,
    lr_classifier=0.0,
    rows_per_s=1.0,
    elapsed_s=40.0,
)
END = EndEvent(step=100, best_step=50, best_valid_loss=0.25, stopped_early=True, elapsed_s=80.0)
ALL: list[Event] = [START, STEP, EPOCH, WarningEvent(step=50, message="disk [nearly] full"), END]


@pytest.mark.parametrize(
    ("is_terminal", "environment", "kind"),
    [(True, {}, LiveBar), (True, {"CI": "true"}, PlainLines), (False, {}, PlainLines)],
)
def test_a_bar_needs_a_terminal_and_no_build_server(
    is_terminal: bool, environment: dict[str, str], kind: type[LiveBar | PlainLines]
):
    assert isinstance(display(Console(force_terminal=is_terminal), environment), kind)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_loss_both_rates_speed_and_time_left_are_shown(is_terminal: bool):
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=160, no_color=True)
    with display(console, {}) as listener:
        for event in ALL:
            listener.receive(event)
    text = out.getvalue()
    for part in (
        "0.1234",
        "3.0e-04 / 3.0e-03",
        "4,567 rows/s",
        "0:01:00 left",
        "macro-F1 0.7500",
        "(best so far)",
    ):
        assert part in text
    assert "disk [nearly] full" in text
    assert "stopped early" in text


def test_plain_lines_are_plain_and_steps_do_not_flood():
    out = io.StringIO()
    with PlainLines(Console(file=out)) as lines:
        for event in (START, STEP, STEP, STEP, EPOCH):
            lines.receive(event)
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 3
