"""Lines of the log, written by a thread of its own: the service goes on where nobody reads them."""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import threading
from contextlib import suppress
from typing import Any

__all__ = ["LogWriter"]

MAX_WAITING_LINES = 10_000  # lines that wait to be written; further ones are dropped, and counted
FLUSH_SECONDS = 2.0  # the time in which the last lines have to be written
LOST = "lines of the log were lost: they could not be written, or were not read in time"


class LogWriter(logging.Handler):
    """Writes records as lines. It never waits for who reads them, and fails nobody's request."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str] = queue.Queue(MAX_WAITING_LINES)
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="mismatch-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self._lost += 1

    def flush(self) -> None:
        self.drain()

    def drain(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all lines are written; False where that takes too long."""
        with self._lines.all_tasks_done:
            return self._lines.all_tasks_done.wait_for(
                lambda: not self._lines.unfinished_tasks, seconds
            )

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            try:
                if self._lost:
                    self._report_lost()
                self._write(line)
            except (OSError, ValueError):  # a full disk, a pipe without a reader, a closed stream
                self._lost += 1
            finally:
                self._lines.task_done()

    def _report_lost(self) -> None:
        lost = self._lost
        line = {"level": "warning", "message": LOST, "lines": lost}
        self._write(json.dumps(line) + "\n")
        self._lost -= lost

    def _write(self, line: str) -> None:
        """Write to the file itself: a lock of the stream's would be held while nobody reads."""
        file = self._file()
        if file is None:
            self._stream.write(line)
            self._stream.flush()
            return
        data = line.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(file, data) :]
            except BlockingIOError:
                select.select([], [file], [])

    def _file(self) -> int | None:
        """Return the stream's file; None where it has none."""
        with suppress(OSError, AttributeError):
            return int(self._stream.fileno())
        return None
