"""That images and texts go the way of upstream."""

from __future__ import annotations

import torch

from mismatch.backbones.base import Backbone
from mismatch.runtime.tokenize import Tokenizer
from mismatch.testing import samples
from mismatch.testing.checks import Checks
from mismatch.testing.diagnosis import pixel_fault, token_fault
from mismatch.testing.outcomes import NEAR, fail, percent, skip
from mismatch.testing.probes import (
    ImageProbe,
    TextProbe,
    asked,
    distance,
    pixels_of,
    to_numpy,
    unit,
)

__all__ = ["UpstreamChecks"]


class UpstreamChecks(Checks):
    """That images and texts go the way of upstream."""

    def test_transform_is_upstreams(self, backbone: Backbone) -> None:
        """`image_spec` gives upstream's own pixel values."""
        pictures = [*samples.images(), *samples.square_images(backbone.image_spec.size)]
        theirs = [
            asked("upstream_transform", backbone.upstream_transform, image) for image in pictures
        ]
        if any(value is None for value in theirs):
            skip("upstream_transform is not given, so image_spec is not compared with upstream")
        if fault := pixel_fault(
            backbone.image_spec,
            pictures,
            [to_numpy(value) for value in theirs if value is not None],
        ):
            fail(fault)

    def test_tokenizer_is_upstreams(self, backbone: Backbone) -> None:
        """`text_spec` gives upstream's own ids."""
        texts = [*samples.TEXTS, *samples.UNUSUAL_TEXTS.values()]
        theirs = asked("upstream_tokenizer", backbone.upstream_tokenizer, texts)
        if theirs is None:
            skip("upstream_tokenizer is not given, so text_spec is not compared with upstream")
        if theirs.ndim != 2 or len(theirs) != len(texts):
            fail(
                f"upstream_tokenizer gives {tuple(theirs.shape)} for {len(texts)} texts;"
                f" ({len(texts)}, context_length) is needed, padded and truncated"
            )
        if fault := token_fault(backbone.text_spec, texts, theirs.numpy()):
            fail(fault)

    def test_embeddings_are_upstreams(self, backbone: Backbone) -> None:
        """Our whole path points where upstream's own does."""
        pictures = samples.square_images(backbone.image_spec.size)
        with torch.inference_mode():
            theirs = (
                asked("upstream_encode_image", backbone.upstream_encode_image, pictures),
                asked("upstream_encode_text", backbone.upstream_encode_text, list(samples.TEXTS)),
            )
        if theirs == (None, None):
            skip(
                "neither upstream_encode_image nor upstream_encode_text is given, so embeddings are"
                " not compared with upstream"
            )
        ours = (
            ImageProbe(backbone, pixels_of(backbone, pictures)),
            TextProbe(backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)),
        )
        reasons = (
            (
                "if the pixel values agree, the tower treats them otherwise: normalised twice,"
                " colours in another order, another pooling, training mode"
            ),
            (
                "if the ids agree, the tower treats them otherwise: another mask, another token"
                " pooled, training mode"
            ),
        )
        for tower, upstream, why in zip(ours, theirs, reasons, strict=True):
            if (
                upstream is not None
                and (gap := distance(unit(tower.embed()), unit(to_numpy(upstream)))) > NEAR
            ):
                fail(
                    f"{tower.name} points elsewhere than upstream_{tower.name} for the same inputs"
                    f" ({percent(gap)}); {why}"
                )
