"""Docstrings name fields on a line each, "`rows`: what it is."; the site shows them as lists."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["DocstringLists", "as_lists"]

FIELD = re.compile(r"(?:`\w+`|\w+ \([^()]+(?:\(\))?\)): ")


class DocstringLists(griffe.Extension):
    """An extension of griffe, which reads the code for mkdocstrings."""

    def on_object(self, *, obj: griffe.Object, **_kwargs: Any) -> None:
        """Rewrite the object's docstring, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = as_lists(obj.docstring.value)


def as_lists(text: str) -> str:
    """Return the text with paragraphs that begin with a field as lists of fields."""
    return "\n\n".join(map(_as_list, text.split("\n\n")))


def _as_list(paragraph: str) -> str:
    lines = paragraph.splitlines()
    if not lines or not FIELD.match(lines[0]):
        return paragraph
    return "\n".join(f"- {line}" if FIELD.match(line) else f"  {line}" for line in lines)
