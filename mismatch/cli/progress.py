"""How far a long piece of work is: a bar on a terminal, a plain line a minute in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import click

from mismatch.progress import progress_line

__all__ = ["progress_bar"]

LINE_SECONDS = 60.0  # between two lines in a pipe
# tqdm's, shortened so that 80 columns hold the note
WITH_NOTE = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [<{remaining}{postfix}]"
NOTE_SECONDS = 1.0  # between two looks at the note on a terminal: a look may wait for a GPU


def _no_note() -> str:
    return ""


@contextmanager
def progress_bar(
    label: str, total: int | None = None, unit: str = "it"
) -> Iterator[Callable[..., None]]:
    """Yield `advance(done, note)`: how many more items are done, and what writes a few words next
    to the bar. The words are asked for only when they are shown.

    Everything goes to stderr.
    """
    if sys.stderr is None:  # closed before the command began
        yield lambda done, note=_no_note: None
        return
    from tqdm import tqdm

    with tqdm(
        desc=label, total=total, unit=unit, disable=None, leave=False, dynamic_ncols=True
    ) as bar:
        shown = _Line(label, total, unit) if bar.disable else _Bar(bar)
        yield shown.advance


class _Bar:
    """A bar of tqdm with a note."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.due = 0.0

    def advance(self, done: int, note: Callable[[], str] = _no_note) -> None:
        if note is not _no_note and (now := monotonic()) >= self.due:
            self.due = now + NOTE_SECONDS
            self.bar.bar_format = WITH_NOTE
            self.bar.set_postfix_str(note(), refresh=False)
        self.bar.update(done)


class _Line:
    """A line now and then."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self.began = monotonic()
        self.due = self.began + LINE_SECONDS

    def advance(self, done: int, note: Callable[[], str] = _no_note) -> None:
        self.done += done
        if (now := monotonic()) >= self.due:
            self.due = now + LINE_SECONDS
            line = progress_line(
                self.label, self.done, self.total, self.unit, now - self.began, note()
            )
            click.echo(line, file=sys.stderr)
