from pathlib import Path

import numpy as np
import pytest

from wirebert.config import resolve_run
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import FlowSubset, open_flows
from wirebert.data.labels import fit_classes
from wirebert.workflows.quick_trees import LastParts, TreeRows, evaluate_trees


@pytest.mark.slow
def test_trees_are_judged_against_the_predictions_of_the_model_on_the_same_rows(
    trained: Path, traffic: Path
) -> None:
    run = resolve_run(trained / "run.toml")
    flows = open_flows(traffic / "train.csv")
    predictions = trained / "predictions" / "test.parquet"
    classes = fit_classes(flows.schema, profile_table(flows).label_counts, run.data, None)
    some = np.arange(sum(table.num_rows for table in flows.blocks())) % 2 == 0
    test = FlowSubset("test", open_flows(traffic / "test.csv", schema=flows.schema))
    again = FlowSubset("again", test.flows)
    messages = iter(
        [
            TreeRows(run, FlowSubset("train", flows, some), classes, [test]),
            predictions,
            LastParts([again], {}),
            predictions,
        ]
    )
    judged = evaluate_trees(lambda: next(messages))
    assert judged.summary["num_flows_used"] == some.sum()
    assert judged.splits["test"].accuracy > 0.5
    assert judged.splits["again"].accuracy == judged.splits["test"].accuracy
    difference = judged.differences["test"]["accuracy"]
    assert difference[1] < 0  # the tiny model is worse
    assert judged.differences["again"] == judged.differences["test"]
    with pytest.raises(StopIteration):
        next(messages)


def test_classes_of_the_last_parts_are_their_own(trained: Path, traffic: Path) -> None:
    run = resolve_run(trained / "run.toml")
    flows = open_flows(traffic / "train.csv")
    counts = profile_table(flows).label_counts
    classes = fit_classes(flows.schema, counts, run.data, None)
    last = FlowSubset("last", open_flows(traffic / "test.csv", schema=flows.schema))
    messages = iter(
        [TreeRows(run, FlowSubset("train", flows), classes, []), LastParts([last], {"last": classes})]
    )
    judged = evaluate_trees(lambda: next(messages))
    assert set(judged.splits) == {"last"}
    assert not judged.differences  # no predictions are asked for
