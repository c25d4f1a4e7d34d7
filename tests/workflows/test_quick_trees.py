from pathlib import Path

import numpy as np
import pytest

from wirebert.config import resolve_run
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import FlowSubset, open_flows
from wirebert.data.labels import fit_classes
from wirebert.workflows.quick_trees import EvaluatedParts, TreeRows, evaluate_trees


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
    messages = iter(
        [TreeRows(run, FlowSubset("train", flows, some), classes), EvaluatedParts([test], {}), predictions]
    )
    judged = evaluate_trees(lambda: next(messages))
    assert judged.summary["num_flows_used"] == some.sum()
    assert judged.splits["test"].accuracy > 0.5
    difference = judged.differences["test"]["accuracy"]
    assert difference[1] < 0  # the tiny model is worse
    with pytest.raises(StopIteration):
        next(messages)
