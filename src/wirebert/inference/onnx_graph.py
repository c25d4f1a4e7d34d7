"""A DistilBERT classifier as an ONNX graph, written operation by operation for short rows on a processor.

Dynamic in flows and slots; inputs `ids` and `mask` (int32, flows x slots), output `logits`. It computes the
same as `wirebert.model.distilbert`, with constants folded in advance:

- Without positions a token's normalised embedding depends on its id alone, and so do its query, key and
  value in the first block: they are looked up, not multiplied (for vocabularies up to `FOLDED_TOKENS`).
- The last block is computed for the `[CLS]` slot only, since nothing reads its other slots. It needs no keys
  and values: for query q, states h and attention a, q . (K h) = (K^T q) . h, and sum(a V h) = V sum(a h).

With `ranges`, matrix products are 8-bit, but for these few of the last block: weights with a scale per output
column, activations with one scale per tensor, fixed in advance from the `ranges` on sample rows. Fixed scales
keep rows independent: with scales from each batch ("dynamic" quantisation), the verdict of a flow would
depend on other flows in the batch.

Source for the scheme: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, section 2.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np

from wirebert.errors import ConfigError
from wirebert.model.config import Architecture
from wirebert.shapes import Float32

FOLDED_TOKENS: Final = 4_096
"""Largest vocabulary whose first query, key and value are stored per token."""

WEIGHT_STEPS: Final = 64
"""Most steps of an 8-bit weight. Processors without 8-bit dot products (AVX2 without VNNI) add two products
in 16 bits, where 2 * 255 * 64 has room, and the sum of 127 steps is cut off without a word."""

_CONTRIB: Final = "com.microsoft"
_OPSET, _IR_VERSION = 17, 8
_NORM_EPS: Final = 1e-12
_PENALTY: Final = 1e9
"""What is taken from the attention scores of padding."""
_LAYER, _EMBEDDINGS = "distilbert.transformer.layer.", "distilbert.embeddings."

Array = Float32[np.ndarray, "..."]


def model_bytes(
    architecture: Architecture,
    weights: Mapping[str, Array],
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The content of the model file: float32, or 8-bit with `ranges`. `weights` have Hugging Face's names.

    Raises:
        ConfigError: the package onnx is not installed.
    """
    graph = _Graph(ranges)
    _write_classifier(graph, architecture, weights)
    return graph.to_bytes(["logits"], architecture.num_classes, metadata or {})


def probe_bytes(architecture: Architecture, weights: Mapping[str, Array]) -> tuple[bytes, tuple[str, ...]]:
    """A float32 model file whose outputs are the extremes of each tensor in `ranges`, and their names."""
    graph = _Graph(None)
    _write_classifier(graph, architecture, weights)
    outputs: list[str] = []
    for place in graph.places:
        outputs += [graph.add("ReduceMin", [place], keepdims=0), graph.add("ReduceMax", [place], keepdims=0)]
    return graph.to_bytes(outputs, None, {}), tuple(graph.place_names)


