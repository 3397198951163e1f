"""`mismatch audit-labels`: rows whose label is probably wrong, the most suspicious first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.number_types import SEED
from mismatch.cli.options import model_options, row_options, safe_csv_option
from mismatch.cli.output_file import OutputFile
from mismatch.cli.parts import hold
from mismatch.cli.progress import progress_bar
from mismatch.data.pairs import Columns, Row, one_image_each, read_header, read_rows, rows_files
from mismatch.errors import InputError, MissingExtraError
from mismatch.jobs.table_kinds import table
from mismatch.outputs import check_outputs, page

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mismatch.evaluation.label_errors import Share
    from mismatch.training.cross_fit import Plan
    from mismatch.training.embedder import Embedder

__all__ = ["Finding", "command"]

ADDED = ("rank", "label_error_score", "out_of_sample_probability", "reason", "status")
LEAST_ROWS = 50  # below it heads learn nothing that could be held against a label
LEAST_AUROC = 0.75  # of heads whose word counts
SHOWN = 5  # rows on the terminal
PICTURED = 100  # rows in the gallery


@dataclass(frozen=True)
class Finding:
    """A row and what is to be said of its label."""

    row: Row
    rank: int | None  # from 1; None for a row that can't be scored
    score: float | None  # 0..1, higher is more suspicious
    probability: float | None  # of a match, by heads that were trained without the row, 0..1
    reason: str
    status: str  # ok, or why there is no score


@click.command(short_help="Rank rows whose label is probably wrong.")
@model_options
@click.option(
    "--csv",
    "csv_file",
    required=True,
    type=click.Path(path_type=Path),
    help="Rows image_path,text,label.",
)
@row_options
@click.option(
    "--output",
    required=True,
    type=OutputFile(),
    help="Table of the rows, the most suspicious first: .csv, .tsv, .jsonl, .parquet.",
)
@click.option(
    "--report",
    type=OutputFile(),
    help=f"HTML page with pictures of the first {PICTURED} rows, or of --top.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(1),
    help="Only the N most suspicious rows.  [default: all, those that can't be scored last]",
)
@safe_csv_option
@click.option(
    "--folds",
    type=click.IntRange(2, 50),
    default=5,
    show_default=True,
    help="Parts of the images, each scored by a head that never saw it.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 50),
    default=2,
    show_default=True,
    help="Times that this is done, with other folds.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the folds and the heads.")
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of cached embeddings.  [default: the user's cache folder]",
)
def command(
    csv_file: Path,
    output: Path,
    report: Path | None,
    top: int | None,
    columns: Columns,
    **options: Any,
) -> None:
    """Rank the rows of a labelled file by how probably their label is wrong (1 = the text describes
    the image).

    A model's own score on rows that it was trained on says little: it has learnt the wrong labels
    too. So only its towers are used, heads are trained anew without each fold of images and their
    texts, and a row is scored by heads that never saw it; the labels of the nearest pairs are asked
    as well. Adds rank, label_error_score, out_of_sample_probability, reason and status to the
    columns. Nothing is changed: look at the first rows, then decide.
    """
    from mismatch.evaluation.label_errors import require_cleanlab
    from mismatch.jobs.row_tables import check_table

    _check_files(csv_file, output, report)
    check_table(output, safe=options["safe_csv"])
    for path in (output, *([] if report is None else [report])):
        hold(path)
    require_cleanlab()  # before minutes are spent
    rows = _labelled_rows(csv_file, columns)
    findings, lines = _audit(csv_file, rows, options)
    shown = (
        findings
        if top is None
        else [finding for finding in findings if finding.rank is not None][:top]
    )
    _write(output, csv_file, columns, shown, safe=options["safe_csv"])
    if report is not None:
        from mismatch.cli.gallery import write_gallery

        pictured = [finding for finding in shown if finding.rank is not None][: top or PICTURED]
        write_gallery(
            report, f"Labels of {csv_file.name}", lines, pictured, options["image_base_path"]
        )
    click.echo(
        "\n".join(
            [
                *lines,
                *_first(findings),
                f"{len(shown):,} rows written to {output}"
                + (f", pictures to {report}" if report else ""),
            ]
        )
    )


def _check_files(csv_file: Path, output: Path, report: Path | None) -> None:
    pages = (
        []
        if report is None
        else [("--report", report, page("a page of labels", "<title>Labels of "))]
    )
    check_outputs(
        [("--output", output, table("a table of ranked rows", ADDED)), *pages], rows_files(csv_file)
    )
    for option, path in (("--output", output), ("--report", report)):
        if path is not None and not path.parent.is_dir():  # said before minutes are spent
            raise InputError(f"{option} {path}: there is no folder {path.parent}; create it first")


def _labelled_rows(csv_file: Path, columns: Columns) -> list[Row]:
    """All rows; InputError where too few of them have a label to learn from."""
    rows = [
        one
        for row in read_rows(csv_file, require_label=True, columns=columns)
        for one in one_image_each(row, columns)
    ]
    labels = [row.label for row in rows if row.problem is None]
    if len(labels) < LEAST_ROWS:
        raise InputError(
            f"{csv_file}: {len(labels)} usable rows are too few to judge labels by; {LEAST_ROWS} or"
            " more are needed"
        )
    if len(set(labels)) == 1:
        raise InputError(
            f"{csv_file}: every label is {labels[0]}, so there is nothing to tell apart; mismatch"
            " make-negatives adds mismatches"
        )
    return rows


def _audit(
    csv_file: Path, rows: list[Row], options: dict[str, Any]
) -> tuple[list[Finding], list[str]]:
    """The findings in order, and what to say of them all."""
    from mismatch.evaluation.label_errors import estimate_share, nearest_pairs
    from mismatch.evaluation.metrics import auroc

    try:
        from mismatch.training.cross_fit import CrossFit, Plan
        from mismatch.training.embedder import open_embedder
        from mismatch.training.prepare import default_cache
    except ModuleNotFoundError as error:
        raise MissingExtraError("mismatch audit-labels", "train") from error

    embedder = open_embedder(
        options["model"], provider=options["provider"], threads=options["threads"]
    )
    how = {"workers": options["num_workers"], "batch_size": options["batch_size"]}
    found = embedder.embed(
        str(csv_file),
        rows,
        options["image_base_path"],
        options["cache"] or default_cache(),
        **how,
        progress=progress_bar,
    )
    engine = embedder.engine
    pairs = found.pairs
    plan = Plan(options["folds"], options["repeats"], options["seed"])
    cross = CrossFit(
        pairs, found.images, found.pieces, embedder.head, long_text=engine.score.long_text
    )
    with progress_bar("train heads", total=plan.folds * plan.repeats, unit="head") as advance:
        fitted = cross.fit(plan, advance=advance)
    labels = pairs.labels.astype(int)
    # (N, K)
    nearest = labels[
        nearest_pairs(
            found.images[:, : engine.image_dim],
            found.texts[:, : engine.text_dim],
            pairs.image_of,
            pairs.text_of,
        )
    ]
    findings = _ranked([rows[i] for i in found.rows], labels, fitted.probabilities, nearest)
    findings += [
        Finding(rows[i], None, None, None, "", why) for i, why in sorted(found.problems.items())
    ]
    share = estimate_share(labels, fitted.probabilities)
    right = auroc(labels, fitted.probabilities)
    return findings, list(
        _lines(
            csv_file,
            embedder,
            plan,
            share,
            right,
            len(found.problems),
            texts_apart=fitted.texts_apart,
        )
    )


def _ranked(
    rows: list[Row],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    nearest: NDArray[np.int64],
) -> list[Finding]:
    """(N,) rows, labels and probabilities, (N, K) labels of their nearest pairs → the rows in
    order.
    """
    from mismatch.evaluation.label_errors import find_label_errors, reason

    ranked = find_label_errors(labels, probabilities, nearest.mean(1) if nearest.shape[1] else None)
    return [
        Finding(
            row=rows[i],
            rank=rank,
            score=float(ranked.scores[i]),
            probability=float(probabilities[i]),
            reason=reason(int(labels[i]), float(probabilities[i]), nearest[i]),
            status="ok",
        )
        for rank, i in enumerate(ranked.order.tolist(), start=1)
    ]


def _lines(
    csv_file: Path,
    embedder: Embedder,
    plan: Plan,
    share: Share,
    right: float,
    failed: int,
    *,
    texts_apart: bool,
) -> Iterator[str]:
    """What to say of all rows."""
    heads = (
        f"{plan.folds * plan.repeats} heads ({plan.folds} folds of images, {plan.repeats} times)"
    )
    yield (
        f"{csv_file}: {share.rows:,} rows ranked by {heads}, each row by heads trained without its"
        f" image{' and its text' if texts_apart else ''}"
    )
    yield (
        f"they rank a match above a mismatch {100 * right:.0f} times in 100, by the labels as"
        " they are"
    )
    if right < LEAST_AUROC:
        yield (
            "warning: that is too little to judge labels by; another --model may know these images"
            " and texts better"
        )
    if not texts_apart:
        yield (
            "warning: the texts recur so much that they can't be kept out of training; a text that"
            " is always labelled wrong is not found"
        )
    if embedder.note:
        yield f"warning: {embedder.note}"
    if failed:
        yield f"{failed:,} rows could not be scored and stand at the end: see their status"
    yield share.words()


def _first(findings: list[Finding]) -> Iterator[str]:
    for finding in findings[:SHOWN]:
        if finding.rank is not None:
            yield (
                f"{finding.rank:>3}. line {finding.row.line}: {finding.row.image_path}"
                f" {_short(finding.row.text)!r}: {finding.reason}"
            )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _write(
    output: Path, csv_file: Path, columns: Columns, findings: list[Finding], *, safe: bool
) -> None:
    from mismatch.jobs.row_tables import row_table

    header = read_header(csv_file, require_label=True, columns=columns)
    # of JSON lines, whose later objects may have others
    keys = dict.fromkeys(name for finding in findings for name in finding.row.columns)
    header += [name for name in keys if name not in header]
    with row_table(
        output, [*(_input_name(name, header) for name in header), *ADDED], safe=safe
    ) as table:
        for finding in findings:
            table.writerow(
                [*(finding.row.columns.get(name, "") for name in header), *_added(finding)]
            )


def _input_name(name: str, header: list[str]) -> str:
    """As written, unless it is one of ours: then `input_…`."""
    new = name
    while new in ADDED or (new != name and new in header):
        new = f"input_{new}"
    return new


def _added(finding: Finding) -> tuple[str, ...]:
    if finding.rank is None:
        return "", "", "", finding.reason, finding.status
    return (
        str(finding.rank),
        f"{finding.score:.9g}",
        f"{finding.probability:.9g}",
        finding.reason,
        finding.status,
    )
