"""Names of rows that are a hub's, `hf://datasets/OWNER/NAME`, and the files that they stand for in
this process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mismatch.errors import MismatchError

__all__ = ["HUB_SCHEME", "HubRows", "is_hub_url", "located_hub_rows", "remember_hub_rows"]

HUB_SCHEME = "hf://"


@dataclass(frozen=True)
class HubRows:
    """Files of rows, in the hub's cache."""

    url: str  # of the repository, as the user writes it: hf://datasets/OWNER/NAME[@REVISION]
    commit: str  # 40 hex digits
    folder: Path  # of the repository's files at this commit
    path: Path  # of the file, or what names several as `shard_files` reads it

    def in_repository(self, path: str) -> str:
        """Return a path without the cache's folder, so that it is the same on every machine."""
        return path.removeprefix(f"{self.folder}{os.sep}")

    def renamed(self, text: str) -> str:
        """Return a text in which files of the cache are called by their URLs."""
        return text.replace(f"{self.folder}{os.sep}", f"{self.url}/")

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Call files of the cache by their URLs in errors that are raised within the block."""
        try:
            yield
        except MismatchError as error:
            error.args = (self.renamed(str(error)), *error.args[1:])
            raise


_LOCATED: dict[str, HubRows] = {}  # URL of rows → their files, as last located


def is_hub_url(rows: object) -> bool:
    """Return whether rows are given as a URL of a hub."""
    return isinstance(rows, str) and rows[: len(HUB_SCHEME)].lower() == HUB_SCHEME


def remember_hub_rows(url: str, rows: HubRows) -> None:
    """Let messages of this process say of which file a row of this URL is."""
    _LOCATED[url] = rows


def located_hub_rows(url: object) -> HubRows | None:
    """Return the files of a URL of rows; None where they have not been located, and for any other
    name.
    """
    return _LOCATED.get(url) if isinstance(url, str) else None
