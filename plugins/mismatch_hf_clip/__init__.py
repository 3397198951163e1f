"""The backbone family `hf-clip`: any CLIPModel of transformers, from the hub or a local directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mismatch.backbones.hookspecs import hookimpl

if TYPE_CHECKING:
    from mismatch.backbones.base import Backbone

__all__ = ["load", "register_backbones"]

DEFAULT_MODEL = "openai/clip-vit-base-patch32"
MODELS = [DEFAULT_MODEL, "openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14", "openai/clip-vit-large-patch14-336", "tiny"]


def load(model_id: str) -> Backbone:
    """A hub id, a local directory, or `tiny`."""
    from mismatch_hf_clip.backbone import load

    return load(model_id)


@hookimpl
def register_backbones(register: Any) -> None:
    """Called once by the registry."""
    register(
        "hf-clip",
        load,
        models=MODELS,
        default_model=DEFAULT_MODEL,
        description="CLIPModel of transformers: a hub id, a local directory, or tiny",
        api_version=1,
    )
