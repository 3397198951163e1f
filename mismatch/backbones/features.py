"""What the head may see of an image and of a text besides their embeddings: the backbone's earlier
layers, and plain statistics of colour.

A last embedding forgets colour and texture, which mismatches in a catalogue are about; earlier
layers and the pixels themselves remember. Of a text, earlier layers remember the words.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mismatch.backbones.base import Backbone
from mismatch.errors import InputError
from mismatch.specs import FEATURES, IMAGE_FEATURES, TEXT_FEATURES, HeadSpec

__all__ = [
    "COLOUR_DIM",
    "FEATURES_VERSION",
    "check_features",
    "colour_statistics",
    "encode_image",
    "encode_text",
    "feature_fields",
    "feature_names",
    "features_offered",
]

# raise it when a feature is computed otherwise, so that no cache mixes the two
FEATURES_VERSION = 5
GRID = 4  # cells a side
BINS = 5  # of each channel, of the histogram
COLOUR_DIM = 6 * 3 + GRID * GRID * 3 + 3 * BINS**3
COUNTED_SIDE = 56  # pixels, about, that the image is averaged down to before colours are counted
SHARE = 1e-4  # added to each: a root at 0 would turn rounding into a feature
BORDER = 3  # pixels of those, whose mean is taken for the background's colour
# distances of RGB colours on 0..1: hardly another colour, and from where a pixel counts in full
NEAR = 0.01
FAR = 0.25


def features_offered(backbone: Backbone) -> tuple[str, ...]:
    """Return the features that this backbone's head can have, of FEATURES: levels where it has
    earlier layers to show, colour always.
    """
    offered = {
        "image-levels": backbone.levels_dim > 0,
        "colour": True,
        "text-levels": backbone.text_levels_dim > 0,
    }
    return tuple(name for name in FEATURES if offered[name])


def feature_fields(backbone: Backbone, features: tuple[str, ...]) -> dict[str, Any]:
    """Return these of FEATURES as fields of HeadSpec; InputError for one that the backbone doesn't
    offer.
    """
    if missing := [name for name in features if name not in features_offered(backbone)]:
        raise InputError(
            f"this backbone offers no features {', '.join(missing)}; it has"
            f" {', '.join(features_offered(backbone))}"
        )
    image = tuple(
        kind for kind, name in zip(IMAGE_FEATURES, FEATURES[:2], strict=True) if name in features
    )
    text = TEXT_FEATURES if "text-levels" in features else ()
    widths = {"levels": backbone.levels_dim, "colour": COLOUR_DIM}
    image_dim = sum(widths[kind] for kind in image)
    text_dim = backbone.text_levels_dim if text else 0
    return {
        "image_features": image,
        "image_features_dim": image_dim,
        "text_features": text,
        "text_features_dim": text_dim,
    }


def feature_names(head: HeadSpec) -> tuple[str, ...]:
    """Return what a head sees besides the embeddings, of FEATURES."""
    taken = dict(
        zip(
            FEATURES,
            (
                "levels" in head.image_features,
                "colour" in head.image_features,
                "levels" in head.text_features,
            ),
            strict=True,
        )
    )
    return tuple(name for name in FEATURES if taken[name])


def check_features(backbone: Backbone, head: HeadSpec) -> None:
    """Raise InputError where the backbone doesn't give the features that the head was made for."""
    offered = feature_fields(backbone, feature_names(head))
    for side in ("image", "text"):
        if offered[f"{side}_features_dim"] != (width := getattr(head, f"{side}_features_dim")):
            raise InputError(
                f"the head expects {side} features of width {width}, the backbone gives"
                f" {offered[f'{side}_features_dim']}"
            )


def encode_image(backbone: Backbone, pixel_values: Tensor, features: tuple[str, ...]) -> Tensor:
    """Map (B, 3, S, S) → (B, image_width), all that a head sees of an image: the embedding first,
    then each of IMAGE_FEATURES that is asked for.
    """
    embedding, *more = (
        backbone.encode_image_and_levels(pixel_values)
        if "levels" in features
        else (backbone.encode_image(pixel_values),)
    )
    if "colour" in features:
        more.append(_colour(backbone, pixel_values))
    return (
        torch.cat([embedding, *(part.to(embedding.dtype) for part in more)], dim=1)
        if more
        else embedding
    )


def encode_text(
    backbone: Backbone, input_ids: Tensor, attention_mask: Tensor, features: tuple[str, ...]
) -> Tensor:
    """Map (B, L), twice → (B, text_width), all that a head sees of a text: the embedding first,
    then its levels if they are asked for.
    """
    if not features:
        return backbone.encode_text(input_ids, attention_mask)
    return torch.cat(backbone.encode_text_and_levels(input_ids, attention_mask), dim=1)


