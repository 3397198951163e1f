"""Words that messages share: plurals, and the name that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "one_line", "plural", "visible"]

# control characters, other ends of lines, and what turns the direction of writing
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


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


def visible(text: str) -> str:
    r"""Return a text with its control characters as escapes, `\n`: it stays one line, and tells a
    terminal nothing.
    """
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
