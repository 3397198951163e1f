"""How far a long piece of work is: a job reports it here, and the caller may show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

__all__ = ["Advance", "Bar", "is_shown", "progress", "progress_line", "shown_by"]

# advance(done, note): how many more items are done, and a function that gives a few words to show
Advance = Callable[..., None]
# bar(label, total, unit): opens a bar; total is None where it is not known
Bar = Callable[[str, int | None, str], AbstractContextManager[Advance]]

_bar: ContextVar[Bar | None] = ContextVar("mismatch.progress", default=None)


@contextmanager
def progress(label: str, total: int | None = None, unit: str = "it") -> Iterator[Advance]:
    """Yield `advance(done, note)`, to call after each piece of the work.

    Nothing is shown unless `shown_by` says how.
    """
    bar = _bar.get()
    if bar is None:
        yield _silent
        return
    with bar(label, total, unit) as advance:
        yield advance


@contextmanager
def shown_by(bar: Bar) -> Iterator[None]:
    """Show all progress of this thread, or task, with `bar` until the block ends."""
    token = _bar.set(bar)
    try:
        yield
    finally:
        _bar.reset(token)


def is_shown() -> bool:
    """Return whether somebody shows progress of this thread, or task, by `shown_by`."""
    return _bar.get() is not None


def progress_line(
    label: str, done: int, total: int | None, unit: str, seconds: float, note: str
) -> str:
    """Return `epoch 2/10: 4,096 of 11,250 rows, loss 0.3123, rate 8.2e-04`; the time left of this
    work, which took `seconds` so far, where the note is empty.
    """
    count = done if total is None else total
    far = f"{done:,}" if total is None else f"{done:,} of {total:,}"
    far = f"{far} {unit}{'s' * (count != 1)}"
    if total and done and not note:
        note = f"{seconds / done * (total - done) / 60:.1f} minutes left"
    return f"{label}: {far}" + (f", {note}" if note else "")


def _silent(_done: int, _note: Callable[[], str] | None = None) -> None:
    """Take a report and show nothing."""
