"""A folder of images and their titles as rows: one file that holds all titles, or a text file
next to each image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from mismatch.data.confined import ConfinedFolder
from mismatch.data.pairs import ALIASES, Row, open_text, read_header, read_rows
from mismatch.data.rows import MAX_FIELD
from mismatch.errors import InputError
from mismatch.io.atomic import sha256_file

__all__ = ["IMAGE_SUFFIXES", "TitledImages"]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
HEADER = ("image_path", "text")
SHOWN = 5  # names in one line


@dataclass
class Unmatched:
    """What has no counterpart: how many, and the first names."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(name)

    def line(self, singular: str, plural: str) -> str:
        """Return `3 images have no title: a.jpg, b.jpg, c.jpg`."""
        return (
            f"{self.count:,} {singular if self.count == 1 else plural}:"
            f" {', '.join(self.first)}{', …' if self.count > len(self.first) else ''}"
        )


class TitledImages:
    """The images below a folder, with their titles. The files' names are held in memory, the titles
    streamed.
    """

    def __init__(self, folder: Path, titles: Path | None = None, *, outside: bool = False) -> None:
        """Take `titles`: a CSV with columns image_path,text (or usual names for them, as
        file,title), or lines NAME, tab, TITLE; names are relative to `folder`. Without it, the
        title of a/b.jpg is what a/b.txt says, which may be a link out of the folder with `outside`
        only. InputError where the folder or the file can't be used.
        """
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; `images` needs a folder of images")
        self.folder = folder
        self.titles = titles
        self._confined = None if outside else ConfinedFolder(str(folder))
        self._tabbed = titles is not None and _is_tabbed(titles)
        self.header = (
            list(HEADER)
            if titles is None or self._tabbed
            else read_header(titles, require_label=False, aliases=True)
        )
        self._untitled = Unmatched()
        self._imageless = Unmatched()

    def rows(self) -> Iterator[Row]:
        """Yield each title with its image, in the order of the file, or of the names. A title
        without an image is a row that can't be scored.
        """
        self._untitled = Unmatched()
        self._imageless = Unmatched()
        return self._with_text_files() if self.titles is None else self._listed(self.titles)

    def digest(self) -> str:
        """Return a digest, in hex, of all that the rows say."""
        if self.titles is not None:
            return sha256_file(self.titles)
        digest = hashlib.sha256()
        for row in self.rows():
            digest.update(
                repr((row.image_path, row.text, row.problem)).encode("utf-8", "backslashreplace")
            )
        return digest.hexdigest()

    def notes(self) -> list[str]:
        """Return a line each for images without a title and titles without an image, once all rows
        have been read.
        """
        images = self._untitled.line(
            "image has no title and was not scored", "images have no title and were not scored"
        )
        titles = self._imageless.line("title has no image", "titles have no image")
        return [
            line
            for unmatched, line in ((self._untitled, images), (self._imageless, titles))
            if unmatched.count
        ]

    def _listed(self, titles: Path) -> Iterator[Row]:
        untitled = dict.fromkeys(
            (name for name in _files_below(self.folder) if _is_image(name)), True
        )
        for row in (
            _tabbed_rows(titles)
            if self._tabbed
            else read_rows(titles, require_label=False, aliases=True)
        ):
            name = os.path.normpath(row.image_path)
            if name in untitled:
                untitled[name] = False
            elif row.image_path.strip() and not (self.folder / row.image_path).exists():
                self._imageless.add(row.image_path)
            yield row
        for name, alone in untitled.items():
            if alone:
                self._untitled.add(_printable(name))

    def _with_text_files(self) -> Iterator[Row]:
        files = _files_below(self.folder)
        for stem, group in groupby(
            sorted(files, key=_stem_first), key=lambda name: os.path.splitext(name)[0]
        ):
            names = list(group)
            images = [name for name in names if _is_image(name)]
            text = f"{stem}.txt"
            if text not in names:
                for name in images:
                    self._untitled.add(_printable(name))
                continue
            title, problem = self._title(text)
            if not images:
                self._imageless.add(_printable(text))
                yield _row(_printable(stem), title, f"there is no image next to {_printable(text)}")
            for name in images:
                yield _row(
                    _printable(name),
                    title,
                    (
                        problem
                        if name == _printable(name)
                        else "the image's name is not UTF-8; rename the file"
                    ),
                )

    def _title(self, name: str) -> tuple[str, str | None]:
        """Return what a text file says, and what is wrong with it."""
        shown = _printable(os.path.basename(name))
        if self._confined is not None and self._confined.leaves(name):
            return (
                "",
                (
                    f"{shown} is a link that leaves {self.folder}; allow outside images if it"
                    " may lie elsewhere"
                ),
            )
        path = self.folder / name
        try:
            if not path.is_file():  # nobody may ever write to a pipe
                return "", f"{shown} is no regular file"
            with path.open(encoding="utf-8-sig") as file:
                title = file.read(MAX_FIELD + 1).strip()
        except UnicodeDecodeError:
            return "", f"{shown} is not UTF-8; save it as UTF-8"
        except OSError as error:
            return "", f"{shown} can't be read: {error.strerror}"
        if len(title) > MAX_FIELD:
            return "", f"{shown} is longer than {MAX_FIELD:,} characters"
        if "\0" in title:
            return "", f"a NUL character stands in {shown}; take it out"
        return title, None if title else f"{shown} is empty"


def _row(image_path: str, text: str, problem: str | None, line: int = 1) -> Row:
    return Row(
        line, image_path, text, None, dict(zip(HEADER, (image_path, text), strict=True)), problem
    )


def _files_below(folder: Path) -> list[str]:
    """Return names relative to the folder, sorted; those that begin with a dot are left out."""
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [
            os.path.relpath(os.path.join(place, name), folder)
            for name in files
            if not name.startswith(".")
        ]
    return sorted(names)


def _stem_first(name: str) -> tuple[str, str]:
    return os.path.splitext(name)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _is_tabbed(titles: Path) -> bool:
    """Return whether the first line has a tab, and no comma before it."""
    with open_text(titles, "replace") as file:
        return "\t" in file.readline(MAX_FIELD).partition(",")[0]


def _is_header(name: str, title: str) -> bool:
    return all(
        cell.strip().lower() in (expected, *ALIASES[expected])
        for cell, expected in zip((name, title), HEADER, strict=True)
    )


def _line_problem(line: str, tab: str, title: str) -> str | None:
    """Return what is wrong with a line of a file of titles."""
    if "\0" in line:
        return "a NUL character stands in this row; take it out"
    if not tab:
        return "there is no tab in this line; NAME, tab, TITLE is needed"
    return None if title.strip() else "the text is empty"


def _tabbed_rows(titles: Path) -> Iterator[Row]:
    with open_text(titles, "strict") as file:
        try:
            number = 0
            while line := file.readline(MAX_FIELD):
                number += 1
                if len(line) == MAX_FIELD:
                    raise InputError(
                        f"{titles}:{number}: this line is longer than {MAX_FIELD:,} characters; a"
                        " title is a few words"
                    )
                name, tab, title = line.rstrip("\r\n").partition("\t")
                if line.strip() and not (number == 1 and _is_header(name, title)):
                    problem = _line_problem(line, tab, title)
                    yield _row(name, title.strip(), problem, number)
        except UnicodeDecodeError as error:
            raise InputError(f"{titles} is not UTF-8 ({error.reason}); save it as UTF-8") from error
