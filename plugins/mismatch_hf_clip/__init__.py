"""The backbone family `hf-clip`: any two-tower model of transformers, from the hub or a local
directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mismatch.backbones.hookspecs import hookimpl

if TYPE_CHECKING:
    from mismatch.backbones.base import Backbone

__all__ = ["load", "register_backbones"]

DEFAULT_MODEL = "openai/clip-vit-base-patch32"
MODELS = [
    DEFAULT_MODEL,
    "openai/clip-vit-base-patch16",
    "openai/clip-vit-large-patch14",
    "openai/clip-vit-large-patch14-336",
    "google/siglip-base-patch16-224",
    "google/siglip-so400m-patch14-384",
    "google/siglip2-base-patch16-224",
    "OFA-Sys/chinese-clip-vit-base-patch16",
    "kakaobrain/align-base",
    "BAAI/AltCLIP",
    "facebook/metaclip-2-worldwide-huge-quickgelu",
    "facebook/flava-full",
    "apple/aimv2-large-patch14-224-lit",
    "CIDAS/clipseg-rd64-refined",
    "nvidia/groupvit-gcc-yfcc",
    "google/owlvit-base-patch32",
    "clip-italian/clip-italian",
    "tiny",
]


def load(model_id: str) -> Backbone:
    """Load a hub id, `NAME` or `NAME@REVISION`, a local directory, or `tiny`."""
    from mismatch_hf_clip.backbone import load

    return load(model_id)


@hookimpl
def register_backbones(register: Any) -> None:
    """Register the family; called once by the registry."""
    register(
        "hf-clip",
        load,
        models=MODELS,
        default_model=DEFAULT_MODEL,
        description=(
            "two-tower models of transformers (CLIP, SigLIP, Chinese-CLIP, ALIGN, AltCLIP, MetaCLIP"
            " 2, …): a hub id, a local directory, or tiny"
        ),
        api_version=1,
    )
