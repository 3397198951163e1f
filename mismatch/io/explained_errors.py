"""Errors that are no bug, in words: what the machine lacks, an extra that isn't installed."""

from __future__ import annotations

from mismatch.errors import MismatchError, MissingExtraError
from mismatch.io.retries import shortage_in
from mismatch.io.streams import stream_error

__all__ = ["explained"]

# import names of the extra's packages
TRAIN_EXTRA = frozenset(
    {"onnx", "onnxscript", "open_clip", "safetensors", "torch", "torchvision", "transformers"}
)


def explained(error: Exception, what: str) -> Exception:
    """Return the error as people read it. A module of an extra that isn't installed becomes the pip
    line that installs it, for `what`; what the machine lacks is said in words.
    """
    if isinstance(error, MismatchError):
        return error
    shortage = shortage_in(error)
    if shortage is not None:
        return shortage
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        return stream_error(error)
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing in TRAIN_EXTRA:
        return MissingExtraError(f"{what} (no {missing} here)", "train")
    return error
