"""A trained model as a bundle that needs no torch, written only if it agrees with torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from mismatch.data.columns import parse_label
from mismatch.data.pairs import format_location, one_image_each, read_rows, resolve_image
from mismatch.data.readers.memory import RowsLike
from mismatch.data.rows import Row
from mismatch.errors import (
    CheckpointError,
    InputError,
    LabelError,
    MismatchError,
    MissingExtraError,
)
from mismatch.io.outputs import refuse_model_folder
from mismatch.jobs.options import (
    RowOptions,
    RowSettings,
    RowSource,
    given_options,
    located_model,
    model_name,
    open_rows,
)
from mismatch.jobs.results import Result
from mismatch.jobs.value_checks import checked
from mismatch.progress import progress
from mismatch.reports.export_lines import bundle_line, export_lines
from mismatch.reports.model_card import write_bundle_card
from mismatch.runtime.pipeline import Pair
from mismatch.runtime.predictor import Predictor, is_bundle
from mismatch.runtime.score_file import has_score

if TYPE_CHECKING:
    from mismatch.export.gate import Verdict
    from mismatch.export.parity import ParityReport
    from mismatch.specs import ScoreSpec
    from mismatch.training.engine import TorchEngine

__all__ = ["ExportResult", "TritonRepository", "export_onnx", "labelled_rows", "pairs_of"]

Precision = Literal["auto", "fp32", "fp16", "int8"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TritonRepository(Result):
    """A model repository for Triton Inference Server.

    `path`: folder of the repository.
    `bytes`: size of all files.
    `score_difference`: largest difference from mismatch's own scores, 0..1.
    `precision`: precision of the graphs: fp32, fp16 or int8.
    """

    path: Path
    bytes: int
    score_difference: float
    precision: str


@dataclass(frozen=True)
class ExportResult(Result):
    """A bundle, and how it compares with torch.

    `path`: folder of the bundle.
    `precision`: fp32, fp16 or int8; what "auto" has chosen.
    `bytes`: size of all files.
    `parity`: how scores compare with torch's; None where `model` is a bundle already.
    `verdict`: what the precision costs; None in fp32.
    `tried`: a sentence for each choice of a lower precision, the last one taken.
    `triton`: the model repository; None where none was asked for.
    """

    path: Path
    precision: str
    bytes: int
    parity: ParityReport | None
    verdict: Verdict | None
    tried: tuple[str, ...]
    triton: TritonRepository | None

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return list(export_lines(self))


@dataclass(frozen=True)
class _Checks:
    """How the bundle is compared with torch, and how far it may differ; see `export_onnx`."""

    precision: Precision = "fp32"
    verify_rows: RowsLike | None = None
    max_verify_rows: int = 2000
    max_score_difference: float = 1e-4
    max_auroc_loss: float = 0.005
    max_flips: float = 0.01
    provider: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None


@checked
def export_onnx(
    model: str | Path | Predictor,
    output: str | Path | None = None,
    *,
    precision: Precision = "fp32",
    verify_rows: RowsLike | None = None,
    max_verify_rows: int = 2000,
    max_score_difference: float = 1e-4,
    max_auroc_loss: float = 0.005,
    max_flips: float = 0.01,
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    triton: str | Path | None = None,
    **options: Unpack[RowOptions],
) -> ExportResult:
    """Write a trained model as ONNX: two encoders, a head, a tokenizer and a manifest. Torch and
    the new bundle score the same pairs first; beyond the limits nothing is written.

    `output`: folder of the bundle; an older bundle there is replaced. `precision`: int8 is several
    times as fast on CPUs, fp16 is for GPUs; "auto" takes the lower one where decisions stay.
    `verify_rows`: rows to compare on, by default built-in images and texts; int8 needs them, and
    fits calibration, threshold and review band to their labels, or keeps all where one of them
    can't be chosen again, as thresholds of slices. `max_verify_rows`: so many of them, from their
    start. `max_score_difference`: 0..1, in fp32. `max_auroc_loss`, `max_flips`: 0..1, in int8 and
    fp16: loss of the ranking, and the share of decisions that may flip. `provider`: where the
    bundle runs for the comparison; `threads`: its threads, by default torch's own choice. `triton`:
    folder for a model repository of Triton Inference Server; where `model` is a bundle, nothing
    else is written.

    Raises ParityError beyond the limits, CheckpointError for what can't be exported or written.
    """
    settings = RowSettings.of(options)
    model = located_model(model)
    target = None if triton is None else Path(triton)
    checks = _Checks(
        precision=precision,
        verify_rows=verify_rows,
        max_verify_rows=max_verify_rows,
        max_score_difference=max_score_difference,
        max_auroc_loss=max_auroc_loss,
        max_flips=max_flips,
        provider=provider,
        threads=threads,
    )
    if _is_bundle(model):
        return _only_for_triton(model_name(model), output, target, checks, settings)
    folder = _checked_output(output, target, checks)
    result = _exported(model, folder, checks, settings)
    return result if target is None else _with_repository(result, target)


def labelled_rows(source: RowSource, max_rows: int) -> list[Row]:
    """Return the first rows, with the labels of those that have one. A row with several images is
    one for each, with its label where that holds for each.
    """
    rows: list[Row] = []
    for row in islice(
        read_rows(source.path, require_label=False, columns=source.columns), max_rows
    ):
        rows += _one_image_each(row._replace(label=_label(row, source)), source)
    return rows


def _label(row: Row, source: RowSource) -> int | None:
    """Return a row's label; None where it has none, InputError where that can't be read."""
    written = row.columns.get("label", "").strip()
    if not written or not row.intact:
        return None
    try:
        return parse_label(written, source.columns)
    except LabelError as error:
        raise InputError(f"{format_location(source.name, row.line)}: {error}") from error


def pairs_of(rows: Sequence[Row], source: RowSource, score: ScoreSpec) -> list[Pair]:
    """Return the rows' pairs, with the values by which the model has thresholds of slices."""
    pairs = []
    for row in rows:
        value = None if score.slices is None else row.columns.get(score.slices.column)
        image = resolve_image(source.base, row.image_path)
        pairs.append(Pair(image, row.text, row.problem, row.image_path, value))
    return pairs


