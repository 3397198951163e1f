"""Pictures that stand in several rows, themselves or nearly: with which texts, and in which other
files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from mismatch.data.audit.findings import (
    KEPT,
    SHOWN,
    Finding,
    ShownRow,
    in_lines,
    shortened,
)
from mismatch.data.audit.likeness import TextLikeness
from mismatch.data.audit.places import Place
from mismatch.data.near_duplicates import Fingerprint, near_duplicate_groups
from mismatch.io.text import plural

__all__ = [
    "MIN_ALIKE",
    "PictureGroup",
    "group_pictures",
    "leaking_images",
    "matching_rows",
    "near_duplicates",
    "repeated_pictures",
    "same_pictures",
    "spread",
]

MAX_GROUPS = 1_000  # whose texts are read, of a file
MAX_LINES = 8  # whose texts are read, of a group
MIN_ALIKE = 0.1  # of 0..1; texts with less in common are of two things
USUAL = 0.2  # share of the pictures; if more have several texts, that is how the set is made


@dataclass(frozen=True)
class PictureGroup:
    """A picture that stands in several rows of a file, or in several files that are nearly the
    same.
    """

    images: list[str]  # where they lie
    lines: list[int]  # that name them, in order

    @property
    def is_copied(self) -> bool:
        """Return whether it is there under several names."""
        return len(self.images) > 1


def group_pictures(
    files: Sequence[Mapping[str, Sequence[int]]], prints: Mapping[str, Fingerprint]
) -> list[dict[int, list[str]]]:
    """Return, for each file, its pictures by the numbers of their groups; near-duplicates have the
    same number in all files. An image without a fingerprint stands alone.

    `files`: for each file, its images and the lines that name them.
    """
    paths = list(dict.fromkeys(path for images in files for path in images))
    numbers = near_duplicate_groups([prints.get(path) for path in paths])
    group = dict(zip(paths, numbers, strict=True))
    grouped: list[dict[int, list[str]]] = []
    for images in files:
        members: dict[int, list[str]] = {}
        for path in images:
            members.setdefault(group[path], []).append(path)
        grouped.append(members)
    return grouped


def leaking_images(grouped: Sequence[Mapping[int, list[str]]]) -> dict[tuple[int, int], set[str]]:
    """Return for each two files, by number, the images of the first that are near-duplicates of
    another image in the second.
    """
    leaks: dict[tuple[int, int], set[str]] = {}
    for first, second in combinations(range(len(grouped)), 2):
        images = {
            path
            for number in grouped[first].keys() & grouped[second].keys()
            for path in grouped[first][number]
            if set(grouped[second][number]) != {path}
        }
        if images:
            leaks[first, second] = images
    return leaks


def repeated_pictures(
    images: Mapping[str, Sequence[int]], members: Mapping[int, Sequence[str]]
) -> list[PictureGroup]:
    """Return the pictures of a file that stand in several rows, copies first; of each the first
    rows.
    """
    groups = []
    for paths in members.values():
        lines = sorted({line for path in paths for line in images[path]})
        if len(lines) > 1:
            groups.append(PictureGroup(list(paths), lines[:MAX_LINES]))
    groups.sort(key=lambda group: (not group.is_copied, group.lines))
    return groups


def spread(groups: Sequence[PictureGroup]) -> list[PictureGroup]:
    """Return as many groups as are looked at, from all parts of a file."""
    return list(groups[:: -(-len(groups) // MAX_GROUPS) or 1])


def near_duplicates(
    images: Mapping[str, Sequence[int]],
    members: Mapping[int, Sequence[str]],
    places: Mapping[int, Place],
) -> Iterator[Finding]:
    """Yield a finding for images of one file that are near-duplicates of another, with the texts of
    each group.
    """
    copied = [paths for paths in members.values() if len(paths) > 1]
    again = [path for paths in copied for path in paths[1:]]
    if not again:
        return
    lines = sorted(line for path in again for line in images[path])
    are = "s are near-duplicates" if len(again) != 1 else " is a near-duplicate"
    message = f"{len(again):,} image{are} of another one, as in {in_lines(lines)}"
    groups = [
        _shown(places[line] for line in group.lines)
        for group in repeated_pictures(images, members)
        if group.is_copied and group.lines[0] in places
    ]
    yield Finding("near-duplicates", message, len(lines), lines[:KEPT], groups[:KEPT])


def same_pictures(
    groups: Sequence[PictureGroup],
    places: Mapping[int, Place],
    likeness: TextLikeness,
    pictures: int,
) -> Iterator[Finding]:
    """Yield a finding for pictures that stand with texts of two things.

    `groups`: those that show something. `pictures`: how many they were chosen from, those in one
    row too.
    """
    rows = [matching_rows(group, places) for group in groups]
    several = sum(len({place.text for place in matches}) > 1 for matches in rows)
    is_usual = several > USUAL * pictures  # a set with several true texts for each picture
    unlike = [
        matches
        for group, matches in zip(groups, rows, strict=True)
        if (group.is_copied or not is_usual) and _least_alike(matches, likeness) < MIN_ALIKE
    ]
    if not unlike:
        return
    lines = sorted({place.line for matches in unlike for place in matches})
    first = list(dict.fromkeys(place.text for place in unlike[0]))
    texts = " / ".join(repr(shortened(text)) for text in first[:SHOWN])
    stand = "stands" if len(unlike) == 1 else "stand"
    message = (
        f"{plural(len(unlike), 'picture')} {stand} with texts that have little in common, as in"
        f" {in_lines([place.line for place in unlike[0]])}: {texts}; look whether each is of the"
        " picture"
    )
    shown = [_shown(matches) for matches in unlike[:KEPT]]
    yield Finding("same-picture", message, len(lines), lines[:KEPT], shown)


def matching_rows(group: PictureGroup, places: Mapping[int, Place]) -> list[Place]:
    """Return the rows of a group whose texts are said to be of the picture."""
    rows = (places[line] for line in group.lines if line in places)
    return [place for place in rows if place.label != 0 and place.text]


def _least_alike(rows: Sequence[Place], likeness: TextLikeness) -> float:
    """Return how alike the two texts are that are least so; 1 where there is only one."""
    texts = sorted({place.text for place in rows})
    return min((likeness(*pair) for pair in combinations(texts, 2)), default=1.0)


def _shown(rows: Iterable[Place]) -> list[ShownRow]:
    return [ShownRow(place.line, place.image, place.text) for place in rows]
