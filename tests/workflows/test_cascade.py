from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv

from wirebert.data.flows import Flows, open_flows
from wirebert.decision.cascade_margin import choose_margin
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.errors import ConfigError, DataError
from wirebert.inference.artifact import Artifact, Export, load_artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.inference.engines import CASCADE
from wirebert.inference.export import export_model
from wirebert.metrics.thresholds import Threshold
from wirebert.workflows.cascade import with_cascade, without_cascade

THRESHOLD = Threshold(
    target_fpr=0.001,
    threshold=0.5,
    num_benign=9,
    num_false_positives=0,
    fpr_interval=(0.0, 0.1),
    num_distinct=9,
    is_trusted=False,
)


@pytest.fixture(scope="module")
def small(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The model with its export, as a smaller one: without its second layer."""
    few = {name: weight for name, weight in artifact.weights.items() if ".layer.1." not in name}
    one = replace(artifact, weights=few, architecture=replace(artifact.architecture, num_layers=1))
    folder = tmp_path_factory.mktemp("models") / "small"
    save_artifact(one, folder, card="")
    export_model(folder, "onnx", num_rows=64)
    return load_artifact(folder)


@pytest.fixture
def flows(artifact: Artifact, table: pa.Table, tmp_path: Path) -> Flows:
    csv.write_csv(table, tmp_path / "flows.csv")
    return open_flows(tmp_path / "flows.csv", schema=artifact.schema)


def test_the_margin_is_chosen_on_the_flows_and_told(artifact: Artifact, small: Artifact, flows: Flows):
    known = replace(NO_OPERATING_POINT, thresholds=(THRESHOLD,), notes=("before",))
    made = with_cascade(replace(artifact, operating_point=known), small, flows)
    big, small_one = Detector(artifact), Detector(small)
    block = big.encode(pa.concat_tables(flows.blocks()))
    chosen = choose_margin(small_one.logits(block), big.logits(block))
    assert made.exports[CASCADE].about["margin"] == chosen.margin
    assert made.exports[CASCADE].about["check"] == small.exports["onnx"].about["check"]
    assert made.operating_point is not None
    assert made.operating_point.thresholds == ()  # they are of the big model's scores
    before, note = made.operating_point.notes
    assert before == "before"
    parts = (
        f"{small.architecture.num_parameters:,} weights",
        f"{chosen.margin:.3g} nats",
        f"{chosen.share:.1%} of 60",
    )
    assert all(part in note for part in parts), note
    detector = Detector(made)
    assert detector.backend == CASCADE
    detector.logits(block)
    assert detector.routed is not None
    assert detector.routed[0] > 0
    assert Detector(without_cascade(made)).backend == "torch"


def other_tokens(small: Artifact) -> Artifact:
    return replace(small, tokenizer=replace(small.tokenizer, encoders=small.tokenizer.encoders[::-1]))


def other_classes(small: Artifact) -> Artifact:
    return replace(small, classes=replace(small.classes, classes=("normal", "probe", "dos")))


def other_benign(small: Artifact) -> Artifact:
    return replace(small, classes=replace(small.classes, benign="dos"))


def as_large(small: Artifact) -> Artifact:
    return replace(small, architecture=replace(small.architecture, num_layers=2))


def without_export(small: Artifact) -> Artifact:
    return replace(small, exports=dict[str, Export]())


def with_old_export(small: Artifact) -> Artifact:
    return replace(small, exports={"onnx": replace(small.exports["onnx"], is_current=False)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_tokens, "reads other tokens; train both on the same rows, with the same seed and settings"),
        (other_classes, r"of the classes normal, probe, dos \(benign: normal\); train both"),
        (other_benign, r"of the classes normal, dos, probe \(benign: dos\); train both"),
        (as_large, "weights; exchange the two"),
        (without_export, "without its export; write it with `wirebert export small --format onnx`"),
        (with_old_export, "without its export"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_a_sentence(
    change: Callable[[Artifact], Artifact], message: str, artifact: Artifact, small: Artifact, flows: Flows
):
    with pytest.raises(ConfigError, match=f"--cascade small: expected a smaller model .*{message}"):
        with_cascade(artifact, change(small), flows)


def test_no_flows_are_refused_in_a_sentence(
    artifact: Artifact, small: Artifact, flows: Flows, monkeypatch: pytest.MonkeyPatch
):
    def no_blocks(_: Flows) -> Iterator[pa.Table]:
        return iter(())

    monkeypatch.setattr(Flows, "blocks", no_blocks)
    with pytest.raises(DataError, match="expected flows, found none; give more traffic"):
        with_cascade(artifact, small, flows)
