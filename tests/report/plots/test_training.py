from dataclasses import fields

from wirebert.report.plots import training as resource_plots
from wirebert.report.plots.chart import to_svg
from wirebert.report.plots.training import resource_charts, training_charts
from wirebert.telemetry.events import ResourceEvent
from wirebert.telemetry.history import History


def test_a_training_has_its_charts_in_order(history: History) -> None:
    charts = training_charts(history)
    names = ["loss", "quality", "learning_rates", "gradient_norm", "throughput", "token_throughput"]
    assert list(charts) == names
    assert "training goes from 1 to 0.1" in charts["loss"].words
    assert "step 10, the best model" in str(charts["quality"].spec)
    assert {"validation accuracy", "validation macro F1", "training accuracy"} == {
        row[0] for row in charts["quality"].rows
    }


def test_what_was_not_recorded_has_no_chart_of_its_own() -> None:
    assert training_charts(History.of([])) == {}
    charts = training_charts(History.of([{"event": "step", "step": 1, "loss": 0.5}]))
    assert list(charts) == ["loss"]
    assert "NaN" not in to_svg(charts["loss"].spec)


def test_what_the_machine_tells_is_drawn_and_what_it_does_not_is_left_out(history: History) -> None:
    charts = resource_charts(history)
    assert list(charts) == ["resource_use", "resource_memory"]
    assert [row[0] for row in charts["resource_use"].rows] == ["CPU, all processes"]
    # Bytes are shown in GiB.
    assert charts["resource_memory"].rows[0][-1] == "1"


def test_a_run_without_samples_has_no_charts() -> None:
    assert resource_charts(History.of([])) == {}


def test_every_field_that_is_drawn_is_one_that_training_samples() -> None:
    drawn = {name for _, _, _, group in resource_plots.RESOURCE_CURVES.values() for name in group}
    known = {field.name for field in fields(ResourceEvent)}
    assert drawn <= known
    assert known - drawn == {"step", "gpu_memory_total_bytes"}
