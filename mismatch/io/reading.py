"""Bounded reading: regular files only, and no more bytes than were asked for."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import IO, Any

from mismatch.errors import CheckpointError
from mismatch.io.remote import Remote, open_located
from mismatch.io.retries import open_patiently, reason, retried

__all__ = [
    "LARGEST_JSON",
    "LARGEST_MODEL_JSON",
    "check_model_folder",
    "check_regular",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_text",
]

# bytes of a file of settings, or of what a model says of itself: parsed, it takes ten times as many
# and more
LARGEST_JSON = 32 * 2**20
# bytes of any JSON file in a model's folder; the largest tokenizer.json in use has 35 MB
LARGEST_MODEL_JSON = 128 * 2**20


def check_regular(path: str | Path) -> None:
    """Refuse, by OSError, a pipe, a device or a folder: opening or reading one may never end. A
    link counts as what it leads to.
    """
    mode = retried(lambda: os.stat(path)).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and only files are read", str(path))


def check_model_folder(folder: str | Path) -> None:
    """Refuse, by CheckpointError, a pipe, a device or a huge JSON file in a folder that another
    library is to load. It would hang, or take all memory.
    """
    path = Path(folder)
    try:
        for path in sorted(Path(folder).iterdir()):
            if path.is_dir() or not path.exists():
                continue  # a link that leads nowhere is missed where it is needed
            check_regular(path)
            if path.suffix == ".json" and path.stat().st_size > LARGEST_MODEL_JSON:
                raise _too_large(path, LARGEST_MODEL_JSON)
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read: {reason(error)}; copy the model's folder again"
        ) from error


def read_bytes(path: str | Path, max_bytes: int = LARGEST_JSON) -> bytes:
    """Return the content of a regular file. OSError for a pipe, a device or a folder, and for a
    file of more than `max_bytes`, which is not read.
    """
    check_regular(path)
    with open_patiently(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise _too_large(path, max_bytes)
        return _read_at_most(file, size, path, max_bytes)


def read_text(path: str | Path, max_bytes: int = LARGEST_JSON, encoding: str = "utf-8") -> str:
    """Return what `read_bytes` does, decoded. UnicodeDecodeError, a ValueError, where it is not in
    that encoding.
    """
    return read_bytes(path, max_bytes).decode(encoding)


def _read_at_most(
    file: IO[bytes], expected: int, path: str | Path | Remote, max_bytes: int
) -> bytes:
    """Return all of it, where it has no more than `max_bytes`. Memory is asked for as `expected`,
    which a file may have outgrown by now.
    """
    data = file.read(expected + 1)
    if expected < len(data) <= max_bytes:
        data += file.read(max_bytes + 1 - len(data))
    if len(data) > max_bytes:
        raise _too_large(path, max_bytes)
    return data


def _too_large(path: str | Path | Remote, max_bytes: int) -> OSError:
    return OSError(
        errno.EINVAL,
        f"it is larger than the {max_bytes:,} bytes that such a file may have",
        str(path),
    )


def read_json(path: str | Path | Remote, max_bytes: int = LARGEST_JSON) -> Any:
    """Return the content of a JSON file, or object. CheckpointError where it can't be read, is no
    regular file, or has more than `max_bytes`.
    """
    try:
        if not isinstance(path, Remote):
            check_regular(path)
        with open_located(path) as file:
            return parse_json(_read_at_most(file, max_bytes, path, max_bytes).decode())
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error


def parse_json(text: str, *, unique: bool = False) -> Any:
    """Return what a JSON text says. ValueError or RecursionError where it is none: also for NaN and
    Infinity, which Python would take, and for a key that an object has twice if `unique`.
    """
    pairs = _unique if unique else None
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=pairs)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
