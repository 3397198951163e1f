"""The rows of one file, read once: problems, labels, repeats, texts, and which images they name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mismatch.data.audit.findings import TextCheck, text_key
from mismatch.data.audit.problems import ProblemLog, row_kind
from mismatch.data.audit.report import FileAudit
from mismatch.data.columns import folded
from mismatch.data.pairs import (
    Columns,
    Row,
    all_columns,
    resolve_image,
    scan_rows,
    training_problem,
)
from mismatch.errors import InputError
from mismatch.io.remote import is_url
from mismatch.io.text import plural

__all__ = ["Resolver", "RowFile", "check_rows", "image_resolver", "is_labelled", "pair_key"]

Resolver = Callable[[str], str]  # an image as written → where it lies
LABEL_LIKE = {"label", "labels", "target", "match", "is_match"}


@dataclass(frozen=True)
class RowFile:
    """A file of rows, and how it is read."""

    path: str | Path
    columns: Columns
    labelled: bool

    def rows(self, fault: Callable[[int, str], None]) -> Iterator[Row]:
        """Stream its rows; what is wrong with the file goes to `fault`, with its line."""
        for row in scan_rows(self.path, fault, self.columns, require_label=self.labelled):
            if self.columns.multi_image is None:
                yield row
            else:
                yield row._replace(problem=training_problem(row, self.columns))


def is_labelled(path: str | Path, columns: Columns) -> bool:
    """Return whether rows have labels, or should have: there is a column of them, one is asked for,
    or one has a name as labels have it. Also where that can't be told.
    """
    if columns.label != Columns.label or columns.label_map:
        return True
    try:
        header = all_columns(path, require_label=False, columns=columns, strict=False)
    except InputError:
        return True
    return any(folded(name) in LABEL_LIKE for name in header)


def image_resolver(base: str | Path) -> Resolver:
    """Return what says where an image lies; a URL stays as it is. It remembers the last hundred
    thousand: making a path takes longer than reading a row.
    """

    def where(image: str) -> str:
        return image if is_url(image) else str(resolve_image(base, image))

    return lru_cache(maxsize=100_000)(where)


def pair_key(row: Row) -> int:
    """Return what rows of the same image and text share, by hash: `./a.png` is `a.png`, and blanks
    around a text don't count.
    """
    return hash((os.path.normpath(row.image_path), row.text.strip()))


def check_rows(
    audit: FileAudit,
    source: RowFile,
    where: Resolver,
    log: ProblemLog,
    check: TextCheck,
    advance: Callable[[int], object],
) -> None:
    """Add all that a file says but the images."""
    texts = set[int]()
    repeats = _Repeats()
    for row in source.rows(lambda line, message: audit.faults.append((line, message))):
        _add_row(audit, row, where, log, source.columns)
        if row.intact and row.text and (key := hash(row.text)) not in texts:
            texts.add(key)
            audit.text_keys.setdefault(text_key(row.text), row.line)
        repeats.add(row)
        advance(1)
        if row.problem is None:
            check.add(row)
    if not audit.rows and not audit.faults:
        audit.faults.append((1, "there are no rows under the header"))
    log.add("file", audit.faults)
    audit.texts = len(texts)
    audit.sample = check.sample
    audit.warnings += repeats.warnings()
    audit.findings += check.findings()
    audit.blind["texts"] = check.blind


def _add_row(
    audit: FileAudit, row: Row, where: Resolver, log: ProblemLog, columns: Columns
) -> None:
    audit.rows += 1
    if row.label is not None:
        audit.labels[row.label] += 1
    if row.problem is not None:
        audit.bad_lines.add(row.line)
        log.add_row(row_kind(row), row.line, row.problem)
    if row.intact and row.image_path.strip() and not columns.path_problem(row.image_path):
        for image in columns.images(row.image_path):
            audit.images.setdefault(where(image), []).append(row.line)


class _Repeats:
    """Which labels each pair of image and text has, by hash, so that millions fit."""

    def __init__(self) -> None:
        # hash of the pair → its label and line
        self.first: dict[int, tuple[int | None, int]] = {}
        self.clashes: list[tuple[int, int]] = []  # lines of the same pair with unlike labels
        self.repeated = 0
        self.labelled = False

    def add(self, row: Row) -> None:
        if row.problem is not None or not row.image_path or not row.text:
            return
        self.labelled |= row.label is not None
        label, line = self.first.setdefault(pair_key(row), (row.label, row.line))
        if label != row.label:
            self.clashes.append((line, row.line))
        elif line != row.line:
            self.repeated += 1

    def warnings(self) -> Iterator[str]:
        if self.clashes:
            shown = ", ".join(f"{a} and {b}" for a, b in self.clashes[:3])
            more = f" and {len(self.clashes) - 3:,} more" if len(self.clashes) > 3 else ""
            yield (
                "the same image and text stand once as match and once as mismatch: lines"
                f" {shown}{more}; drop the wrong one"
            )
        if self.repeated:
            same = "image, text and label" if self.labelled else "image and text"
            yield (
                f"{plural(self.repeated, 'row')} repeat{'s' * (self.repeated == 1)} an earlier one:"
                f" same {same}"
            )
