"""Images of rows by their URLs, http or https. They are read only while somebody fetches them, see
`fetched_by`; a URL alone opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from mismatch.errors import ImageError
from mismatch.io.remote import Remote

__all__ = [
    "Fetcher",
    "WebImage",
    "fetch_ahead",
    "fetched_by",
    "is_fetching",
    "is_web_url",
    "shown_url",
]

WEB = re.compile(r"https?://", re.IGNORECASE)
SHOWN = 200  # characters of a URL in a message


class Fetcher(Protocol):
    """What has the bytes of URLs."""

    def read(self, url: str) -> bytes:
        """Return an image's bytes, of an earlier answer or a new one; ImageError that says why
        there are none.
        """

    def ahead(self, urls: Iterable[str]) -> None:
        """Begin to fetch what will be read soon, in the background."""


_fetchers: list[Fetcher] = []  # of this process, the last one is asked; see `fetched_by`


@contextmanager
def fetched_by(fetcher: Fetcher) -> Iterator[None]:
    """Let `fetcher` fetch all URLs of this process, on whichever thread, until the block ends."""
    _fetchers.append(fetcher)
    try:
        yield
    finally:
        _fetchers.remove(fetcher)


def is_fetching() -> bool:
    """Return whether images are read by their URLs now."""
    return bool(_fetchers)


def is_web_url(text: str) -> bool:
    """Return whether it begins as a URL of http or https does."""
    return WEB.match(text) is not None


def shown_url(url: str) -> str:
    """Return a URL for messages: without its query, which may be a signature."""
    plain, mark, _ = url.partition("?")
    return plain[:SHOWN] + ("…" if len(plain) > SHOWN else "") + ("?…" if mark else "")


def fetch_ahead(urls: Iterable[str]) -> None:
    """Begin to fetch what will be read soon; nothing where nobody fetches, or for an empty list."""
    if _fetchers and urls:
        _fetchers[-1].ahead(urls)


@dataclass(frozen=True)
class WebImage(Remote):
    """An image of the web: a `Remote` whose `store` is all of its URL, and that is only read."""

    @classmethod
    def of(cls, url: str) -> WebImage:
        """Return the image of a URL. Whether the URL may be fetched is said when it is read."""
        return cls(url, "")

    def __str__(self) -> str:
        return self.store

    @property
    def shown(self) -> str:
        """Return it for messages."""
        return shown_url(self.store)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes `start` to `end`. ImageError where nobody fetches, and for what can't be."""
        if not _fetchers:
            raise ImageError(
                f"image '{self.shown}' is an address, and images are fetched only where"
                " `fetch_images` says so; turn that on, or run mismatch fetch first"
            )
        return _fetchers[-1].read(self.store)[start:end]
