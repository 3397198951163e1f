"""What the verbs that look for near-duplicates among a file's images have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import click

from mismatch.cli.progress import progress_bar

__all__ = ["near_duplicates", "picture_options"]

F = TypeVar("F", bound=Callable[..., Any])


def picture_options(function: F) -> F:
    """`--image-base-path`, `--near-duplicates`, `--num-workers`."""
    for decorate in (
        click.option("--num-workers", type=click.IntRange(0), help="Threads that decode images.  [default: one per CPU]"),
        click.option("--near-duplicates/--no-near-duplicates", default=True, help="Look at the images for near-duplicates.  [default: yes]"),
        click.option("--image-base-path", default="", help="Folder that the CSV's image paths are relative to.  [default: the working directory]"),
    ):
        function = decorate(function)
    return function


def near_duplicates(paths: Collection[str], base: str, workers: int | None) -> tuple[list[int], dict[int, str]]:
    """A group's number for each image, and why those that can't be read can't, by their place in `paths`."""
    from mismatch.data.pairs import resolve_image
    from mismatch.data.similar import Fingerprint, fingerprint_images, near_duplicate_groups
    from mismatch.runtime.hardware import available_cpus
    from mismatch.runtime.preprocess import open_image

    with progress_bar("images", total=len(paths), unit="image") as advance:
        files: Iterable[Any] = (resolve_image(base, path) for path in paths)
        made = list(fingerprint_images(files, open_image, workers=available_cpus() if workers is None else workers, advance=advance))
    broken = {number: str(found) for number, found in enumerate(made) if isinstance(found, Exception)}
    return near_duplicate_groups([found if isinstance(found, Fingerprint) else None for found in made]), broken
