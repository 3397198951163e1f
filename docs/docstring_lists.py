"""Docstrings name fields on a line each, "`rows`: what it is."; the site shows them as lists."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["DocstringLists", "as_lists"]

FIELD = re.compile(r"(?:`\w+`|\w+ \([^()]+(?:\(\))?\)): ")
# where a field begins: on a line of its own, or after another's sentence
BEGIN = re.compile(rf"\n(?={FIELD.pattern})|(?:(?<=\.)|;)\s(?=`\w+`: )")


class DocstringLists(griffe.Extension):
    """An extension of griffe, which reads the code for mkdocstrings."""

    def on_object(self, *, obj: griffe.Object, **_kwargs: Any) -> None:
        """Rewrite the object's docstring, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = as_lists(obj.docstring.value)


def as_lists(text: str) -> str:
    """Return the text with the fields of each paragraph as a list."""
    return "\n\n".join(map(_as_list, text.split("\n\n")))


def _as_list(paragraph: str) -> str:
    first, *rest = BEGIN.split(paragraph)
    if not rest:
        return paragraph
    items = "\n".join(map(_item, rest))
    return f"{_item(first)}\n{items}" if FIELD.match(first) else f"{first}\n\n{items}"


def _item(text: str) -> str:
    return "- " + text.replace("\n", "\n  ")
