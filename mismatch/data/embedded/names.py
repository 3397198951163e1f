"""What an image is called that stands in a file of rows: `data/train.parquet:17`, the file and the
row there, from 1; `shards/00000.tar:000001234`, the archive and the sample's key.

Such a name is a path for all that reads images, and for all that writes rows: a CSV with it is read
as any other.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["MemberName", "container_of", "member_name", "split_member"]

CONTAINERS = ("parquet", "pq", "arrow", "tar")  # endings of files that hold images
NAME = re.compile(rf"(.*?\.(?:{'|'.join(CONTAINERS)})):(.+)", re.IGNORECASE | re.DOTALL)

MemberName = tuple[str, str]  # a file, and what an image is called in it


def split_member(path: str | Path) -> MemberName | None:
    """Return the file of rows and the key in it that a path names; None for any other path.

    Nothing is looked up: a file may have such a name itself, and counts where it is there.
    """
    text = str(path)
    if ":" not in text:
        return None
    parts = NAME.fullmatch(text)
    return None if parts is None else (parts[1], parts[2])


def container_of(path: str) -> str:
    """Return the file that has to be read for a path: the file of rows of an image that stands in
    one, and any other path itself.
    """
    parts = split_member(path)
    return path if parts is None or os.path.lexists(path) else parts[0]


def member_name(container: str | Path, base: str) -> str:
    """Return what a file of rows is called in the names of its images: its path relative to `base`,
    the folder that image paths are relative to, and absolute where it lies elsewhere. Without a
    base it is the path as given.
    """
    if not base:
        return str(container)
    relative = os.path.relpath(container, base)
    leaves = relative == os.pardir or relative.startswith(os.path.join(os.pardir, ""))
    return os.path.abspath(container) if leaves else relative
