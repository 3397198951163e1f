"""Rows that are scored together: windows of a source, or of a live one as its rows come."""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from mismatch.runtime.preprocess import PreparedImage
from mismatch.runtime.row_pairs import Pair

__all__ = [
    "HELD_BYTES",
    "HELD_IMAGES",
    "HELD_LETTERS",
    "WINDOW",
    "WindowLimits",
    "live_windows",
    "windows",
]

WINDOW = 4096  # rows that are looked at together
HELD_BYTES = 64 * 2**20  # a window with more encoded images ends early
# so does one with more decoded images (Pillow's, arrays); a batch if that is more
HELD_IMAGES = 64
# so does one with more letters, where long texts go in pieces: 44,000 pieces of Chinese, 90 MB of
# 512 numbers each; fewer of English
HELD_LETTERS = 2**20
QUIET = 0.01  # seconds without a row of a live source, after which those that are there are scored


@dataclass(frozen=True)
class WindowLimits:
    """When a window ends."""

    rows: int = WINDOW
    encoded: int = HELD_BYTES  # bytes of encoded images
    decoded: int = HELD_IMAGES
    letters: float = math.inf


class _Filling:
    """How full a window is."""

    def __init__(self, limits: WindowLimits) -> None:
        self._limits = limits
        self._rows = 0
        self._encoded = 0
        self._decoded = 0
        self._letters = 0

    def take(self, pair: Pair) -> bool:
        """Count a pair; return whether it was the window's last."""
        limits = self._limits
        self._rows += 1
        self._letters += len(pair.text)
        if isinstance(pair.image, bytes):
            self._encoded += len(pair.image)
        elif isinstance(pair.image, (Image.Image, np.ndarray, PreparedImage)):
            self._decoded += 1
        return (
            self._rows >= limits.rows
            or self._encoded >= limits.encoded
            or self._decoded >= limits.decoded
            or self._letters >= limits.letters
        )


def windows(pairs: Iterable[Pair], limits: WindowLimits) -> Iterator[list[Pair]]:
    """Yield pairs a full window at a time, read when it is asked for."""
    stream = iter(pairs)
    while rows := _window(stream, limits):
        yield rows


def _window(stream: Iterator[Pair], limits: WindowLimits) -> list[Pair]:
    rows = []
    filling = _Filling(limits)
    for pair in islice(stream, limits.rows):
        rows.append(pair)
        if filling.take(pair):
            break
    return rows


def live_windows(pairs: Iterable[Pair], limits: WindowLimits) -> Iterator[list[Pair]]:
    """Yield pairs as they come: a full window, or what is there when the source is quiet.

    A thread reads the source, so that one that blocks holds up no row that it has given. Nothing is
    read behind a full window; behind a smaller one up to the next full one.
    """
    reader = _Reader(pairs, limits)
    try:
        while rows := reader.next_window():
            yield rows
    finally:
        reader.stop()


class _Reader:
    """A source and the thread that reads it."""

    def __init__(self, pairs: Iterable[Pair], limits: WindowLimits) -> None:
        self._pairs = pairs
        self._limits = limits
        self._changed = threading.Condition()
        self._rows: list[Pair] = []
        self._filling = _Filling(limits)
        self._is_full = False
        self._has_ended = False
        self._is_stopped = False
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        # a daemon: where the source blocks without end, the process still ends
        self._thread = threading.Thread(
            target=lambda: context.run(self._read), name="mismatch-rows", daemon=True
        )
        self._thread.start()

    def next_window(self) -> list[Pair]:
        """Wait for rows; none where the source has ended. What the source raises is raised behind
        its last row.
        """
        with self._changed:
            if self._is_full and not self._rows:  # the last window was full: read on
                self._is_full = False
                self._changed.notify_all()
            self._wait()
            rows = self._rows
            self._rows = []
            self._filling = _Filling(self._limits)
            if not rows and self._error is not None:
                raise self._error
            return rows

    def _wait(self) -> None:
        """Wait until a window is full, or rows are there and no more come, or none will come."""
        count = 0
        while not (self._is_full or self._has_ended):
            if count and len(self._rows) == count:
                return
            count = len(self._rows)
            self._changed.wait(QUIET if count else None)

    def stop(self) -> None:
        """Let the thread end at its next row."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for pair in self._pairs:
                if not self._add(pair):
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the rows are asked for
            self._error = error
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _add(self, pair: Pair) -> bool:
        """Add a row, and wait where the window is full; return whether to go on."""
        with self._changed:
            self._rows.append(pair)
            self._is_full = self._filling.take(pair)
            if self._is_full or len(self._rows) == 1:
                self._changed.notify_all()
            while self._is_full and not self._is_stopped:
                self._changed.wait()
            return not self._is_stopped
