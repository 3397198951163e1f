"""The scores of a model on rows like those it was chosen on, to tell later ones from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from mismatch.errors import InputError
from mismatch.spec_base import Spec

__all__ = ["Distribution", "Reference"]

ROUNDING = 1e-3  # of a sum of shares


@dataclass(frozen=True)
class Distribution(Spec):
    """How values were distributed: shares of the parts between edges, an edge belonging to the part
    below it.
    """

    edges: tuple[float, ...]  # rising
    shares: tuple[float, ...]  # one more than edges; their sum is 1

    def __post_init__(self) -> None:
        if (
            len(self.shares) != len(self.edges) + 1
            or not all(a < b for a, b in pairwise(self.edges))
            or not all(0 <= share <= 1 for share in self.shares)
            or abs(sum(self.shares) - 1) > ROUNDING
        ):
            raise InputError(
                f"a distribution of {len(self.edges)} edges and {len(self.shares)} shares is"
                " damaged; export the bundle again"
            )


@dataclass(frozen=True)
class Reference(Spec):
    """What a bundle's pairs looked like when it was exported, by which a service tells that others
    come now. Logits: no later calibration changes it.
    """

    rows: int
    logits: Distribution
    text_lengths: Distribution  # characters

    @classmethod
    def from_dict(cls, data: dict[str, Any], **more: Any) -> Self:
        """Rebuild from `to_dict`."""
        cls._check_object(data)
        parts = {
            name: Distribution.from_dict(data[name])
            for name in ("logits", "text_lengths")
            if name in data
        }
        return super().from_dict(data, **parts | more)
