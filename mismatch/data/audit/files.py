"""The audit of training files: every row, every image really decoded, all problems together, and
what the labels look like.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mismatch.data.audit.findings import (
    Sampled,
    TextCheck,
    TextReader,
    blind_images,
    common_images,
    in_lines,
    near_duplicates,
    text_key,
)
from mismatch.data.audit.images import Look, Seen, oddity_findings
from mismatch.data.audit.report import LABEL_NAMES, Audit, FileAudit
from mismatch.data.pairs import Columns, Row, resolve_image, scan_rows, training_problem
from mismatch.errors import InputError
from mismatch.io.text import plural
from mismatch.io.threads import map_ahead
from mismatch.progress import progress as shown_progress

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_PROBLEMS", "balance_advice", "size_advice", "validate_files"]

# label, total, unit → what receives how many more are done
Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], object]]]
Resolver = Callable[[str], str]  # an image as written → where it lies
# rows to train on
MIN_ROWS = 500
GOOD_ROWS = 5_000
MIN_SHARE = 0.2  # the rarer label's
MAX_PROBLEMS = 50  # kept and shown, per file


def validate_files(  # noqa: PLR0913
    paths: Sequence[str | Path],
    image_base_path: str | Path = "",
    *,
    check_image: Callable[[Path], Image],
    names: Sequence[str] | None = None,
    duplicates: bool = False,
    reader: TextReader | None = None,
    columns: Columns | None = None,
    workers: int = 4,
    progress: Progress = shown_progress,
    max_problems: int = MAX_PROBLEMS,
) -> Audit:
    """Audit files that are to be trained on.

    `check_image` decodes an image or raises InputError; it is called once an image, on `workers`
    threads. `names`: what the files are called in the report; their paths. `duplicates`: also look
    for near-duplicate images, which needs the ImageHash library. `reader`: the tokenizer of the
    backbone that is to be trained.

    Keeps the first `max_problems` of each file and counts the rest. InputError only for a file that
    can't be opened.
    """
    columns = columns or Columns()
    where = _resolver(image_base_path)
    with progress("read rows", None, "row") as advance:
        files = []
        for path, name in zip(paths, names or map(str, paths), strict=True):
            audit = FileAudit(name)
            _read(audit, path, where, max_problems, columns, TextCheck(reader), advance)
            files.append(audit)
    wanted = list(dict.fromkeys(path for file in files for path in file.images))
    look = Look(check_image, prints=duplicates)
    with progress("check images", len(wanted), "image") as advance:
        looked = map_ahead(look, wanted, workers=workers, advance=advance)
        seen = dict(zip(wanted, looked, strict=True))
    broken = {path: image.error for path, image in seen.items() if image.error is not None}
    prints = {path: image.print for path, image in seen.items() if image.print is not None}
    alike, leaks = near_duplicates([file.images for file in files], prints)
    for file, findings in zip(files, alike, strict=True):
        _add_images(file, broken, max_problems)
        file.warnings += balance_advice(file.labels)
        file.findings += oddity_findings(file.images, seen)
        file.findings += common_images(file.images)
        file.findings += findings
        if duplicates:
            _add_blind_images(file, [_print_of(row, where, columns, seen) for row in file.sample])
    warnings = [*_size(files), *_shared(files), *_leaking(files, leaks), *_shared_texts(files)]
    return Audit(files, warnings, broken, leaks)


def _add_blind_images(file: FileAudit, prints: Sequence[Any]) -> None:
    """Add how well the images of the sampled rows alone tell their labels."""
    auroc, findings = blind_images(file.sample, prints)
    file.blind["images"] = auroc
    file.findings += findings


def _resolver(base: str | Path) -> Resolver:
    """Return what says where an image lies. It remembers the last hundred thousand: making a path
    takes longer than reading a row.
    """
    return lru_cache(maxsize=100_000)(lambda image: str(resolve_image(base, image)))


def _print_of(row: Sampled, where: Resolver, columns: Columns, seen: Mapping[str, Seen]) -> Any:
    images = [] if columns.path_problem(row.image) else columns.images(row.image)
    first = seen.get(where(images[0])) if images else None  # none of a row without a path
    return None if first is None else first.print


def size_advice(rows: int) -> str | None:
    """Return what to say of so many training rows; None from 5,000 on."""
    if rows < MIN_ROWS:
        return (
            f"{plural(rows, 'training row')}: too few to learn from; {MIN_ROWS} to 1,000 are the"
            f" least, {GOOD_ROWS:,} and more work best"
        )
    if rows < GOOD_ROWS:
        return (
            f"{plural(rows, 'training row')}: enough to begin with; {GOOD_ROWS:,} and more work"
            " best"
        )
    return None


# --- rows


def _read(
    audit: FileAudit,
    path: str | Path,
    where: Resolver,
    keep: int,
    columns: Columns,
    check: TextCheck,
    advance: Callable[[int], object],
) -> None:
    """Add all that a file says but the images."""
    texts = set[int]()
    pairs = _Pairs()
    for scanned in scan_rows(
        path, lambda line, message: audit.faults.append((line, message)), columns
    ):
        row = scanned
        if columns.multi_image is not None:
            row = scanned._replace(problem=training_problem(scanned, columns))
        _add_row(audit, row, where, keep, columns)
        if row.intact and row.text and (key := hash(row.text)) not in texts:
            texts.add(key)
            audit.text_keys.setdefault(text_key(row.text), row.line)
        pairs.add(row)
        advance(1)
        if row.problem is None:
            check.add(row)
    if not audit.rows and not audit.faults:
        audit.faults.append((1, "there are no rows under the header"))
    audit.texts = len(texts)
    audit.sample = check.sample
    audit.problem_count += len(audit.faults)
    audit.problems = heapq.nsmallest(keep, [*audit.faults, *audit.problems])
    audit.warnings += pairs.warnings()
    audit.findings += check.findings()
    audit.blind["texts"] = check.blind


def _add_row(audit: FileAudit, row: Row, where: Resolver, keep: int, columns: Columns) -> None:
    audit.rows += 1
    if row.label is not None:
        audit.labels[row.label] += 1
    if row.problem is not None:
        audit.problem_count += 1
        audit.bad_lines.add(row.line)
        if len(audit.problems) < keep:
            audit.problems.append((row.line, row.problem))
    if row.intact and row.image_path.strip() and not columns.path_problem(row.image_path):
        for image in columns.images(row.image_path):
            audit.images.setdefault(where(image), []).append(row.line)


class _Pairs:
    """Which labels each pair of image and text has, by hash, so that millions fit."""

    def __init__(self) -> None:
        self.first: dict[int, tuple[int, int]] = {}  # hash of the pair → its label and line
        self.clashes: list[tuple[int, int]] = []  # lines of the same pair with unlike labels
        self.repeated = 0

    def add(self, row: Row) -> None:
        if row.problem is not None or row.label is None or not row.image_path or not row.text:
            return
        label, line = self.first.setdefault(hash((row.image_path, row.text)), (row.label, row.line))
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
            yield (
                f"{plural(self.repeated, 'row')} repeat{'s' * (self.repeated == 1)} an earlier one:"
                " same image, text and label"
            )


def balance_advice(labels: Counter[int]) -> Iterator[str]:
    """Yield what to say of so many rows of each label; nothing where both have a fifth or more."""
    total = labels.total()
    if not total:
        return
    rarer = min(LABEL_NAMES, key=lambda label: labels[label])
    if not labels[rarer]:
        yield (
            f"no row is labelled {rarer} ({LABEL_NAMES[rarer]}): nothing can be learnt from one"
            " label alone"
        )
    elif labels[rarer] < MIN_SHARE * total:
        yield (
            f"only {labels[rarer] / total:.1%} of the rows are labelled {rarer}"
            f" ({LABEL_NAMES[rarer]}); roughly equal numbers work best"
        )


# --- images


def _add_images(file: FileAudit, broken: dict[str, InputError], keep: int) -> None:
    bad = {path: lines for path, lines in file.images.items() if path in broken}
    file.bad_images = len(bad)
    file.problem_count += sum(map(len, bad.values()))
    file.bad_lines.update(line for lines in bad.values() for line in lines)
    problems = ((line, str(broken[path])) for path, lines in bad.items() for line in lines)
    file.problems = heapq.nsmallest(keep, [*file.problems, *heapq.nsmallest(keep, problems)])
    if (
        bad
        and len(bad) == len(file.images)
        and all(isinstance(broken[path], FileNotFoundError) for path in bad)
    ):
        place = Path(next(iter(bad))).absolute()
        file.warnings.append(
            "not one of its images was found: the image base path is probably wrong; the first was"
            f" looked for at {place}"
        )


# --- the files together


def _size(files: Sequence[FileAudit]) -> Iterator[str]:
    """Yield what to say of the largest file, which is the one to train on."""
    largest = max(files, key=lambda file: file.rows)
    if largest.rows and (advice := size_advice(largest.rows)):
        yield f"{largest.path}: {advice}"


def _shared(files: Sequence[FileAudit]) -> Iterator[str]:
    """Yield a line for images that stand in two files: scores on the one then flatter a model
    trained on the other.
    """
    for i, first in enumerate(files):
        for second in files[i + 1 :]:
            if both := len(first.images.keys() & second.images.keys()):
                yield (
                    f"{first.path} and {second.path} share {plural(both, 'image')}; a model is only"
                    " tested by images that it was not trained on"
                )


def _leaking(files: Sequence[FileAudit], leaks: dict[tuple[int, int], set[str]]) -> Iterator[str]:
    """Yield a line for near-duplicates of images in another file."""
    for (first, second), images in leaks.items():
        lines = sorted(line for path in images for line in files[first].images[path])
        shown = ", ".join(map(str, lines[:3])) + (", …" if len(lines) > 3 else "")
        have = (
            f"{plural(len(images), 'image')} of {files[first].path} (line{'s' * (len(lines) > 1)}"
            f" {shown}) {'has' if len(images) == 1 else 'have'}"
        )
        yield (
            f"{have} a near-duplicate in {files[second].path}; a model is only tested by images"
            " that it was not trained on"
        )


def _shared_texts(files: Sequence[FileAudit]) -> Iterator[str]:
    """Yield a line for texts that stand in two files, but for case, punctuation and word order."""
    for i, first in enumerate(files):
        for second in files[i + 1 :]:
            if both := first.text_keys.keys() & second.text_keys.keys():
                lines = sorted(second.text_keys[key] for key in both)
                have = (
                    f"{plural(len(both), 'text')} of {second.path} ({in_lines(lines)})"
                    f" {'stands' if len(both) == 1 else 'stand'} in {first.path} too"
                )
                share = len(both) / len(second.text_keys)
                yield (
                    f"{have}, word for word or nearly: {share:.1%} of its texts; a split that"
                    " groups by text keeps such rows together"
                )
