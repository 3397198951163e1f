"""Words that messages share: plurals, and the name that was probably meant."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

__all__ = [
    "article",
    "did_you_mean",
    "names_folder",
    "one_line",
    "plural",
    "printable",
    "with_option_names",
]

OPTION = re.compile(r"`(\w+)(?:=([^`]*))?`")
DIRECTIONS = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def article(name: str) -> str:
    """Return `an int` or `a str`."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'openclip'?`, or nothing where none of the names is near."""
    folded = {other.lower(): other for other in names}
    near = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def plural(count: int, noun: str) -> str:
    """Return `1 row` or `1,024 rows`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def one_line(error: BaseException) -> str:
    """Return what an exception says in one line, `ValueError: …`."""
    words = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {words}" if words else name


def printable(text: str) -> str:
    """Return a text in which codes stand for what a terminal would obey, or hide behind. These are
    control characters, halves of surrogate pairs, and what turns the direction of writing.
    """
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Zl", "Zp") or character in DIRECTIONS:
        return character.encode("unicode_escape").decode()
    return character


def names_folder(value: str | os.PathLike[str]) -> bool:
    """Return whether a path ends as only a folder's may: in a slash, or in one and a dot or two."""
    name = os.fspath(value).replace(os.sep, "/")
    return name.endswith(("/", "/.", "/.."))


def with_option_names(message: str, names: Mapping[str, str]) -> str:
    """Return a message whose options in backquotes, `top=10`, stand there as another surface names
    them, --top 10; `names`: Python's name → that one's.
    """

    def replaced(match: re.Match[str]) -> str:
        name = names.get(match[1])
        value = match[2]
        if name is None:
            return match[0]
        return name if value is None or value == "True" else f"{name} {_unquoted(value)}"

    return OPTION.sub(replaced, message)


def _unquoted(value: str) -> str:
    is_quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    plain = value[1:-1] if is_quoted else value
    # a shell takes such a name for two words, or for more than a name
    return plain if re.fullmatch(r"[\w./:=,-]*", plain) else f'"{plain}"'
