from wirebert.telemetry.history import (History)
from wirebert.evaluation.plots import to_svg
from wirebert.evaluation.training_plots import training_charts


def test_a_training_has_its_charts_in_order(history: History) -> None:
    charts = training_charts(history)
    names = ["loss", "quality", "learning_rates", "gradient_norm", "throughput", "token_throughput"]
    assert list(charts) == names
    assert "training goes from 1 to 0.1" in charts["loss"].words
    assert "step 10, the model that was kept" in str(charts["quality"].spec)
    assert {"validation accuracy", "validation macro F1", "training accuracy"} == {
        row[0] for row in charts["quality"].rows
    }


def test_what_was_not_recorded_has_no_chart_of_its_own() -> None:
    charts = training_charts(History.of([]))
    assert list(charts) == ["loss", "quality", "learning_rates"]
    for chart in charts.values():
        assert "NaN" not in to_svg(chart.spec)
