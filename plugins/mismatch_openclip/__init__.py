"""The backbone family `openclip`: every architecture of open_clip that has two towers, NaFlex
apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mismatch.backbones.hookspecs import hookimpl

if TYPE_CHECKING:
    from mismatch.backbones.base import Backbone

__all__ = ["load", "register_backbones"]

DEFAULT_MODEL = "ViT-B-32/laion2b_s34b_b79k"
MODELS = [
    DEFAULT_MODEL,
    "ViT-B-32/openai",
    "ViT-B-32/datacomp_xl_s13b_b90k",
    "ViT-B-16/openai",
    "ViT-L-14/openai",
    "ViT-L-14/laion2b_s32b_b82k",
    "RN50/openai",
    "convnext_base_w/laion2b_s13b_b82k_augreg",
    "ViT-B-16-SigLIP2/webli",
    "MobileCLIP2-S2/dfndr2b",
    "PE-Core-B-16/meta",
    "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
    "tiny",
]


def load(model_id: str) -> Backbone:
    """Load `ARCH/TAG`, `ARCH/TAG@REVISION`, `ARCH/checkpoint.pt`, `ARCH/untrained`,
    `hf-hub:OWNER/NAME`, a local directory, or `tiny`.
    """
    from mismatch_openclip.loading import load

    return load(model_id)


@hookimpl
def register_backbones(register: Any) -> None:
    """Register the family; called once by the registry."""
    register(
        "openclip",
        load,
        models=MODELS,
        default_model=DEFAULT_MODEL,
        description=(
            "open_clip: ARCH/TAG, ARCH/checkpoint.pt, ARCH/untrained, a local directory, or tiny"
        ),
        api_version=1,
    )
