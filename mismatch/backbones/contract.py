"""The former home of `mismatch.testing.contract`, which this module leads to."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

NEW_HOME = "mismatch.testing.contract"

# its names come from the new home when they are asked for
__all__ = [  # noqa: F822
    "BackboneContract",
    "Check",
    "check_names",
    "check_selection",
    "iter_checks",
    "run_checks",
]


def __getattr__(name: str) -> Any:
    """Return what the new home has under a name, with a DeprecationWarning."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__} has moved; import {name} from {NEW_HOME}", DeprecationWarning, stacklevel=2
    )
    return getattr(import_module(NEW_HOME), name)
