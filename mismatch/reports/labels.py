"""Rows whose labels are suspicious, with their pictures, as a page and for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mismatch.evaluation.label_errors import LabelFinding
from mismatch.reports.rendering import render, write_page
from mismatch.reports.thumbnails import Thumbnail, thumbnail_of

__all__ = ["labels_fragment", "write_labels_page"]


def write_labels_page(
    path: Path,
    title: str,
    lines: Iterable[str],
    findings: Iterable[LabelFinding],
    image_base_path: str,
) -> None:
    """Write a page with `lines` above and a card for each finding."""
    cards = _cards(findings, image_base_path)
    write_page(path, "labels.html.j2", title=title, lines=lines, cards=cards)


def labels_fragment(
    lines: Iterable[str], findings: Iterable[LabelFinding], image_base_path: str
) -> str:
    """Return the lines and the cards as HTML to stand inside a page."""
    cards = _cards(findings, image_base_path)
    return render("labels_fragment.html.j2", lines=lines, cards=cards)


def _cards(
    findings: Iterable[LabelFinding], base: str
) -> Iterator[tuple[LabelFinding, str, Thumbnail]]:
    """Yield each finding with its label in words and its picture."""
    for finding in findings:
        label = "match" if finding.label else "mismatch"
        yield finding, label, thumbnail_of(finding.image_path, base, finding.picture)
