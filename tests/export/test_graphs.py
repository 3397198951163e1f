"""mismatch.export.graphs: towers become single files with dynamic axes, quietly."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from mismatch.backbones.base import Backbone
from mismatch.backbones.registry import load_backbone
from mismatch.errors import CheckpointError
from mismatch.export import graphs
from mismatch.export.graphs import write_graph, write_image_encoder, write_text_encoder


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("openclip:tiny")


@pytest.fixture(scope="module")
def folder(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with image.onnx and text.onnx."""
    folder = tmp_path_factory.mktemp("graphs")
    write_image_encoder(backbone, folder / "image.onnx")
    write_text_encoder(backbone, folder / "text.onnx")
    return folder


def shapes(path: Path) -> dict[str, list[str | int]]:
    graph = onnx.load(path).graph
    return {
        entry.name: [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        for entry in (*graph.input, *graph.output)
    }


def test_names_and_axes(folder: Path) -> None:
    image, text = shapes(folder / "image.onnx"), shapes(folder / "text.onnx")
    assert image == {"pixel_values": ["batch", 3, 64, 64], "image_embedding": ["batch", 128]}
    assert text["input_ids"] == ["batch", "length"]
    assert text["text_embedding"] == ["batch", 128]
    # no external data
    assert sorted(path.name for path in folder.iterdir()) == ["image.onnx", "text.onnx"]


def test_a_graph_too_large_for_one_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MAX_GRAPH_BYTES", 100)
    with pytest.raises(CheckpointError, match=r"x\.onnx would be .* one ONNX file holds 2 at most"):
        write_graph(
            nn.Linear(8, 8),
            {"input": torch.rand(2, 8)},
            {"input": {0: Dim("batch")}},
            ("output",),
            tmp_path / "x.onnx",
        )
    assert list(tmp_path.iterdir()) == []


def test_loggers_and_the_fast_path_are_as_before(tmp_path: Path) -> None:
    logger, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    enabled = torch.backends.mha.get_fastpath_enabled()
    write_graph(
        nn.Linear(8, 8),
        {"input": torch.rand(2, 8)},
        {"input": {0: Dim("batch")}},
        ("output",),
        tmp_path / "x.onnx",
    )
    assert (logger.level, torch.backends.mha.get_fastpath_enabled()) == (level, enabled)
