"""Which names of rows are a hub's: `hf://datasets/OWNER/NAME`."""

from __future__ import annotations

__all__ = ["HUB_SCHEME", "is_hub_url"]

HUB_SCHEME = "hf://"


def is_hub_url(rows: object) -> bool:
    """Return whether rows are given as a URL of a hub."""
    return isinstance(rows, str) and rows[: len(HUB_SCHEME)].lower() == HUB_SCHEME
