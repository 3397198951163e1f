"""Rows whose label is probably wrong, the most suspicious first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from mismatch.data.pairs import Row, all_columns, one_image_each, read_header, read_rows, rows_files
from mismatch.data.readers.memory import RowsLike
from mismatch.errors import InputError, MissingExtraError
from mismatch.evaluation.label_errors import (
    LabelFinding,
    estimate_shares,
    find_label_errors,
    nearest_pairs,
    reason,
    require_cleanlab,
)
from mismatch.evaluation.metrics import auroc
from mismatch.evaluation.useful_threshold import reversed_labels
from mismatch.io.outputs import check_cache, check_outputs
from mismatch.jobs.audited_rows import RowChoice
from mismatch.jobs.kept_pictures import kept_picture, temporary_folder
from mismatch.jobs.label_audit import MAX_PICTURES, PAGE, LabelAudit
from mismatch.jobs.locking import lock_file
from mismatch.jobs.options import (
    ModelRowOptions,
    ModelRowSettings,
    ModelSettings,
    RowSource,
    open_rows,
)
from mismatch.jobs.row_tables import check_table, row_table
from mismatch.jobs.table_kinds import extended_table
from mismatch.jobs.value_checks import checked
from mismatch.progress import progress

if TYPE_CHECKING:
    from mismatch.training.cross_fit import Fitted
    from mismatch.training.feeds.embedder import EmbeddedRows, Embedder

__all__ = ["audit_labels"]

ADDED = ("rank", "label_error_score", "out_of_sample_probability", "reason", "status")
NUMBERS = {"rank": int, "label_error_score": float, "out_of_sample_probability": float}
BLOCK = 4096  # rows whose own score is taken at once
MIN_ROWS = 50  # below it heads learn nothing that could be held against a label


@dataclass(frozen=True)
class _Outputs:
    """What is written of an audit."""

    output: Path | None
    report: Path | None
    top: int | None
    safe_csv: bool

    def check(self, source: RowSource) -> None:
        """Refuse what can't be written, before minutes are spent."""
        files = []
        if self.output is not None:
            kind = extended_table(
                "an unchanged table of ranked rows", lambda: _input_names(source), ADDED
            )
            files.append(("`output`", self.output, kind))
        if self.report is not None:
            files.append(("`report`", self.report, PAGE))
        check_outputs(files, rows_files(source.path))
        for option, path, _ in files:
            if not path.parent.is_dir():
                raise InputError(
                    f"{option} {path}: there is no folder {path.parent}; create it first"
                )
        if self.output is not None:
            check_table(self.output, safe=self.safe_csv)

    def write(self, audit: LabelAudit, source: RowSource) -> LabelAudit:
        """Write the table and the page; return the audit with the number of rows."""
        if self.output is not None:
            shown = audit.findings if self.top is None else audit.ranked(self.top)
            _write_table(self.output, source, shown, safe=self.safe_csv)
            audit = replace(audit, written=len(shown))
        if self.report is not None:
            audit.write_page(self.report, self.top)
        return audit


@dataclass(frozen=True)
class _Plan:
    """How much is trained, where embeddings are kept, and which rows are ranked."""

    folds: int
    repeats: int
    seed: int
    cache: str | Path | None
    choice: RowChoice


