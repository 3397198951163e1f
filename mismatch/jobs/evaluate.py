"""How good a model is on labelled rows: figures, and optionally a folder with a page and each
row's score.
"""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Unpack

from mismatch.data.pairs import Row, read_header, rows_files, source_digest
from mismatch.data.readers.memory import RowsLike
from mismatch.errors import CheckpointError, InputError
from mismatch.evaluation.decisions import Decisions
from mismatch.evaluation.objectives import check_prevalence
from mismatch.evaluation.useful_threshold import reversed_labels
from mismatch.io.atomic import atomic_file, write_json
from mismatch.io.outputs import check_outputs, json_report
from mismatch.jobs.evaluation_parts import (
    Comparison,
    Stressed,
    StressPlan,
    compare_models,
    log_unscorable,
    measure,
    measure_at_prevalence,
    measure_baselines,
    measure_kinds,
    measure_review,
    measure_slices,
    measure_stress,
    worst_errors,
)
from mismatch.jobs.evaluation_result import (
    PAGE,
    Evaluation,
    Provenance,
    ThresholdInUse,
    require_matplotlib,
)
from mismatch.jobs.kept_pictures import temporary_folder
from mismatch.jobs.labelled_rows import Labelled, check_labels, score_all
from mismatch.jobs.locking import lock_folder
from mismatch.jobs.long_texts import long_texts_note
from mismatch.jobs.options import (
    ModelRowOptions,
    ModelRowSettings,
    ModelSettings,
    RowSource,
    model_name,
    open_predictor,
    open_rows,
)
from mismatch.jobs.output.tables import COLUMNS
from mismatch.jobs.output.tables import fields as row_fields
from mismatch.jobs.row_tables import RowWriter
from mismatch.jobs.table_kinds import exact_table
from mismatch.jobs.value_checks import check_whole_number, checked
from mismatch.runtime.pipeline import EmbeddingMemo
from mismatch.runtime.predictor import Prediction, Predictor
from mismatch.runtime.slice_use import SliceUse
from mismatch.specs import LongText, ReviewBand

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

HEADER = [*COLUMNS, "label", "line"]  # predictions.csv has these columns
FILES = {  # the folder of `report` holds them
    "report.html": PAGE,
    "report.json": json_report(
        "an evaluation", ("model", "engine", "csv"), (item.name for item in fields(Evaluation))
    ),
    "predictions.csv": exact_table("the table of an evaluation", lambda: HEADER),
}
KIND = "kind"  # column that is taken for the mismatches' kinds where it is there
PACKAGES = (
    "numpy",
    "onnxruntime",
    "Pillow",
    "tokenizers",
    "torch",
    "transformers",
    "open_clip_torch",
)
WriteRow = Callable[[Row, Prediction], object]


@dataclass(frozen=True)
class _Wanted:
    """What is measured, and with what."""

    threshold: float | None
    review_band: ReviewBand | None
    long_text: LongText | None
    slices: Sequence[str]
    kind_column: str | None
    prevalence: float | None
    stress: StressPlan | None
    command: str
    settings: ModelSettings = field(repr=False)

    def columns(self) -> list[str]:
        """Return the columns that are needed with image, text and label."""
        brand = None if self.stress is None else self.stress.brand_column
        names = [*self.slices, self.kind_column, brand]
        return list(dict.fromkeys(name for name in names if name))


