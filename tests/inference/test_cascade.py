"""The cascade: which of its two models answers, and what becomes of a folder that holds half of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wirebert.decision.cascade_margin import class_gaps
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.errors import ArtifactError
from wirebert.inference.artifact import MANIFEST, Artifact, load_artifact, save_artifact
from wirebert.inference.backends import EngineOptions, open_backend
from wirebert.inference.cascade import NEAR_MARGIN, CascadeBackend
from wirebert.inference.detector import Detector
from wirebert.inference.engines import CASCADE
from wirebert.inference.export import export_model


@pytest.fixture(scope="module")
def models(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """A model and another one with the same tokens and classes, each with its export."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(3)
    moved = {
        name: weight + 0.05 * rng.standard_normal(weight.shape) for name, weight in artifact.weights.items()
    }
    other = replace(artifact, weights={name: weight.astype(np.float32) for name, weight in moved.items()})
    for name, one in (("big", artifact), ("small", other)):
        save_artifact(one, folder / name, card="")
        export_model(folder / name, "onnx", num_rows=64)
    return load_artifact(folder / "big"), load_artifact(folder / "small")


@pytest.fixture
def folder(models: tuple[Artifact, Artifact], table: pa.Table, tmp_path: Path) -> Path:
    """A model folder with a cascade that gives about half of the flows to the big model."""
    big, small = models
    gaps = class_gaps(Detector(small).logits(small.tokenizer.encode(table)))
    about = {**small.exports["onnx"].about, "margin": float(np.median(gaps))}
    cascade = replace(big, exports={CASCADE: replace(small.exports["onnx"], about=about), **big.exports})
    save_artifact(cascade, tmp_path / "model", card="", with_exports=True)
    assert [*load_artifact(tmp_path / "model").exports] == [CASCADE, "onnx"]
    return tmp_path / "model"


def test_a_flow_has_the_logits_of_one_model_or_of_the_other_bit_for_bit(
    folder: Path, models: tuple[Artifact, Artifact], table: pa.Table
):
    artifact = load_artifact(folder)
    margin = artifact.exports[CASCADE].about["margin"]
    block = artifact.tokenizer.encode(table)
    big, small = (open_backend("onnx", one, EngineOptions()) for one in models)
    expected = small.logits(block)
    routed = np.flatnonzero(class_gaps(expected) < margin)
    assert 10 < len(routed) < 50
    expected[routed] = big.logits(take_rows(block, routed))
    cascade = open_backend("auto", artifact, EngineOptions())
    assert isinstance(cascade, CascadeBackend)
    np.testing.assert_array_equal(cascade.logits(block), expected)
    assert cascade.counts == (len(routed), len(block))
    assert cascade.logits(take_rows(block, np.arange(0))).shape == (0, 3)


def test_auto_takes_the_cascade_and_an_engine_that_is_named_the_big_model_alone(
    folder: Path, models: tuple[Artifact, Artifact], table: pa.Table
):
    detector, big = Detector.load(folder), Detector(models[0])
    assert (detector.backend, big.backend) == (CASCADE, "onnx")
    assert big.routed is None
    scores = detector.score(table).probabilities
    alone = Detector.load(folder, backend="onnx").score(table).probabilities
    np.testing.assert_array_equal(alone, big.score(table).probabilities)
    assert (scores != alone).any()
    assert detector.routed is not None
    assert 0 < detector.routed[0] < detector.routed[1] <= 60


@dataclass
class NoisyBackend:
    """Logits that depend on the number of flows in the batch, as rounding does."""

    name: str
    gap: float

    def logits(self, flows: JaggedRows) -> np.ndarray:
        logits = np.zeros((len(flows), 2), np.float32)
        logits[:, 0] = self.gap + 1e-4 * (len(flows) - 1)
        return logits


@pytest.mark.parametrize("distance", [-1.5, -1.01, -0.99, -0.3, -0.1, 0.0, 0.1, 0.99, 1.01])
def test_which_model_answers_does_not_depend_on_the_batch(
    table: pa.Table, artifact: Artifact, distance: float
):
    margin, block = 1.0, artifact.tokenizer.encode(table)
    small = NoisyBackend("small", margin + distance * NEAR_MARGIN)
    counts: set[bool] = set()
    for size in (1, 2, 5):
        cascade = CascadeBackend(CASCADE, small, NoisyBackend("big", 9.0), margin)
        cascade.logits(take_rows(block, np.arange(size)))
        assert cascade.counts[0] in (0, size)
        counts.add(cascade.counts[0] > 0)
    assert len(counts) == 1


def test_the_name_of_a_model_tells_whether_it_is_a_cascade(folder: Path, models: tuple[Artifact, Artifact]):
    """Its verdicts are others. Another export changes none, so it does not count."""
    cascade, before = load_artifact(folder), models[0].sha256
    assert cascade.sha256 != before
    manifest = json.loads((folder / MANIFEST).read_text())
    assert {"margin", "check", "weights", "file"} <= set(manifest["exports"][CASCADE])
    export_model(folder, "onnx", num_rows=32)
    assert load_artifact(folder).sha256 == cascade.sha256


def test_a_damaged_small_model_is_one_sentence(folder: Path):
    path = folder / "model-small.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model-small\.onnx: the model folder is damaged: its content"):
        Detector.load(folder)
    assert Detector.load(folder, backend="onnx").backend == "onnx"
    path.unlink()
    with pytest.raises(ArtifactError, match=r"model-small\.onnx: the model folder is damaged: it is missing"):
        load_artifact(folder)


@pytest.mark.parametrize("margin", [None, -1.0, float("nan"), "1"])
def test_a_cascade_without_a_margin_is_one_sentence(
    folder: Path, margin: object, reseal: Callable[..., None]
):
    def change(manifest: dict[str, Any]) -> None:
        manifest["exports"][CASCADE]["margin"] = margin

    reseal(folder, change)
    with pytest.raises(
        ArtifactError, match=r"expected a cascade with a margin of at least 0, found .*calibrate"
    ):
        Detector.load(folder, backend=CASCADE)
    assert Detector.load(folder).backend == "onnx"  # the cascade is passed over, and that is told
