"""Whether rows are fit to train on: every row and every image is looked at, and all problems are
reported together.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Unpack

from numpy.typing import NDArray

from mismatch.data.audit.clean import split_usable_rows
from mismatch.data.audit.files import MAX_PROBLEMS, validate_files
from mismatch.data.audit.findings import ShownRow, TextReader
from mismatch.data.audit.report import Audit
from mismatch.data.audit.row_check import is_labelled
from mismatch.data.audit.shift import Towers
from mismatch.data.pairs import all_columns, rows_files
from mismatch.data.readers.memory import RowsLike
from mismatch.errors import InputError, MissingExtraError
from mismatch.io.atomic import together, write_json
from mismatch.io.outputs import OutputKind, check_outputs, json_report, page
from mismatch.jobs.fetching import NO_FETCHING
from mismatch.jobs.locking import lock_file
from mismatch.jobs.memory_rows import check_image_is_file, in_memory
from mismatch.jobs.options import RowOptions, RowSettings, RowSource, open_rows
from mismatch.jobs.results import Result
from mismatch.jobs.row_tables import check_table, rejected_header, rejected_values, row_table
from mismatch.jobs.table_kinds import exact_table, refuse_unasked
from mismatch.jobs.value_checks import check_paths, checked
from mismatch.reports.audit import TITLE, audit_fragment, write_audit_page
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.preprocess import open_image

__all__ = ["AuditFinding", "AuditReport", "FixedRows", "audit"]

logger = logging.getLogger(__name__)

AUDIT = ("imagehash", "sklearn")  # import names of what the extra [audit] brings for this
INCOMPLETE = (
    "not looked for: near-duplicate images, and labels that texts or images alone tell; that needs"
    ' pip install "mismatch-clip[audit]"'
)
FIX = "`fix`"
REPORT = "`report`"


@dataclass(frozen=True)
class AuditFinding:
    """What is doubtful about rows that could be trained on."""

    path: str  # file, or name of the table
    kind: str  # "markup", "garbled", "near-duplicates", "boilerplate", …
    message: str
    count: int  # rows
    lines: list[int]  # the first of them
    # the first rows of each of its groups, where it is about rows that belong together
    groups: list[list[ShownRow]] = field(default_factory=list)


@dataclass(frozen=True)
class FixedRows:
    """The first rows in two files."""

    rows: int  # those that are fit to train on
    path: Path  # their file
    rejected: int  # the other rows
    rejected_path: Path  # their file, with the reason


@dataclass(frozen=True, repr=False)
class AuditReport(Audit, Result):
    """What was found in all rows. `ok` says whether all can be used, `findings` what is wrong.

    `files`: what was found in each file.
    `warnings`: sentences about the files together.
    `broken`: images that can't be read → why.
    `leaks`: numbers of two files → near-duplicates of the second's images in the first.
    `meant`: paths that name no file → the path of the file that is meant.
    `complete`: whether the extra [audit] is installed; else less was looked for.
    `fixed`: what `fix` has written; None without it.
    """

    complete: bool = True
    fixed: FixedRows | None = None

    @property
    def findings(self) -> list[AuditFinding]:
        """Return what is doubtful about rows that could be trained on, file by file."""
        return [
            AuditFinding(file.path, **vars(finding))
            for file in self.files
            for finding in file.findings
        ]

    def save(self, path: str | Path) -> None:
        """Write the report, with pictures if the name ends in .html, else as JSON.

        InputError where a file that is no such report is there.
        """
        path = Path(path)
        check_outputs([("`path`", path, _report_kind(path))])
        with lock_file(path):
            _write_report(self, path)

    def __repr__(self) -> str:
        """Return the verdict."""
        return f"<AuditReport: {self.verdict()}>"

    def _repr_html_(self) -> str:
        return audit_fragment(self)


@checked
def audit(
    *rows: RowsLike,
    report: str | Path | Sequence[str | Path] = (),
    fix: str | Path | None = None,
    overwrite: bool = False,
    backbone: str | None = None,
    max_problems: int = MAX_PROBLEMS,
    num_workers: int | None = None,
    **options: Unpack[RowOptions],
) -> AuditReport:
    """Check rows image_path,text,label before training: those to train on first, then those to
    choose and to measure by. Rows without labels are checked as pairs that match.

    Columns, labels, texts, and every image, which is really decoded; repeated and contradictory
    rows; HTML, garbled, missing and boilerplate texts; blank, animated, very long or small images;
    one picture with texts of two things; images and texts in two files. The extra [audit] adds
    near-duplicate images, texts that have slid against their images, and whether texts alone, or
    images alone, tell the labels.

    `report`: files for the report, with pictures if the name ends in .html, else JSON. `fix`: file
    for those of the first rows that can be used, with the paths of files that are spelt otherwise;
    the others go to out.rejected.csv for out.csv, with the reason. `overwrite`: replace tables that
    an earlier `fix` wrote, of rows with the same columns. `backbone`: name texts that are longer
    than its context or in a language that it can't read, and texts that fit other rows' images
    better. `max_problems`: problems listed for each file, shared among their kinds; the rest is
    counted. `num_workers`: threads that decode images; None: one per CPU.

    Raises InputError for a file that can't be opened; rows that can't be used are in the report.
    """
    settings = RowSettings.of(options)
    _check(rows, max_problems)
    reports = check_paths("report", report)
    target = None if fix is None else Path(fix)
    complete = all(find_spec(name) for name in AUDIT)
    with ExitStack() as stack:
        sources = _opened(stack, rows, settings)
        _check_files(sources, reports, target, overwrite=overwrite)
        for path in (*reports, *([] if target is None else [target])):
            stack.enter_context(lock_file(path))
        reader, towers = (None, None) if backbone is None else _reader_and_towers(backbone)
        result = validate_files(
            [_path(source) for source in sources],
            sources[0].base,
            check_image=open_image,
            names=_names(rows, sources),
            columns=sources[0].columns,
            duplicates=complete,
            reader=reader,
            towers=towers,
            accept_pairs=True,
            workers=available_cpus() if num_workers is None else num_workers,
            max_problems=max_problems,
        )
        for path in reports:
            _write_report(result, path)
        fixed = None
        if target is not None:
            fixed = _fix(result, sources, target, refuse_memory=in_memory(rows[0]))
    if not complete:
        logger.info(INCOMPLETE)
    return AuditReport(**vars(result), complete=complete, fixed=fixed)


def _check(rows: Sequence[RowsLike], max_problems: int) -> None:
    if not rows:
        raise InputError("no `rows` are given; a file, a table or an iterable is needed")
    if not isinstance(max_problems, int) or max_problems < 1:
        raise InputError(f"`max_problems` is {max_problems!r}; a whole number from 1 on is needed")


def _opened(stack: ExitStack, rows: Sequence[RowsLike], settings: RowSettings) -> list[RowSource]:
    """Return all rows as files. One pool decodes the images of all of them, if any, and one fetcher
    fetches them.
    """
    sources = []
    for source in rows:
        sources.append(stack.enter_context(open_rows(source, settings, absolute_images=True)))
        settings = replace(settings, isolate_decoding=False, **asdict(NO_FETCHING))
    return sources


def _path(source: RowSource) -> Path:
    if not isinstance(source.path, Path):
        raise InputError(f"{source.path} is a URL, and an audit reads files that are here; copy it")
    return source.path


def _names(rows: Sequence[RowsLike], sources: Sequence[RowSource]) -> list[str]:
    """Return what the rows are called: their paths; tables of one type are numbered."""
    names = []
    for number, (user_rows, source) in enumerate(zip(rows, sources, strict=True), start=1):
        if not in_memory(user_rows):
            names.append(os.fspath(user_rows))
        elif len(rows) == 1:
            names.append(source.name)
        else:
            names.append(f"{source.name} {number}")
    return names


def _check_files(
    sources: Sequence[RowSource], reports: Sequence[Path], target: Path | None, *, overwrite: bool
) -> None:
    """Refuse to replace an input, and anything but older reports and, if asked for, tables."""
    if target is not None:
        check_table(target)
    elif overwrite:
        raise InputError("`overwrite` goes with `fix`; a report replaces an older one")
    inputs = [file for source in sources for file in rows_files(source.path)]
    check_outputs(_outputs(reports, target, lambda: _any_header(sources[0])), inputs)
    if target is not None:
        refuse_unasked(FIX, [target, _rejected(target)], overwrite=overwrite)


def _outputs(
    reports: Sequence[Path], target: Path | None, header: Callable[[], list[str]]
) -> list[tuple[str, Path, OutputKind | None]]:
    """Return what is written; `header` gives the columns of the rows that are fit."""
    outputs: list[tuple[str, Path, OutputKind | None]] = []
    outputs += [(REPORT, path, _report_kind(path)) for path in reports]
    if target is not None:
        rows = exact_table("a table of such rows", header)
        rejected = exact_table("a table of such rows, rejected,", lambda: rejected_header(header()))
        outputs += [(FIX, target, rows), (FIX, _rejected(target), rejected)]
    return outputs


def _report_kind(path: Path) -> OutputKind:
    if _is_page(path):
        return page("a report", TITLE)
    return json_report("a report", ("ok", "files", "warnings", "leaks"))


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in (".html", ".htm")


def _write_report(report: Audit, path: Path) -> None:
    if _is_page(path):
        write_audit_page(path, report)
    else:
        write_json(path, report.to_dict())


def _reader_and_towers(backbone: str) -> tuple[TextReader, Towers]:
    """Return a backbone's tokenizer and its towers."""
    from mismatch.runtime.tokenize import Tokenizer

    try:
        from mismatch.backbones.registry import load_backbone

        model = load_backbone(backbone)
    except ModuleNotFoundError as error:
        raise MissingExtraError("`backbone`", "train") from error
    return Tokenizer(model.text_spec), _Towers(backbone, model.shared_space)


