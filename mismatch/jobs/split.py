"""Rows as train, val and test, with nothing in two of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any, Unpack

from mismatch.data.pairs import all_columns, format_location, read_rows, rows_files
from mismatch.data.readers.memory import RowsLike
from mismatch.data.split import NAMES, SplitReport, assign, join, report_of
from mismatch.errors import InputError
from mismatch.io.atomic import together
from mismatch.io.hub_urls import located_hub_rows
from mismatch.io.outputs import check_outputs
from mismatch.io.replacing import remove_earlier
from mismatch.jobs.earlier_split import is_earlier_split
from mismatch.jobs.locking import lock_folder
from mismatch.jobs.memory_rows import check_image_is_file, in_memory, keep_rows, pick_rows
from mismatch.jobs.options import RowOptions, RowSettings, RowSource, open_rows
from mismatch.jobs.pictures import Pictures
from mismatch.jobs.row_tables import rejected_header, rejected_values, row_table
from mismatch.jobs.same_rows import same_rows
from mismatch.jobs.split_result import SplitPart, SplitResult
from mismatch.jobs.table_kinds import exact_table
from mismatch.jobs.value_checks import checked

__all__ = ["split"]

REJECTED = "rejected.csv"
OPTION = "`output_dir`"


@dataclass(frozen=True)
class _Choice:
    """How rows are put together and where they go."""

    fractions: tuple[float, ...]  # add up to 1
    together: tuple[str, ...]  # columns whose equal values keep rows on one side
    strata: tuple[str, ...]  # columns that are spread evenly, next to the label
    seed: int
    near_duplicates: bool
    num_workers: int | None


@dataclass(frozen=True)
class _Input:
    """Rows, and the columns of all of them."""

    source: RowSource
    user_rows: RowsLike  # those that `keep_rows` returns
    header: list[str]

    def read(self) -> Any:
        """Stream the rows."""
        return read_rows(
            self.source.path,
            require_label="label" in self.header,
            columns=self.source.columns,
        )


@dataclass
class _Table:
    """What is remembered of the rows: numbers, not texts."""

    lines: list[int] = field(default_factory=list)
    pictures: Pictures = field(default_factory=Pictures)
    labels: list[int | None] = field(default_factory=list)
    strata: list[tuple[Any, ...]] = field(default_factory=list)
    joined: list[list[int]] = field(default_factory=list)  # columns, as hashes
    reasons: dict[int, str] = field(default_factory=dict)  # line of a row that is left out → why


@checked
def split(
    rows: RowsLike,
    *,
    output_dir: str | Path | None = None,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    group_by_text: bool = False,
    group_columns: Sequence[str] = (),
    stratify_columns: Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
    near_duplicates: bool = True,
    num_workers: int | None = None,
    **options: Unpack[RowOptions],
) -> SplitResult:
    """Split rows image_path,text[,label] into train, val and test.

    Rows of one image, or of near-duplicate images, never stand on two sides; labels are spread
    evenly. Rows that can't be used, as their image can't be read, are rejected with the reason.

    `output_dir`: folder for train.csv, val.csv, test.csv and rejected.csv; None: the result holds
    the rows. `fractions`: shares of the rows; two make no test part. `group_by_text`: keep rows
    with the same text on one side too, `group_columns`: those with the same value in one of these
    columns. `stratify_columns`: spread their values evenly, as the labels are. `seed`: another one
    gives another split; the order of the rows does not matter. `overwrite`: replace files of an
    earlier split of rows with the same columns. `near_duplicates`: look at the images for them.
    `num_workers`: threads that decode images; None: one per CPU.

    Raises InputError for rows or options that can't be used; then nothing was written.
    """
    settings = RowSettings.of(options)
    choice = _Choice(
        fractions=_shares(fractions),
        together=(*(["text"] if group_by_text else []), *group_columns),
        strata=tuple(stratify_columns),
        seed=seed,
        near_duplicates=near_duplicates,
        num_workers=num_workers,
    )
    target = None if output_dir is None else Path(output_dir)
    user_rows = keep_rows(rows) if target is None else rows
    with ExitStack() as stack:
        source = stack.enter_context(open_rows(user_rows, settings))
        input_rows = _Input(source, user_rows, _header(source, choice))
        stale = []
        if target is not None:
            stack.enter_context(_lock(target, choice, source))
            stale = _check_files(target, choice, input_rows, overwrite=overwrite)
        table = _read(input_rows, choice, to_files=target is not None)
        part_of, report = _assign(input_rows, table, choice)
        reasons = table.reasons
        if target is None:
            parts, rejected = _in_memory(input_rows, part_of, reasons, choice)
        else:
            parts, rejected = _write(input_rows, part_of, reasons, _targets(target, choice))
        for path in stale:
            remove_earlier(path)
    return _result(report, choice.fractions, len(reasons), parts, rejected)


def _shares(fractions: Sequence[float]) -> tuple[float, ...]:
    """Return fractions that add up to 1. InputError for others than two or three above 0."""
    try:
        shares = tuple(float(share) for share in fractions)
    except (TypeError, ValueError):
        shares = ()
    total = sum(shares)
    if len(shares) not in (2, 3) or not min(shares) > 0 or not math.isfinite(total):
        raise InputError(
            f"`fractions` {_listed(fractions)}: two or three shares above 0 are needed, of train,"
            " val and test",
        )
    return tuple(share / total for share in shares)


def _listed(fractions: object) -> str:
    if isinstance(fractions, (tuple, list)):
        return ",".join(map(str, fractions))
    return repr(fractions)


def _header(source: RowSource, choice: _Choice) -> list[str]:
    """Return the columns. InputError where one that is asked for is missing."""
    header = all_columns(source.path, require_label=False, columns=source.columns)
    for name in (*choice.together, *choice.strata):
        if name not in header:
            raise InputError(
                f"{source.name}: there is no column {name!r}; found {', '.join(map(repr, header))}"
            )
    return header


def _targets(folder: Path, choice: _Choice) -> list[Path]:
    return [folder / f"{name}.csv" for name in NAMES[: len(choice.fractions)]]


def _lock(folder: Path, choice: _Choice, source: RowSource) -> Any:
    """Return the lock of the folder; refuse one in a model, or with the input under a part's name.

    What a killed writer has left of any part is removed, of one that is not made too.
    """
    written = [*_targets(folder, choice), folder / REJECTED]
    check_outputs([(OPTION, path, None) for path in written], rows_files(source.path))
    names = [*(f"{name}.csv" for name in NAMES), REJECTED]
    return lock_folder(folder, inside=re.compile("|".join(map(re.escape, names))))


def _check_files(
    folder: Path, choice: _Choice, input_rows: _Input, *, overwrite: bool
) -> list[Path]:
    """Refuse to replace what no split of rows with these columns wrote.

    Return parts of an earlier split that are not made again.
    """
    targets = _targets(folder, choice)
    for path in (*targets, folder / REJECTED):
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists already; choose another {OPTION}, or pass `overwrite=True`"
            )
    header = input_rows.header
    rows = exact_table("a part of such a split", lambda: header)
    rejected = exact_table("a table of its rejected rows", lambda: rejected_header(header))
    outputs = [(OPTION, path, rows) for path in targets]
    check_outputs([*outputs, (OPTION, folder / REJECTED, rejected)])
    earlier = [path for path in targets if path.is_file()]
    if not earlier:
        return []
    source = input_rows.source
    unused = [folder / f"{name}.csv" for name in NAMES[len(choice.fractions) :]]
    return [
        path
        for path in unused
        if is_earlier_split(path, earlier, source.path, header, source.columns)
    ]


def _read(input_rows: _Input, choice: _Choice, *, to_files: bool) -> _Table:
    table = _Table(joined=[[] for _ in choice.together])
    columns = input_rows.source.columns
    refuse_memory = to_files and in_memory(input_rows.user_rows)
    for row in input_rows.read():
        if row.problem:
            table.reasons[row.line] = row.problem
            continue
        images = columns.images(row.image_path)
        if refuse_memory:
            check_image_is_file(input_rows.source, images, row, OPTION)
        table.lines.append(row.line)
        table.pictures.add(images)
        table.labels.append(row.label)
        strata = [row.columns.get(name, "") for name in choice.strata]
        table.strata.append((row.label, *strata))
        for values, name in zip(table.joined, choice.together, strict=True):
            values.append(hash(row.columns.get(name, "")))
    return table


def _assign(
    input_rows: _Input, table: _Table, choice: _Choice
) -> tuple[dict[int, int], SplitReport]:
    """Return the number of each row's part, by its line, and what the split is like. Rows whose
    image can't be read get a reason.
    """
    images = table.pictures.groups(
        input_rows.source.base, look=choice.near_duplicates, workers=choice.num_workers
    )
    image_groups = images.groups
    _leave_out(table, image_groups, images.broken)
    if not table.lines:
        line, reason = next(iter(table.reasons.items()), (1, "there are no rows under the header"))
        raise InputError(
            f"{format_location(input_rows.source.name, line)}: {reason}; no row can be used"
        )
    groups = join(image_groups, table.joined)
    paths = list(table.pictures.paths)
    if hub := located_hub_rows(input_rows.source.name):
        paths = list(map(hub.in_repository, paths))
    first = [row[0] for row in table.pictures.rows]
    splits = assign(
        groups,
        table.strata,
        [paths[image] for image in first],
        fractions=choice.fractions,
        seed=choice.seed,
    )
    report = report_of(groups, splits, table.labels, first, len(choice.fractions))
    if choice.near_duplicates:
        report.near_duplicates = len(set(first)) - len(set(image_groups))
    _check_train(report)
    return dict(zip(table.lines, splits, strict=True)), report


def _leave_out(table: _Table, groups: list[int], broken: Mapping[int, str]) -> None:
    """Take out the rows whose image can't be read, and keep the reason."""
    good = [row not in broken for row in range(len(table.lines))]
    table.reasons |= {table.lines[row]: reason for row, reason in broken.items()}
    columns: list[list[Any]] = [
        table.lines,
        groups,
        table.pictures.rows,
        table.labels,
        table.strata,
        *table.joined,
    ]
    for column in columns:
        column[:] = compress(column, good)


