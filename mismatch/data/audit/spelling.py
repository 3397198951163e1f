"""The file that a path means which names none: other slashes, case, escapes, Unicode forms, blanks,
or no ending.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from mismatch.io.remote import is_url

__all__ = ["FileFinder", "misspelling"]

IMAGES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".avif", ".heic", ".heif", ".jp2"}
)
# which a name may lack or have in place of another; .0 is that of a number in a spreadsheet
ENDINGS = IMAGES | {".0"}
ESCAPED_TIMES = 3  # `%2520`, `&amp;amp;`: a path that went through several programs
PREFIX = re.compile(r"(?:file:/+|[A-Za-z]:(?=[/\\]))")  # of an address, of a Windows drive
Folder = dict[str, list[str]]  # a plain name → the names that a folder has for it


class FileFinder:
    """Finds the files that paths mean below one folder. Looks each folder up once."""

    def __init__(self, base: str | Path) -> None:
        """Take the folder that paths are relative to; empty: the working directory."""
        self._base = str(Path(base))
        self._name = _plain(Path(base).absolute().name)
        self._listing = cache(_listing)

    def __call__(self, path: str) -> str | None:
        """Return the path as it would have to stand in a row; None where no file is meant, or more
        than one may be.

        `path`: as resolved against the base.
        """
        prefix = "" if self._base == "." else f"{self._base.rstrip('/')}/"
        written = path.removeprefix(prefix)
        readable = _readable(written)
        is_absolute = readable.startswith("/") or PREFIX.match(readable) is not None
        parts = [part for part in PREFIX.sub("", readable, count=1).split("/") if part.strip(" .")]
        if is_url(path) or ".." in readable.split("/") or "\0" in path:
            return None
        if is_absolute and (names := self._walk("/", parts)):
            return "/" + "/".join(names)
        for start in range(len(parts)):
            if start == 0 or self._may_drop(parts, start, is_absolute=is_absolute):
                names = self._walk(self._base, parts[start:])
                if names:
                    return "/".join(names)
        return None

    def _may_drop(self, parts: list[str], start: int, *, is_absolute: bool) -> bool:
        """Return whether the first parts may be folders above the base: the last of them is its
        name, or the path is one of another machine.
        """
        return _plain(parts[start - 1]) == self._name or (is_absolute and len(parts) - start > 1)

    def _walk(self, folder: str, parts: list[str]) -> list[str]:
        """Return the names that a folder has for a path's parts; nothing where one has none, or
        several, or the last is no file.
        """
        names: list[str] = []
        for number, part in enumerate(parts, start=1):
            choices = self._choices(folder, part, is_last=number == len(parts))
            if part not in choices and len(choices) != 1:
                return []
            names.append(part if part in choices else choices[0])
            folder = os.path.join(folder, names[-1])
        return names if os.path.isfile(folder) else []

    def _choices(self, folder: str, part: str, *, is_last: bool) -> list[str]:
        """Return the names in a folder that a part may mean: by its whole, else by all but the
        ending.
        """
        plain = _plain(part)
        whole = self._listing(folder, by_stem=False).get(plain, [])
        if whole or not is_last:
            return whole
        stem, ending = os.path.splitext(plain)
        stems = [plain, stem] if ending in ENDINGS else [plain]
        by_stem = self._listing(folder, by_stem=True)
        return next((by_stem[stem] for stem in stems if stem in by_stem), [])


def misspelling(path: str, meant: str) -> str:
    """Return what to say of a path that names no file, where another spelling of it does."""
    note = ""
    if not path.endswith(meant) and _composed(path).endswith(_composed(meant)):
        note = " (the same letters in another Unicode form)"
    return (
        f"image '{_visible(path)}' not found; '{_visible(meant)}' is there{note} and is probably"
        " meant: `fix` writes it"
    )


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _visible(text: str) -> str:
    """Return a text in which codes stand for what can't be seen: zero-width characters, and blanks
    other than the usual one.
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if char != " " and unicodedata.category(char) in ("Cf", "Cc", "Zs", "Zl", "Zp")
        else char
        for char in text
    )


def _listing(folder: str, *, by_stem: bool) -> Folder:
    """Return a folder's names by their plain form; `by_stem`: those of images, without endings."""
    names: Folder = {}
    try:
        entries = os.listdir(folder)
    except OSError:
        return names
    for name in entries:
        plain = _plain(name)
        if by_stem:
            plain, ending = os.path.splitext(plain)
            if ending not in IMAGES:
                continue
        names.setdefault(plain, []).append(name)
    return names


def _readable(path: str) -> str:
    """Return a path with slashes, and without escapes."""
    for _ in range(ESCAPED_TIMES):
        path = unquote(html.unescape(path))
    return path.replace("\\", "/").strip().strip("\"'")


def _plain(name: str) -> str:
    """Return a name without what programs write differently."""
    if "%" in name or "&" in name:
        name = _readable(name)
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
        name = "".join(char for char in name if unicodedata.category(char) not in ("Cf", "Cc"))
        name = unicodedata.normalize("NFKC", name.casefold())
    return " ".join(name.replace("+", " ").split()).lower()
