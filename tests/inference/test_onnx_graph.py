from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.decision.calibration import softmax
from wirebert.encoding.config import EncodingConfig
from wirebert.inference import onnx_graph
from wirebert.inference.artifact import Artifact
from wirebert.inference.onnx_backend import OnnxBackend, open_session, padded
from wirebert.inference.onnx_graph import model_bytes, probe_bytes
from wirebert.model.distilbert import DistilBert

Tiny = Callable[..., tuple[Artifact, DistilBert]]


def weights_of(artifact: Artifact) -> dict[str, np.ndarray]:
    return dict(artifact.weights)


def torch_logits(model: DistilBert, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(ids).long(), torch.from_numpy(mask).bool()).numpy()


@pytest.fixture(scope="module")
def of_layers(untrained: Tiny, artifact: Artifact, schema: FlowSchema, table: pa.Table) -> Tiny:
    """A small model of some layers, and its artifact."""

    def made(num_layers: int, config: EncodingConfig | None = None) -> tuple[Artifact, DistilBert]:
        return untrained(schema, table, artifact.classes, config, num_layers=num_layers)

    return made


@pytest.mark.parametrize("leave_out", [True, False])
@pytest.mark.parametrize("folded_tokens", [0, 4096])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_graph_computes_what_the_model_does(
    of_layers: Tiny,
    table: pa.Table,
    leave_out: bool,
    folded_tokens: int,
    num_layers: int,
    monkeypatch: pytest.MonkeyPatch,
):
    """With and without positions, with and without the first block looked up by token; rows of many lengths
    at once; with a block that is first and last.
    """
    monkeypatch.setattr(onnx_graph, "FOLDED_TOKENS", folded_tokens)
    artifact, model = of_layers(num_layers, EncodingConfig(omit_most_frequent=leave_out))
    assert artifact.weights["distilbert.embeddings.position_embeddings.weight"].any() != leave_out
    block = artifact.tokenizer.encode(table)
    ids, mask = padded(block, np.arange(60), pad_id=artifact.tokenizer.pad_id)
    assert leave_out == (mask.min() == 0)
    session = open_session(model_bytes(artifact.architecture, weights_of(artifact)))
    found = session.run(None, {"ids": ids, "mask": mask})[0]
    np.testing.assert_allclose(found, torch_logits(model, ids, mask), atol=2e-5)


def test_texts_of_many_lengths_are_scored(make_artifact: Tiny):
    schema = FlowSchema(name="web", columns=(Column(name="uri", kind=ColumnKind.TEXT, is_feature=True),))
    table = pa.table({"uri": ["/a", "/index.php?id=1%20or%201=1", None, "/" * 300, ""]})
    artifact, model = make_artifact(schema, table)
    ids, mask = padded(artifact.tokenizer.encode(table), np.arange(5), pad_id=artifact.tokenizer.pad_id)
    session = open_session(model_bytes(artifact.architecture, weights_of(artifact)))
    found = session.run(None, {"ids": ids, "mask": mask})[0]
    np.testing.assert_allclose(found, torch_logits(model, ids, mask), atol=2e-5)


def ranges_on(artifact: Artifact, table: pa.Table) -> dict[str, tuple[float, float]]:
    content, names = probe_bytes(artifact.architecture, weights_of(artifact))
    ids, mask = padded(
        artifact.tokenizer.encode(table), np.arange(len(table)), pad_id=artifact.tokenizer.pad_id
    )
    ends = np.array(open_session(content).run(None, {"ids": ids, "mask": mask})).reshape(-1, 2)
    return {name: (float(low), float(high)) for name, (low, high) in zip(names, ends, strict=True)}


def test_every_matrix_product_of_the_blocks_has_a_range(of_layers: Tiny, table: pa.Table):
    found = ranges_on(of_layers(3)[0], table)
    # Query, key and value are looked up in the first block, and not needed for all slots in the last.
    assert list(found) == [
        *("0.context", "0.attended", "0.inner"),
        *("1.hidden", "1.context", "1.attended", "1.inner"),
        *("2.context", "2.attended", "2.inner"),
    ]
    assert all(low < high for low, high in found.values())
    assert found["0.inner"][0] == pytest.approx(-0.17, abs=0.01)  # the least that GELU gives


@pytest.fixture(scope="module")
def deep(of_layers: Tiny) -> tuple[Artifact, DistilBert]:
    return of_layers(3)


@pytest.fixture(scope="module")
def eight_bit(deep: tuple[Artifact, DistilBert], table: pa.Table) -> bytes:
    artifact, _ = deep
    return model_bytes(artifact.architecture, weights_of(artifact), ranges=ranges_on(artifact, table))


def test_two_products_of_eight_bits_have_room_in_sixteen(eight_bit: bytes) -> None:
    graph = onnx.load_model_from_string(eight_bit).graph
    kinds = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    steps = [each for each in kinds.values() if each.dtype == np.int8]
    assert len(steps) == 12
    most = max(int(np.abs(each.astype(int)).max()) for each in steps)
    assert most == 64
    assert 2 * 255 * most < 2**15


def test_eight_bit_products_are_near_the_model(
    deep: tuple[Artifact, DistilBert], table: pa.Table, eight_bit: bytes
):
    artifact, model = deep
    ids, mask = padded(artifact.tokenizer.encode(table), np.arange(60), pad_id=artifact.tokenizer.pad_id)
    found = softmax(open_session(eight_bit).run(None, {"ids": ids, "mask": mask})[0])
    expected = softmax(torch_logits(model, ids, mask))
    assert 1e-6 < np.abs(found - expected).max() < 0.1
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95


def test_an_eight_bit_score_does_not_depend_on_the_rows_beside_it(
    deep: tuple[Artifact, DistilBert], table: pa.Table, eight_bit: bytes
):
    artifact, _ = deep
    block = artifact.tokenizer.encode(table)
    backend = OnnxBackend("onnx-int8", eight_bit, pad_id=artifact.tokenizer.pad_id)
    alone = [backend.logits(artifact.tokenizer.encode(table.slice(row, 1))) for row in range(60)]
    np.testing.assert_allclose(backend.logits(block), np.concatenate(alone), atol=1e-4)


def test_the_eight_bit_file_holds_weights_of_one_byte(eight_bit: bytes):
    tensors = {tensor.name: tensor for tensor in onnx.load_from_string(eight_bit).graph.initializer}
    kinds = [tensor.data_type for tensor in tensors.values()]
    # Six products a block, less query, key and value of the first, looked up, and of the last, in float.
    assert kinds.count(onnx.TensorProto.INT8) == 3 * 6 - 3 - 3


def test_the_file_is_a_valid_model_that_says_what_it_is(artifact: Artifact):
    content = model_bytes(artifact.architecture, weights_of(artifact), metadata={"classes": "normal\ndos"})
    model: Any = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    assert model.producer_name == "wirebert"
    assert {entry.key: entry.value for entry in model.metadata_props} == {"classes": "normal\ndos"}
    assert [output.name for output in model.graph.output] == ["logits"]
