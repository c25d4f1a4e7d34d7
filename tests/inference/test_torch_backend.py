from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from wirebert.decision.calibration import softmax
from wirebert.encoding.token_rows import JaggedRows
from wirebert.inference.artifact import Artifact
from wirebert.inference.torch_backend import TorchBackend
from wirebert.model.batches import score


@pytest.fixture(scope="module")
def block(artifact: Artifact, table: pa.Table) -> JaggedRows:
    return artifact.tokenizer.encode(table)


def torch_backend(artifact: Artifact) -> TorchBackend:
    return TorchBackend(
        artifact.architecture, artifact.weights, device="cpu", precision="fp32", max_tokens=None
    )


def test_bf16_is_near_fp32(artifact: Artifact, block: JaggedRows):
    half = TorchBackend(
        artifact.architecture, artifact.weights, device="cpu", precision="bf16", max_tokens=None
    )
    difference = np.abs(softmax(half.logits(block)) - softmax(torch_backend(artifact).logits(block)))
    assert 0 < difference.max() < 0.1


def test_a_backend_leaves_the_weights_alone(artifact: Artifact, block: JaggedRows):
    before = {name: weight.copy() for name, weight in artifact.weights.items()}
    torch_backend(replace(artifact)).logits(block)
    assert all((artifact.weights[name] == weight).all() for name, weight in before.items())


def test_rows_that_overflow_half_precision_get_single_precision(artifact: Artifact, block: JaggedRows):
    """Else their scores were no numbers, which raise no alert."""
    name = "distilbert.transformer.layer.0.ffn.lin1.weight"
    large = {**artifact.weights, name: artifact.weights[name] * 1e5}
    exact = TorchBackend(artifact.architecture, large, device="cpu", precision="fp32", max_tokens=None)
    assert not np.isfinite(score(exact.model, block, precision="fp16")).all()
    np.testing.assert_array_equal(exact.at("fp16").logits(block), exact.logits(block))
