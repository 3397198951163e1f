"""Training: from rows to a folder of checkpoints. The public names, each imported from its home
when it is first used, as all but the options need torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mismatch.training.config import TrainConfig

if TYPE_CHECKING:
    from mismatch.training.checkpoint import load_detector
    from mismatch.training.detector import Detector
    from mismatch.training.engine import TorchEngine, open_backbone, open_checkpoint
    from mismatch.training.result import TrainResult
    from mismatch.training.trainer import train

__all__ = [
    "Detector",
    "TorchEngine",
    "TrainConfig",
    "TrainResult",
    "load_detector",
    "open_backbone",
    "open_checkpoint",
    "train",
]

_HOMES = {
    "Detector": "detector",
    "TorchEngine": "engine",
    "TrainResult": "result",
    "load_detector": "checkpoint",
    "open_backbone": "engine",
    "open_checkpoint": "engine",
    "train": "trainer",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mismatch.training' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"mismatch.training.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    """Return the public names too that are not imported yet."""
    return sorted({*globals(), *__all__})
