"""What the libraries under training change in the whole process, put back behind a call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mismatch.runtime.libraries import SWITCHES

__all__ = ["left_as_found"]

# environment variables that are set while libraries are loaded: torch's, and our own switches,
# which each load sets again
VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", *(name for names in SWITCHES.values() for name in names))


@contextmanager
def left_as_found() -> Iterator[None]:
    """Put warning filters and environment variables back when the block ends.

    scipy, sympy and torch add filters when they are first imported.
    """
    absent = [name for name in VARIABLES if name not in os.environ]
    with warnings.catch_warnings():
        try:
            yield
        finally:
            for name in absent:
                os.environ.pop(name, None)
