from dataclasses import fields

from wirebert.evaluation import resource_plots
from wirebert.telemetry.history import (History)
from wirebert.evaluation.resource_plots import resource_charts
from wirebert.telemetry.events import (ResourceEvent)


def test_what_the_machine_tells_is_drawn_and_what_it_does_not_is_left_out(history: History) -> None:
    charts = resource_charts(history)
    assert list(charts) == ["resource_use", "resource_memory"]
    assert [row[0] for row in charts["resource_use"].rows] == ["all processors"]
    # Bytes are shown in GiB.
    assert charts["resource_memory"].rows[0][-1] == "1"


def test_a_run_without_samples_has_no_charts() -> None:
    assert resource_charts(History.of([])) == {}


def test_every_field_that_is_drawn_is_one_that_training_samples() -> None:
    drawn = {name for _, _, _, group in resource_plots.DRAWN.values() for name in group}
    known = {field.name for field in fields(ResourceEvent)}
    assert drawn <= known
    assert known - drawn == {"step", "gpu_memory_total_bytes"}
