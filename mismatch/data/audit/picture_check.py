"""The images that rows name: each looked at once, those that are spelt otherwise found, and what is
doubtful about the pictures of one file and their texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mismatch.data.audit.findings import Finding, common_images
from mismatch.data.audit.images import Look, Seen, oddity_findings
from mismatch.data.audit.likeness import TextLikeness
from mismatch.data.audit.picture_groups import (
    matching_rows,
    near_duplicates,
    repeated_pictures,
    same_pictures,
    spread,
)
from mismatch.data.audit.placeholders import EMPTY
from mismatch.data.audit.places import Place, read_places
from mismatch.data.audit.problems import ProblemLog, image_kind
from mismatch.data.audit.report import FileAudit
from mismatch.data.audit.row_check import Resolver, RowFile
from mismatch.data.audit.shift import (
    Towers,
    block_lines,
    shift_by_embeddings,
    shift_by_pictures,
)
from mismatch.data.audit.spelling import FileFinder, misspelling
from mismatch.errors import ImageNotFoundError, InputError
from mismatch.io.threads import map_ahead

__all__ = ["Pictures", "add_image_problems", "look_at_images", "picture_findings"]


@dataclass(frozen=True)
class Pictures:
    """What was seen of all images, by where rows say that they lie."""

    seen: dict[str, Seen]
    broken: dict[str, InputError]  # and why
    meant: dict[str, str]  # paths that name no file → how a row would spell the file that is meant
    where: Resolver

    def kind(self, path: str) -> str:
        """Return the kind of problem of an image that can't be used."""
        return "misspelt" if path in self.meant else image_kind(path, self.broken[path])

    def shows_something(self, path: str) -> bool:
        """Return whether an image can be read and is not empty."""
        return path not in self.broken and not set(EMPTY) & set(self.seen[path].odd)


def look_at_images(
    wanted: Sequence[str],
    look: Look,
    where: Resolver,
    base: str | Path,
    *,
    workers: int,
    advance: Callable[[int], object],
) -> Pictures:
    """Look at each image once, and at those that are meant by paths which name no file."""
    seen = dict(zip(wanted, map_ahead(look, wanted, workers=workers, advance=advance), strict=True))
    broken = {path: image.error for path, image in seen.items() if image.error is not None}
    find = FileFinder(base)
    spellings = {
        path: find(path) for path, error in broken.items() if isinstance(error, ImageNotFoundError)
    }
    meant = {path: spelling for path, spelling in spellings.items() if spelling is not None}
    more = [path for path in dict.fromkeys(map(where, meant.values())) if path not in seen]
    seen |= zip(more, map_ahead(look, more, workers=workers), strict=True)
    errors = {path: seen[path].error for path in more}
    broken |= {path: error for path, error in errors.items() if error is not None}
    broken |= {
        path: ImageNotFoundError(misspelling(path, spelling)) for path, spelling in meant.items()
    }
    return Pictures(seen, broken, meant, where)


def add_image_problems(file: FileAudit, pictures: Pictures, log: ProblemLog) -> None:
    """Add the images of a file that can't be used; from then on, the files that are meant stand in
    place of those that are spelt otherwise.
    """
    broken = pictures.broken
    bad = {path: lines for path, lines in file.images.items() if path in broken}
    file.bad_images = len(bad)
    file.bad_lines.update(line for lines in bad.values() for line in lines)
    by_kind: dict[str, list[str]] = {}
    for path in bad:
        by_kind.setdefault(pictures.kind(path), []).append(path)
    for kind, paths in by_kind.items():
        log.add(kind, ((line, str(broken[path])) for path in paths for line in bad[path]))
    if bad and len(bad) == len(file.images) and set(by_kind) == {"not-found"}:
        place = Path(next(iter(bad))).absolute()
        file.warnings.append(
            "not one of its images was found: the image base path is probably wrong; the first was"
            f" looked for at {place}"
        )
    for path in by_kind.get("misspelt", []):
        real = pictures.where(pictures.meant[path])
        file.images[real] = sorted([*file.images.get(real, []), *file.images.pop(path)])


def picture_findings(
    file: FileAudit,
    members: Mapping[int, Sequence[str]],
    pictures: Pictures,
    source: RowFile,
    towers: Towers | None,
) -> Iterator[Finding]:
    """Yield what is doubtful about the pictures of one file, and the texts that they stand with.

    `members`: its pictures by the numbers of their groups.
    """
    clear = {
        number: paths
        for number, paths in members.items()
        if all(map(pictures.shows_something, paths))
    }
    repeated = repeated_pictures(file.images, clear)
    groups = spread(repeated)
    readable = _readable(file, pictures) if towers is not None else {}
    blocks = block_lines(sorted(readable))
    lines = {line for block in blocks for line in block}
    lines.update(line for group in groups for line in group.lines)
    places = read_places(source, lines)
    likeness = TextLikeness(text for place in places.values() for text in place.texts)
    rows = [matching_rows(group, places) for group in groups]
    slides = list(shift_by_pictures(rows, likeness))
    if towers is not None:
        chosen = [_matches(block, places) for block in blocks]
        slides = list(shift_by_embeddings(chosen, readable, towers)) or slides
    yield from slides
    chosen_from = len(clear) * len(groups) // max(1, len(repeated))
    yield from same_pictures(groups, places, likeness, chosen_from)
    yield from oddity_findings(file.images, pictures.seen)
    yield from common_images(file.images)
    yield from near_duplicates(file.images, clear, places)


def _readable(file: FileAudit, pictures: Pictures) -> dict[int, str]:
    """Map the lines of rows that can be used → where their images lie."""
    return {
        line: image
        for image, lines in file.images.items()
        if pictures.shows_something(image)
        for line in lines
        if line not in file.bad_lines
    }


def _matches(lines: Iterable[int], places: Mapping[int, Place]) -> list[Place]:
    rows = (places[line] for line in lines if line in places)
    return [place for place in rows if place.label != 0 and place.text]
