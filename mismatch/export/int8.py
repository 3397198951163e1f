"""Dynamic int8 for CPUs: linear layers with signed weights, one scale a column, and activations
with one scale a token.

onnxruntime's own dynamic quantisation has one scale for a whole batch, so that a row's score
depends on its neighbours. Here each token has its own, which makes a score a function of its row
alone. That is more accurate too, as one outlier spoils one token and not a batch. Products of
integers are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mismatch.errors import InputError
from mismatch.export.fusion import DOMAIN, add_initializer, constant, replace_node

__all__ = ["Keep", "quantize"]

# which linear layers stay in fp32: none, or a block's worth at either end
Keep = Literal["none", "ends"]
BLOCKS = 12  # whose first and last are the ends, where a graph has no attentions to count
LEAST = 64  # width, in and out, from which a layer is worth it
TOP = 127  # largest quantised value, of weights and activations
ZERO = 128  # what stands for 0 in activations, which are unsigned for the CPU's sake
# operators whose outputs are never below minus this: their largest value tells their size
FLOORS = {"Gelu": 0.17, "BiasGelu": 0.17, "QuickGelu": 0.17}


def quantize(source: Path, target: Path, *, keep: Keep = "none") -> int:
    """Write `source`'s graph with its linear layers in int8 to `target`; return how many there are.

    A layer is a MatMul or Gemm of every token with constant weights; the one that projects the
    pooled token is not worth it. A convolution that cuts an image into patches is one too, others
    stay in fp32.
    """
    if keep not in get_args(Keep):
        raise InputError(f"keep is {keep!r}; one of {', '.join(get_args(Keep))} is needed")
    model = ir.load(source)
    layers = list(_layers(model.graph))
    if keep == "ends":
        block = round(
            len(layers)
            / (sum(node.op_type == "MultiHeadAttention" for node in model.graph) or BLOCKS)
        )
        layers = layers[block : len(layers) - block]
    activations: dict[Any, tuple[Any, Any]] = {}
    for node in layers:
        _quantize(model.graph, _as_matmul(model.graph, node), activations)
    RemoveUnusedNodesPass()(model)
    model.opset_imports[DOMAIN] = 1
    ir.save(model, target)
    return len(layers)


def _layers(graph: ir.Graph) -> Iterator[ir.Node]:
    batch = next((value.shape[0] for value in graph.inputs if value.shape), None)
    for node in graph:
        weights = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if weights is None:
            continue
        if node.op_type == "Conv":
            if _cuts_patches(node, weights):
                yield node
            continue
        shape = [] if node.inputs[0].shape is None else list(node.inputs[0].shape)
        tokens = len(shape) > 2 or (len(shape) == 2 and shape[0] != batch)
        plain = node.op_type == "MatMul" or (node.op_type == "Gemm" and _is_linear(node))
        if plain and tokens and weights.ndim == 2 and min(weights.shape) >= LEAST:
            yield node


def _is_linear(node: ir.Node) -> bool:
    values = {name: attribute.value for name, attribute in node.attributes.items()}
    return (
        values.get("alpha", 1.0) == 1.0
        and values.get("beta", 1.0) == 1.0
        and not values.get("transA", 0)
    )


def _cuts_patches(node: ir.Node, weights: NDArray[Any]) -> bool:
    """Return whether a convolution's windows stand side by side."""
    values = {name: attribute.value for name, attribute in node.attributes.items()}
    size = list(weights.shape[2:])
    whole = (
        values.get("group", 1) == 1
        and not any(values.get("pads", [0]))
        and values.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )
    square = (
        len(size) == 2
        and list(values.get("strides", [1, 1])) == size
        and set(values.get("dilations", [1])) == {1}
    )
    image = node.inputs[0].shape
    divisible = (
        image is not None
        and len(image) == 4
        and all(isinstance(image[i], int) and image[i] % size[i - 2] == 0 for i in (2, 3))
    )
    return bool(
        whole and square and divisible and weights[0].size >= LEAST and len(weights) >= LEAST
    )


