"""The images of rows, each once: which are near-duplicates, and which can't be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mismatch.data.columns import file_finder
from mismatch.data.near_duplicates import (
    Fingerprint,
    fingerprint_images,
    groups_of,
    near_duplicate_groups,
)
from mismatch.data.pairs import resolve_image
from mismatch.progress import progress

__all__ = ["ImageGroups", "Pictures"]


@dataclass(frozen=True)
class ImageGroups:
    """Rows grouped by their images."""

    # a number for each row, the same for rows of one image or of near-duplicates
    groups: list[int]
    # why an image of a row can't be read, by the row's place in the list
    broken: dict[int, str] = field(default_factory=dict)


class Pictures:
    """The images of a file's rows, each once."""

    def __init__(self) -> None:
        """Begin without rows."""
        self.paths: dict[str, int] = {}  # each image's → its number
        # numbers of each row's images; one, or several with `multi_image`
        self.rows: list[tuple[int, ...]] = []

    def add(self, paths: Iterable[str]) -> None:
        """Add the images of the next row."""
        self.rows.append(tuple(self.paths.setdefault(path, len(self.paths)) for path in paths))

    def groups(self, base: str, *, look: bool, workers: int | None) -> ImageGroups:
        """Return the rows' groups. Images that can't be read are named.

        `look`: look for near-duplicates too; without it no file is opened. `base`: folder that
        paths are relative to; `workers`: threads that decode, None for one per
        CPU. MissingExtraError without the ImageHash library.
        """
        broken: dict[int, str] = {}
        if look:
            numbers, broken = self._near_duplicates(base, workers)
        else:
            numbers = self._same_files(base)
        pairs = (
            (numbers[row[0]], numbers[other])  # images of one row belong together
            for row in self.rows
            for other in row[1:]
        )
        joined = groups_of(len(self.paths), pairs)
        groups = [joined[numbers[row[0]]] for row in self.rows]
        return ImageGroups(groups, self._broken_rows(broken))

    def _same_files(self, base: str) -> list[int]:
        """Return a number for each image, the same for spellings of one path and for links to it;
        no file is opened.
        """
        file = file_finder(base)
        first: dict[str, int] = {}
        return [first.setdefault(file(path), number) for path, number in self.paths.items()]

    def _broken_rows(self, broken: dict[int, str]) -> dict[int, str]:
        if not broken:
            return {}
        rows: dict[int, str] = {}
        for place, row in enumerate(self.rows):
            for image in row:
                if image in broken:
                    rows[place] = broken[image]
        return rows

    def _near_duplicates(self, base: str, workers: int | None) -> tuple[list[int], dict[int, str]]:
        """Return a group's number for each image, and why those that can't be read can't."""
        from mismatch.runtime.hardware import available_cpus
        from mismatch.runtime.preprocess import open_image

        files = (resolve_image(base, path) for path in self.paths)
        with progress("images", len(self.paths), "image") as advance:
            results = list(
                fingerprint_images(
                    files,
                    open_image,
                    workers=available_cpus() if workers is None else workers,
                    advance=advance,
                )
            )
        prints = [result if isinstance(result, Fingerprint) else None for result in results]
        broken = {
            number: str(result)
            for number, result in enumerate(results)
            if isinstance(result, Exception)
        }
        return near_duplicate_groups(prints), broken
