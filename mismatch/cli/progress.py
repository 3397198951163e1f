"""A progress bar on a terminal, silence in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(label: str, total: int | None = None, unit: str = "it") -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more items are done; draws on stderr, and only if that is a terminal."""
    from tqdm import tqdm

    with tqdm(desc=label, total=total, unit=unit, disable=None, leave=False, dynamic_ncols=True) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        yield advance
