"""mismatch.runtime.graph_file: ONNX files that point elsewhere are refused before onnxruntime opens them; those of bundles pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mismatch
from mismatch.errors import CheckpointError
from mismatch.files import sha256_file
from mismatch.runtime.graph_file import check_self_contained

FIXTURE = Path(__file__).parent / "fixtures" / "bundles" / "format-1"


def pointing(location: str, *, says_external: bool = True) -> TensorProto:
    """A weight that lies in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    if says_external:
        tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph_of(tensor: TensorProto, place: str) -> onnx.ModelProto:
    """A model with the weight among its initializers, in a constant, or in a branch."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    if place == "initializer":
        return helper.make_model(helper.make_graph([add], "g", inputs, outputs, [tensor]))
    if place == "constant":
        return helper.make_model(helper.make_graph([constant, add], "g", inputs, outputs))
    if place == "function":
        function = helper.make_function("d", "F", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 20)])
        node = helper.make_node("F", ["x"], ["y"], domain="d")
        return helper.make_model(helper.make_graph([node], "g", inputs, outputs), functions=[function])
    branch = helper.make_graph([constant, helper.make_node("Identity", ["w"], ["z"])], "b", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])])
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True), "c"))
    choice = helper.make_node("If", ["c"], ["w2"], then_branch=branch, else_branch=branch)
    return helper.make_model(helper.make_graph([condition, choice, helper.make_node("Add", ["x", "w2"], ["y"])], "g", inputs, outputs))


@pytest.mark.parametrize("place", ["initializer", "constant", "function", "branch"])
@pytest.mark.parametrize("location", ["/etc/passwd", "../../etc/passwd", "weights.bin"])
def test_a_weight_that_lies_elsewhere_is_refused_wherever_it_stands(tmp_path: Path, place: str, location: str) -> None:
    path = tmp_path / "image_encoder.onnx"
    path.write_bytes(graph_of(pointing(location), place).SerializeToString())
    with pytest.raises(CheckpointError, match=r"image_encoder\.onnx says that its weights lie in another file"):
        check_self_contained(path)


def test_a_weight_that_names_a_file_without_saying_so_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(graph_of(pointing("w", says_external=False), "initializer").SerializeToString())
    with pytest.raises(CheckpointError, match="in another file"):
        check_self_contained(tmp_path / "g.onnx")


def test_a_bundle_with_such_a_graph_and_a_true_hash_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(FIXTURE, folder)
    (tmp_path / "secret").write_bytes(bytes(16))
    model = onnx.load(folder / "head.onnx")
    weight = model.graph.initializer[0]
    weight.CopyFrom(pointing("../secret"))
    (folder / "head.onnx").write_bytes(model.SerializeToString())
    manifest: Any = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["head.onnx"] = sha256_file(folder / "head.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"head\.onnx says that its weights lie in another file"):
        mismatch.load(folder)


def test_graphs_of_bundles_pass(tiny_bundles: dict[str, Path]) -> None:
    for folder in (FIXTURE, *tiny_bundles.values()):
        for path in folder.glob("*.onnx"):
            check_self_contained(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is no graph", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f", (FIXTURE / "head.onnx").read_bytes()[:-300], b"\x3b"]
)
def test_what_is_no_onnx_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "head.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"head\.onnx can't be read as ONNX"):
        check_self_contained(tmp_path / "head.onnx")


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    def wrapped(field: int, inner: bytes) -> bytes:
        length, size = len(inner), b""
        while True:
            size += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
            length >>= 7
            if not length:
                return bytes([field << 3 | 2]) + size + inner

    content = b""
    for _ in range(2000):
        content = wrapped(1, wrapped(5, wrapped(6, content)))
    (tmp_path / "head.onnx").write_bytes(wrapped(7, content))
    with pytest.raises(CheckpointError, match="too deep"):
        check_self_contained(tmp_path / "head.onnx")


def test_no_damage_brings_anything_but_one_line(tmp_path: Path) -> None:
    """A thousand times one byte of a real graph is changed."""
    rng, whole = np.random.default_rng(0), bytearray((FIXTURE / "image_encoder.onnx").read_bytes())
    refused = 0
    for _ in range(1000):
        place, before = int(rng.integers(0, len(whole))), whole[:]
        whole[place] = int(rng.integers(0, 256))
        (tmp_path / "g.onnx").write_bytes(whole)
        try:
            check_self_contained(tmp_path / "g.onnx")
        except CheckpointError as error:
            refused += "\n" not in str(error)
        whole = before
    assert refused > 50
