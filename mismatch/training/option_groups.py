"""Options of training in groups, and what stands for their values, for people who look through
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mismatch.training.options import Kind

__all__ = ["GROUPS", "metavar"]

# title → fields of TrainConfig, each in one group; the first are what most runs need
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Main options": (
            "train_csv",
            "val_csv",
            "image_base_path",
            "backbone",
            "tune",
            "output_dir",
            "epochs",
            "batch_size",
            "device",
            "resume",
        ),
        "Rows": (
            "image_column",
            "text_column",
            "label_column",
            "label_map",
            "multi_image",
            "encoding",
            "delimiter",
            "allow_outside_images",
            "validate_data",
            "val_fraction",
            "long_text",
        ),
        "Model": (
            "model_name",
            "head",
            "head_dim",
            "head_hidden",
            "head_members",
            "features",
            "dropout",
            "lora_rank",
            "lora_alpha",
            "lora_dropout",
        ),
        "Learning": (
            "learning_rate",
            "head_learning_rate",
            "layer_decay",
            "weight_decay",
            "warmup",
            "contrastive_weight",
            "batch_by",
            "gradient_accumulation_steps",
            "seed",
        ),
        "Best model and threshold": ("best_metric", "threshold_objective", "early_stopping"),
        "Machine": (
            "num_workers",
            "threads",
            "precision",
            "gradient_checkpointing",
            "compile",
            "fsdp",
            "cache",
        ),
        "Checkpoints and trackers": (
            "keep_checkpoints",
            "checkpoint_steps",
            "track",
            "run_name",
        ),
    }
)

METAVARS = {
    **dict.fromkeys(("train_csv", "val_csv"), "F"),
    **dict.fromkeys(("image_base_path", "output_dir", "cache"), "D"),
    **dict.fromkeys(("image_column", "text_column", "label_column", "encoding"), "NAME"),
    "delimiter": "SIGN",
    "label_map": "MAP",
    "backbone": "B",
    "model_name": "M",
    "tune": "full|head|lora|last-N",
}
OF_TYPES: Mapping[type, str] = MappingProxyType({str: "TEXT", int: "N", float: "X"})


def metavar(name: str, kind: Kind) -> str:
    """Return what stands for an option's value in its help."""
    return METAVARS.get(name) or "|".join(kind.choices) or OF_TYPES[kind.type]
