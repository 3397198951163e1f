"""The backbone family `lit`: any image tower of timm with any text tower of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mismatch

if TYPE_CHECKING:
    from mismatch.backbones.base import Backbone

__all__ = ["load", "register_backbones"]

DEFAULT_MODEL = "efficientnet-lite0+minilm"
MODELS = [DEFAULT_MODEL, "tiny"]


def load(model_id: str) -> Backbone:
    """`IMAGE+TEXT`, a directory that was saved, or `tiny`."""
    from mismatch_lit.backbone import load

    return load(model_id)


@mismatch.hookimpl
def register_backbones(register: Any) -> None:
    """Called once by mismatch; torch is not imported before `load` runs."""
    register(
        "lit",
        load,
        models=MODELS,
        default_model=DEFAULT_MODEL,
        description=(
            "IMAGE+TEXT: a timm image tower and a transformers text tower, names or directories; or"
            " tiny"
        ),
        api_version=1,
    )
