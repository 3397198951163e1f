"""The name of a file that a command is to write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

__all__ = ["OutputFile", "names_folder"]


class OutputFile(click.Path):
    """A path of a file, there or not; a name that only a folder can have is refused, as pathlib
    would drop its last slash.
    """

    def __init__(self) -> None:
        """Refuse a folder that is there too."""
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; refuse one that names a folder."""
        if names_folder(value):
            self.fail(
                f"{os.fspath(value)} names a folder, and a file is written; leave out what follows"
                " its name",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


def names_folder(value: str | os.PathLike[str]) -> bool:
    """Return whether a path ends as only a folder's may: in a slash, or in one and a dot or two."""
    name = os.fspath(value).replace(os.sep, "/")
    return name.endswith(("/", "/.", "/.."))
