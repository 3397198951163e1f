"""Bundles as somebody with bad intent would write them: true hashes over wrong graphs, manifests
and tokenizers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mismatch.io.atomic import sealed
from tests.support.paths import BUNDLE

__all__ = [
    "CONTEXT",
    "IMAGE",
    "SIZE",
    "TEXT",
    "constant",
    "copied",
    "endless",
    "model",
    "with_file",
    "with_manifest",
]


SIZE, CONTEXT, IMAGE, TEXT = 8, 8, 8, 6  # of that bundle: pixels, tokens, widths of its embeddings
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def copied(target: Path) -> Path:
    """A whole bundle to be spoilt."""
    return Path(shutil.copytree(BUNDLE, target))


def with_file(folder: Path, name: str, content: bytes) -> Path:
    """Replace a file, with a manifest that vouches for it."""
    (folder / name).write_bytes(content)
    return with_manifest(
        folder, lambda data: data["files"].update({name: hashlib.sha256(content).hexdigest()})
    )


def with_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the manifest, with a checksum that vouches for it."""
    path = folder / "manifest.json"
    data: dict[str, Any] = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(sealed(data)))
    return folder


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    output: str,
    width: Any,
    weights: dict[str, Any] | None = None,
) -> bytes:
    """A graph of one output; `inputs` and `width` are shapes, those of ids being int64."""
    given = [
        helper.make_tensor_value_info(
            name, INT64 if name in ("input_ids", "attention_mask") else FLOAT, shape
        )
        for name, shape in inputs.items()
    ]
    made = [helper.make_tensor_value_info(output, FLOAT, width)]
    tensors = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()
    ]
    graph = helper.make_graph(nodes, "g", given, made, tensors)
    return bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
        ).SerializeToString()
    )


def constant(value: Any, inputs: dict[str, Any], output: str) -> bytes:
    """A graph that gives the same, whatever it is given."""
    return model(
        [helper.make_node("Identity", ["c"], [output])], inputs, output, None, {"c": value}
    )


def endless(output: str, inputs: dict[str, Any], *, body: bool = True) -> bytes:
    """A graph with a loop that goes on for centuries; without a body onnxruntime never looks
    whether it should stop.
    """
    [name, *_] = inputs
    steps = (
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Mul", ["state", "state"], ["next"]),
        ]
        if body
        else []
    )
    ends = ("on", "next") if body else ("go", "state")
    taken: list[tuple[str, int, list[int] | None]] = [
        ("i", INT64, []),
        ("go", TensorProto.BOOL, []),
        ("state", FLOAT, None),
    ]
    given = [helper.make_tensor_value_info(label, kind, shape) for label, kind, shape in taken]
    made = [
        helper.make_tensor_value_info(ends[0], TensorProto.BOOL, []),
        helper.make_tensor_value_info(ends[1], FLOAT, None),
    ]
    loop = helper.make_node(
        "Loop", ["count", "start", name], [output], body=helper.make_graph(steps, "b", given, made)
    )
    return model([loop], inputs, output, None, {"count": np.array(2**62), "start": np.array(True)})
