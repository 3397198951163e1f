"""A model's folder copied: the files that it lists of itself, and nothing that links in it lead to
otherwise.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mismatch.errors import CheckpointError
from mismatch.io.reading import check_regular, read_json
from mismatch.io.retries import reason
from mismatch.runtime.bundle import UNHASHED
from mismatch.runtime.hub_models import is_in_hub_cache
from mismatch.runtime.score_file import score_file

__all__ = ["copy_model"]

# as training/checkpoint.py names them
COPIED_WITH = {
    "classification_head.safetensors",
    "training_stats.json",
    "training_state.json",
    "training_state.pt",
}


def copy_model(source: Path, target: Path) -> None:
    """Copy a bundle's or a checkpoint's files into the folder `target`, which is there: listed
    ones, through links too, and plain ones that may lie next to them.

    Other files stay behind. All files of an older checkpoint, which lists none, are copied.
    CheckpointError for a link to anything but a listed file, for a pipe, and for what can't be read
    or written.
    """
    described = score_file(source)
    listed = read_json(described).get("files")
    names = set(listed) if isinstance(listed, dict) and listed else set(_all_files(source))
    for name in sorted({described.name} | names | set(_plain_files(source))):
        _check_name(source, name)
        path = source / name
        copy = target / name
        try:
            check_regular(path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        except OSError as error:
            raise CheckpointError(f"{path} can't be copied: {reason(error)}") from error


def _plain_files(folder: Path) -> Iterator[str]:
    """Yield plain files in the folder itself that no list has to name."""
    links = is_in_hub_cache(folder)  # where every file is one
    for path in folder.iterdir():
        if (
            (path.name in COPIED_WITH or path.name.lower() in UNHASHED)
            and path.is_file()
            and (links or not path.is_symlink())
        ):
            yield path.name


def _all_files(folder: Path) -> Iterator[str]:
    """Yield every file below the folder. CheckpointError for a link: nothing says that what it
    leads to is the model's.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                raise CheckpointError(
                    f"{path} is a link, and the model does not list its files; put a copy of the"
                    " file in its place"
                )
            if name in files:
                yield path.relative_to(folder).as_posix()


def _check_name(folder: Path, name: str) -> None:
    """Refuse, by CheckpointError, a name that leaves the folder, by itself or through a folder that
    is a link.
    """
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or "\0" in name:
        raise CheckpointError(
            f"{folder} lists {name!r}, which is outside of it; copy the model again"
        )
    if any((folder / parent).is_symlink() for parent in list(parts.parents)[:-1]):
        raise CheckpointError(
            f"{folder / parts.parent} is a link to a folder, which is not followed; put a copy of"
            " it in its place"
        )