def _check_train(report: SplitReport) -> None:
    """Refuse a split with nothing to train on."""
    if not report.labels[0].total():
        raise InputError(
            f"train would hold none of the {report.rows:,} rows, which stay together in"
            f" {report.groups:,} groups; ask for a larger first share with `fractions`, or group by"
            " fewer columns"
        )


def _write(
    input_rows: _Input,
    part_of: Mapping[int, int],
    reasons: Mapping[int, str],
    targets: Sequence[Path],
) -> tuple[dict[str, Any], Path | None]:
    """Write all files, or none; rows in the order in which they stand."""
    header = input_rows.header
    folder = targets[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    other = folder / REJECTED
    with together() as names, ExitStack() as stack:
        tables = [stack.enter_context(row_table(path, header, names=names)) for path in targets]
        if reasons:
            table = row_table(other, rejected_header(header), names=names)
            rejected = stack.enter_context(table)
        for row in same_rows(input_rows.read(), [part_of, reasons], input_rows.source.name):
            if row.line in reasons:
                rejected.writerow(rejected_values(row, header, reasons[row.line]))
            else:
                values = [row.columns.get(name, "") for name in header]
                tables[part_of[row.line]].writerow(values)
    if not reasons:
        # the file of an earlier split, whose place the new one has taken
        remove_earlier(other)
    parts = dict(zip(NAMES, targets, strict=False))
    return parts, other if reasons else None


def _in_memory(
    input_rows: _Input, part_of: Mapping[int, int], reasons: Mapping[int, str], choice: _Choice
) -> tuple[dict[str, Any], Any]:
    """Return the rows of each part, and those that are rejected."""
    user_rows = input_rows.user_rows
    if in_memory(user_rows):  # each row is a line of the temporary file
        places = {line: line - 1 for line in (*part_of, *reasons)}
    else:
        user_rows = []
        places = {}
        for row in same_rows(input_rows.read(), [part_of, reasons], input_rows.source.name):
            places[row.line] = len(user_rows)
            user_rows.append({name: row.columns.get(name, "") for name in input_rows.header})
    parts = {}
    for number, name in enumerate(NAMES[: len(choice.fractions)]):
        lines = [line for line, part in part_of.items() if part == number]
        parts[name] = pick_rows(user_rows, [places[line] for line in lines])
    if not reasons:
        return parts, None
    lines = sorted(reasons)
    added = {"reason": [reasons[line] for line in lines]}
    return parts, pick_rows(user_rows, [places[line] for line in lines], added)


def _result(
    report: SplitReport,
    shares: tuple[float, ...],
    rejected: int,
    parts: dict[str, Any],
    rejected_rows: Any,
) -> SplitResult:
    splits = {}
    for name, labels, images in zip(NAMES, report.labels, report.images, strict=False):
        counts = {str(label): labels[label] for label in sorted(labels, key=str)}
        splits[name] = SplitPart(labels.total(), counts, images)
    return SplitResult(
        rows=report.rows,
        groups=report.groups,
        largest_group=report.largest,
        near_duplicate_images=report.near_duplicates,
        splits=splits,
        rejected=rejected,
        shares=shares,
        parts=parts,
        rejected_rows=rejected_rows,
    )
