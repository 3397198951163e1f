"""The detector joins towers and head; devices that aren't there are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mismatch.backbones.features import features_offered
from mismatch.backbones.registry import load_backbone
from mismatch.errors import DeviceError
from mismatch.training.checkpoint import load_detector
from mismatch.training.detector import Detector, choose_device, row_cosines, tower_methods
from mismatch.training.head import build_head, head_spec_for


def test_logits_are_the_heads_of_the_towers_embeddings(
    tiny_checkpoints: dict[str, Any], family: str
) -> None:
    detector, _ = load_detector(tiny_checkpoints[family])
    size = detector.backbone.image_spec.size
    pixel_values = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[5, 6, 7, 8]] * 3)
    with torch.inference_mode():
        logits = detector(pixel_values, ids, torch.ones_like(ids))
        images, texts = (
            detector.backbone.encode_image(pixel_values),
            detector.backbone.encode_text(ids, torch.ones_like(ids)),
        )
        assert torch.equal(logits, detector.head(images, texts))
    assert logits.shape == (3,)
    assert logits.std() > 0


def test_the_methods_called_are_those_that_give_what_the_head_takes(family: str) -> None:
    backbone = load_backbone(family, "tiny")
    plain, more = (
        Detector(backbone, build_head(head_spec_for(backbone, "adapter", features=taken)))
        for taken in ((), ("colour",))
    )
    assert tower_methods(plain) == tower_methods(more) == ["encode_image", "encode_text"]
    backbone.levels_dim, backbone.text_levels_dim = 3, 5
    offered = features_offered(backbone)
    assert tower_methods(
        Detector(backbone, build_head(head_spec_for(backbone, "adapter", features=offered)))
    ) == ["encode_image_and_levels", "encode_text_and_levels"]


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
    with pytest.raises(
        DeviceError, match="device 'cuda:2' was asked for, but this torch finds none"
    ):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "device 'cuda' was asked for"),
        ("mps", "device 'mps' was asked for"),
        ("gpu", "device 'gpu' is unknown"),
        ("meta", "'meta'"),
    ],
)
def test_a_device_that_isnt_there_is_an_error(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=message):
        choose_device(name)


IMAGES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
# of rows 0, 1, 1, 1, 2
PIECES = torch.tensor([[0.8, 0.6], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("long_text", "cosines", "middle"),
    [("chunk", [0.8, 0.0, 0.8], [1.0, 0.0]), ("chunk-mean", [0.8, 0.6, 0.8], [1.6 / 3, 1.8 / 3])],
)
def test_a_row_in_pieces_has_the_worst_ones_cosine_or_their_mean(
    long_text: Any, cosines: list[float], middle: list[float]
) -> None:
    pieces = PIECES.clone().requires_grad_()
    cosine, texts, chosen = row_cosines(IMAGES, pieces, torch.tensor([0, 1, 1, 1, 2]), long_text)
    assert (None if chosen is None else chosen.tolist()) == (
        [0, 1, 4] if long_text == "chunk" else None
    )
    torch.testing.assert_close(cosine.detach(), torch.tensor(cosines))
    torch.testing.assert_close(
        texts.detach(), torch.stack([PIECES[0], torch.tensor(middle), PIECES[4]])
    )
    cosine[1].backward()
    weight = torch.tensor(
        [0.0, 1.0, 0.0, 0.0, 0.0] if long_text == "chunk" else [0.0, 1 / 3, 1 / 3, 1 / 3, 0.0]
    )
    assert pieces.grad is not None
    torch.testing.assert_close(pieces.grad, weight[:, None] * IMAGES[1])


@pytest.mark.parametrize("long_text", ["truncate", "chunk", "chunk-mean"])
def test_whole_texts_are_left_as_they_are(long_text: Any) -> None:
    cosine, texts, chosen = row_cosines(IMAGES, PIECES[:3], torch.arange(3), long_text)
    assert chosen is None
    assert torch.equal(texts, PIECES[:3])
    assert torch.equal(cosine, (IMAGES * PIECES[:3]).sum(-1))


@pytest.mark.parametrize("long_text", ["chunk", "chunk-mean"])
def test_a_piece_that_is_no_number_shows(long_text: Any) -> None:
    pieces = PIECES.clone()
    pieces[2] = torch.nan
    cosine, *_ = row_cosines(IMAGES, pieces, torch.tensor([0, 1, 1, 1, 2]), long_text)
    assert cosine.isnan().tolist() == [False, True, False]