@final
class _Graph:
    """Nodes and constants, in the order in which they are computed."""

    def __init__(self, ranges: Mapping[str, tuple[float, float]] | None) -> None:
        try:
            import onnx
        except ImportError as error:
            raise ConfigError(
                "writing ONNX files needs the package onnx, which is not installed; "
                "install it with `pip install 'wirebert[train]'`"
            ) from error
        self._onnx: Any = onnx
        self._ranges = ranges
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}
        self.place_names: list[str] = []
        """Names of the inputs of matrix products: 8-bit models need their ranges."""
        self.places: list[str] = []
        """Their tensors."""

    def constant(
        self, value: np.ndarray | list[int] | int | float, dtype: type[np.generic] = np.float32
    ) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.ascontiguousarray(np.asarray(value, dtype))
        return name

    def add(self, kind: str, inputs: Sequence[str], *, domain: str = "", **attributes: object) -> str:
        """Append an operation with one output; returns the name of that output."""
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def operand(self, name: str, tensor: str) -> "_Operand":
        """`tensor` as the input of matrix products, quantised if this graph is 8-bit."""
        self.place_names.append(name)
        self.places.append(tensor)
        if self._ranges is None:
            return _Operand(tensor)
        scale, zero = _steps(*self._ranges[name])
        constants = self.constant(scale), self.constant(zero, np.uint8)
        return _Operand(self.add("QuantizeLinear", [tensor, *constants]), *constants)

    def product(self, operand: "_Operand", weight: Array, bias: Array, *, gelu: bool = False) -> str:
        """`operand @ weight.T + bias`, with weight and bias as PyTorch keeps them; then GELU if requested."""
        matrix = weight.T
        if not operand.scale:
            product = self.add("MatMul", [operand.tensor, self.constant(matrix)])
            if not gelu:
                return self.add("Add", [product, self.constant(bias)])
        else:
            scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / WEIGHT_STEPS
            steps = np.round(matrix / scales)
            inputs = [
                operand.tensor,
                self.constant(steps, np.int8),
                operand.scale,
                self.constant(scales),
                operand.zero,
                "",
            ]
            product = self.add(
                "MatMulIntegerToFloat",
                inputs[:5] if gelu else [*inputs, self.constant(bias)],
                domain=_CONTRIB,
            )
        # Gelu by tanh differs by 0.0005 at most, a small part of the 8-bit step that follows, and is faster.
        kind = "FastGelu" if operand.scale else "BiasGelu"
        return self.add(kind, [product, self.constant(bias)], domain=_CONTRIB) if gelu else product

    def first_slot(self, tensor: str) -> str:
        """The `[CLS]` slot of each row, as a row of one slot."""
        start, stop, axis = (self.constant([at], np.int64) for at in (0, 1, 1))
        return self.add("Slice", [tensor, start, stop, axis])

    def padding_penalty(self, mask: str) -> str:
        """To add to attention scores: 0 at tokens, a large negative number at padding; rows x 1 x slots."""
        mask = self.add("Cast", [mask], to=self._onnx.TensorProto.FLOAT)
        is_padding = self.add("Sub", [mask, self.constant(1)])  # -1 at padding
        penalty = self.add("Mul", [is_padding, self.constant(_PENALTY)])
        return self.add("Unsqueeze", [penalty, self.constant([1], np.int64)])

    def normalized(self, tensor: str, weight: Array, bias: Array) -> str:
        constants = self.constant(weight), self.constant(bias)
        return self.add("LayerNormalization", [tensor, *constants], epsilon=_NORM_EPS)

    def to_bytes(self, outputs: Sequence[str], num_classes: int | None, metadata: Mapping[str, str]) -> bytes:
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        shape = None if num_classes is None else ["flows", num_classes]
        graph = helper.make_graph(
            self._nodes,
            "wirebert",
            [
                helper.make_tensor_value_info(name, kinds.INT32, ["flows", "slots"])
                for name in ("ids", "mask")
            ],
            [helper.make_tensor_value_info(name, kinds.FLOAT, shape) for name in outputs],
            [self._onnx.numpy_helper.from_array(value, name) for name, value in self._constants.items()],
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="wirebert"
        )
        helper.set_model_props(model, dict(metadata))
        return model.SerializeToString()

    def rename_last(self, name: str) -> None:
        """Rename the output of the last operation to `name`."""
        self._nodes[-1].output[0] = name


@final
class _Operand:
    """The input of matrix products: a float tensor, or 8-bit numbers with their scale and zero."""

    def __init__(self, tensor: str, scale: str = "", zero: str = "") -> None:
        self.tensor, self.scale, self.zero = tensor, scale, zero


def _steps(least: float, greatest: float) -> tuple[float, int]:
    """Scale and zero of 256 even steps from `least` to `greatest`, such that 0.0 is one of them.

    >>> _steps(-1.0, 1.55)
    (0.01, 100)
    """
    least, greatest = min(least, 0.0), max(greatest, 0.0)
    scale = max(greatest - least, 1e-6) / 255
    return round(scale, 12), round(-least / scale)


def _write_classifier(graph: _Graph, architecture: Architecture, weights: Mapping[str, Array]) -> None:
    hidden = _write_embeddings(graph, weights)
    for index in range(architecture.num_layers):
        hidden = _write_block(graph, architecture, weights, index, hidden)
    flow = graph.add("Squeeze", [hidden, graph.constant([1], np.int64)])
    for part in ("pre_classifier", "classifier"):
        matrix, bias = weights[f"{part}.weight"], weights[f"{part}.bias"]
        flow = graph.add("Gemm", [flow, graph.constant(matrix), graph.constant(bias)], transB=1)
        if part == "pre_classifier":
            flow = graph.add("Relu", [flow])
    graph.rename_last("logits")


def _write_embeddings(graph: _Graph, weights: Mapping[str, Array]) -> str:
    words = weights[_EMBEDDINGS + "word_embeddings.weight"]
    positions = weights[_EMBEDDINGS + "position_embeddings.weight"]
    norm = weights[_EMBEDDINGS + "LayerNorm.weight"], weights[_EMBEDDINGS + "LayerNorm.bias"]
    if not positions.any():
        return graph.add("Gather", [graph.constant(_normalized(words, *norm)), "ids"])
    num_slots = graph.add(
        "Slice", [graph.add("Shape", ["ids"]), *(graph.constant([at], np.int64) for at in (1, 2))]
    )
    zero = graph.constant([0], np.int64)
    positioned = graph.add("Slice", [graph.constant(positions), zero, num_slots, zero])
    hidden = graph.add("Add", [graph.add("Gather", [graph.constant(words), "ids"]), positioned])
    return graph.normalized(hidden, *norm)