@dataclass(frozen=True)
class _Towers:
    """A backbone's towers, loaded when something is to be embedded."""

    backbone: str
    shared_space: bool

    @cached_property
    def _predictor(self) -> Predictor:
        from mismatch.training.feeds.embedder import open_embedder

        return Predictor(open_embedder(self.backbone).engine)

    def embed_images(self, paths: Sequence[str]) -> NDArray[Any]:
        """Embed N images → (N, D)."""
        return self._predictor.encode_images(paths)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[Any]:
        """Embed N texts → (N, E)."""
        return self._predictor.encode_texts(texts)


def _fix(
    report: Audit, sources: Sequence[RowSource], target: Path, *, refuse_memory: bool
) -> FixedRows:
    """Write the first rows to two files, both or neither."""
    first = sources[0]
    other = _rejected(target)
    header = _header(first, labelled=report.files[0].labelled)
    counts = [0, 0]
    rows = split_usable_rows(
        _path(first),
        first.base,
        broken=report.broken,
        leaked=_leaked(report),
        meant=report.meant,
        columns=first.columns,
        labelled=report.files[0].labelled,
    )
    with (
        together() as names,
        row_table(target, header, names=names) as good,
        row_table(other, rejected_header(header), names=names) as bad,
    ):
        for row, reason in rows:
            if refuse_memory:
                check_image_is_file(first, first.columns.images(row.image_path), row, FIX)
            if reason is None:
                good.writerow([row.columns.get(name, "") for name in header])
            else:
                bad.writerow(rejected_values(row, header, reason))
            counts[reason is not None] += 1
    return FixedRows(counts[0], target, counts[1], other)


def _leaked(report: Audit) -> dict[str, str]:
    """Return the images that stand in later files too, themselves or nearly, and in which."""
    leaked: dict[str, str] = {}
    for (first, second), images in report.leaks.items():
        if first == 0:
            leaked |= dict.fromkeys(images, report.files[second].path)
    for file in report.files[1:]:
        leaked |= dict.fromkeys(file.images, file.path)
    return leaked


def _header(source: RowSource, *, labelled: bool) -> list[str]:
    return all_columns(source.path, require_label=labelled, columns=source.columns, strict=False)


def _any_header(source: RowSource) -> list[str]:
    return _header(source, labelled=is_labelled(_path(source), source.columns))


def _rejected(target: Path) -> Path:
    """Map out.csv → out.rejected.csv."""
    return target.with_suffix(f".rejected{target.suffix}")
