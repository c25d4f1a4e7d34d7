from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len

from wirebert.telemetry.dashboard import frame
from wirebert.telemetry.events import Event, StartEvent, StepEvent, WarningEvent
from wirebert.telemetry.state import DashboardState

Tell = Callable[..., list[tuple[Event, float]]]

FIGURES = (
    *(
        "runs/x",
        "12,345 flows",
        "67,890 parameters",
        "epoch 2.80/3",
        "280/300",
        "elapsed 0:00:29",
        "0:00:01 left",
    ),
    *("0.0714", "0.9123", "3.0e-4", "3.0e-3", "1.23", "65536", "4,567", "123,456"),
    *("0.2500", "0.8765", "0.7533"),
    *("99 % (run 65 %)", "3.0 GiB", "77.0 GiB", "checkpoint-00000200 written", "press here"),
)
GPU_FIGURES = ("88 %", "12.0/139 GiB", "8.0 GiB", "612 W", "65 °C")
NAMES = (
    *("loss", "validation loss", "accuracy", "macro-F1", "backbone LR", "classifier LR", "gradient norm"),
    *("loss scale", "rows/s", "tokens/s", "CPU", "memory", "free disk"),
)
GPU_NAMES = ("GPU memory", "this run", "GPU power", "GPU temperature")


def lines_of(picture: DashboardState, width: int, height: int, now_s: float = 1029.0) -> list[str]:
    return ["".join(segment.text for segment in line) for line in frame(picture, width, height, now_s)]


def picture(tell: Tell, *, gpu: bool = True) -> DashboardState:
    return DashboardState.of(tell(gpu=gpu, until=280), title="runs/x", hint="press here")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (120, 40), (150, 24), (80, 100)])
def test_every_figure_has_its_place(tell: Tell, width: int, height: int):
    text = "\n".join(lines_of(picture(tell), width, height))
    missing = [part for part in (*FIGURES, *GPU_FIGURES, *NAMES, *GPU_NAMES) if part not in text]
    assert not missing, text


@pytest.mark.parametrize("width", [1, 20, 79, 80, 81, 119, 150, 200, 317])
@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 23, 24, 25, 44, 60, 111])
def test_a_frame_fills_the_screen_exactly(tell: Tell, width: int, height: int):
    assert [cell_len(line) for line in lines_of(picture(tell), width, height)] == [width] * height


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
def test_before_the_first_event_there_are_names_and_no_figures(width: int, height: int):
    text = "\n".join(lines_of(DashboardState(title="runs/x", hint=""), width, height))
    assert "waiting for training to start" in text
    assert all(name in text for name in NAMES)


def test_without_a_gpu_nothing_is_said_of_one(tell: Tell):
    assert "GPU" not in "\n".join(lines_of(picture(tell, gpu=False), 200, 60))


def test_both_losses_have_curves_with_the_ends_of_their_axes(tell: Tell):
    top, *_, bottom = lines_of(picture(tell), 80, 24)[3:11]
    assert top.split()[1:2] == ["1"]  # the first loss, 20 / 20
    assert "1.25" in top
    assert "0.0714" in bottom
    assert any("\u2801" <= character <= "\u28ff" for character in top)


def test_a_long_title_and_wide_letters_are_cut_to_the_width(tell: Tell):
    wide = DashboardState.of(tell(until=100), title="runs/" + "流" * 100, hint="流" * 100)
    assert {cell_len(line) for line in lines_of(wide, 80, 24)} == {80}
    head = lines_of(wide, 80, 24)[0]
    assert "流… " in head
    assert head.rstrip().endswith("fp32 on cpu")


def test_huge_numbers_do_not_push_each_other_out_of_place(tell: Tell):
    start, step = (
        next(event for event, _ in tell(until=20) if isinstance(event, kind))
        for kind in (StartEvent, StepEvent)
    )
    many = 123_456_789
    huge = DashboardState(title="x", hint="")
    huge.add(replace(start, num_steps=many, num_epochs=1000, num_train=10**10, num_parameters=10**9), 0.0)
    huge.add(
        replace(
            step, step=many - 1, rows_per_s=1e8, tokens_per_s=1e10, loss=1e9, grad_norm=1e30, elapsed_s=1e8
        ),
        0.0,
    )
    lines = lines_of(huge, 80, 24)
    assert {cell_len(line) for line in lines} == {80}
    assert "10,000,000,000" in "\n".join(lines)  # tokens/s


def test_a_warning_is_one_line_however_long(tell: Tell):
    told = picture(tell)
    told.add(WarningEvent(step=1, message="words " * 50), 0.0)
    assert sum("words" in line for line in lines_of(told, 80, 24)) == 1


def test_the_latest_evaluations_are_listed_where_there_is_room(tell: Tell):
    text = "\n".join(lines_of(picture(tell), 200, 60))
    assert "train loss" in text
    assert text.count("  best ") == 2
    assert "train loss" not in "\n".join(lines_of(picture(tell), 80, 24))


def test_a_finished_training_says_done(tell: Tell):
    text = "\n".join(lines_of(DashboardState.of(tell(), title="x", hint=""), 80, 24, 9999.0))
    assert "elapsed 0:00:30  done" in text
