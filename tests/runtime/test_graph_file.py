"""mismatch.runtime.graph_file: ONNX files that point elsewhere are refused before onnxruntime opens
them; those of bundles pass.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mismatch
from mismatch.errors import CheckpointError
from mismatch.io.atomic import sha256_file
from mismatch.runtime.graph_file import check_self_contained, read_graph
from tests.support.paths import BUNDLE


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
        function = helper.make_function(
            "d", "F", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 20)]
        )
        node = helper.make_node("F", ["x"], ["y"], domain="d")
        return helper.make_model(
            helper.make_graph([node], "g", inputs, outputs), functions=[function]
        )
    branch = helper.make_graph(
        [constant, helper.make_node("Identity", ["w"], ["z"])],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])],
    )
    condition = helper.make_node(
        "Constant", [], ["c"], value=numpy_helper.from_array(np.array(True), "c")
    )
    choice = helper.make_node("If", ["c"], ["w2"], then_branch=branch, else_branch=branch)
    return helper.make_model(
        helper.make_graph(
            [condition, choice, helper.make_node("Add", ["x", "w2"], ["y"])], "g", inputs, outputs
        )
    )


@pytest.mark.parametrize("place", ["initializer", "constant", "function", "branch"])
@pytest.mark.parametrize("location", ["/etc/passwd", "../../etc/passwd", "weights.bin"])
def test_a_weight_that_lies_elsewhere_is_refused_wherever_it_stands(
    tmp_path: Path, place: str, location: str
) -> None:
    path = tmp_path / "image_encoder.onnx"
    path.write_bytes(graph_of(pointing(location), place).SerializeToString())
    with pytest.raises(
        CheckpointError, match=r"image_encoder\.onnx says that its weights lie in another file"
    ):
        check_self_contained(path)


def test_a_weight_that_names_a_file_without_saying_so_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(
        graph_of(pointing("w", says_external=False), "initializer").SerializeToString()
    )
    with pytest.raises(CheckpointError, match="in another file"):
        check_self_contained(tmp_path / "g.onnx")


def test_a_bundle_with_such_a_graph_and_a_true_hash_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLE, folder)
    (tmp_path / "secret").write_bytes(bytes(16))
    model = onnx.load(folder / "head.onnx")
    weight = model.graph.initializer[0]
    weight.CopyFrom(pointing("../secret"))
    (folder / "head.onnx").write_bytes(model.SerializeToString())
    manifest: Any = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["head.onnx"] = sha256_file(folder / "head.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        CheckpointError, match=r"head\.onnx says that its weights lie in another file"
    ):
        mismatch.load(folder)


def test_graphs_of_bundles_pass(tiny_bundles: dict[str, Path]) -> None:
    for folder in (BUNDLE, *tiny_bundles.values()):
        for path in folder.glob("*.onnx"):
            check_self_contained(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, this is no graph",
        b"\xff" * 100,
        b"\x3a\xff\xff\xff\xff\x0f",
        (BUNDLE / "head.onnx").read_bytes()[:-300],
        b"\x3b",
    ],
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
    rng, whole = np.random.default_rng(0), bytearray((BUNDLE / "image_encoder.onnx").read_bytes())
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


def varint(value: int, length: int = 1) -> bytes:
    """A number as protobuf writes it, or in more bytes than it needs."""
    parts: list[int] = []
    while value > 0x7F or len(parts) < length - 1:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, content: bytes, *, tag: bytes | None = None, wire: int = 2) -> bytes:
    """A field of bytes, whose tag may be written in other ways."""
    return (varint(number << 3 | wire) if tag is None else tag) + varint(len(content)) + content


HIDDEN = graph_of(pointing("/etc/passwd"), "initializer").graph
ELSEWHERE = HIDDEN.SerializeToString()
PLAIN = onnx.load(BUNDLE / "head.onnx").SerializeToString()
TENSOR = HIDDEN.initializer[0].SerializeToString()
GRAPH_TAG = 7 << 3 | 2
DISGUISES = {
    "a tag with bits beyond 32": field(7, ELSEWHERE, tag=varint(GRAPH_TAG | 1 << 32)),
    "a tag with the highest bit": field(7, ELSEWHERE, tag=varint(GRAPH_TAG | 1 << 34)),
    "a tag in five bytes": field(7, ELSEWHERE, tag=varint(GRAPH_TAG, 5)),
    "a tag in ten bytes": field(7, ELSEWHERE, tag=varint(GRAPH_TAG | 1 << 63)),
    "a tag of the tensor": field(7, field(5, TENSOR, tag=varint(5 << 3 | 2 | 1 << 32))),
    "a tag of the location": field(7, field(5, TENSOR + varint(14 << 3 | 1 << 32) + b"\x01")),
    "a second graph, which protobuf merges": PLAIN + field(7, ELSEWHERE),
    "a graph before the plain one": field(7, ELSEWHERE) + PLAIN,
    "a graph cut in two": field(7, b"") + PLAIN + field(7, field(5, TENSOR)),
    "a length in five bytes": varint(GRAPH_TAG) + varint(len(ELSEWHERE), 5) + ELSEWHERE,
    "a length in ten bytes": varint(GRAPH_TAG) + varint(len(ELSEWHERE) | 1 << 64, 10) + ELSEWHERE,
    "a length beyond 32 bits": varint(GRAPH_TAG) + varint(len(ELSEWHERE) | 1 << 32) + ELSEWHERE,
    "within a group": varint(7 << 3 | 3) + ELSEWHERE + varint(7 << 3 | 4),
    "behind a group": varint(99 << 3 | 3) + varint(99 << 3 | 4) + field(7, ELSEWHERE),
    "behind a field without a number": b"\x00\x00" + field(7, ELSEWHERE),
    "behind wire type 6": b"\x3e" + field(7, ELSEWHERE),
    "behind wire type 7": b"\x3f" + field(7, ELSEWHERE),
    "behind an unknown field": field(536870911, b"x") + field(7, ELSEWHERE),
    "in a sparse tensor": field(7, field(15, field(1, TENSOR))),
    "in training": field(20, field(1, ELSEWHERE)),
    "in a function's attribute": field(25, field(11, field(5, TENSOR))),
    "in one of several tensors": field(7, field(1, field(5, field(10, TENSOR)))),
    "in one of several graphs": field(7, field(1, field(5, field(11, ELSEWHERE)))),
    "a location of many bits": field(7, field(5, varint(14 << 3) + varint(1 << 32, 10))),
    "a location in its second byte": field(7, field(5, varint(14 << 3) + b"\x80\x01")),
    "a location, then none": field(
        7, field(5, varint(14 << 3) + b"\x01" + varint(14 << 3) + b"\x00")
    ),
    "a location of bytes": field(7, field(5, field(14, b"\x01"))),
}


@pytest.mark.parametrize("content", DISGUISES.values(), ids=DISGUISES)
def test_no_way_of_writing_hides_a_weight(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.onnx").write_bytes(content)
    with pytest.raises(
        CheckpointError,
        match=r"g\.onnx (says that its weights lie in another file|can't be read as ONNX)",
    ):
        check_self_contained(tmp_path / "g.onnx")
    with pytest.raises(CheckpointError):
        read_graph(tmp_path / "g.onnx")


def test_a_graph_of_too_many_fields_is_refused(tmp_path: Path) -> None:
    """Two bytes in the file are hundreds in memory."""
    (tmp_path / "g.onnx").write_bytes(field(7, b"\x0a\x00" * 1_100_000))
    with pytest.raises(CheckpointError, match="more than 1,000,000 fields"):
        check_self_contained(tmp_path / "g.onnx")


def test_what_is_read_is_what_was_checked(tmp_path: Path) -> None:
    path = Path(shutil.copy(BUNDLE / "head.onnx", tmp_path))
    assert read_graph(path, sha256_file(path)) == PLAIN_FILE == read_graph(path)
    with pytest.raises(CheckpointError, match=r"head\.onnx differs from the manifest's sha256"):
        read_graph(path, "0" * 64)


PLAIN_FILE = (BUNDLE / "head.onnx").read_bytes()


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", Path("/dev/zero"), tmp_path, tmp_path / "nothing"):
        for act in (read_graph, check_self_contained):
            with pytest.raises(CheckpointError, match="can't be read"):
                act(path)


def test_a_location_that_says_in_this_file_passes(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.data_location = TensorProto.DEFAULT
    (tmp_path / "g.onnx").write_bytes(graph_of(tensor, "initializer").SerializeToString())
    check_self_contained(tmp_path / "g.onnx")
