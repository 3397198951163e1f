"""The audit with pictures of the offenders, as a page and for notebooks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mismatch.data.pairs import format_location
from mismatch.io.remote import is_url
from mismatch.reports.rendering import render, write_page
from mismatch.reports.thumbnails import Thumbnail, thumbnail_of

if TYPE_CHECKING:
    from mismatch.data.audit.findings import Finding
    from mismatch.data.audit.report import Audit, FileAudit

__all__ = ["TITLE", "audit_fragment", "write_audit_page"]

TITLE = "<title>Audit</title>"  # by which an older page is known
PICTURES = 12  # for each doubt


class Card(NamedTuple):
    """A row that is shown."""

    place: str  # train.csv:17
    name: str  # of the image
    picture: Thumbnail
    text: str = ""  # of a row that is shown for it


def write_audit_page(path: Path, report: Audit) -> None:
    """Write what `Audit.lines` says, with pictures."""
    write_page(path, "audit.html.j2", **_context(report))


def audit_fragment(report: Audit) -> str:
    """Return the same as HTML to stand inside a page."""
    return render("audit_fragment.html.j2", **_context(report))


def _context(report: Audit) -> dict[str, Any]:
    return {
        "report": report,
        "leaks": _leaks(report),
        "cards": _cards,
        "group_cards": _group_cards,
        "place": format_location,
    }


def _leaks(report: Audit) -> Iterator[tuple[FileAudit, FileAudit, list[Card]]]:
    """Yield two files that share images, nearly, and the rows of the first."""
    for (first, second), images in report.leaks.items():
        file = report.files[first]
        lines = [line for image in sorted(images) for line in file.images[image][:1]]
        yield file, report.files[second], _cards(file, lines)


def _cards(file: FileAudit, lines: Sequence[int]) -> list[Card]:
    """Return the first few of these lines, by line, without those that name no image."""
    images = _images(file, lines[:PICTURES])
    return [_card(file, line, image) for line, image in sorted(images.items())]


def _group_cards(file: FileAudit, finding: Finding) -> Iterator[list[Card]]:
    """Yield the first few groups of a finding, with their texts."""
    groups = finding.groups[:PICTURES]
    images = _images(file, [row.line for group in groups for row in group])
    for group in groups:
        yield [
            _card(file, row.line, images[row.line], row.text) for row in group if row.line in images
        ]


def _images(file: FileAudit, lines: Collection[int]) -> dict[int, str]:
    shown = set(lines)
    return {
        line: image for image, named in file.images.items() for line in shown.intersection(named)
    }


def _card(file: FileAudit, line: int, image: str, text: str = "") -> Card:
    is_address = is_url(image)
    name = image if is_address else Path(image).name
    picture = Thumbnail("", "it is not fetched") if is_address else thumbnail_of(image, "")
    return Card(format_location(file.path, line), name, picture, text)