@checked
def audit_labels(
    model: str | Path,
    rows: RowsLike,
    output: str | Path | None = None,
    *,
    report: str | Path | None = None,
    top: int | None = None,
    only: str | None = None,
    exclude_kind: Sequence[str] = (),
    kind_column: str | None = None,
    safe_csv: bool = False,
    folds: int = 5,
    repeats: int = 2,
    seed: int = 0,
    cache: str | Path | None = None,
    **options: Unpack[ModelRowOptions],
) -> LabelAudit:
    """Rank the rows of a labelled file by how probably their label is wrong (1 = the text describes
    the image).

    A model's own score on rows that it was trained on says little: it has learnt the wrong labels
    too. So only its towers are used, heads are trained again without each fold of images and their
    texts, and a row is scored by heads that never saw it; the labels of the nearest pairs are asked
    as well. Nothing is changed: look at the first rows, then decide.

    `output`: table of the rows with rank, label_error_score, out_of_sample_probability, reason and
    status: .csv, .tsv, .jsonl, .parquet. `report`: HTML page with pictures of the first 100 rows.
    `top`: only so many rows in both. `only`: rank rows with this value alone, as "label=1";
    `exclude_kind`: leave out rows of these kinds; heads are trained on all rows. `kind_column`:
    names the kinds, whose shares of wrong labels are estimated apart; by default `kind`, where
    there is one. `safe_csv`: no cell is a formula. `folds`: parts of the
    images. `repeats`: times that this is done, with other folds. `seed`: seed of the folds and the
    heads. `cache`: folder of embeddings, by default the user's cache folder.

    Raises InputError for rows that are too few or have one label, MissingExtraError without the
    extras [train] and [audit].
    """
    settings = ModelRowSettings.of(options)
    outputs = _Outputs(
        output=None if output is None else Path(output),
        report=None if report is None else Path(report),
        top=top,
        safe_csv=safe_csv,
    )
    with ExitStack() as stack:
        source = stack.enter_context(open_rows(rows, settings))
        outputs.check(source)
        check_cache(cache, [("`output`", outputs.output), ("`report`", outputs.report)])
        choice = RowChoice(only, exclude_kind, kind_column).check(source)
        for path in (outputs.output, outputs.report):
            if path is not None:
                stack.enter_context(lock_file(path))
        require_cleanlab()  # a missing extra is refused before minutes are spent
        labelled = _labelled_rows(source)
        plan = _Plan(folds, repeats, seed, cache, choice)
        audit = _audited(str(model), source, labelled, plan, settings)
        temporary = temporary_folder(rows, source)
        if temporary is not None:
            audit = _with_pictures(audit, top or MAX_PICTURES, temporary)
        return outputs.write(audit, source)


def _labelled_rows(source: RowSource) -> list[Row]:
    """Return all rows; InputError where too few of them have a label to learn from."""
    rows = [
        image_row
        for row in read_rows(source.path, require_label=True, columns=source.columns)
        for image_row in one_image_each(row, source.columns)
    ]
    labels = [row.label for row in rows if row.problem is None]
    if len(labels) < MIN_ROWS:
        raise InputError(
            f"{source.name}: {len(labels)} usable rows are too few to judge labels by; {MIN_ROWS}"
            " or more are needed"
        )
    if len(set(labels)) == 1:
        raise InputError(
            f"{source.name}: every label is {labels[0]}, so there is nothing to tell apart;"
            " mismatch make-negatives adds mismatches"
        )
    return rows


def _audited(
    model: str, source: RowSource, rows: list[Row], plan: _Plan, settings: ModelSettings
) -> LabelAudit:
    """Embed the rows, train heads without each fold, and rank the rows by what they say."""
    choice = plan.choice
    choice.check_rows(rows, source)  # a wrong choice is refused before minutes are spent
    embedder, embedded = _embedded(model, source, rows, plan, settings)
    fitted = _fitted(embedder, embedded, plan)
    scored = [rows[i] for i in embedded.rows]
    chosen = choice.mask(scored, source)
    pairs = embedded.pairs
    labels = pairs.labels.astype(int)
    shares = estimate_shares(
        labels,
        fitted.probabilities,
        choice.kinds(scored),
        groups=pairs.image_of,
        chosen=chosen,
        seed=plan.seed,
    )
    engine = embedder.engine
    nearest = nearest_pairs(
        embedded.images[:, : engine.image_dim],
        embedded.texts[:, : engine.text_dim],
        pairs.image_of,
        pairs.text_of,
    )
    findings = _ranked(
        scored, labels, fitted.probabilities, labels[nearest], np.flatnonzero(chosen)
    )
    is_ranked = choice.mask(rows, source)
    findings += [
        _failed(rows[i], why) for i, why in sorted(embedded.problems.items()) if is_ranked[i]
    ]
    return LabelAudit(
        csv=source.name,
        image_base_path=source.base,
        findings=findings,
        share=shares.all_rows,
        auroc=auroc(labels, fitted.probabilities),
        folds=plan.folds,
        repeats=plan.repeats,
        texts_apart=fitted.texts_apart,
        unscorable=len(embedded.problems),
        model_note=embedder.note,
        written=0,
        kinds=shares.by_kind,
        rows=len(scored),
        reversed_note=_reversed(embedder, embedded),
    )


