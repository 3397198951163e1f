"""What a machine and an environment have and lack, as lines for people and for bug reports."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mismatch.jobs.doctor import DoctorResult

__all__ = ["doctor_lines"]

WIDTH = 100  # columns
FIRST = 13  # columns of the words at the left
GIB = 2**30


def doctor_lines(result: DoctorResult) -> list[str]:
    """Return the result for people."""
    lines = [f"mismatch {result.version}, Python {result.python}, {result.system}", ""]
    for name, text in _rows(result):
        lines += _row(name, text)
    lines += ["", "extras"]
    for extra, state in result.extras.items():
        lines += _row(f"  {extra}", _extra(state.lacks, state.install))
    for title, sentences in (("advice", result.advice), ("problems", result.problems)):
        if sentences:
            lines += ["", title, *(f"  {sentence}" for sentence in sentences)]
    return lines


def _rows(result: DoctorResult) -> Iterator[tuple[str, str]]:
    instructions = ", ".join(result.instructions) or "none of those that kernels are made for"
    yield "CPU", f"{result.cpu}; {result.cpus} for this process; {instructions}"
    yield "int8", _int8(result.exact_int8)
    yield "GPU", "; ".join(result.gpus) or "no NVIDIA GPU found"
    yield "providers", ", ".join(result.providers) or "none: onnxruntime can't be loaded"
    yield "memory", "unknown" if result.free_memory is None else f"{_size(result.free_memory)} free"
    sizes = [f"{_size(size)} free in the {where}" for where, size in result.free_disk.items()]
    yield "disk", ", ".join(sizes) or "unknown"
    hub = result.hub
    yield "model hub", f"{hub.host}: {hub.detail or 'it answers'}"
    installed = [f"{name} {version}" for name, version in result.libraries.items() if version]
    yield "libraries", ", ".join(installed) or "unknown"


def _row(name: str, text: str) -> list[str]:
    """Return a name and a text next to it, in as many lines as it takes."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=name.ljust(FIRST),
        subsequent_indent=" " * FIRST,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _int8(exact: bool) -> str:
    if exact:
        return "8-bit products are exact at full speed"
    return (
        "this CPU has no exact 8-bit dot products (x86: VNNI or AMX), so int8 bundles run on slower"
        " kernels"
    )


def _extra(lacks: tuple[str, ...], install: str) -> str:
    return f"lacks {', '.join(lacks)}: {install}" if lacks else "complete"


def _size(count: int) -> str:
    return f"{count / GIB:,.1f} GiB"
