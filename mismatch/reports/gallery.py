"""Rows whose labels are suspicious, with their pictures, as one HTML page that needs nothing beside
it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from mismatch.data.pairs import resolve_image
from mismatch.errors import ImageError
from mismatch.evaluation.label_errors import LabelFinding
from mismatch.io.atomic import atomic_file

__all__ = ["STYLE", "gallery_fragment", "thumbnail", "write_gallery"]

SIDE = 200  # pixels, of a thumbnail
QUALITY = 80  # of its JPEG
STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
ol { list-style: none; padding: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
li { border: 1px solid #8886; border-radius: .5rem; padding: .75rem; overflow-wrap: anywhere; }
img { display: block; width: 100%; height: 12rem; object-fit: contain; background: #fff; border-radius: .25rem; }
.text { font-weight: 600; margin: .5rem 0; } .small { font-size: .85rem; opacity: .8; margin: .25rem 0; }
.label { display: inline-block; padding: 0 .5rem; border-radius: 1rem; background: #0a7a3422; } .label.mismatch { background: #c0392b22; }
"""


def write_gallery(
    path: Path,
    title: str,
    lines: Iterable[str],
    findings: Iterable[LabelFinding],
    image_base_path: str,
) -> None:
    """Write a page with `lines` above and a card for each finding; what comes from the rows is
    escaped.
    """
    with atomic_file(path) as file:
        file.write(
            '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport"'
            ' content="width=device-width">\n'
        )
        file.write(
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n<h1>{escape(title)}</h1>\n"
        )
        file.writelines(gallery_fragment(lines, findings, image_base_path))
        file.write("</html>\n")


def gallery_fragment(
    lines: Iterable[str], findings: Iterable[LabelFinding], image_base_path: str
) -> Iterator[str]:
    """Yield the lines and the cards as HTML to stand inside a page."""
    yield from (f"<p>{escape(line)}</p>\n" for line in lines)
    yield "<ol>\n"
    for finding in findings:
        yield "".join(_card(finding, image_base_path))
    yield "</ol>\n"


def thumbnail(path: Path) -> str:
    """Return an image file as a data URL, at most `SIDE` pixels a side. ImageError for one that
    can't be read.
    """
    from mismatch.runtime.preprocess import open_image

    picture = open_image(path).convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")


def _card(finding: LabelFinding, base: str) -> Iterator[str]:
    name = ("mismatch", "match")[finding.label or 0]
    yield "<li>"
    try:
        picture = finding.picture or thumbnail(resolve_image(base, finding.image_path))
        yield f'<img src="{picture}" alt="{escape(finding.image_path)}" loading="lazy">'
    except ImageError as error:  # gone since it was scored
        yield f'<p class="small">{escape(str(error))}</p>'
    yield f'<p class="text">{escape(finding.text)}</p>'
    yield (
        f'<p class="small">{finding.rank}. <span class="label {name}">labelled {name}</span>'
        f" suspicion {finding.score:.2f}</p>"
    )
    yield (
        f'<p class="small">{escape(finding.reason)}</p><p class="small">line {finding.line}:'
        f" {escape(finding.image_path)}</p></li>\n"
    )