def _as_matmul(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """Turn a Gemm or a convolution into a MatMul with what it needs around it."""
    if node.op_type == "MatMul":
        return node
    weights = constant(node.inputs[1])
    name = node.outputs[0].name
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if node.op_type == "Conv":
        return _patches_as_matmul(graph, node, weights, bias)
    transposed = node.attributes.get("transB")
    value = add_initializer(
        graph,
        f"{name}_weights",
        weights.T.copy() if transposed is not None and transposed.value else weights,
    )
    product = ir.node("MatMul", [node.inputs[0], value])
    graph.insert_before(node, product)
    replace_node(
        graph,
        node,
        ir.node(
            "Identity" if bias is None else "Add",
            [product.outputs[0], *([] if bias is None else [bias])],
        ),
    )
    return product


def _patches_as_matmul(graph: ir.Graph, node: ir.Node, weights: NDArray[Any], bias: Any) -> ir.Node:
    """Turn a convolution of patches into a MatMul: (B, C, H, W) → (B, N, C · P · Q) → (B, N, D) →
    (B, D, H / P, W / Q).
    """
    name = node.outputs[0].name
    image = node.inputs[0]
    width, channels, p, q = weights.shape
    rows, columns = (image.shape[i] // size for i, size in ((2, p), (3, q)))

    def shape(key: str, *sizes: int) -> ir.Value:
        return add_initializer(graph, f"{name}_{key}", np.array(sizes, np.int64))

    split = ir.node("Reshape", [image, shape("split", -1, channels, rows, p, columns, q)])
    turned = ir.node("Transpose", [split.outputs[0]], {"perm": [0, 2, 4, 1, 3, 5]})
    flat = ir.node(
        "Reshape", [turned.outputs[0], shape("flat", -1, rows * columns, channels * p * q)]
    )
    value = add_initializer(graph, f"{name}_weights", weights.reshape(width, -1).T.copy())
    product = ir.node("MatMul", [flat.outputs[0], value])
    nodes = [split, turned, flat, product]
    last = product.outputs[0]
    if bias is not None:
        nodes.append(ir.node("Add", [last, bias]))
        last = nodes[-1].outputs[0]
    back = ir.node("Transpose", [last], {"perm": [0, 2, 1]})
    nodes.append(back)
    for made in nodes:
        graph.insert_before(node, made)
    replace_node(
        graph, node, ir.node("Reshape", [back.outputs[0], shape("grid", -1, width, rows, columns)])
    )
    return product


def _quantize(graph: ir.Graph, node: ir.Node, activations: dict[Any, tuple[Any, Any]]) -> None:
    """Multiply x (…, K) by W (K, N): both in int8, the product in fp32 again."""
    x = node.inputs[0]
    name = node.outputs[0].name
    weights = constant(node.inputs[1])
    scales = np.maximum(np.abs(weights).max(0), 1e-12).astype(np.float32) / TOP  # (N,)
    integers = np.clip(np.rint(weights / scales), -TOP, TOP).astype(np.int8)
    if x not in activations:
        activations[x] = _quantize_activation(graph, node, x)
    quantized, scale = activations[x]
    inputs = [
        quantized,
        add_initializer(graph, f"{name}_int8", integers),
        _shared(graph, "int8_one", np.float32(1)),
        add_initializer(graph, f"{name}_scales", scales),
    ]
    product = ir.node(
        "MatMulIntegerToFloat",
        [*inputs, _shared(graph, "int8_zero", np.uint8(ZERO))],
        domain=DOMAIN,
    )
    graph.insert_before(node, product)
    replace_node(graph, node, ir.node("Mul", [product.outputs[0], scale]))


def _quantize_activation(graph: ir.Graph, before: ir.Node, x: Any) -> tuple[Any, Any]:
    """Map x (…, K) → what stands for it, u8 (…, K), and its scale, (…, 1)."""
    last = _shared(graph, "int8_last", np.array([-1], np.int64))
    nodes = [ir.node("ReduceMax", [x, last], {"keepdims": 1})]
    maker = x.producer()
    if maker is not None and maker.op_type in FLOORS:
        nodes.append(
            ir.node(
                "Max",
                [
                    nodes[0].outputs[0],
                    _shared(graph, "int8_floor", np.float32(FLOORS[maker.op_type])),
                ],
            )
        )
    else:
        low = ir.node("ReduceMin", [x, last], {"keepdims": 1})
        up = ir.node("Neg", [low.outputs[0]])
        nodes += [
            low,
            up,
            ir.node(
                "Max",
                [
                    nodes[0].outputs[0],
                    up.outputs[0],
                    _shared(graph, "int8_least", np.float32(1e-9)),
                ],
            ),
        ]
    largest = nodes[-1].outputs[0]
    scale = ir.node("Mul", [largest, _shared(graph, "int8_step", np.float32(1 / TOP))])
    # one division a token, so that each value costs a product only
    steps = ir.node("Div", [_shared(graph, "int8_top", np.float32(TOP)), largest])
    share = ir.node("Mul", [x, steps.outputs[0]])
    integers = ir.node(
        "QuantizeLinear",
        [
            share.outputs[0],
            _shared(graph, "int8_one", np.float32(1)),
            _shared(graph, "int8_zero", np.uint8(ZERO)),
        ],
    )
    for made in (*nodes, scale, steps, share, integers):
        graph.insert_before(before, made)
    return integers.outputs[0], scale.outputs[0]


def _shared(graph: ir.Graph, name: str, value: Any) -> ir.Value:
    """Return a constant that all layers use."""
    existing: ir.Value | None = graph.initializers.get(name)
    return add_initializer(graph, name, np.asarray(value)) if existing is None else existing
