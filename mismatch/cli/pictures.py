"""What the verbs that look for near-duplicates among a file's images have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from mismatch.cli.number_types import WORKERS
from mismatch.cli.progress import progress_bar

__all__ = ["Pictures", "picture_options"]

F = TypeVar("F", bound=Callable[..., Any])


def picture_options(function: F) -> F:
    """`--near-duplicates`, `--num-workers`."""
    for decorate in (
        click.option(
            "--num-workers",
            type=WORKERS,
            help="Threads that decode images.  [default: one per CPU]",
        ),
        click.option(
            "--near-duplicates/--no-near-duplicates",
            default=True,
            help="Look at the images for near-duplicates.  [default: yes]",
        ),
    ):
        function = decorate(function)
    return function


class Pictures:
    """The images of a file's rows, each once."""

    def __init__(self) -> None:
        self.paths: dict[str, int] = {}
        # numbers of each row's images; one, or several with --multi-image
        self.rows: list[tuple[int, ...]] = []

    def add(self, paths: Iterable[str]) -> None:
        """The images of the next row."""
        self.rows.append(tuple(self.paths.setdefault(path, len(self.paths)) for path in paths))

    def groups(
        self, base: str, *, look: bool, workers: int | None
    ) -> tuple[list[int], dict[int, str]]:
        """A group's number for each row, the same for rows of one image, or of near-duplicates if
        it shall `look`; and why rows can't be used whose images can't be read, by their place.
        MissingExtraError without the ImageHash library.
        """
        from mismatch.data.similar import groups_of

        groups, broken = (
            self._near_duplicates(base, workers) if look else (list(range(len(self.paths))), {})
        )
        joined = groups_of(
            len(self.paths),
            ((groups[row[0]], groups[other]) for row in self.rows for other in row[1:]),
        )
        bad = {
            at: broken[image]
            for at, row in enumerate(self.rows)
            for image in row
            if image in broken
        }
        return [joined[groups[row[0]]] for row in self.rows], bad

    def _near_duplicates(self, base: str, workers: int | None) -> tuple[list[int], dict[int, str]]:
        """A group's number for each image, and why those that can't be read can't."""
        from mismatch.data.pairs import resolve_image
        from mismatch.data.similar import Fingerprint, fingerprint_images, near_duplicate_groups
        from mismatch.runtime.hardware import available_cpus
        from mismatch.runtime.preprocess import open_image

        with progress_bar("images", total=len(self.paths), unit="image") as advance:
            files = (resolve_image(base, path) for path in self.paths)
            made = list(
                fingerprint_images(
                    files,
                    open_image,
                    workers=available_cpus() if workers is None else workers,
                    advance=advance,
                )
            )
        broken = {
            number: str(found) for number, found in enumerate(made) if isinstance(found, Exception)
        }
        return (
            near_duplicate_groups(
                [found if isinstance(found, Fingerprint) else None for found in made]
            ),
            broken,
        )
