"""The audit of training files: every row, every image really decoded, all problems together, and
what the labels look like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from mismatch.data.audit.between_files import shared_warnings
from mismatch.data.audit.findings import Sampled, TextCheck, TextReader, blind_images
from mismatch.data.audit.images import Look
from mismatch.data.audit.picture_check import (
    Pictures,
    add_image_problems,
    look_at_images,
    picture_findings,
)
from mismatch.data.audit.picture_groups import group_pictures, leaking_images
from mismatch.data.audit.problems import ProblemLog
from mismatch.data.audit.report import LABEL_NAMES, Audit, FileAudit
from mismatch.data.audit.row_check import RowFile, check_rows, image_resolver, is_labelled
from mismatch.data.audit.shift import Towers
from mismatch.data.near_duplicates import Fingerprint
from mismatch.data.pairs import Columns
from mismatch.io.text import plural
from mismatch.progress import progress as shown_progress

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_PROBLEMS", "balance_advice", "size_advice", "validate_files"]

# label, total, unit → what receives how many more are done
Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], object]]]
# rows to train on
MIN_ROWS = 500
GOOD_ROWS = 5_000
MIN_SHARE = 0.2  # the rarer label's
MAX_PROBLEMS = 50  # kept and shown, per file
EMPTY_LABELS = (
    "no row has a label that can be read; without the column of labels, the rows are checked as"
    " pairs that match"
)


def validate_files(  # noqa: PLR0913
    paths: Sequence[str | Path],
    image_base_path: str | Path = "",
    *,
    check_image: Callable[..., Image],
    names: Sequence[str] | None = None,
    duplicates: bool = False,
    reader: TextReader | None = None,
    towers: Towers | None = None,
    accept_pairs: bool = False,
    columns: Columns | None = None,
    workers: int = 4,
    progress: Progress = shown_progress,
    max_problems: int = MAX_PROBLEMS,
) -> Audit:
    """Audit files that are to be trained on.

    `check_image` decodes an image or raises InputError; it is called once an image, on `workers`
    threads. `names`: what the files are called in the report; their paths. `duplicates`: also look
    for near-duplicate images, which needs the ImageHash library. `reader`: the tokenizer of the
    backbone that is to be trained; `towers`: its embeddings, by which texts that have slid against
    the images are found. `accept_pairs`: a file without a column of labels is pairs that match.

    Keeps the first `max_problems` of each file, shared among their kinds, and counts the rest.
    InputError only for a file that can't be opened.
    """
    sources = _sources(paths, columns or Columns(), accept_pairs=accept_pairs)
    where = image_resolver(image_base_path)
    files = [
        FileAudit(name, source.labelled)
        for name, source in zip(names or map(str, paths), sources, strict=True)
    ]
    logs = [ProblemLog(max_problems) for _ in files]
    with progress("read rows", None, "row") as advance:
        for file, source, log in zip(files, sources, logs, strict=True):
            check_rows(file, source, where, log, TextCheck(reader), advance)
    wanted = list(dict.fromkeys(path for file in files for path in file.images))
    look = Look(check_image, prints=duplicates)
    with progress("check images", len(wanted), "image") as advance:
        pictures = look_at_images(
            wanted, look, where, image_base_path, workers=workers, advance=advance
        )
    for file, log in zip(files, logs, strict=True):
        add_image_problems(file, pictures, log)
        file.set_problems(log.groups())
    leaks = _add_doubts(files, sources, pictures, towers, duplicates=duplicates)
    warnings = [*_size(files), *_labels(files), *shared_warnings(files, leaks)]
    return Audit(files, warnings, pictures.broken, leaks, pictures.meant)


def _add_doubts(
    files: Sequence[FileAudit],
    sources: Sequence[RowFile],
    pictures: Pictures,
    towers: Towers | None,
    *,
    duplicates: bool,
) -> dict[tuple[int, int], set[str]]:
    """Add what is doubtful about labels and images of each file; return, for each two files, the
    images of the first that are near-duplicates of another in the second.
    """
    prints = {path: look.print for path, look in pictures.seen.items() if look.print is not None}
    grouped = group_pictures([file.images for file in files], prints)
    for file, source, members in zip(files, sources, grouped, strict=True):
        file.warnings += balance_advice(file.labels)
        if file.labelled and file.rows and not file.labels.total() and not file.faults:
            file.warnings.append(EMPTY_LABELS)
        file.findings += picture_findings(file, members, pictures, source, towers)
        if duplicates:
            _add_blind_images(file, [_print_of(row, source, pictures) for row in file.sample])
    return leaking_images(grouped)


def _sources(paths: Sequence[str | Path], columns: Columns, *, accept_pairs: bool) -> list[RowFile]:
    return [
        RowFile(path, columns, not accept_pairs or is_labelled(path, columns)) for path in paths
    ]


def _add_blind_images(file: FileAudit, prints: Sequence[Fingerprint | None]) -> None:
    """Add how well the images of the sampled rows alone tell their labels."""
    auroc, findings = blind_images(file.sample, prints)
    file.blind["images"] = auroc
    file.findings += findings


def _print_of(row: Sampled, source: RowFile, pictures: Pictures) -> Fingerprint | None:
    columns = source.columns
    images = [] if columns.path_problem(row.image) else columns.images(row.image)
    # none of a row without a path
    first = pictures.seen.get(pictures.where(images[0])) if images else None
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


def balance_advice(labels: Counter[int]) -> Iterator[str]:
    """Yield what to say of so many rows of each label; nothing where both have a fifth or more."""
    total = labels.total()
    if not total:
        return
    rarer = min(LABEL_NAMES, key=lambda label: labels[label])
    if not labels[rarer]:
        cure = "" if rarer else "; make-negatives makes mismatches of rows that match"
        yield (
            f"no row is labelled {rarer} ({LABEL_NAMES[rarer]}): nothing can be learnt from one"
            f" label alone{cure}"
        )
    elif labels[rarer] < MIN_SHARE * total:
        yield (
            f"only {labels[rarer] / total:.1%} of the rows are labelled {rarer}"
            f" ({LABEL_NAMES[rarer]}); roughly equal numbers work best"
        )


def _size(files: Sequence[FileAudit]) -> Iterator[str]:
    """Yield what to say of the largest file, which is the one to train on."""
    largest = max(files, key=lambda file: file.rows)
    if largest.rows and (advice := size_advice(largest.rows)):
        yield f"{largest.path}: {advice}"


def _labels(files: Sequence[FileAudit]) -> Iterator[str]:
    """Yield a line for files without labels next to others that have some."""
    pairs = [file.path for file in files if not file.labelled]
    if pairs and len(pairs) < len(files):
        have = "has" if len(pairs) == 1 else "have"
        yield (
            f"{', '.join(pairs)} {have} no labels, as training and measuring need; the others"
            " have some"
        )
