"""A folder that image paths may not leave: not by `..`, not by an absolute path, not through a
link.
"""

from __future__ import annotations

import os

from mismatch.data.embedded.names import container_of

__all__ = ["ConfinedFolder"]

LONGEST_PATH = 32_767  # characters; no system opens a longer one
MAX_FOLDERS = 4_096  # whose real place is remembered


class ConfinedFolder:
    """The folder, with the real places of folders below it that have been looked at: rows name few
    folders and many files.
    """

    def __init__(self, folder: str) -> None:
        """Take `folder`, which may itself be a link; empty: the working directory."""
        self._folder = folder
        self._home = os.path.realpath(folder or os.curdir)
        self._inside = os.path.join(self._home, "")
        self._places: dict[str, str] = {}  # folder as written → its real place

    def leaves(self, path: str) -> bool:
        """Return whether the file that `path` names, relative to the folder, lies elsewhere. A path
        that no system opens does not leave.
        """
        if len(path) > LONGEST_PATH:
            return False
        try:
            # an image that stands in a file of rows lies where that does
            file = container_of(os.path.join(self._folder, path))
            folder, name = os.path.split(file)
            if name in ("", os.curdir, os.pardir):
                return not self._holds(os.path.realpath(os.path.join(folder, name)))
            place = os.path.join(self._place(folder), name)
            return not self._holds(os.path.realpath(place) if os.path.islink(place) else place)
        except ValueError:  # a NUL character, or one that the system's encoding lacks
            return False

    def _holds(self, place: str) -> bool:
        return place == self._home or place.startswith(self._inside)

    def _place(self, folder: str) -> str:
        place = self._places.get(folder)
        if place is None:
            if len(self._places) >= MAX_FOLDERS:
                self._places.clear()
            place = self._places[folder] = os.path.realpath(folder)
        return place
