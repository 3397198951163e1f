"""The `configs` in the header of a dataset's README.md: which files are which split, as its authors
say. The plain YAML in which hubs write it is read, and nothing else of YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["LARGEST_CARD", "Subset", "card_subsets"]

LARGEST_CARD = 2**20  # bytes of a README.md
MAX_LINES = 20_000
MAX_DEPTH = 8
KEY = re.compile(r"([A-Za-z_][\w -]{0,60}):(?:\s+(.*))?", re.ASCII)
QUOTED = re.compile(r"'([^'\\]*)'|\"([^\"\\]*)\"")
NOT_PLAIN = tuple("[]{}&*!|>%@`,?'\"#")  # how a scalar begins that is more than its letters
DEFAULT = "default"
FILES = {"split", "path"}

Line = tuple[int, str]  # indentation, and what stands behind it


@dataclass(frozen=True)
class Subset:
    """Files that belong together, by split."""

    name: str
    is_default: bool
    splits: Mapping[str, Sequence[str]]  # split → patterns of its files


class _NotPlainError(Exception):
    """The header is more than the plain YAML that is read."""


def card_subsets(card: str) -> list[Subset] | None:
    """Return the subsets that a README.md declares, none where it declares none; None for
    declarations of a form that is not read.
    """
    try:
        lines = _lines(card)
        if not lines:
            return []
        value, end = _block(lines, 0, MAX_DEPTH)
        if end < len(lines) or not isinstance(value, list):
            return None
        return [_subset(entry) for entry in value]
    except _NotPlainError:
        return None


def _lines(card: str) -> list[Line]:
    """Return the lines below the header's key `configs`."""
    lines = card.removeprefix("\ufeff").splitlines()[:MAX_LINES]
    if not lines or lines[0].rstrip() != "---":
        return []
    below: list[Line] = []
    is_inside = False
    for line in lines[1:]:
        text = line.strip()
        if line.rstrip() == "---":
            break
        if line[:1] not in ("", " ", "-", "#", "\t"):
            is_inside = text == "configs:"
            if text.startswith("configs:") and not is_inside:
                raise _NotPlainError
        elif is_inside and text and not text.startswith("#"):
            if "\t" in line:
                raise _NotPlainError
            below.append((len(line) - len(line.lstrip()), text))
    return below


def _block(lines: list[Line], position: int, depth: int) -> tuple[Any, int]:
    """Return the value that begins at a line, and the line behind it."""
    if not depth:
        raise _NotPlainError
    indent, text = lines[position]
    if _is_item(text):
        return _items(lines, position, indent, depth)
    if KEY.fullmatch(text):
        return _mapping(lines, position, indent, depth)
    return _scalar(text), position + 1


def _items(lines: list[Line], position: int, indent: int, depth: int) -> tuple[list[Any], int]:
    values = []
    while position < len(lines) and lines[position][0] == indent and _is_item(lines[position][1]):
        text = lines[position][1]
        rest = text[1:].lstrip()
        if not rest:
            raise _NotPlainError
        lines[position] = (indent + len(text) - len(rest), rest)
        value, position = _block(lines, position, depth - 1)
        values.append(value)
    return values, position


def _mapping(
    lines: list[Line], position: int, indent: int, depth: int
) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = {}
    while (
        position < len(lines) and lines[position][0] == indent and not _is_item(lines[position][1])
    ):
        parts = KEY.fullmatch(lines[position][1])
        if parts is None or parts[1] in values:
            raise _NotPlainError
        position += 1
        if parts[2]:
            values[parts[1]] = _scalar(parts[2])
            continue
        is_below = position < len(lines) and lines[position][0] > indent
        is_list = (
            position < len(lines) and lines[position][0] == indent and _is_item(lines[position][1])
        )
        if not (is_below or is_list):
            raise _NotPlainError
        values[parts[1]], position = _block(lines, position, depth - 1)
    return values, position


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _scalar(text: str) -> str:
    quoted = QUOTED.fullmatch(text)
    if quoted:
        return quoted[1] if quoted[1] is not None else quoted[2]
    if text.startswith(NOT_PLAIN):
        raise _NotPlainError
    if " #" in text or ": " in text:
        raise _NotPlainError
    return text


def _subset(entry: object) -> Subset:
    """Return what one entry declares."""
    if not isinstance(entry, dict) or not isinstance(entry.get("config_name"), str):
        raise _NotPlainError
    if "data_dir" in entry or "data_files" not in entry:
        raise _NotPlainError
    name = entry["config_name"]
    is_default = name == DEFAULT or entry.get(DEFAULT) == "true"
    return Subset(name, is_default, _splits(entry["data_files"]))


def _splits(value: object) -> dict[str, list[str]]:
    is_list = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    if not isinstance(value, list) or not is_list:
        return {"train": _patterns(value)}
    splits: dict[str, list[str]] = {}
    for item in value:
        if item.keys() != FILES or not isinstance(item["split"], str) or item["split"] in splits:
            raise _NotPlainError
        splits[item["split"]] = _patterns(item["path"])
    return splits


def _patterns(value: object) -> list[str]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not patterns:
        raise _NotPlainError
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise _NotPlainError
    return patterns
