"""The audit as one HTML page with pictures of the offenders, which needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mismatch.data.pairs import format_location
from mismatch.errors import ImageError
from mismatch.io.atomic import atomic_file
from mismatch.reports.gallery import STYLE, thumbnail

if TYPE_CHECKING:
    from mismatch.data.audit.report import Audit, FileAudit

__all__ = ["TITLE", "write_audit_page"]

TITLE = "<title>Audit</title>"  # by which an older page is known
PICTURES = 12  # for each doubt
TABLE = """
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
ol.small-cards { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); } ol.small-cards img { height: 7rem; }
.bad { color: #c0392b; } @media (prefers-color-scheme: dark) { .bad { color: #ff8a7a; } }
@media print { li { break-inside: avoid; } }
"""


def write_audit_page(path: Path, report: Audit) -> None:
    """Write what `Audit.lines` says, with pictures; what comes from the files is escaped."""
    with atomic_file(path) as file:
        file.write(
            '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport"'
            ' content="width=device-width">\n'
        )
        file.write(f"{TITLE}\n<style>{STYLE}{TABLE}</style>\n<h1>Audit</h1>\n")
        file.writelines(_page(report))
        file.write("</html>\n")


def _page(report: Audit) -> Iterator[str]:
    yield (
        f'<p class="{"good" if report.ok else "bad"}"><strong>{escape(report.verdict())}</strong></p>\n'
    )
    yield from _figures(report)
    yield from (f"<p>{escape(warning)}</p>\n" for warning in report.warnings)
    for (first, second), images in report.leaks.items():
        yield (
            f"<h2>In {escape(report.files[first].path)} and, nearly the same, in"
            f" {escape(report.files[second].path)}</h2>\n"
        )
        yield from _cards(
            report.files[first],
            [line for image in sorted(images) for line in report.files[first].images[image][:1]],
        )
    for file in report.files:
        yield from _file(file)


def _figures(report: Audit) -> Iterator[str]:
    heads = ("file", "rows", "matches", "mismatches", "images", "texts", "can't be used")
    yield f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>\n"
    for file in report.files:
        values = (
            file.rows,
            file.labels[1],
            file.labels[0],
            len(file.images),
            file.texts,
            file.unusable,
        )
        cells = "".join(f'<td class="number">{value:,}</td>' for value in values)
        yield f"<tr><td>{escape(file.path)}</td>{cells}</tr>\n"
    yield "</table>\n"


def _file(file: FileAudit) -> Iterator[str]:
    if file.problems or file.warnings or file.findings:
        yield f"<h2>{escape(file.path)}</h2>\n"
    yield from (f"<p>{escape(warning)}</p>\n" for warning in file.warnings)
    for finding in file.findings:
        yield f"<h3>{escape(finding.message)}</h3>\n"
        yield from _cards(file, finding.lines)
    if file.problems:
        yield f"<h3>{file.problem_count:,} problem{'s' * (file.problem_count != 1)}</h3>\n<table>\n"
        yield from (
            f"<tr><td>{escape(format_location(file.path, line))}</td><td>{escape(message)}</td></tr>\n"
            for line, message in file.problems
        )
        yield "</table>\n"
        if more := file.problem_count - len(file.problems):
            yield f"<p>… and {more:,} more; a higher limit of problems lists them</p>\n"


def _cards(file: FileAudit, lines: list[int]) -> Iterator[str]:
    """Yield the pictures of these lines, the first few."""
    shown = set(lines[:PICTURES])
    images = {
        line: image for image, named in file.images.items() for line in shown.intersection(named)
    }
    yield '<ol class="small-cards">\n'
    for line in sorted(images):
        try:
            picture = f'<img src="{thumbnail(Path(images[line]))}" alt="" loading="lazy">'
        except ImageError as error:
            picture = f'<p class="small">{escape(str(error))}</p>'
        yield (
            f"<li>{picture}<p"
            f' class="small">{escape(format_location(file.path, line))}<br>{escape(Path(images[line]).name)}</p></li>\n'
        )
    yield "</ol>\n"