def _one_image_each(row: Row, source: RowSource) -> list[Row]:
    """Return a row for each image, without a label where that does not hold for each."""
    rows = list(one_image_each(row, source.columns))
    if row.problem or not rows[0].problem:
        return rows
    return list(one_image_each(row._replace(label=None), source.columns))


def _is_bundle(model: str | Path | Predictor) -> bool:
    if not isinstance(model, Predictor):
        return is_bundle(model)
    folder = model.engine.describe().get("model")
    return folder is not None and is_bundle(str(folder))


def _checked_output(output: str | Path | None, triton: Path | None, checks: _Checks) -> Path:
    """Return the folder of the bundle; refuse what can't be written before a model is loaded."""
    if output is None:
        raise InputError("`output` is missing: the folder of the bundle")
    folder = Path(output)
    refuse_model_folder(folder, "`output`", but_a_bundle=True)
    if triton is not None:
        _triton().check_target(triton, folder)
    if checks.precision == "int8" and checks.verify_rows is None:
        raise InputError(
            "`precision='int8'` needs `verify_rows`: rows on which its decisions are compared with"
            " the model's own"
        )
    return folder


def _exported(
    model: str | Path | Predictor, output: Path, checks: _Checks, settings: RowSettings
) -> ExportResult:
    """Write a bundle that agrees with torch."""
    with ExitStack() as stack:
        source = None
        rows: list[Row] = []
        if checks.verify_rows is not None:
            source = stack.enter_context(open_rows(checks.verify_rows, settings, ahead=False))
            # a wrong file is refused before a model is loaded
            rows = labelled_rows(source, checks.max_verify_rows)
        engine = _engine(model, checks.threads)
        from mismatch.export.gate import GateLimits
        from mismatch.export.onnx import Rows, export_bundle
        from mismatch.export.parity import Tolerance

        verify_rows = None
        if source is not None:
            pairs = pairs_of(rows, source, engine.score)
            verify_rows = Rows(pairs, source.name, [row.label for row in rows])
        logger.info(f"exporting {model_name(model)} …")
        advance = stack.enter_context(progress("verify", unit="item"))
        bundle = export_bundle(
            engine,
            output,
            precision=checks.precision,
            rows=verify_rows,
            tolerance=Tolerance(score=checks.max_score_difference),
            limits=GateLimits(auroc_loss=checks.max_auroc_loss, flips=checks.max_flips),
            provider=checks.provider,
            progress=advance,
            write_card=partial(write_bundle_card, checkpoint=_folder(model)),
        )
    return ExportResult(
        path=output,
        precision=bundle.precision,
        bytes=bundle.bytes,
        parity=bundle.parity,
        verdict=bundle.verdict,
        tried=bundle.tried,
        triton=None,
    )


def _folder(model: str | Path | Predictor) -> Path | None:
    """Return the folder of a trained model; None for one without a folder."""
    origin = model.origin if isinstance(model, Predictor) else model
    return Path(origin) if origin is not None and has_score(origin) else None


def _engine(model: str | Path | Predictor, threads: int | None) -> TorchEngine:
    try:
        from mismatch.training.engine import TorchEngine, open_checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtraError("mismatch export-onnx", "train") from error
    if not isinstance(model, Predictor):
        return open_checkpoint(model, provider="cpu", threads=threads)
    if not isinstance(model.engine, TorchEngine):
        raise CheckpointError(f"{model_name(model)} does not run in torch; give a trained model")
    return model.engine


def _only_for_triton(
    bundle: str, output: str | Path | None, triton: Path | None, checks: _Checks, rows: RowSettings
) -> ExportResult:
    """Write the repository of a bundle that is there already."""
    if triton is None or output is not None:
        raise CheckpointError(
            f"{bundle} is a bundle already; give the trained model's folder, or `triton` without"
            " `output` for a repository of this bundle"
        )
    others = sorted(given_options(checks, _Checks()) + given_options(rows, RowSettings()))
    if others:
        raise InputError(
            f"`{others[0]}` is for an export, and {bundle} is exported already; give `model` and"
            " `triton` alone"
        )
    from mismatch.runtime.bundle import read_bundle

    precision = read_bundle(Path(bundle)).precision
    size = sum(path.stat().st_size for path in Path(bundle).iterdir() if path.is_file())
    repository = _repository(Path(bundle), triton)
    return ExportResult(Path(bundle), precision, size, None, None, (), repository)


def _with_repository(result: ExportResult, triton: Path) -> ExportResult:
    """Write the repository of a new bundle too. If that fails, the bundle stays, and the log says
    so.
    """
    try:
        repository = _repository(result.path, triton)
    except MismatchError:
        logger.info(bundle_line(result))
        raise
    return replace(result, triton=repository)


def _repository(bundle: Path, target: Path) -> TritonRepository:
    written = _triton().write_repository(bundle, target)
    return TritonRepository(target, written.bytes, written.difference, written.precision)


def _triton() -> Any:
    try:
        from mismatch.export import triton
    except ModuleNotFoundError as error:
        raise MissingExtraError("mismatch export-onnx: `triton`", package="onnx") from error
    return triton
