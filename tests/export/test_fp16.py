"""mismatch.export.fp16: half the bytes, nearly the same results, sums in fp32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from mismatch.backbones.registry import load_backbone
from mismatch.export.fp16 import to_half
from mismatch.export.graphs import write_graph, write_image_encoder, write_text_encoder
from mismatch.runtime.onnx_graph import Graph

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("reference", ["hf-clip:tiny", "openclip:tiny"])
def test_towers_agree_with_fp32(reference: str, tmp_path: Path) -> None:
    backbone = load_backbone(reference)
    write_image_encoder(backbone, tmp_path / "image.onnx")
    write_text_encoder(backbone, tmp_path / "text.onnx")
    random = np.random.default_rng(0)
    ids = random.integers(1, 500, (3, 8))
    for tower, feeds in (
        ("image", {"pixel_values": random.standard_normal((3, 3, 64, 64), np.float32)}),
        ("text", {"input_ids": ids, "attention_mask": np.ones_like(ids)}),
    ):
        half = tmp_path / f"{tower}.fp16.onnx"
        assert to_half(tmp_path / f"{tower}.onnx", half) > 20
        assert half.stat().st_size < 0.6 * (tmp_path / f"{tower}.onnx").stat().st_size
        full, small = (Graph(path)(**feeds) for path in (tmp_path / f"{tower}.onnx", half))
        assert small.dtype == np.float32
        assert 0 < np.abs(full - small).max() < 0.01 * np.abs(full).max()
        assert not [
            entry.name
            for entry in onnx.load(half).graph.initializer
            if entry.data_type == onnx.TensorProto.FLOAT and entry.dims
        ]


class Spread(nn.Module):
    """Sums of squares that no fp16 holds."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.pow(2).mean(1, keepdim=True).sqrt()


def test_what_adds_up_stays_in_fp32(tmp_path: Path) -> None:
    rows = torch.full((2, 64), 1000.0)
    write_graph(
        Spread(), {"rows": rows}, {"rows": {0: Dim("batch")}}, ("out",), tmp_path / "x.onnx"
    )
    to_half(tmp_path / "x.onnx", tmp_path / "y.onnx")
    np.testing.assert_allclose(Graph(tmp_path / "y.onnx")(rows=rows.numpy()), 1000, rtol=1e-3)
