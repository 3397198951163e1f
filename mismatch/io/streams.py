"""Standard streams and names of files as a command needs them: closed streams, full disks behind
them, terminals and locales that know ASCII only.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from mismatch.errors import MachineError

__all__ = ["open_closed_streams", "settle", "show_all_letters", "start_in_utf8", "stream_error"]

PROGRAMS = {"mismatch", "cli", "__main__"}  # names under which this is a process's own program
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def start_in_utf8() -> None:
    """Start the process again in Python's UTF-8 mode where its locale knows ASCII only. Names of
    files, arguments and messages could not be read or printed.
    """
    ascii_only = codecs.lookup(sys.getfilesystemencoding()).name == "ascii"
    if (
        not ascii_only
        or sys.flags.utf8_mode
        or os.name != "posix"
        or not sys.executable
        or Path(sys.argv[0]).stem not in PROGRAMS
    ):
        return
    arguments = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    # processes that it starts have the mode too
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONUTF8": "1"})


def open_closed_streams() -> None:
    """Put something in the place of standard streams that were closed: else the next file that is
    opened gets their number, and what is printed.

    Nothing can be read from it, and to write to it is an OSError (EBADF); what is said on standard
    error goes nowhere.
    """
    if sys.platform == "win32":
        return
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def show_all_letters(stream: TextIO | None) -> None:
    """Let a stream show by their codes the letters that its encoding lacks, and bytes of names that
    are no text. Python would end the command there.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def settle(stream: TextIO | None) -> None:
    """Let go of what a stream could not take, of which the interpreter would complain once more
    when it ends.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def stream_error(error: OSError) -> Exception:
    """Return, in words, an error of the system that names no file: of standard output, or of a
    working directory that somebody has removed.
    """
    try:
        os.getcwd()
    except OSError:
        return MachineError(
            "the working directory is gone; go to one that is there, or give absolute paths"
        )
    if error.errno == errno.EBADF:
        return MachineError(
            "can't write standard output: it is closed; redirect it to a file, or to /dev/null"
        )
    return (
        MachineError(f"can't write standard output: {error.strerror}")
        if error.errno in FULL
        else error
    )
