"""The rows that mismatches are made of, and the table of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mismatch.data.negatives import Made
from mismatch.data.pairs import format_location, read_header, read_rows
from mismatch.data.readers.memory import RowsLike
from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.io.atomic import WaitingNames
from mismatch.io.descriptors import descriptor_of
from mismatch.jobs.memory_rows import check_image_is_file, in_memory, pick_rows
from mismatch.jobs.options import RowSource
from mismatch.jobs.pictures import Pictures
from mismatch.jobs.row_tables import row_table
from mismatch.jobs.scored_windows import free_name

__all__ = [
    "Labelled",
    "Matches",
    "doubtful_path",
    "labelled_doubtful",
    "labelled_rows",
    "read_matches",
    "rows_in_memory",
    "write_rows",
]

ADDED = ("label", "kind")
OWN_KINDS = {"", "match", "random", "hard", "attribute"}
OPTION = "`output`"


@dataclass
class Matches:
    """The rows that match, and those that can't be used."""

    header: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # each row's, in the file
    image_paths: list[str] = field(default_factory=list)  # each row's first
    pictures: Pictures = field(default_factory=Pictures)
    mismatches: int = 0  # rows labelled 0, which are left out
    # line and why, of rows that can't be used
    unusable: list[tuple[int, str]] = field(default_factory=list)
    own_kind: str | None = None  # what the user's own column `kind` is called, if there is one

    def keep_own_kind(self) -> None:
        """Rename a column `kind` that is not of an earlier result."""
        if not {row.get("kind", "") for row in self.rows} <= OWN_KINDS:
            self.own_kind = free_name("kind", self.header)
            self.header.append(self.own_kind)


@dataclass(frozen=True)
class Labelled:
    """A row of the result: a match, or a mismatch that was made of it."""

    match: int  # its place among the matches
    text: str
    kind: str  # "match", or how the mismatch was made

    @property
    def label(self) -> int:
        """Return whether the text fits, 0 or 1."""
        return int(self.kind == "match")


def read_matches(source: RowSource, *, refuse_memory: bool) -> Matches:
    """Read the rows that match. `refuse_memory`: InputError for an image that is in memory."""
    header = read_header(source.path, require_label=False, columns=source.columns)
    matches = Matches([*header, *(name for name in ADDED if name not in header)])
    with_labels = "label" in header
    for row in read_rows(source.path, require_label=with_labels, columns=source.columns):
        if not with_labels and "label" in row.columns:
            raise InputError(
                f"{format_location(source.path, row.line)}: this object has a label, and the first"
                " hundred have none; give each object the key, with null where it has no label"
            )
        if row.problem:
            matches.unusable.append((row.line, row.problem))
        elif row.label == 0:
            matches.mismatches += 1
        else:
            _add(matches, row, source, refuse_memory=refuse_memory)
    # later objects of JSON lines may have other keys
    keys = dict.fromkeys(name for row in matches.rows for name in row)
    matches.header += [name for name in keys if name not in matches.header]
    matches.keep_own_kind()
    return matches


def _add(matches: Matches, row: Row, source: RowSource, *, refuse_memory: bool) -> None:
    images = source.columns.images(row.image_path)
    if refuse_memory:
        check_image_is_file(source, images, row, OPTION)
    matches.rows.append(row.columns)
    matches.lines.append(row.line)
    matches.image_paths.append(images[0])
    matches.pictures.add(images)


def labelled_doubtful(doubtful: Sequence[Made]) -> list[Labelled]:
    """Return the doubtful mismatches, without the matches."""
    return [Labelled(negative.row, negative.text, negative.kind) for negative in doubtful]


def labelled_rows(matches: Matches, made: Sequence[Made]) -> Iterator[Labelled]:
    """Yield each match, and behind it its mismatches."""
    of_row: dict[int, list[Made]] = {}
    for negative in made:
        of_row.setdefault(negative.row, []).append(negative)
    for number, row in enumerate(matches.rows):
        yield Labelled(number, row["text"], "match")
        for negative in of_row.get(number, ()):
            yield Labelled(number, negative.text, negative.kind)


def doubtful_path(output: Path) -> Path | None:
    """Return the file of doubtful mismatches next to the output; None where that is no file."""
    if descriptor_of(output) is not None:
        return None
    if not output.name:
        raise InputError(f"`output` is {output}, a folder; give a file's name", option="output")
    return output.with_name(f"{output.stem}.doubtful{output.suffix}")


def write_rows(
    output: Path, matches: Matches, labelled: Sequence[Labelled], names: WaitingNames
) -> None:
    """Write rows as the table that the file's name asks for; it takes its name with `names`."""
    with row_table(output, matches.header, names=names) as table:
        for row in labelled:
            values = _values(matches, row)
            table.writerow([values.get(name, "") for name in matches.header])


def _values(matches: Matches, row: Labelled) -> dict[str, Any]:
    values = matches.rows[row.match]
    own = {} if matches.own_kind is None else {matches.own_kind: values.get("kind", "")}
    return {**values, "text": row.text, "label": row.label, "kind": row.kind, **own}


def rows_in_memory(
    user_rows: RowsLike, source: RowSource, matches: Matches, labelled: Sequence[Labelled]
) -> Any:
    """Return rows as the user's own came: a table of pandas, or a list of mappings."""
    if not in_memory(user_rows):
        return [_values(matches, row) for row in labelled]
    added: dict[str, Sequence[Any]] = {
        source.columns.text: [row.text for row in labelled],
        source.columns.label: [row.label for row in labelled],
        "kind": [row.kind for row in labelled],
    }
    if matches.own_kind is not None:
        added[matches.own_kind] = [matches.rows[row.match].get("kind", "") for row in labelled]
    # each row is a line of the temporary file
    rows = pick_rows(user_rows, [matches.lines[row.match] - 1 for row in labelled], added)
    # the index of a pandas table would have each match's name again for its mismatches
    return rows.reset_index(drop=True) if hasattr(rows, "reset_index") else rows
