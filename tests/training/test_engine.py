"""torch under the one pipeline: the same numbers as the modules, opened from a checkpoint or from a
backbone's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mismatch.backbones.registry import load_backbone
from mismatch.errors import BackboneError, CheckpointError, DeviceError, MachineError
from mismatch.training import engine as engines
from mismatch.training.checkpoint import load_detector
from mismatch.training.detector import Detector
from mismatch.training.engine import TorchEngine, open_backbone, open_checkpoint
from mismatch.training.head import build_head, head_spec_for


def inputs(engine: TorchEngine) -> tuple[Any, Any, Any]:
    size, noise = engine.image_spec.size, np.random.default_rng(0)
    ids = np.array([[5, 6, 7], [9, 8, 7]], np.int64)
    return noise.normal(size=(2, 3, size, size)).astype(np.float32), ids, np.ones_like(ids)


def test_a_checkpoint_opens_as_an_engine_with_the_detectors_numbers(
    tiny_checkpoints: dict[str, Path], family: str
) -> None:
    engine = open_checkpoint(tiny_checkpoints[family], provider="cpu")
    pixel_values, ids, mask = inputs(engine)
    images, texts = engine.encode_images(pixel_values), engine.encode_texts(ids, mask)
    detector, meta = load_detector(tiny_checkpoints[family])
    with torch.inference_mode():
        expected = detector(
            torch.from_numpy(pixel_values), torch.from_numpy(ids), torch.from_numpy(mask)
        ).numpy()
    assert np.array_equal(engine.logits(images, texts), expected)
    assert (images.shape, texts.shape) == ((2, engine.image_dim), (2, engine.text_dim))
    assert {array.dtype for array in (images, texts, expected)} == {np.dtype(np.float32)}
    assert engine.score == meta.score
    assert engine.score.threshold_in_use == 0.4321
    assert engine.describe()["backbone"] == f"{family}:tiny"
    assert engine.name == "torch cpu"


def test_a_backbones_name_opens_for_zero_shot_with_the_plain_cosine(family: str) -> None:
    engine = open_checkpoint(f"{family}:tiny", provider="cpu")
    pixel_values, ids, mask = inputs(engine)
    images, texts = engine.encode_images(pixel_values), engine.encode_texts(ids, mask)
    cosine = (
        (images * texts).sum(1) / np.linalg.norm(images, axis=1) / np.linalg.norm(texts, axis=1)
    )
    np.testing.assert_allclose(engine.logits(images, texts), cosine, atol=1e-6)
    assert (engine.score.kind, engine.score.threshold_in_use) == ("cosine", 0.25)


@pytest.mark.parametrize(
    ("stated", "bias", "threshold"),
    [(0.3, None, 0.3), (None, -12.9, 0.129), (0.3, -12.9, 0.3), (None, None, 0.25)],
)
def test_zero_shot_decides_where_a_fresh_head_would(
    monkeypatch: pytest.MonkeyPatch, stated: float | None, bias: float | None, threshold: float
) -> None:
    backbone = load_backbone("hf-clip:tiny")
    backbone.zero_shot_threshold, backbone.logit_bias, backbone.logit_scale = stated, bias, 100.0
    monkeypatch.setattr(engines, "load_backbone", lambda reference: backbone)
    assert open_backbone("hf-clip:tiny", provider="cpu").score.threshold_in_use == pytest.approx(
        threshold
    )
    head = build_head(head_spec_for(backbone, "cosine"), backbone)
    assert head.logit(torch.tensor([threshold])).item() == pytest.approx(0, abs=1e-4)


def test_weights_of_half_precision_are_computed_in_fp32() -> None:
    whole = open_backbone("hf-clip:tiny", provider="cpu")
    half = TorchEngine(
        Detector(load_backbone("hf-clip:tiny").bfloat16(), whole.detector.head), whole.meta
    )
    assert {
        tensor.dtype for tensor in half.detector.state_dict().values() if tensor.is_floating_point()
    } == {torch.float32}
    pixel_values, ids, mask = inputs(half)
    assert np.abs(half.encode_images(pixel_values) - whole.encode_images(pixel_values)).max() < 0.1
    assert half.encode_texts(ids, mask).shape == (2, 128)


def test_the_fingerprint_follows_the_backbone_and_not_the_head(
    tiny_checkpoints: dict[str, Path],
) -> None:
    engines_ = [open_checkpoint(tiny_checkpoints["hf-clip"], provider="cpu") for _ in range(3)]
    with torch.no_grad():
        engines_[1].detector.head.get_parameter("bias").add_(1)
        next(engines_[2].detector.backbone.parameters()).view(-1)[0].add_(1e-6)
    first, other_head, other_weights = (engine.fingerprint for engine in engines_)
    assert first == other_head != other_weights
    assert len(first) == 64
    assert int(first, 16)
    # the checkpoint's backbone is the untrained one
    assert open_backbone("hf-clip:tiny", provider="cpu").fingerprint == first


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "no/such/model",
            "model folder no/such/model not found, and no installed backbone is called that",
        ),
        (".", r"mismatch.json can't be read.*a checkpoint of mismatch train has one"),
    ],
)
def test_what_is_neither_a_checkpoint_nor_a_backbone_is_refused(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path, provider="cpu")


def test_a_backbone_without_a_shared_space_cant_score_untrained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = load_backbone("hf-clip:tiny")
    backbone.shared_space = False
    monkeypatch.setattr(engines, "load_backbone", lambda _: backbone)
    with pytest.raises(
        BackboneError,
        match="hf-clip:tiny has no space that images and texts share, so it can't score untrained",
    ):
        open_backbone("hf-clip:tiny", provider="cpu")


def test_cuda_without_cuda_is_an_error(
    tiny_checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="device 'cuda' was asked for"):
        open_checkpoint(tiny_checkpoints["hf-clip"], provider="cuda")


def test_threads_are_set_only_when_given(tiny_checkpoints: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    try:
        open_checkpoint(tiny_checkpoints["hf-clip"], provider="cpu")
        assert torch.get_num_threads() == before
        open_checkpoint(tiny_checkpoints["hf-clip"], provider="cpu", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_common_space_has_the_heads_cosines(
    tiny_checkpoints: dict[str, Path], family: str
) -> None:
    engine = open_checkpoint(tiny_checkpoints[family], provider="cpu")
    pixel_values, ids, mask = inputs(engine)
    images, texts = engine.encode_images(pixel_values), engine.encode_texts(ids, mask)
    cosines = (engine.common_images(images) * engine.common_texts(texts)).sum(1)
    np.testing.assert_allclose(
        engine.logits_of_cosines(cosines), engine.logits(images, texts), atol=1e-5
    )


def test_a_model_on_a_gpu_is_refused_in_a_forked_process(family: str) -> None:
    engine = open_backbone(f"{family}:tiny", provider="cpu")
    engine.device = torch.device("cuda")
    with pytest.raises(MachineError, match="spawn"):
        engine.after_fork()
