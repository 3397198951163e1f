"""The detector joins towers and head; devices that aren't there are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mismatch.errors import DeviceError
from mismatch.training.checkpoint import load_detector
from mismatch.training.detector import choose_device


def test_logits_are_the_heads_of_the_towers_embeddings(tiny_checkpoints: dict[str, Any], family: str) -> None:
    detector, _ = load_detector(tiny_checkpoints[family])
    size = detector.backbone.image_spec.size
    pixel_values = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[5, 6, 7, 8]] * 3)
    with torch.inference_mode():
        logits = detector(pixel_values, ids, torch.ones_like(ids))
        images, texts = detector.backbone.encode_image(pixel_values), detector.backbone.encode_text(ids, torch.ones_like(ids))
        assert torch.equal(logits, detector.head(images, texts))
    assert logits.shape == (3,)
    assert logits.std() > 0


def test_auto_takes_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="device 'cuda:2' was asked for, but this torch finds none"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "message"),
    [("cuda", "device 'cuda' was asked for"), ("mps", "device 'mps' was asked for"), ("gpu", "device 'gpu' is unknown"), ("meta", "'meta'")],
)
def test_a_device_that_isnt_there_is_an_error(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=message):
        choose_device(name)
