"""The former home of `mismatch.io.atomic` and `mismatch.io.reading`, which this module leads to."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

NEW_HOMES = ("mismatch.io.atomic", "mismatch.io.reading")


def __getattr__(name: str) -> Any:
    """Return what a new home has under a name, with a DeprecationWarning."""
    for home in NEW_HOMES:
        module = import_module(home)
        if name in module.__all__:
            warnings.warn(
                f"{__name__} has moved; import {name} from {home}", DeprecationWarning, stacklevel=2
            )
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