@checked
def evaluate(
    model: str | Path | Predictor,
    rows: RowsLike,
    *,
    threshold: float | None = None,
    review_band: ReviewBand | None = None,
    long_text: LongText | None = None,
    prevalence: float | None = None,
    slices: Sequence[str] = (),
    kind_column: str | None = None,
    against: str | Path | Predictor | None = None,
    stress: bool = False,
    stress_rows: int = 500,
    brand_column: str | None = None,
    seed: int = 0,
    report: str | Path | None = None,
    safe_csv: bool = False,
    command: str = "mismatch.evaluate",
    **options: Unpack[ModelRowOptions],
) -> Evaluation:
    """Measure a model on labelled rows: accuracy, precision, recall, F1, AUROC, calibration and
    more, each with its bootstrap interval.

    A row without a usable label is refused. A row whose image or text can't be used is counted and
    left out of the figures.

    `threshold`, `review_band` and `long_text` take the place of the model's own. `prevalence`:
    share of mismatches where the model is used, 0..1, as 0.03; precision and alarms are also told
    for it. `slices`: columns whose values have figures of their own. `kind_column`: names the kinds
    of mismatch; by default `kind`, where there is one. `against`: another model, compared on the
    same rows; its own threshold decides. `stress`: score `stress_rows` matched rows again with
    texts and images changed; `brand_column` has the brand that is removed, by default a capitalised
    first word; `seed` draws them. `report`: folder for report.html (needs the extra [report]),
    report.json and predictions.csv; `safe_csv`: no cell of it is a formula. `command`: what the
    provenance calls this run.

    Raises InputError for rows that can't be used, and where not one could be scored.
    """
    settings = ModelRowSettings.of(options)
    if safe_csv and report is None:
        raise InputError("`safe_csv` goes with `report`, where predictions.csv is")
    if brand_column is not None and not stress:
        raise InputError("`brand_column` goes with `stress`")
    check_whole_number("seed", seed, 0)
    check_whole_number("stress_rows", stress_rows, 1)
    check_prevalence(prevalence)
    with ExitStack() as stack:
        source = stack.enter_context(open_rows(rows, settings))
        wanted = _Wanted(
            threshold=threshold,
            review_band=review_band,
            long_text=long_text,
            slices=slices,
            kind_column=kind_column or _kind_column(source),
            prevalence=prevalence,
            stress=StressPlan(stress_rows, brand_column, seed) if stress else None,
            command=command,
            settings=settings,
        )
        check_labels(source, wanted.columns())
        folder = None if report is None else Path(report)
        if folder is not None:
            _check_report(folder, source)
        predictor, other = _predictors(model, against, wanted)
        if folder is not None:
            _make_folder(folder)
            inside = re.compile("|".join(map(re.escape, FILES)))
            stack.enter_context(lock_folder(folder, inside=inside))
            _check_report(folder, source)  # what has come there while models were loaded
        run = _Run(source, model_name(model), wanted, temporary_folder(rows, source))
        with _row_writer(folder, safe=safe_csv) as write:
            scored = run.score(predictor, write)
            result = run.result(predictor, scored)
            if other is not None and against is not None:
                comparison = run.compare(scored.rows, other, model_name(against))
                result = replace(result, against=comparison)
        if folder is not None:
            write_json(folder / "report.json", result.to_dict())
            result.write_page(folder / "report.html")
    return result


def _kind_column(source: RowSource) -> str | None:
    header = read_header(source.path, require_label=True, columns=source.columns)
    return KIND if KIND in header else None


def _check_report(folder: Path, source: RowSource) -> None:
    """Refuse a report that can't be written, before a model is loaded."""
    require_matplotlib("`report`")
    outputs = [("`report`", folder / name, kind) for name, kind in FILES.items()]
    check_outputs(outputs, rows_files(source.path))


def _predictors(
    model: str | Path | Predictor, against: str | Path | Predictor | None, wanted: _Wanted
) -> tuple[Predictor, Predictor | None]:
    """Open the models, both before a row is scored: a wrong name costs no time."""
    predictor = open_predictor(
        model,
        wanted.settings,
        threshold=wanted.threshold,
        review_band=wanted.review_band,
        long_text=wanted.long_text,
    )
    if against is None or isinstance(against, Predictor):
        return predictor, against
    return predictor, open_predictor(against, wanted.settings, long_text=wanted.long_text)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"`report` {folder} can't be created: {error.strerror}; choose another"
        ) from error


@contextmanager
def _row_writer(folder: Path | None, *, safe: bool) -> Iterator[WriteRow]:
    """Yield what takes each row and its prediction: predictions.csv, or nothing without a folder.

    The file takes its name when all is measured.
    """
    if folder is None:
        yield lambda row, prediction: None
        return
    with atomic_file(folder / "predictions.csv") as file:
        out = RowWriter(file, safe=safe)
        out.writerow(HEADER)
        yield lambda row, prediction: out.writerow((*row_fields(prediction), row.label, row.line))


@dataclass(frozen=True)
class _Scored:
    """Scored rows, and what was encoded for them."""

    rows: Labelled
    memo: EmbeddingMemo


