"""mismatch.testing.diagnosis: which spec would agree with upstream."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import ImageSpec, TextSpec
from mismatch.testing import samples
from mismatch.testing.diagnosis import pixel_fault, token_fault

RIGHT = ImageSpec(
    size=48, resize=55, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28), interpolation="bilinear"
)
IMAGES = [*samples.images(), *samples.square_images(48)]


def fault(**wrong: Any) -> str:
    upstream = [Preprocessor(RIGHT)(image) for image in IMAGES]
    return pixel_fault(replace(RIGHT, **wrong), IMAGES, upstream)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, ""),
        (
            {"size": 40},
            (
                "upstream_transform gives (3, 48, 48), but image_spec.size is 40; set it to what"
                " upstream gives"
            ),
        ),
        (
            {"mean": (0.5, 0.46, 0.41)},
            (
                "has mean=(0.5, 0.46, 0.41) and std=(0.27, 0.26, 0.28), but upstream_transform"
                " normalises with mean=(0.48, 0.46, 0.41)"
            ),
        ),
        ({"mean": (0.482, 0.46, 0.41)}, "normalises with mean=(0.48, 0.46, 0.41)"),  # half a level
        ({"std": (0.272, 0.26, 0.28)}, "and std=(0.27, 0.26, 0.28)"),  # 0.7 %
        ({"interpolation": "bicubic"}, "interpolation='bilinear' would agree"),
        ({"mode": "squash", "resize": 0}, "mode='shortest', resize=55 would agree"),
        ({"mode": "longest"}, "mode='shortest' would agree"),
        ({"resize": 48}, "resize=55 would agree"),  # in none of the usual ratios but 0.857
        (
            {"interpolation": "bicubic", "mean": (0.5, 0.5, 0.5)},
            "interpolation='bilinear' would agree. image_spec has mean=(0.5, 0.5, 0.5)",
        ),
    ],
    ids=str,
)
def test_a_wrong_image_spec_is_named_with_the_right_one(wrong: dict[str, Any], words: str) -> None:
    found = fault(**wrong)
    assert words in found
    assert bool(words) == bool(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value[::-1], "upstream_transform gives blue, green, red"),
        (
            lambda value: value[None],
            (
                "gives (1, 3, 48, 48) for one image; return (3, 48, 48): channels first, and no"
                " batch axis"
            ),
        ),
        (lambda value: value.transpose(1, 2, 0), "gives (48, 48, 3) for one image"),
        (lambda value: value * np.nan, "gives nan or infinity"),
    ],
    ids=["BGR", "batched", "channels last", "nan"],
)
def test_what_is_wrong_with_upstreams_pixels_is_said(change: Any, words: str) -> None:
    assert words in pixel_fault(
        RIGHT, IMAGES, [change(Preprocessor(RIGHT)(image)) for image in IMAGES]
    )


def test_what_no_spec_can_say_is_said() -> None:
    mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in IMAGES]
    upstream = [Preprocessor(RIGHT)(image) for image in mirrored]
    assert (
        "no other mode, interpolation, rounding or usual resize agrees; compare size, resize and"
        " crop" in pixel_fault(RIGHT, IMAGES, upstream)
    )


TEXTS = [*samples.TEXTS, "CAPITALS &amp; more", samples.LONG]


def text_spec(**changes: Any) -> TextSpec:
    from mismatch.backbones.registry import load_backbone

    return replace(load_backbone("openclip:tiny").text_spec, **changes)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, ""),
        ({"pad_id": 7}, "pad_id=0 would agree"),
        (
            {"cleaning": "none"},
            "other ids than upstream_tokenizer for 1 of 9 texts; cleaning='clip' would agree",
        ),
        ({"cleaning": "canonicalize", "pad_id": 3}, "pad_id=0, cleaning='clip' would agree"),
        ({"context_length": 40}, "gives 77 ids a text, but text_spec.context_length is 40"),
    ],
    ids=str,
)
def test_a_wrong_text_spec_is_named_with_the_right_one(wrong: dict[str, Any], words: str) -> None:
    right = text_spec()
    upstream = Tokenizer(replace(right, padding="context"))(TEXTS).input_ids
    found = token_fault(replace(right, **wrong), TEXTS, upstream)
    assert words in found
    assert bool(words) == bool(found)


def test_another_vocabulary_is_shown_where_it_first_differs() -> None:
    right = text_spec()
    upstream = Tokenizer(replace(right, padding="context"))(TEXTS).input_ids
    upstream = np.where(upstream == upstream[0, 1], 12345, upstream)
    told = token_fault(right, TEXTS, upstream)
    assert (
        "first for 'red shirt' at position 1: [736, 2523, 49407, 0, 0, 0] (red</w> shirt</w>"
        " <end_of_text>" in told
    )
    assert "instead of [12345, 2523," in told


def test_pads_on_the_left_are_named() -> None:
    right = text_spec()
    ids = Tokenizer(replace(right, padding="context"))(TEXTS).input_ids
    lengths = Tokenizer(right)(TEXTS).attention_mask.sum(axis=1)
    upstream = np.stack(
        [np.roll(row, 77 - length) for row, length in zip(ids, lengths, strict=True)]
    )
    assert "upstream_tokenizer pads on the left" in token_fault(right, TEXTS, upstream)


def test_a_missing_lower_case_is_named() -> None:
    right = replace(text_spec(), cleaning="none")
    upstream = Tokenizer(replace(right, padding="context"))(TEXTS).input_ids
    data = json.loads(right.tokenizer_json)
    data["normalizer"] = None
    told = token_fault(replace(right, tokenizer_json=json.dumps(data)), TEXTS, upstream)
    assert "a Lowercase normalizer in tokenizer_json would agree" in told
