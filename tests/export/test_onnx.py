"""mismatch.export.onnx: both families become bundles that agree with torch; what fails leaves
nothing behind.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import mismatch
from mismatch.errors import CheckpointError, InputError, ParityError
from mismatch.export import onnx as module
from mismatch.export.graphs import OPSET
from mismatch.export.onnx import Rows, export_bundle
from mismatch.runtime.onnx_engine import open_bundle
from mismatch.runtime.pipeline import Pair
from mismatch.runtime.preprocess import Preprocessor
from mismatch.training.checkpoint import read_meta, write_meta
from mismatch.training.engine import open_backbone, open_checkpoint
from tests.support.profiles import ADOBE

OLDER = json.dumps({"format_version": 1, "image_spec": {}, "text_spec": {}, "files": {}})


def test_the_bundle_agrees_with_torch(tiny_bundles: dict[str, Path], family: str) -> None:
    parity = json.loads((tiny_bundles[family] / "parity.json").read_text())
    assert parity["pairs"] == 56
    assert parity["max_score_difference"] < 1e-5
    assert parity["flipped_decisions"] == 0
    assert parity["score_std"] > 0.01, "parity on a constant proves nothing"
    assert parity["threshold"] == 0.4321
    assert parity["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("graph", ["image_encoder", "text_encoder", "head"])
def test_graphs_are_dynamic_valid_and_say_nothing_of_this_machine(
    tiny_bundles: dict[str, Path], family: str, graph: str
) -> None:
    path = tiny_bundles[family] / f"{graph}.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [OPSET]
    shapes = {
        entry.name: [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        for entry in model.graph.input
    }
    assert all(isinstance(shape[0], str) for shape in shapes.values()), shapes
    if graph == "text_encoder":
        assert all(isinstance(shape[1], str) for shape in shapes.values()), shapes
    for mark in (str(Path(torch.__file__).parent), str(Path(mismatch.__file__).parent), ".py"):
        assert mark.encode() not in path.read_bytes()


def test_both_worlds_predict_the_same(
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    family: str,
    colour_images: Path,
) -> None:
    rows = [
        {"image_path": f"{name}.png", "text": text}
        for name in ("red", "blue")
        for text in ("red shirt", "a", "Größe 42 &amp; mehr 🎉", "long " * 200)
    ]
    worlds = [mismatch.load(folder[family], "cpu") for folder in (tiny_checkpoints, tiny_bundles)]
    torch_scores, onnx_scores = (
        [p.similarity_score for p in world.predict_pairs(rows, image_base_path=colour_images)]
        for world in worlds
    )
    np.testing.assert_allclose(
        np.array(onnx_scores, float), np.array(torch_scores, float), atol=1e-5
    )
    assert np.std(np.array(onnx_scores, float)) > 1e-3
    assert worlds[0].threshold == worlds[1].threshold == 0.4321


@pytest.mark.parametrize(
    ("family", "is_older"),
    [
        ("hf-clip", False),
        ("openclip", False),
        ("openclip", True),
    ],  # older: colours were not converted
    indirect=["family"],
)
def test_both_worlds_see_the_same_colours(
    tiny_checkpoints: dict[str, Path], family: str, tmp_path: Path, is_older: bool
) -> None:
    checkpoint = Path(shutil.copytree(tiny_checkpoints[family], tmp_path / "checkpoint"))
    if is_older:
        write_meta(checkpoint, replace(read_meta(checkpoint), colour_profile="ignore"))
    with_profile, without = tmp_path / "with.png", tmp_path / "without.png"
    picture = Image.new("RGB", (90, 70), (200, 60, 40))
    picture.save(with_profile, icc_profile=ADOBE)
    picture.save(without)
    torch_engine = open_checkpoint(checkpoint)
    export_bundle(torch_engine, tmp_path / "bundle")
    onnx_engine = open_bundle(tmp_path / "bundle", provider="cpu", threads=1)
    assert onnx_engine.image_spec == torch_engine.image_spec
    seen = [
        [Preprocessor(engine.image_spec)(path) for path in (with_profile, without)]
        for engine in (torch_engine, onnx_engine)
    ]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0][0] == seen[0][1]).all() == is_older


def test_rows_of_the_user_leave_a_reference_of_what_they_look_like(
    tiny_checkpoints: dict[str, Path], tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    colours = [Image.new("RGB", (8, 8), (i, 2 * i, 255 - i)) for i in range(10)]
    texts = [f"shirt {'x' * i}" for i in range(25)]
    rows = Rows([Pair(image, text) for image in colours for text in texts], "rows.csv")
    result = export_bundle(
        open_checkpoint(tiny_checkpoints["hf-clip"]), tmp_path / "bundle", rows=rows
    )
    reference = mismatch.load(result.folder).score.reference
    assert reference is not None
    assert reference.rows == 250
    assert sum(reference.logits.shares) == pytest.approx(1.0)
    assert (reference.text_lengths.edges[1], reference.text_lengths.edges[-1]) == (
        8.0,
        30.0,
    ), "characters"
    assert mismatch.load(tiny_bundles["hf-clip"]).score.reference is None, (
        "built-in pairs look like nobody's"
    )


def test_zero_shot_exports_too(tmp_path: Path) -> None:
    engine = open_backbone("hf-clip:tiny", provider="cpu")
    result = export_bundle(engine, tmp_path / "bundle")
    assert result.parity.max_score_difference < 1e-5
    assert mismatch.load(tmp_path / "bundle").score.kind == "cosine"


@pytest.mark.parametrize("older", [False, True])
def test_beyond_the_tolerance_nothing_is_left_behind(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    target = tmp_path / "bundle"
    if older:
        target.mkdir()
        (target / "manifest.json").write_text(OLDER)
    real = module._write_graphs

    def slightly_wrong(detector: Any, folder: Path) -> None:
        with torch.no_grad():
            detector.head.bias += 0.01
        real(detector, folder)
        with torch.no_grad():
            detector.head.bias -= 0.01

    monkeypatch.setattr(module, "_write_graphs", slightly_wrong)
    with pytest.raises(ParityError, match="no bundle was written"):
        export_bundle(open_checkpoint(tiny_checkpoints["openclip"], provider="cpu"), target)
    assert sorted(path.name for path in tmp_path.iterdir()) == (["bundle"] if older else [])
    if older:
        assert (target / "manifest.json").read_text() == OLDER


def test_a_foreign_folder_is_not_overwritten(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    engine = open_checkpoint(tiny_checkpoints["openclip"], provider="cpu")
    with pytest.raises(CheckpointError, match="is not a bundle"):
        export_bundle(engine, tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        export_bundle(engine, tmp_path / "thesis.doc")
    for manifest, words in [
        ('{"name": "a web app"}', "is not a bundle"),
        (OLDER, r"other files in it \(thesis\.doc\)"),
    ]:
        (tmp_path / "manifest.json").write_text(manifest)
        with pytest.raises(CheckpointError, match=words):
            export_bundle(engine, tmp_path)
    assert (tmp_path / "thesis.doc").read_text() == "years of work"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"precision": "fp8"},
            "precision 'fp8' is not available; use auto or fp32 or fp16 or int8",
        ),
        (
            {"precision": "int8"},
            "`precision='int8'` needs `verify_rows`: rows on which its decisions are compared",
        ),
        (
            {
                "precision": "int8",
                "provider": "cuda",
                "rows": Rows([Pair("a.png", "red")], "rows.csv"),
            },
            "`precision='int8'` runs on CPUs: use `provider='cpu'`",
        ),
    ],
)
def test_precisions_that_do_not_go_are_refused(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        export_bundle(
            open_checkpoint(tiny_checkpoints["openclip"], provider="cpu"), tmp_path / "b", **options
        )
    assert list(tmp_path.iterdir()) == []
