import builtins
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wirebert.decision.calibration import softmax
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.errors import ConfigError
from wirebert.inference.artifact import Artifact
from wirebert.inference.onnx_backend import OnnxBackend, matches_reference, open_session, padded
from wirebert.inference.onnx_graph import model_bytes
from wirebert.inference.torch_backend import TorchBackend


@pytest.fixture(scope="module")
def block(artifact: Artifact, table: pa.Table) -> JaggedRows:
    return artifact.tokenizer.encode(table)


@pytest.fixture(scope="module")
def onnx_file(artifact: Artifact) -> bytes:
    return model_bytes(artifact.architecture, dict(artifact.weights))


def torch_backend(artifact: Artifact) -> TorchBackend:
    return TorchBackend(
        artifact.architecture, artifact.weights, device="cpu", precision="fp32", max_tokens=None
    )


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("slots", [16, 704])
def test_onnx_gives_the_logits_of_torch(
    artifact: Artifact,
    block: JaggedRows,
    onnx_file: bytes,
    threads: int | None,
    slots: int,
    monkeypatch: pytest.MonkeyPatch,
):
    """In one batch and in many, which other threads score."""
    monkeypatch.setattr("wirebert.inference.onnx_backend.ONNX_TOKENS", slots)
    onnx = OnnxBackend("onnx", onnx_file, pad_id=artifact.tokenizer.pad_id, threads=threads)
    np.testing.assert_allclose(onnx.logits(block), torch_backend(artifact).logits(block), atol=2e-5)


def test_no_flows_have_no_logits(artifact: Artifact, block: JaggedRows, onnx_file: bytes):
    none = take_rows(block, np.arange(0))
    assert OnnxBackend("onnx", onnx_file, pad_id=0).logits(none).shape == (0, 3)


def test_padding_is_marked(block: JaggedRows):
    flows = JaggedRows(np.array([1, 5, 9, 1], np.uint16), np.array([0, 3, 4]), 0)
    ids, mask = padded(flows, np.array([1, 0]), pad_id=7)
    assert ids.tolist() == [[1, 7, 7], [1, 5, 9]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(("shift", "expected"), [(0.0, True), (0.01, True), (0.03, False)])
def test_an_export_agrees_unless_its_probabilities_have_moved(
    artifact: Artifact, block: JaggedRows, onnx_file: bytes, shift: float, expected: bool
):
    onnx = OnnxBackend("onnx", onnx_file, pad_id=artifact.tokenizer.pad_id)
    some = take_rows(block, np.arange(9))
    tokens = [" ".join(map(str, ids)) for ids in np.split(some.ids, some.offsets[1:-1])]
    probabilities = softmax(onnx.logits(some))
    probabilities[4, 1] += shift
    about: dict[str, Any] = {"check": {"tokens": tokens, "probabilities": probabilities.tolist()}}
    assert matches_reference(onnx, about, artifact.tokenizer.dtype) is expected


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"pip install onnxruntime"):
        open_session(b"")
