"""Files on disk, whole or not at all: a temporary name beside the target, then a rename."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from mismatch.errors import CheckpointError

__all__ = ["atomic_directory", "atomic_file", "read_json", "sha256_file", "write_json"]


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[TextIO]:
    """A UTF-8 text file to write to; it takes its name when the block ends, and vanishes if the block fails."""
    target = Path(path)
    part = _sibling(target)
    with _explained(target):
        try:
            with part.open("w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """An empty folder to fill; it takes its name, in place of one that is there, when the block ends, and vanishes if the block fails."""
    target = Path(path)
    part = _sibling(target)
    with _explained(target):
        try:
            part.mkdir(parents=True)
            yield part
            _swap(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _swap(part: Path, target: Path) -> None:
    if not target.exists():
        os.replace(part, target)
        return
    old = _sibling(target)
    os.replace(target, old)
    try:
        os.replace(part, target)
    except BaseException:
        os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    """A full disk or a read-only folder, in words."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the operating system's: one of ours on its way out
            raise
        raise CheckpointError(f"can't write {target}: {error.strerror}") from error


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; CheckpointError where it can't be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error


def write_json(path: str | Path, data: Any) -> None:
    """Write indented JSON, atomically; nan and infinity are refused."""
    with atomic_file(path) as file:
        json.dump(data, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def sha256_file(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
