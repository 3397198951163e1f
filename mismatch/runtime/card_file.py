"""A model's card on disk, README.md. mismatch signs what it writes, and writes it again only while
nobody has changed it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mismatch.errors import CheckpointError
from mismatch.io.atomic import atomic_file
from mismatch.io.reading import read_text

__all__ = [
    "CARD",
    "SCORE_END",
    "SCORE_START",
    "is_own_card",
    "published_card",
    "read_score_section",
    "replace_score",
    "write_card",
]

CARD = "README.md"
LARGEST = 2**20  # bytes; one of ours has about 4 kB
# around the section that follows the calibration and the threshold
SCORE_START = "<!-- mismatch: score -->\n\n"
SCORE_END = "<!-- mismatch: end of score -->\n"
SIGNATURE = "\n<!-- mismatch: sha256 "


def is_own_card(path: Path) -> bool:
    """Return whether a file is a card as mismatch wrote it; a link is none."""
    return path.name == CARD and _own_text(path) is not None


def write_card(folder: Path, text: str) -> bool:
    """Write a card, unless somebody's own README.md is there; return whether it was written."""
    path = folder / CARD
    if os.path.lexists(path) and not is_own_card(path):
        return False
    with atomic_file(path) as file:
        file.write(text + _signature(text))
    return True


def replace_score(folder: Path, section: str) -> bool:
    """Put another section on the score into a folder's card; return whether that was done. A card
    that somebody has changed stays, and none is begun.
    """
    parts = _parts(folder)
    return parts is not None and write_card(
        folder, parts[0] + SCORE_START + section + SCORE_END + parts[2]
    )


def published_card(folder: Path, repository: str, *, links: bool = False) -> str | None:
    """Return a folder's card for a repository on a hub: one of ours says how to load it from there,
    one that somebody has written stays as it is. None where there is none, or where it is a link
    and `links` are not followed.
    """
    path = folder / CARD
    text = _own_text(path.resolve() if links else path)
    if text is not None:
        text = text.replace('"this/folder"', f'"hub:{repository}"')
        return text + _signature(text)
    if (path.is_symlink() and not links) or not path.is_file():
        return None
    try:
        return read_text(path, LARGEST)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read as a card: {error}") from error


def read_score_section(folder: Path) -> str | None:
    """Return what a folder's card says of the score; None where it has none of ours."""
    parts = _parts(folder)
    return None if parts is None else parts[1]


def _parts(folder: Path) -> tuple[str, str, str] | None:
    """Return a card before, in and behind the section on the score."""
    text = _own_text(folder / CARD)
    if text is None:
        return None
    head, start, rest = text.partition(SCORE_START)
    section, end, tail = rest.partition(SCORE_END)
    return (head, section, tail) if start and end else None


def _own_text(path: Path) -> str | None:
    """Return a card without its signature; None where it is not as mismatch wrote it, or a link."""
    if path.is_symlink():
        return None
    try:
        whole = read_text(path, LARGEST)
    except (OSError, ValueError):
        return None
    text, mark, _ = whole.rpartition(SIGNATURE)
    return text if mark and whole == text + _signature(text) else None


def _signature(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return (
        f"{SIGNATURE}{digest} of the text above; a page that differs from it is yours, and stays as"
        " it is -->\n"
    )
