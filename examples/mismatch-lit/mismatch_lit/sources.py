"""Where towers come from: directories, packages and the model hub, and how each fails
in one line.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers

from mismatch import BackboneError

__all__ = [
    "first_line",
    "hub_file",
    "is_path",
    "package_folder",
    "quiet",
    "reach_hub",
    "read_json",
    "seeded",
]

HUB_TIMEOUT = 10  # seconds until a silent hub counts as unreachable


def is_path(name: str) -> bool:
    """Whether a name looks like a path; no hub id does."""
    return name.startswith((".", "/", "~"))


def read_json(path: Path | None) -> dict[str, Any] | None:
    """A JSON object; None where there is no file."""
    if path is None or not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackboneError(
            f"lit: {path} is not valid JSON ({error}); copy the model again"
        ) from error
    if not isinstance(data, dict):
        raise BackboneError(f"lit: {path} holds no JSON object; copy the model again")
    return data


def package_folder(module: str, asked: str, pip: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise BackboneError(
            f"lit: '{asked}' comes in a package that is not installed: pip install {pip}"
        )
    return Path(spec.origin).parent


def reach_hub(repository: str, files: Sequence[str], asked: str) -> None:
    """Raise at once where the hub can't be reached and none of the files is in its cache; the
    libraries would retry for half a minute.
    """
    try:
        if not any(
            isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str)
            for file in files
        ):
            huggingface_hub.get_hf_file_metadata(
                huggingface_hub.hf_hub_url(repository, files[0]), timeout=HUB_TIMEOUT
            )
    except huggingface_hub.errors.EntryNotFoundError:
        return  # reached; the file may have another name
    except Exception as error:
        refusal = (
            f"lit: '{asked}' is neither a local directory nor to be had from the model hub"
            f" ({first_line(error)})"
        )
        raise BackboneError(
            f"{refusal}; give a directory, or 'tiny', which needs no network"
        ) from error


def hub_file(repository: str, name: str) -> Path | None:
    """A file of a hub repository in the cache; None where the repository has none of that name."""
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name))
    except huggingface_hub.errors.EntryNotFoundError:
        return None


def first_line(error: Exception) -> str:
    """The first line that an error says, or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


@contextmanager
def seeded() -> Iterator[None]:
    """The same random weights every time, and the caller's random numbers untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries say in many lines what one line of ours says; their settings are put back
    after.
    """
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub", "timm")]
    levels, bars = (
        [logger.level for logger in loggers],
        transformers.logging.is_progress_bar_enabled(),
    )
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers.logging.enable_progress_bar()