def _write_block(
    graph: _Graph, architecture: Architecture, weights: Mapping[str, Array], index: int, hidden: str
) -> str:
    def of(name: str) -> tuple[Array, Array]:
        return weights[f"{_LAYER}{index}.{name}.weight"], weights[f"{_LAYER}{index}.{name}.bias"]

    asking = hidden
    if index == architecture.num_layers - 1:
        asking = graph.first_slot(hidden)
        context = _attention_of_first_slot(graph, architecture, weights, asking, hidden)
    else:
        projections = (
            _looked_up(graph, weights)
            if index == 0 and _is_folded(weights)
            else _projected(graph, weights, index, hidden)
        )
        context = graph.add(
            "MultiHeadAttention",
            [*projections, "", "mask"],
            domain=_CONTRIB,
            num_heads=architecture.num_heads,
        )
    attended = graph.product(graph.operand(f"{index}.context", context), *of("attention.out_lin"))
    attended = graph.normalized(graph.add("Add", [attended, asking]), *of("sa_layer_norm"))
    inner = graph.product(graph.operand(f"{index}.attended", attended), *of("ffn.lin1"), gelu=True)
    inner = graph.product(graph.operand(f"{index}.inner", inner), *of("ffn.lin2"))
    return graph.normalized(graph.add("Add", [inner, attended]), *of("output_layer_norm"))


def _projected(graph: _Graph, weights: Mapping[str, Array], index: int, hidden: str) -> list[str]:
    """Query, key and value of a block."""
    operand = graph.operand(f"{index}.hidden", hidden)
    name = f"{_LAYER}{index}.attention."
    return [
        graph.product(operand, weights[f"{name}{letter}_lin.weight"], weights[f"{name}{letter}_lin.bias"])
        for letter in "qkv"
    ]


def _attention_of_first_slot(
    graph: _Graph, architecture: Architecture, weights: Mapping[str, Array], asking: str, hidden: str
) -> str:
    """What the first slots (`asking`) attend to in the last block, from the states of all slots.

    Shapes: R rows, S slots, H heads of width D, E = H D. The bias of the keys adds the same to all scores of
    a row, so softmax ignores it; attention adds up to 1, so the bias of the values is added at the end.
    """
    num_heads, width = architecture.num_heads, architecture.dim // architecture.num_heads
    name = f"{_LAYER}{architecture.num_layers - 1}.attention."
    matrix = {letter: weights[f"{name}{letter}_lin.weight"] for letter in "qkv"}  # E x E, output first
    bias = {letter: weights[f"{name}{letter}_lin.bias"] for letter in "qv"}
    by_head = {letter: matrix[letter].reshape(num_heads, width, -1) for letter in "kv"}  # H x D x E

    def by(kind: str, tensor: str, weight: Array) -> str:
        return graph.add(kind, [tensor, graph.constant(weight)])

    def with_heads_swapped(tensor: str) -> str:
        return graph.add("Transpose", [tensor], perm=[1, 0, 2])

    query = by("Add", by("MatMul", asking, matrix["q"].T), bias["q"])
    query_RHD = graph.add("Reshape", [query, graph.constant([-1, num_heads, width], np.int64)])
    asked_HRE = by("MatMul", with_heads_swapped(query_RHD), by_head["k"] * width**-0.5)
    scores_RHS = graph.add("FusedMatMul", [with_heads_swapped(asked_HRE), hidden], domain=_CONTRIB, transB=1)
    scores_RHS = graph.add("Add", [scores_RHS, graph.padding_penalty("mask")])
    attention_RHS = graph.add("Softmax", [scores_RHS], axis=-1)
    mean_HRE = with_heads_swapped(graph.add("MatMul", [attention_RHS, hidden]))
    values_RHD = with_heads_swapped(by("MatMul", mean_HRE, by_head["v"].transpose(0, 2, 1)))
    joined = graph.add("Reshape", [values_RHD, graph.constant([-1, 1, architecture.dim], np.int64)])
    return by("Add", joined, bias["v"])


def _is_folded(weights: Mapping[str, Array]) -> bool:
    num_tokens = len(weights[_EMBEDDINGS + "word_embeddings.weight"])
    return num_tokens <= FOLDED_TOKENS and not weights[_EMBEDDINGS + "position_embeddings.weight"].any()


def _looked_up(graph: _Graph, weights: Mapping[str, Array]) -> list[str]:
    """Query, key and value of the first block, by token."""
    norm = weights[_EMBEDDINGS + "LayerNorm.weight"], weights[_EMBEDDINGS + "LayerNorm.bias"]
    states = _normalized(weights[_EMBEDDINGS + "word_embeddings.weight"], *norm)
    projections: list[str] = []
    for letter in "qkv":
        name = f"{_LAYER}0.attention.{letter}_lin."
        table = states @ weights[name + "weight"].T + weights[name + "bias"]
        projections.append(graph.add("Gather", [graph.constant(table), "ids"]))
    return projections


def _normalized(states: Array, weight: Array, bias: Array) -> Array:
    centered = states.astype(np.float64) - states.mean(axis=1, keepdims=True, dtype=np.float64)
    deviation = np.sqrt((centered**2).mean(axis=1, keepdims=True) + _NORM_EPS)
    return (centered / deviation * weight + bias).astype(np.float32)