def _reversed(embedder: Embedder, embedded: EmbeddedRows) -> str:
    """Return a sentence where the model's own score goes against the labels. Heads that are trained
    on reversed labels don't see it.
    """
    if embedder.own_score is None:
        return ""
    pairs = embedded.pairs
    scores = np.concatenate(
        [
            embedder.own_score(
                embedded.images[pairs.image_of[rows]], embedded.texts[pairs.text_of[rows]]
            )
            for rows in np.array_split(np.arange(len(pairs)), 1 + len(pairs) // BLOCK)
        ]
    )
    return reversed_labels(pairs.labels.astype(int), scores)


def _embedded(
    model: str, source: RowSource, rows: list[Row], plan: _Plan, settings: ModelSettings
) -> tuple[Embedder, EmbeddedRows]:
    """Return the model's towers, and what they make of the rows."""
    try:
        from mismatch.training.feeds.embedder import open_embedder
        from mismatch.training.feeds.prepare import default_cache
    except ModuleNotFoundError as error:
        raise MissingExtraError("auditing labels", "train") from error
    embedder = open_embedder(model, provider=settings.provider, threads=settings.threads)
    embedded = embedder.embed(
        source.name,
        rows,
        source.base,
        plan.cache or default_cache(),
        workers=settings.num_workers,
        batch_size=settings.batch_size,
        progress=progress,
    )
    return embedder, embedded


def _fitted(embedder: Embedder, embedded: EmbeddedRows, plan: _Plan) -> Fitted:
    """Return what heads say of rows that they were not trained on."""
    from mismatch.training.cross_fit import CrossFit, CrossFitPlan

    cross = CrossFit(
        embedded.pairs,
        embedded.images,
        embedded.pieces,
        embedder.head,
        long_text=embedder.engine.score.long_text,
    )
    with progress("train heads", total=plan.folds * plan.repeats, unit="head") as advance:
        return cross.fit(CrossFitPlan(plan.folds, plan.repeats, plan.seed), advance=advance)


def _ranked(
    rows: Sequence[Row],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    nearest: NDArray[np.int64],
    chosen: NDArray[np.int64],
) -> list[LabelFinding]:
    """Return the `chosen` of (N,) rows with labels and probabilities in order; `nearest`: (N, K)
    labels of their nearest pairs, among all rows.
    """
    shares = nearest.mean(1)[chosen] if nearest.shape[1] else None
    errors = find_label_errors(labels[chosen], probabilities[chosen], shares)
    findings = []
    for rank, place in enumerate(errors.order.tolist(), start=1):
        i = int(chosen[place])
        probability = float(probabilities[i])
        why = reason(int(labels[i]), probability, nearest[i])
        finding = _finding(rows[i], why, "ok")
        score = float(errors.scores[place])
        findings.append(replace(finding, rank=rank, score=score, probability=probability))
    return findings


def _failed(row: Row, status: str) -> LabelFinding:
    return _finding(row, "", status)


def _finding(row: Row, why: str, status: str) -> LabelFinding:
    return LabelFinding(
        line=row.line,
        image_path=row.image_path,
        text=row.text,
        label=row.label,
        rank=None,
        score=None,
        probability=None,
        reason=why,
        status=status,
        columns=row.columns,
    )


def _with_pictures(audit: LabelAudit, count: int, temporary: Path) -> LabelAudit:
    """Return the audit with the pictures of a page, whose files go when the job ends."""
    base = audit.image_base_path
    shown = [_with_picture(finding, base, temporary) for finding in audit.findings[:count]]
    return replace(audit, findings=shown + audit.findings[count:])


def _with_picture(finding: LabelFinding, base: str, temporary: Path) -> LabelFinding:
    """Return the finding with its picture, where its image is in the temporary folder."""
    kept = kept_picture(finding.image_path, base, temporary)
    if kept is None:
        return finding
    return replace(finding, image_path=kept.name, picture=kept.data_url)


def _write_table(
    output: Path, source: RowSource, findings: Sequence[LabelFinding], *, safe: bool
) -> None:
    header = read_header(source.path, require_label=True, columns=source.columns)
    # later objects of JSON lines may have other keys
    keys = dict.fromkeys(name for finding in findings for name in finding.columns)
    header += [name for name in keys if name not in header]
    names = [_input_name(name, header) for name in header]
    with row_table(output, [*names, *ADDED], safe=safe, numbers=NUMBERS) as rows:
        for finding in findings:
            values = [finding.columns.get(name, "") for name in header]
            rows.writerow([*values, *_added(finding)])


def _input_names(source: RowSource) -> list[str]:
    """Return all columns of the input, as they are called in the table."""
    header = all_columns(source.path, require_label=True, columns=source.columns)
    return [_input_name(name, header) for name in header]


def _input_name(name: str, header: Sequence[str]) -> str:
    """Return a column's name as written, unless it is one of ours: then `input_…`."""
    new = name
    while new in ADDED or (new != name and new in header):
        new = f"input_{new}"
    return new


def _added(finding: LabelFinding) -> tuple[object, ...]:
    """Return the values of `ADDED`."""
    return (
        finding.rank,
        finding.score,
        finding.probability,
        finding.reason,
        finding.status,
    )
