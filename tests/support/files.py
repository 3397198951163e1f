"""What lies in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["hash_of", "hashes", "names", "tree"]


def names(folder: Path) -> list[str]:
    """Return the names in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> list[str]:
    """Return what is in a folder at any depth, as paths from there, in order."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder at any depth."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hash_of(path) for path in files}
