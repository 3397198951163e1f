"""mismatch.export.fusion: attentions become one operator each, with torch's results; what
onnxruntime can't do stays as torch writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from mismatch.backbones.registry import load_backbone
from mismatch.export.graphs import write_graph, write_image_encoder, write_text_encoder
from mismatch.runtime.onnx_graph import Graph

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(
    ("reference", "layers"), [("hf-clip:tiny", (4, 2)), ("openclip:tiny", (4, 2))]
)
def test_every_attention_of_both_families_is_one_operator(
    reference: str, layers: tuple[int, int], tmp_path: Path
) -> None:
    backbone = load_backbone(reference)
    write_image_encoder(backbone, tmp_path / "image.onnx")
    write_text_encoder(backbone, tmp_path / "text.onnx")
    image, text = operators(tmp_path / "image.onnx"), operators(tmp_path / "text.onnx")
    assert (image["MultiHeadAttention"], text["MultiHeadAttention"]) == layers
    for path in (tmp_path / "image.onnx", tmp_path / "text.onnx"):
        graph = onnx.load(path).graph
        # no weights that nothing reads
        assert {entry.name for entry in graph.initializer} <= {
            name for node in graph.node for name in node.input
        }
    for found in (image, text):
        assert not {"Softmax", "IsNaN", "Where", "Split", "Identity"} & set(found)
        assert found["Transpose"] <= 1  # of the patches
        assert found["Reshape"] <= 2
    assert image["QuickGelu"] + image["Gelu"] == layers[0]


class Attending(nn.Module):
    """nn.MultiheadAttention with a mask that hides later tokens, as open_clip's text
    tower has it.
    """

    def __init__(
        self,
        *,
        batch_first: bool = True,
        mask: bool = True,
        needs_weights: bool = False,
        value_width: int = 32,
    ) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=batch_first, vdim=value_width)
        for bias in (self.attention.in_proj_bias, self.attention.out_proj.bias):
            nn.init.normal_(bias)  # torch begins with 0, which would hide what is done to them
        self.needs_weights, self.value_width = needs_weights, value_width
        self.register_buffer("hidden", torch.full((8, 8), float("-inf")).triu(1) if mask else None)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.attention(
            rows,
            rows,
            rows[..., : self.value_width],
            need_weights=self.needs_weights,
            attn_mask=self.hidden,
        )[0]
        return found


class Scoring(nn.Module):
    """Plain attention of heads, whatever `options` say."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, rows: Tensor) -> Tensor:
        heads = rows.unflatten(2, (4, 8)).transpose(1, 2)
        values = heads[..., :6] if self.options.get("narrow") else heads
        options = {name: value for name, value in self.options.items() if name != "narrow"}
        return (
            F.scaled_dot_product_attention(heads, heads, values, **options)
            .transpose(1, 2)
            .flatten(2)
        )


def masked(**options: object) -> Callable[[], nn.Module]:
    return lambda: Scoring(attn_mask=torch.ones(8, 8, dtype=torch.bool).tril(), **options)


@pytest.mark.parametrize(
    ("build", "fused"),
    [
        (Attending, 1),
        (lambda: Attending(mask=False), 1),
        (lambda: Attending(batch_first=False), 1),
        (lambda: Attending(needs_weights=True), 0),
        (lambda: Attending(value_width=16), 1),
        (Scoring, 1),
        (masked(), 1),
        (masked(scale=0.5), 1),
        (lambda: Scoring(is_causal=True), 1),
        (lambda: Scoring(narrow=True), 0),
    ],
)
def test_an_attention_gives_what_torch_gives(
    build: Callable[[], nn.Module], fused: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module, rows = build().eval(), torch.randn(3, 8, 32)
    batch = 0 if getattr(getattr(module, "attention", None), "batch_first", True) else 1
    write_graph(
        module,
        {"rows": rows if batch == 0 else rows.transpose(0, 1)},
        {"rows": {batch: Dim("batch")}},
        ("out",),
        tmp_path / "x.onnx",
    )
    given = torch.randn(5, 8, 32) if batch == 0 else torch.randn(8, 5, 32)
    with torch.no_grad():
        expected = module(given).numpy()
    np.testing.assert_allclose(Graph(tmp_path / "x.onnx")(rows=given.numpy()), expected, atol=2e-6)
    assert operators(tmp_path / "x.onnx")["MultiHeadAttention"] == fused


def test_torch_is_as_it_was(tmp_path: Path) -> None:
    before = nn.MultiheadAttention.forward
    write_graph(
        Attending(),
        {"rows": torch.randn(2, 8, 32)},
        {"rows": {0: Dim("batch")}},
        ("out",),
        tmp_path / "x.onnx",
    )
    assert nn.MultiheadAttention.forward is before


def test_weights_are_cut_at_export(tmp_path: Path) -> None:
    write_graph(
        Attending(),
        {"rows": torch.randn(2, 8, 32)},
        {"rows": {0: Dim("batch")}},
        ("out",),
        tmp_path / "x.onnx",
    )
    # the biases of keys and values are folded away
    assert operators(tmp_path / "x.onnx") == {"MatMul": 4, "Add": 2, "MultiHeadAttention": 1}
