"""What several files have in common: a model would be trained and tested by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mismatch.data.audit.findings import in_lines
from mismatch.data.audit.report import FileAudit
from mismatch.io.text import plural

__all__ = ["shared_warnings"]


def shared_warnings(
    files: Sequence[FileAudit], leaks: Mapping[tuple[int, int], set[str]]
) -> Iterator[str]:
    """Yield a line for images, near-duplicates and texts that stand in two files.

    `leaks`: numbers of two files → images of the first that are near-duplicates in the second.
    """
    yield from _shared(files)
    yield from _leaking(files, leaks)
    yield from _shared_texts(files)


def _shared(files: Sequence[FileAudit]) -> Iterator[str]:
    """Yield a line for images that stand in two files: scores on the one then flatter a model
    trained on the other.
    """
    for i, first in enumerate(files):
        for second in files[i + 1 :]:
            if both := len(first.images.keys() & second.images.keys()):
                yield (
                    f"{first.path} and {second.path} share {plural(both, 'image')}; a model is only"
                    " tested by images that it was not trained on"
                )


def _leaking(
    files: Sequence[FileAudit], leaks: Mapping[tuple[int, int], set[str]]
) -> Iterator[str]:
    """Yield a line for near-duplicates of images in another file."""
    for (first, second), images in leaks.items():
        lines = sorted(line for path in images for line in files[first].images[path])
        shown = ", ".join(map(str, lines[:3])) + (", …" if len(lines) > 3 else "")
        have = (
            f"{plural(len(images), 'image')} of {files[first].path} (line{'s' * (len(lines) > 1)}"
            f" {shown}) {'has' if len(images) == 1 else 'have'}"
        )
        yield (
            f"{have} a near-duplicate in {files[second].path}; a model is only tested by images"
            " that it was not trained on"
        )


def _shared_texts(files: Sequence[FileAudit]) -> Iterator[str]:
    """Yield a line for texts that stand in two files, but for case, punctuation and word order."""
    for i, first in enumerate(files):
        for second in files[i + 1 :]:
            if both := first.text_keys.keys() & second.text_keys.keys():
                lines = sorted(second.text_keys[key] for key in both)
                have = (
                    f"{plural(len(both), 'text')} of {second.path} ({in_lines(lines)})"
                    f" {'stands' if len(both) == 1 else 'stand'} in {first.path} too"
                )
                share = len(both) / len(second.text_keys)
                yield (
                    f"{have}, word for word or nearly: {share:.1%} of its texts; a split that"
                    " groups by text keeps such rows together"
                )
