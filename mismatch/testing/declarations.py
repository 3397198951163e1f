"""What a backbone says of itself."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import torch

from mismatch.backbones.base import Backbone
from mismatch.errors import CheckpointError, ContractError, InputError
from mismatch.io.text import article
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import ImageSpec, TextSpec
from mismatch.testing import samples
from mismatch.testing.checks import Checks
from mismatch.testing.outcomes import fail

__all__ = ["DeclarationChecks", "changed_fields"]


class DeclarationChecks(Checks):
    """What a backbone says of itself."""

    def test_declarations(self, backbone: Backbone) -> None:
        """Every attribute of the base class is set, and they agree with each other."""
        wanted = {
            "image_dim": int,
            "text_dim": int,
            "shared_space": bool,
            "image_spec": ImageSpec,
            "text_spec": TextSpec,
            "model_id": str,
            "commit": str,
        }
        for name, kind in wanted.items():
            if not isinstance(value := getattr(backbone, name, None), kind):
                fail(
                    f"backbone.{name} is {value!r}; set it to {article(kind.__name__)} in __init__"
                )
        for name in ("logit_scale", "logit_bias", "zero_shot_threshold"):
            if not isinstance(value := getattr(backbone, name, "missing"), float | int | None):
                fail(
                    f"backbone.{name} is {value}; set it to a number, or to None where upstream"
                    " knows none"
                )
        if backbone.shared_space and backbone.image_dim != backbone.text_dim:
            fail(
                f"shared_space is True, but image_dim is {backbone.image_dim} and text_dim"
                f" {backbone.text_dim}: unlike widths share no space; set it to False"
            )
        if not backbone.text_spec.pad_id >= 0:
            fail(
                f"text_spec.pad_id is {backbone.text_spec.pad_id}; give the id that upstream pads"
                " with, 0 or more"
            )
        for name, tensor in [*backbone.named_parameters(), *backbone.named_buffers()]:
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                fail(
                    f"{name} is of {tensor.dtype}; load fp32 weights (self.float()), the precision"
                    " is chosen later"
                )
            if tensor.device.type != "cpu":
                fail(f"{name} is on {tensor.device}; load on the CPU, the device is chosen later")
        if backbone.training:
            fail("the loaded backbone is in training mode; call self.eval() at the end of __init__")

    def test_specs_round_trip(self, backbone: Backbone) -> None:
        """Both specs come back from JSON, as a bundle carries them; the tokenizer's ids fit."""
        image = backbone.image_spec
        text = backbone.text_spec
        changed = [
            f"image_spec.{name}"
            for name in changed_fields(image, ImageSpec.from_dict(_through_json(image)))
        ]
        changed += [
            f"text_spec.{name}"
            for name in changed_fields(
                text, TextSpec.from_dict(_through_json(text), tokenizer_json=text.tokenizer_json)
            )
        ]
        if changed:
            fail(f"{changed[0]} does not survive JSON; use plain numbers, strings and tuples")
        try:
            ids = Tokenizer(text)([samples.LONG]).input_ids
        except (CheckpointError, InputError):
            needed = (
                "the text of a tokenizers file: tokenizer.to_str(), or backend_tokenizer.to_str()"
                " of a fast tokenizer of transformers"
            )
            fail(
                f"text_spec.tokenizer_json can't be read ({str(text.tokenizer_json)[:40]!r}); give"
                f" {needed}"
            )
        if ids.shape[1] > text.context_length:
            fail(
                f"a long text becomes {ids.shape[1]} ids, but text_spec.context_length is"
                f" {text.context_length}"
            )


def changed_fields(spec: ImageSpec | TextSpec, other: ImageSpec | TextSpec) -> list[str]:
    """Return the names of the fields in which two specs of one kind differ."""
    return [f.name for f in fields(spec) if getattr(spec, f.name) != getattr(other, f.name)]


def _through_json(spec: ImageSpec | TextSpec) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(json.dumps(spec.to_dict()))
    except TypeError as error:
        raise ContractError(
            f"{type(spec).__name__} is no plain JSON ({error}); use plain numbers, strings and"
            " tuples"
        ) from error
    return data