def _colour(backbone: Backbone, pixel_values: Tensor) -> Tensor:
    spec = backbone.image_spec
    # (3, 1, 1)
    mean, std = (
        torch.tensor(values, device=pixel_values.device)[:, None, None]
        for values in (spec.mean, spec.std)
    )
    # features are fp32 whatever the towers run in
    with torch.autocast(pixel_values.device.type, enabled=False):
        return colour_statistics(pixel_values.float() * std + mean)


def colour_statistics(pixels: Tensor) -> Tensor:
    """Map RGB on 0..1, (B, 3, S, S) → (B, 441). These are mean and spread of each channel, and how
    much has each of 5 x 5 x 5 colours. Both are of the whole image, of its middle half and of what
    stands out from its border. The means of 4 x 4 cells come with them.
    """
    side = pixels.shape[-1]
    middle = pixels[:, :, side // 4 : side - side // 4, side // 4 : side - side // 4]
    # a side that GRID doesn't divide gives cells of unlike size
    edges = [round(i * side / GRID) for i in range(GRID + 1)]
    bands = [pixels[:, :, top:bottom].mean(2) for top, bottom in pairwise(edges)]  # (B, 3, S) each
    # (B, 3) each
    cells = [band[:, :, left:right].mean(2) for band in bands for left, right in pairwise(edges)]
    small = _small(pixels)
    small_middle = _small(middle)
    weights = foreground(small)
    histograms = [
        colour_histogram(small),
        colour_histogram(small_middle),
        colour_histogram(small, weights),
    ]
    moments = [
        *_mean_and_spread(pixels),
        *_mean_and_spread(middle),
        *_mean_and_spread(small, weights),
    ]
    return torch.cat([*moments, *cells, *histograms], dim=1)


def _small(pixels: Tensor) -> Tensor:
    """Shrink (B, 3, S, S) → (B, 3, s, s), s from 56 to 111 where S is larger."""
    return F.avg_pool2d(pixels, max(1, pixels.shape[-1] // COUNTED_SIDE))


def _mean_and_spread(pixels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Map (B, 3, H, W), and (B, H, W) of sum 1, by default all alike → (B, 3), (B, 3)."""
    share = 1 / (pixels.shape[-1] * pixels.shape[-2]) if weights is None else weights[:, None]
    mean = (pixels * share).sum((2, 3), keepdim=True)  # (B, 3, 1, 1)
    variance = ((pixels - mean).square() * share).sum((2, 3))  # (B, 3)
    return mean.flatten(1), (variance + 1e-6).sqrt()  # a root's slope at 0 is infinite


def foreground(pixels: Tensor) -> Tensor:
    """Map RGB on 0..1, (B, 3, H, W) → (B, H, W), 1 in sum: how far a pixel's colour is from the
    border's mean, up to `FAR`. On a plain image all are alike.
    """
    height, width = pixels.shape[-2:]
    ring = min(max(1, height * BORDER // COUNTED_SIDE), (height + 1) // 2)
    strips = [
        pixels[:, :, :ring],
        pixels[:, :, height - ring :],
        pixels[:, :, ring : height - ring, :ring],
        pixels[:, :, ring : height - ring, width - ring :],
    ]
    # (B, 3); by itself: a difference of two large sums would be mostly rounding
    border = torch.cat([strip.flatten(2) for strip in strips], dim=2).mean(2)
    squared = (pixels - border[:, :, None, None]).square().sum(1)  # (B, H, W)
    # flat at 0, where a steep root would amplify rounding
    distance = (squared + NEAR**2).sqrt() - NEAR
    weights = (distance / FAR).clamp(max=1) + 1e-3
    return weights / weights.sum((1, 2), keepdim=True)


def colour_histogram(pixels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Map RGB on 0..1, (B, 3, H, W), and (B, H, W) of sum 1, by default all alike → (B, 125). These
    are roots of the shares of 5 x 5 x 5 colours, as Hellinger compares. A pixel counts for the
    eight next to it.
    """
    flat = pixels.flatten(2)  # (B, 3, P)
    centres = torch.linspace(0, 1, BINS, device=pixels.device)
    # (B, 3, P, 5), 1 in sum
    share = (1 - (flat.clamp(0, 1)[..., None] - centres).abs() * (BINS - 1)).clamp(min=0)
    red_green = (share[:, 0, :, :, None] * share[:, 1, :, None, :]).flatten(2)  # (B, P, 25)
    # (B, P, 5)
    blue = (
        share[:, 2] / flat.shape[-1]
        if weights is None
        else share[:, 2] * weights.flatten(1)[..., None]
    )
    counts = red_green.transpose(1, 2) @ blue  # (B, 25, 5)
    return (counts.flatten(1) + SHARE).sqrt()
