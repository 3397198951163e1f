"""A folder of images and their titles as rows: one file that holds all titles, or a text file
next to each image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mismatch.data.columns import Columns
from mismatch.data.confined import ConfinedFolder
from mismatch.data.encoding import codec_name, is_utf8
from mismatch.data.pairs import ALIASES, Row, open_text, read_header, read_rows
from mismatch.data.readers.text_files import decoded, encoding_problem
from mismatch.data.rows import MAX_FIELD
from mismatch.errors import InputError
from mismatch.io.atomic import sha256_file

__all__ = ["IMAGE_SUFFIXES", "TitledImages"]

# of pictures, also of such as Pillow can't read here: the row's status says so then
IMAGE_SUFFIXES = frozenset(
    {
        *(".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".ico", ".icns", ".pcx", ".psd"),
        *(".heic", ".heics", ".heif", ".hif", ".jxl", ".svg", ".tga", ".eps", ".emf", ".wmf"),
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        *(".pbm", ".pgm", ".ppm", ".pnm", ".png", ".tif", ".tiff", ".webp", ".xbm", ".xpm"),
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),  # of cameras
    }
)
TEXT_SUFFIX = ".txt"
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

    def __init__(
        self,
        folder: Path,
        titles: Path | None = None,
        *,
        outside: bool = False,
        columns: Columns | None = None,
    ) -> None:
        """Take `titles`: a CSV with columns image_path,text (or usual names for them, as
        file,title), or lines NAME, tab, TITLE; names are relative to `folder`. Without it, the
        title of a/b.jpg is what a/b.txt says, which may be a link out of the folder with `outside`
        only. `columns`: their encoding, and what separates columns, where that is asked for.
        InputError where the folder or the file can't be used.
        """
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; `images` needs a folder of images")
        self.folder = folder
        self.titles = titles
        self._columns = Columns(
            encoding=None if columns is None else columns.encoding,
            delimiter=None if columns is None else columns.delimiter,
        )
        self._confined = None if outside else ConfinedFolder(str(folder))
        self._tabbed = titles is not None and _is_tabbed(titles, self._columns.encoding)
        self.header = (
            list(HEADER)
            if titles is None or self._tabbed
            else read_header(titles, require_label=False, columns=self._columns, aliases=True)
        )
        self._begin()

    def _begin(self) -> None:
        self._untitled = Unmatched()
        self._imageless = Unmatched()
        self._others = Unmatched()

    def rows(self) -> Iterator[Row]:
        """Yield each title with its image, in the order of the file, or of the names. A title
        without an image is a row that can't be scored.
        """
        self._begin()
        return self._with_text_files() if self.titles is None else self._listed(self.titles)

    def digest(self) -> str:
        """Return a digest, in hex, of all that the rows say."""
        if self.titles is not None:
            digest = sha256_file(self.titles)
            asked = self._columns.delimiter or ""
            if not is_utf8(self._columns.encoding):
                asked += codec_name(self._columns.encoding)
            return f"{digest}-{asked}" if asked else digest
        hasher = hashlib.sha256()
        for row in self.rows():
            hasher.update(
                repr((row.image_path, row.text, row.problem)).encode("utf-8", "backslashreplace")
            )
        return hasher.hexdigest()

    def notes(self) -> list[str]:
        """Return a line each for images without a title and titles without an image, once all rows
        have been read.
        """
        images = self._untitled.line(
            "image has no title and was not scored", "images have no title and were not scored"
        )
        titles = self._imageless.line("title has no image", "titles have no image")
        others = self._others.line(
            "file has a suffix of no image and was not scored",
            "files have suffixes of no image and were not scored",
        )
        return [
            line
            for unmatched, line in (
                (self._untitled, images),
                (self._imageless, titles),
                (self._others, others),
            )
            if unmatched.count
        ]

    def _listed(self, titles: Path) -> Iterator[Row]:
        untitled = dict.fromkeys(
            (
                name
                for name in _files_below(self.folder)
                if _is_image(name) or not (_is_text(name) or _is_same(self.folder / name, titles))
            ),
            True,
        )
        for row in (
            _tabbed_rows(titles, self._columns.encoding)
            if self._tabbed
            else read_rows(titles, require_label=False, columns=self._columns, aliases=True)
        ):
            name = os.path.normpath(row.image_path)
            if name in untitled:
                untitled[name] = False
            elif row.image_path.strip() and not (self.folder / row.image_path).exists():
                self._imageless.add(row.image_path)
            yield row
        for name, alone in untitled.items():
            if alone:
                self._count(name)

    def _count(self, name: str) -> None:
        """Count a file without a title."""
        kind = self._untitled if _is_image(name) else self._others
        kind.add(_printable(name))

    def _with_text_files(self) -> Iterator[Row]:
        for stem, names in _by_stem(_files_below(self.folder)).items():
            texts = [name for name in names if _is_text(name)]
            images = [name for name in names if _is_image(name)]
            others = [name for name in names if name not in texts and name not in images]
            for name in others if texts else [*images, *others]:
                self._count(name)
            if texts:
                yield from self._titled(_printable(stem), texts, images, others)

    def _titled(
        self, stem: str, texts: Sequence[str], images: Sequence[str], others: Sequence[str]
    ) -> Iterator[Row]:
        """Yield the rows of files that have a stem in common, and a text among them."""
        title, problem = self._title(texts[0])
        if len(texts) > 1:
            problem = f"{' and '.join(map(_printable, texts))} both stand there; keep one"
        if not images:
            text = _printable(texts[0])
            self._imageless.add(text)
            missing = f"there is no image next to {text}"
            if others:
                missing += f", but {_printable(others[0])}, whose suffix is of no image"
            yield _row(stem, title, missing)
        for name in images:
            is_utf8_name = name == _printable(name)
            why = problem if is_utf8_name else "the image's name is not UTF-8; rename the file"
            yield _row(_printable(name), title, why)

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
            with path.open("rb") as data:
                file = decoded(data, self._columns.encoding, path)
                title = file.read(MAX_FIELD + 1).replace("\r\n", "\n").replace("\r", "\n").strip()
        except UnicodeDecodeError:
            return "", f"{shown}: {encoding_problem(path, self._columns.encoding)[1]}"
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


def _by_stem(files: Iterable[str]) -> dict[str, list[str]]:
    """Map stems, in order → the files that have them. Where one stem has only a text and one other
    has none, and they differ in case only, the text is the other's.
    """
    stems: dict[str, list[str]] = {}
    for name in sorted(files, key=os.path.splitext):
        stems.setdefault(os.path.splitext(name)[0], []).append(name)
    alike: dict[str, list[str]] = {}
    for stem in stems:
        alike.setdefault(stem.casefold(), []).append(stem)
    for same in alike.values():
        only_texts = [stem for stem in same if all(map(_is_text, stems[stem]))]
        without_text = [stem for stem in same if not any(map(_is_text, stems[stem]))]
        if len(only_texts) == len(without_text) == 1:
            stems[without_text[0]] += stems.pop(only_texts[0])
    return stems


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _is_text(name: str) -> bool:
    return os.path.splitext(name)[1].lower() == TEXT_SUFFIX


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and path.samefile(other)


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _is_tabbed(titles: Path, encoding: str | None) -> bool:
    """Return whether the first line has a tab, and no comma before it."""
    with open_text(titles, "replace", encoding) as file:
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


def _tabbed_rows(titles: Path, encoding: str | None) -> Iterator[Row]:
    with open_text(titles, "strict", encoding) as file:
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
            number, why = encoding_problem(titles, encoding)
            raise InputError(f"{titles}:{number}: {why}") from error
