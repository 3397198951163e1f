"""How a check ends: it passes, fails with what to change, or is skipped with the reason."""

from __future__ import annotations

import math
import unittest
from typing import NoReturn

from mismatch.errors import ContractError, MismatchError

__all__ = ["CLOSE", "NEAR", "SAME", "fail", "one_line", "percent", "skip"]


# How far two results that should be equal may lie apart, as a share of how far the embeddings of
# unlike inputs do (see `distance`).
SAME = 1e-5  # the same weights and inputs, computed again

CLOSE = 2e-3  # the same row in another batch, of another length, in another engine

NEAR = 3e-2  # upstream's own path, whose resizing may differ by a level of 255


def fail(message: str) -> NoReturn:
    """Raise ContractError."""
    raise ContractError(message)


def skip(reason: str) -> NoReturn:
    """Leave the running check, which then counts as skipped."""
    raise unittest.SkipTest(reason)  # which pytest takes for its own


def one_line(error: BaseException) -> str:
    """Return an error in one line, with its type unless it is one of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MismatchError) else f"{type(error).__name__}: {text}"


def percent(gap: float) -> str:
    """Write a `distance` for people."""
    if not math.isfinite(gap):
        return "nan or infinity"
    return "wholly" if gap > 1 else f"by {gap:.1%} of how far unlike inputs lie apart"
