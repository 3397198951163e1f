"""Rows: written, read, and a part of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.support.paths import WHOLE

__all__ = ["WriteRows", "first_photos", "read_rows", "write_rows"]

WriteRows = Callable[[Path, Iterable[Iterable[Any]]], Path]


def write_rows(path: Path, rows: Iterable[Iterable[Any]]) -> Path:
    """Write a header and rows as CSV; return the path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV, by their columns' names."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def first_photos(source: Path, target: Path, count: int) -> Path:
    """Write the rows of a CSV's first `count` photos; all of them in a whole run."""
    rows = read_rows(source)
    photos = list(dict.fromkeys(row["image_path"] for row in rows))
    chosen = set(photos if WHOLE else photos[:count])
    kept = [row.values() for row in rows if row["image_path"] in chosen]
    return write_rows(target, [rows[0].keys(), *kept])
