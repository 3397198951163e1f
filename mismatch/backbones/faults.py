"""What a backbone's own code fails with, in the name of its plugin."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from mismatch.backbones.families import BackboneFamily
from mismatch.backbones.registry import families
from mismatch.errors import BackboneError, MismatchError
from mismatch.io.retries import shortage_in

__all__ = ["plugin_error", "plugin_errors", "root_cause"]

OWN = "mismatch"  # the package that calls plugins
LONGEST = 240  # letters of an error of torch that are quoted


@contextmanager
def plugin_errors() -> Iterator[None]:
    """Raise an exception of a backbone's own code as a BackboneError with its family, distribution
    and line. What is ours, and what the machine lacks, passes as it is.
    """
    try:
        yield
    except Exception as error:
        named = plugin_error(error)
        if named is None:
            raise
        raise named from error


def plugin_error(error: Exception, words: str = "") -> BackboneError | None:
    """Return what to raise for an exception that comes from a plugin; None for any other one.
    `words`: what to say of the error itself.
    """
    if isinstance(error, MismatchError) or _is_shortage(error):
        return None
    owners = {_package(family): family for family in families().values()}
    place = _place(error, owners)
    if place is None:
        return None
    family, frame = place
    line = f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"
    return BackboneError(
        f"backbone {family.name!r} of {family.distribution} {family.version} fails at {line}:"
        f" {words or root_cause(error)}; this is for the plugin's author to mend"
    )


def root_cause(error: BaseException) -> str:
    """Return the root cause of an error, in a line. torch's own are pages; the root cause is the
    shortest, and its first lines say it.
    """
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split())
    if not text:
        return type(cause).__name__
    return f"{type(cause).__name__}: {text[:LONGEST]}{'…' * (len(text) > LONGEST)}"


def _package(family: BackboneFamily) -> str:
    return family.module.partition(":")[0].partition(".")[0]


def _place(
    error: BaseException, owners: dict[str, BackboneFamily]
) -> tuple[BackboneFamily, traceback.FrameSummary] | None:
    """Return the family whose code raised an error, and where; None where ours did. An error that
    torch raised of another one is where that was.
    """
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in reversed(causes):
        place = _last_place(cause.__traceback__, owners)
        if place is not None:
            return place
    return None


def _last_place(
    trace: TracebackType | None, owners: dict[str, BackboneFamily]
) -> tuple[BackboneFamily, traceback.FrameSummary] | None:
    place = None
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == OWN:
            place = None
        elif package in owners:
            [frame] = traceback.extract_tb(trace, limit=1)
            place = owners[package], frame
        trace = trace.tb_next
    return place


def _is_shortage(error: Exception) -> bool:
    """Return whether memory or threads are short, whoever asks for them."""
    return "OutOfMemory" in type(error).__name__ or shortage_in(error) is not None
