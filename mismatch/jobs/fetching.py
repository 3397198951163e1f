"""Images of rows that are URLs, fetched while a job runs, if its options say so."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mismatch.data.columns import Columns
from mismatch.data.pairs import read_rows
from mismatch.errors import InputError
from mismatch.io.remote import Remote
from mismatch.io.web_images import fetch_ahead, is_fetching, is_web_url

__all__ = ["NO_FETCHING", "FetchOptions", "fetch_rows_ahead", "fetched_images"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchOptions:
    """Whether images are fetched, and how."""

    fetch_images: bool = False
    fetch_cache: str | Path | None = None  # folder; None: one of this user's
    fetch_networks: Sequence[str] = ()  # private ones in which hosts may lie

    def __post_init__(self) -> None:
        given = {"fetch_cache": self.fetch_cache, "fetch_networks": self.fetch_networks}
        for name, value in given.items():
            if value and not self.fetch_images:
                raise InputError(f"`{name}` goes with `fetch_images`", option=name)


NO_FETCHING = FetchOptions()


@contextmanager
def fetched_images(options: FetchOptions) -> Iterator[None]:
    """Fetch images by their URLs until the block ends, in all of this process, if that is
    wanted.
    """
    if not options.fetch_images:
        yield
        return
    from mismatch.runtime.image_fetcher import fetching_images

    with fetching_images(options.fetch_cache, tuple(options.fetch_networks)) as fetcher:
        yield
        counts = fetcher.counts
        if counts.fetched or counts.failed:
            failed = f"; {counts.failed:,} could not be" if counts.failed else ""
            logger.info(f"{counts.fetched:,} images fetched → {fetcher.folder.path}{failed}")


def fetch_rows_ahead(path: str | Path | Remote, columns: Columns) -> None:
    """Begin to fetch the images of all rows, in their order; nothing where nobody fetches."""
    if is_fetching():
        fetch_ahead(_urls(path, columns))


def _urls(path: str | Path | Remote, columns: Columns) -> Iterator[str]:
    """Yield the URLs of rows; an empty text for what is none, so that who reads can stop."""
    for row in read_rows(path, require_label=False, columns=columns, strict=False):
        for image in columns.images(row.image_path):
            yield image if is_web_url(image) else ""
