import io
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from wirebert.telemetry.events import Event, StartEvent, WarningEvent
from wirebert.telemetry.plain_log import PlainLines

Tell = Callable[..., list[tuple[Event, float]]]


def lines_of(events: list[tuple[Event, float]]) -> list[str]:
    out = io.StringIO()
    with PlainLines(Console(file=out)) as lines:
        for event, time_s in events:
            lines.receive_at(event, time_s)
    return out.getvalue().splitlines()


def test_loss_both_rates_speed_and_time_left_are_told(tell: Tell):
    text = "\n".join(lines_of([*tell(gpu=True), (WarningEvent(step=1, message="disk [nearly] full"), 0.0)]))
    for part in (
        *(
            "training: 12,345 flows, 3 epochs, 300 steps of 128; 67,890 parameters, bf16 on cuda:0",
            "step 100/300",
        ),
        *("loss 0.2000", "lr 3.0e-04 / 3.0e-03", "4,567 rows/s", "0:00:20 left"),
        *("epoch 1: train loss 0.5000  valid loss 1.2500  accuracy 0.8765  macro-F1 0.7532", "(best so far)"),
        *("disk [nearly] full", "trained 300 steps in 0:00:30; best validation loss 0.2500 at step 200"),
    ):
        assert part in text, text


def test_lines_are_plain_and_steps_do_not_flood(tell: Tell):
    lines = lines_of(tell())
    assert not any("\x1b" in line for line in lines)
    # 15 step events in 30 seconds: one line each ten seconds, beside start, three evaluations and the end.
    assert len(lines) == 1 + 3 + 3 + 1


def test_samples_of_the_machine_take_no_lines(tell: Tell):
    assert lines_of(tell(until=20)[1:2]) == []


def test_the_first_line_says_who_feeds_the_training(tell: Tell):
    start, time_s = tell()[0]
    assert isinstance(start, StartEvent)
    (line,) = lines_of([(replace(start, feeding="3 processes, from disk (84.2 MB)"), time_s)])
    assert line.endswith("fp32 on cpu; data loading: 3 processes, from disk (84.2 MB)")


def test_a_training_of_which_it_is_not_known_says_nothing_of_feeding(tell: Tell):
    (line,) = lines_of(tell()[:1])
    assert line.endswith("fp32 on cpu")
