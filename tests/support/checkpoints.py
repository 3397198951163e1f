"""Checkpoints and bundles of the families' tiny models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mismatch.specs import Calibration, ScoreSpec, Threshold
from tests.support.remembered import remembering

__all__ = ["FAMILIES", "export_bundles", "write_tiny_checkpoints"]

FAMILIES = ("hf-clip", "openclip")
SCORE = ScoreSpec(
    "probability",
    0.5,
    Calibration(0.7, 0.1, 50),
    Threshold(0.4321, "accuracy", 50, "2026-01-01T00:00:00+00:00"),
)


def write_tiny_checkpoints(folder: Path) -> None:
    """Write for each family a checkpoint of its `tiny` model with an untrained adapter head, whose
    scores spread, a calibration and a threshold.
    """
    import torch

    from mismatch.backbones.registry import load_backbone
    from mismatch.training.checkpoint import meta_for, save_checkpoint
    from mismatch.training.detector import Detector
    from mismatch.training.head import build_head, head_spec_for

    for name in FAMILIES:
        backbone = load_backbone(f"{name}:tiny")
        torch.manual_seed(1)
        spec = head_spec_for(backbone, "adapter")
        head = build_head(spec, backbone)
        for parameter in head.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        detector = Detector(backbone, head).eval()
        save_checkpoint(folder / name, detector, meta_for(name, "tiny", spec, score=SCORE), {})


def export_bundles(checkpoints: Mapping[str, Path], folder: Path) -> None:
    """Write the bundle of each checkpoint under its name, by the real exporter."""
    from mismatch.export.onnx import export_bundle
    from mismatch.training.engine import open_checkpoint

    with remembering():
        for name, path in checkpoints.items():
            export_bundle(open_checkpoint(path, provider="cpu"), folder / name)
