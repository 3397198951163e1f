"""Texts of users in Markdown: shown as they are, and never read as Markdown or HTML."""

from __future__ import annotations

import re

from mismatch.io.text import printable

__all__ = ["code_span", "plain_words"]

PLAIN = re.compile(r"(?!.*www)(?:[^\W_]|[ ,.%;-])+")  # neither marks nor addresses
LONGEST = 200  # characters that are shown


def code_span(text: str) -> str:
    """Return a text as code in a line, between more backquotes than it has in a row. It must not
    stand in a table, whose cells end at any |.
    """
    words = " ".join(printable(text).split()) or "?"
    if len(words) > LONGEST:
        words = f"{words[:LONGEST]}…"
    fence = "`" * (max(map(len, re.findall("`+", words)), default=0) + 1)
    gap = " " if words.startswith("`") or words.endswith("`") else ""
    return f"{fence}{gap}{words}{gap}{fence}"


def plain_words(text: str) -> str:
    """Return a text of letters, digits and a few marks as it is, any other one as code."""
    return text if PLAIN.fullmatch(text) else code_span(text)
