"""mismatch.export.int8: linear layers in int8, one scale a token, so that a row's result never
depends on its batch.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from mismatch.backbones.registry import load_backbone
from mismatch.errors import InputError
from mismatch.export.graphs import write_graph, write_image_encoder, write_text_encoder
from mismatch.export.int8 import quantize
from mismatch.runtime.onnx_graph import Graph

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["hf-clip:tiny", "openclip:tiny"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both towers in fp32 and in int8."""
    folder, backbone = tmp_path_factory.mktemp("int8"), load_backbone(request.param)
    write_image_encoder(backbone, folder / "image.onnx")
    write_text_encoder(backbone, folder / "text.onnx")
    for tower in ("image", "text"):
        quantize(folder / f"{tower}.onnx", folder / f"{tower}.int8.onnx")
    return folder


def feeds(tower: str, count: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    if tower == "image":
        return {"pixel_values": random.standard_normal((count, 3, 64, 64)).astype(np.float32)}
    ids = random.integers(1, 400, (count, 9))
    ids[:, -1] = 49407
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_rows_embedding_is_the_same_in_every_batch(folder: Path, tower: str) -> None:
    graph, inputs = Graph(folder / f"{tower}.int8.onnx"), feeds(tower, 7)
    together = graph(**inputs)
    if tower == "image":
        inputs = inputs | {"pixel_values": inputs["pixel_values"].copy()}
        # an outlier that would take the scale of a whole batch for itself
        inputs["pixel_values"][3] *= 50
    else:
        inputs = {name: value.copy() for name, value in inputs.items()}
        inputs["input_ids"][3] = 49407
    again = graph(**inputs)
    assert np.abs(again[3] - together[3]).max() > 1e-3
    for i in (0, 1, 2, 4, 5, 6):
        alone = graph(**{name: value[i : i + 1] for name, value in inputs.items()})
        assert (again[i] == together[i]).all()
        assert (alone[0] == together[i]).all()


@pytest.mark.parametrize("tower", ["image", "text"])
def test_it_is_nearly_fp32(folder: Path, tower: str) -> None:
    full, small = (
        Graph(folder / name)(**feeds(tower, 16)) for name in (f"{tower}.onnx", f"{tower}.int8.onnx")
    )
    cosine = (
        (full * small).sum(axis=1) / np.linalg.norm(full, axis=1) / np.linalg.norm(small, axis=1)
    )
    assert 0.999 < cosine.min() < 1 - 1e-7


@pytest.mark.parametrize("tower", ["image", "text"])
def test_every_layer_of_every_token_is_in_int8(folder: Path, tower: str) -> None:
    before, after = operators(folder / f"{tower}.onnx"), operators(folder / f"{tower}.int8.onnx")
    blocks = before["MultiHeadAttention"]
    # query, key, value, output, two of the MLP; the patches
    assert after["MatMulIntegerToFloat"] == 6 * blocks + (tower == "image")
    assert after["Conv"] == after["ConvInteger"] == 0
    assert after["MatMul"] + after["Gemm"] == 1  # the projection of the one pooled token
    # query, key and value share theirs
    assert after["QuantizeLinear"] == 4 * blocks + (tower == "image")
    assert (folder / f"{tower}.int8.onnx").stat().st_size < 0.6 * (
        folder / f"{tower}.onnx"
    ).stat().st_size or tower == "text"


def test_the_ends_can_stay_in_fp32(folder: Path, tmp_path: Path) -> None:
    every = quantize(folder / "image.onnx", tmp_path / "all.onnx")
    inner = quantize(folder / "image.onnx", tmp_path / "inner.onnx", keep="ends")
    # of four blocks of six layers, the patches counted in, one at either end
    assert every - inner == 12
    assert operators(tmp_path / "inner.onnx")["Conv"] == 1
    with pytest.raises(InputError, match="keep is 'middle'; one of none, ends is needed"):
        quantize(folder / "image.onnx", tmp_path / "x.onnx", keep="middle")  # type: ignore[arg-type]


class Layers(nn.Module):
    """What is a linear layer, and what is not."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 64, 8, stride=8)
        self.texture = nn.Conv2d(64, 64, 3, padding=1)
        self.flat = nn.Linear(64, 96)
        self.narrow = nn.Linear(96, 8)

    def forward(self, pixel_values: Tensor) -> Tensor:
        rows = self.texture(self.patches(pixel_values)).flatten(2).transpose(1, 2)  # (B, N, 64)
        wide = self.flat(rows.flatten(0, 1)).unflatten(0, (-1, 16))  # a Gemm of all tokens
        narrow: Tensor = self.narrow(wide)
        return narrow.mean(1)


def test_other_convolutions_and_narrow_layers_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, pixels = Layers().eval(), torch.randn(2, 3, 32, 32)
    write_graph(
        module,
        {"pixel_values": pixels},
        {"pixel_values": {0: Dim("batch")}},
        ("out",),
        tmp_path / "x.onnx",
    )
    assert quantize(tmp_path / "x.onnx", tmp_path / "q.onnx") == 2
    after = operators(tmp_path / "q.onnx")
    assert (after["Conv"], after["MatMulIntegerToFloat"]) == (1, 2)
    given = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        expected = module(given).numpy()
    np.testing.assert_allclose(
        Graph(tmp_path / "q.onnx")(pixel_values=given.numpy()), expected, atol=0.02
    )


def test_the_largest_products_are_exact(tmp_path: Path) -> None:
    """Kernels without VNNI add pairs of products in 16 bits, which all these would overflow; then
    slower ones must be taken.
    """
    signs = np.resize([1.0, 1.0, -1.0], 256).astype(np.float32)
    layer = nn.Linear(256, 64, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.tile(signs, (64, 1))))
    write_graph(
        layer,
        {"rows": torch.rand(2, 3, 256)},
        {"rows": {0: Dim("batch")}},
        ("out",),
        tmp_path / "x.onnx",
    )
    assert quantize(tmp_path / "x.onnx", tmp_path / "q.onnx") == 1
    rows = np.stack([signs, -signs, np.ones(256, np.float32)])[None]
    np.testing.assert_allclose(
        Graph(tmp_path / "q.onnx")(rows=rows)[0, :, 0], [256, -256, signs.sum()], rtol=1e-5
    )
