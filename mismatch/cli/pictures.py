"""Options of the verbs that look for near-duplicates among a file's images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mismatch.cli.number_types import WORKERS

__all__ = ["picture_options"]

F = TypeVar("F", bound=Callable[..., Any])


def picture_options(function: F) -> F:
    """Add `--near-duplicates` and `--num-workers`."""
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