@dataclass(frozen=True)
class _Run:
    """One evaluation, under way."""

    source: RowSource
    model: str
    wanted: _Wanted
    temporary: Path | None  # folder of images that were in memory, gone when this ends

    def score(self, predictor: Predictor, write: WriteRow) -> _Scored:
        """Score all rows, each also given to `write`."""
        memo = EmbeddingMemo.empty()
        rows = score_all(
            predictor,
            self.source,
            wanted=self.wanted.columns(),
            memo=memo,
            write=write,
            label="evaluate",
        )
        _warn_of_unused_slices(predictor, rows)
        if rows.unread_note:
            logger.warning(rows.unread_note)
        return _Scored(self._checked(rows), memo)

    def compare(self, labelled: Labelled, predictor: Predictor, name: str) -> Comparison:
        """Score all rows with another model, and compare the two."""
        other = self._checked(score_all(predictor, self.source, label="against"))
        _warn_of_unused_slices(predictor, other)
        if other.unread_note and not labelled.unread_note:
            logger.warning(f"{name}: {other.unread_note}")
        log_unscorable(labelled, other, name)
        return compare_models(labelled, other, name)

    def _checked(self, labelled: Labelled) -> Labelled:
        if not labelled.labels:
            raise InputError(
                f"{self.source.name}: not one of its {labelled.unscorable:,} rows could be scored;"
                " mismatch validate says why row by row"
            )
        return labelled

    def result(self, predictor: Predictor, scored: _Scored) -> Evaluation:
        """Measure all parts but the comparison with another model."""
        rows = scored.rows
        base = self.source.base
        if reversed_sentence := reversed_labels(rows.labels, rows.scores):
            logger.warning(reversed_sentence)
        figures = measure(rows)
        return Evaluation(
            model=self.model,
            engine=predictor.engine.describe(),
            csv=self.source.name,
            image_base_path=base,
            rows=len(rows.labels) + rows.unscorable,
            scored=len(rows.labels),
            unscorable=rows.unscorable,
            first_unscorable=rows.first,
            long_text=predictor.pipeline.long_text,
            long_texts=rows.long_texts,
            truncated_texts=rows.truncated,
            threshold=_threshold(
                predictor, rows.sliced, overridden=self.wanted.threshold is not None
            ),
            metrics=figures["metrics"],
            intervals=figures["intervals"],
            bootstrap=figures["bootstrap"],
            slices=measure_slices(rows, self.wanted.slices),
            kinds=measure_kinds(rows, self.wanted.kind_column),
            review=measure_review(rows, predictor),
            blind=measure_baselines(rows, scored.memo, base),
            stress=self._stress(predictor, scored),
            provenance=self._provenance(predictor),
            against=None,
            errors=worst_errors(rows, base, self.temporary),
            decisions=Decisions(rows.labels, rows.scores, rows.thresholds),
            long_text_note=long_texts_note(predictor, rows.long_texts),
            at_prevalence=measure_at_prevalence(rows, self.wanted.prevalence),
        )

    def _stress(self, predictor: Predictor, scored: _Scored) -> Stressed | None:
        plan = self.wanted.stress
        if plan is None:
            return None
        return measure_stress(scored.rows, predictor, scored.memo, self.source, plan)

    def _provenance(self, predictor: Predictor) -> Provenance:
        import mismatch

        calibration = predictor.score.calibration
        ours = {"mismatch": mismatch.__version__, "python": platform.python_version()}
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": self.wanted.command,
            "versions": {**ours, **_versions()},
            "weights": predictor.engine.fingerprint,
            "rows_sha256": source_digest(self.source.path, self.source.columns),
            "calibration": None if calibration is None else calibration.to_dict(),
        }


def _threshold(predictor: Predictor, sliced: int, *, overridden: bool) -> ThresholdInUse:
    stored = predictor.score.threshold
    if overridden or predictor.threshold != predictor.score.threshold_in_use:
        return {"value": predictor.threshold, "source": "flag"}
    if stored is None:
        return {"value": predictor.threshold, "source": "default"}
    in_use: ThresholdInUse = {**asdict(stored), "source": "stored"}  # type: ignore[typeddict-item]
    if predictor.slices is not None:
        in_use["slices"] = predictor.slices.column
        in_use["sliced_rows"] = sliced
    return in_use


def _versions() -> dict[str, str]:
    """Return the versions of what is installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _warn_of_unused_slices(predictor: Predictor, rows: Labelled) -> None:
    all_rows = len(rows.labels) + rows.unscorable
    use = SliceUse(predictor.slices, predictor.threshold, all_rows, rows.sliced)
    if warning := use.warning():
        logger.warning(warning)
