"""`mismatch evaluate`: how good a model is on labelled rows, in figures, and optionally as a page
and row by row.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli import evaluated
from mismatch.cli.evaluation_lines import result_lines
from mismatch.cli.number_types import SEED
from mismatch.cli.options import (
    long_text_option,
    model_options,
    review_band_option,
    row_options,
    safe_csv_option,
)
from mismatch.cli.parts import hold
from mismatch.cli.predict import load_predictor, long_texts
from mismatch.data.pairs import Columns, Row, read_header, rows_files, source_digest
from mismatch.errors import CheckpointError, MissingExtraError
from mismatch.files import atomic_file, finite, write_json
from mismatch.jobs.labelled_rows import Labelled, check_labels
from mismatch.jobs.options import RowSource
from mismatch.jobs.output.tables import COLUMNS, fields
from mismatch.jobs.row_tables import RowWriter
from mismatch.jobs.table_kinds import table
from mismatch.outputs import check_outputs, json_report, page

if TYPE_CHECKING:
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = ["command"]

WRITTEN = {  # in the folder of --report
    "report.html": page("an evaluation", "<title>Evaluation of "),
    "report.json": json_report("an evaluation", ("model", "engine", "csv")),
    "predictions.csv": table("a table of predictions", COLUMNS),
}
KIND = "kind"  # column that is taken for the mismatches' kinds where it is there
WriteRow = Callable[["Row", "Prediction"], object]
PACKAGES = (
    "numpy",
    "onnxruntime",
    "Pillow",
    "tokenizers",
    "torch",
    "transformers",
    "open_clip_torch",
)


@click.command(short_help="Measure a model on labelled rows.")
@model_options
@click.option(
    "--csv",
    "csv_file",
    required=True,
    type=click.Path(path_type=Path),
    help="Rows image_path,text,label; also TSV, JSONL, Parquet, a datasets folder.",
)
@row_options
@click.option(
    "--threshold",
    type=float,
    help="Score from which a pair is a match.  [default: the model's own]",
)
@review_band_option
@long_text_option
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="COLUMN",
    help="Figures for each value of this column too; may be repeated.",
)
@click.option(
    "--kind-column",
    metavar="COLUMN",
    help=(
        f"Column that names the kinds of mismatch, for figures of each.  [default: {KIND}, where"
        " there is one]"
    ),
)
@click.option(
    "--against",
    metavar="DIR",
    help="Another model, compared on the same rows by paired tests; its own threshold decides.",
)
@click.option(
    "--stress",
    is_flag=True,
    help=(
        "Score matched rows again with texts and images changed, and see whether decisions follow"
        " or withstand."
    ),
)
@click.option(
    "--stress-rows",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    metavar="N",
    help="Matched rows that --stress draws.",
)
@click.option(
    "--brand-column",
    metavar="COLUMN",
    help=(
        "Column with the brand that --stress removes from the text.  [default: a capitalised first"
        " word]"
    ),
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of what --stress draws.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for report.html (needs the extra [report]), report.json and predictions.csv.",
)
@safe_csv_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    csv_file: Path,
    image_base_path: str,
    columns: Columns,
    report: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure a model on labelled rows: accuracy, precision, recall, F1, AUROC, calibration and
    more, each with its bootstrap interval.

    A row without a usable label is refused. A row whose image or text can't be used is counted and
    left out of the figures.
    """
    if options["safe_csv"] and report is None:
        raise click.UsageError("--safe-csv goes with --report, where predictions.csv is")
    wanted = _wanted(csv_file, columns, options)
    if report is not None:
        _require_matplotlib()
        check_outputs(
            [("--report", report / name, kind) for name, kind in WRITTEN.items()],
            rows_files(csv_file),
        )
    predictor = load_predictor(options)
    other = (
        load_predictor(
            options | {"model": options["against"], "threshold": None, "review_band": None}
        )
        if options["against"]
        else None
    )  # a wrong name costs no time
    if report is not None:
        _make_folder(report)
        hold(report, folder=True, inside=re.compile("|".join(map(re.escape, WRITTEN))))
    with _row_writer(report, safe=options["safe_csv"]) as write:
        tally, result = _measured(
            predictor, csv_file, image_base_path, columns, wanted, write, options
        )
        if other is not None:
            result["against"] = _against(
                tally, other, csv_file, image_base_path, columns, options["against"]
            )
    if report is not None:
        from mismatch.cli.evaluation_page import write_evaluation_page

        write_json(report / "report.json", result)
        write_evaluation_page(report / "report.html", result, tally, image_base_path)
    click.echo(
        json.dumps(finite(result), indent=2, ensure_ascii=False)
        if as_json
        else "\n".join(result_lines(result, long_texts(predictor)))
    )
    if report is not None:
        click.echo(f"report.html, report.json and predictions.csv written to {report}", err=True)


def _wanted(csv_file: Path, columns: Columns, options: dict[str, Any]) -> list[str]:
    """The columns that are needed beside image, text and label; refuses rows and columns before a
    model is loaded.
    """
    if options["brand_column"] and not options["stress"]:
        raise click.UsageError("--brand-column goes with --stress")
    if options["kind_column"] is None and KIND in read_header(
        csv_file, require_label=True, columns=columns
    ):
        options["kind_column"] = KIND
    named = [*options["slices"], options["kind_column"], options["brand_column"]]
    wanted = list(dict.fromkeys(name for name in named if name))
    check_labels(RowSource(str(csv_file), csv_file, "", columns), wanted)
    return wanted


def _require_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise MissingExtraError("--report", "report")


def _measured(
    predictor: Predictor,
    csv_file: Path,
    base: str,
    columns: Columns,
    wanted: list[str],
    write: WriteRow,
    options: dict[str, Any],
) -> tuple[Labelled, dict[str, Any]]:
    """The rows, and what report.json holds."""
    from mismatch.runtime.pipeline import Known

    known = Known.nothing()
    tally = evaluated.scored(
        predictor, csv_file, base, columns, wanted=wanted, known=known, write=write
    )
    pipeline = predictor.pipeline
    result = {
        "model": options["model"],
        "engine": predictor.engine.describe(),
        "csv": str(csv_file),
        "image_base_path": base,
        "rows": len(tally.labels) + tally.unscorable,
        "scored": len(tally.labels),
        "unscorable": tally.unscorable,
        "first_unscorable": tally.first,
        "long_text": pipeline.long_text,
        "long_texts": pipeline.long_texts,
        "truncated_texts": pipeline.truncated,
        "threshold": _threshold(predictor, given=options["threshold"] is not None),
        **evaluated.metrics(tally),
        **evaluated.parts(tally, options["slices"], options["kind_column"]),
        "review": evaluated.reviewed(tally, predictor),
        "blind": evaluated.blind(tally, known, base),
    }
    if options["stress"]:
        result["stress"] = evaluated.stressed(tally, predictor, known, base, columns, options)
    result["provenance"] = _provenance(predictor, csv_file, columns)
    return tally, result


def _against(
    tally: Labelled, predictor: Predictor, csv_file: Path, base: str, columns: Columns, name: str
) -> dict[str, Any]:
    other = evaluated.scored(predictor, csv_file, base, columns, label="against")
    evaluated.warn_unscorable(tally, other, name)
    return evaluated.compared(tally, other, name)


def _threshold(predictor: Predictor, *, given: bool) -> dict[str, Any]:
    stored = predictor.score.threshold
    if given:
        return {"value": predictor.threshold, "source": "flag"}
    if stored is None:
        return {"value": predictor.threshold, "source": "default"}
    slices = {} if predictor.slices is None else {"slices": predictor.slices.column}
    return {**asdict(stored), "source": "stored", **slices}


def _provenance(predictor: Predictor, csv_file: Path, columns: Columns) -> dict[str, Any]:
    import mismatch

    score = predictor.score
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["mismatch", *sys.argv[1:]]),
        "versions": {
            "mismatch": mismatch.__version__,
            "python": platform.python_version(),
            **_versions(),
        },
        "weights": predictor.engine.fingerprint,
        "rows_sha256": source_digest(csv_file, columns),
        "calibration": None if score.calibration is None else score.calibration.to_dict(),
    }


def _versions() -> dict[str, str]:
    """Of what is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"--report {folder} can't be created: {error.strerror}; choose another"
        ) from error


@contextmanager
def _row_writer(folder: Path | None, *, safe: bool) -> Iterator[WriteRow]:
    """What is given each row and its prediction; writes predictions.csv, or nothing without a
    folder. It takes its name when all is measured.
    """
    if folder is None:
        yield lambda row, prediction: None
        return
    with atomic_file(folder / "predictions.csv") as file:
        out = RowWriter(file, safe=safe)
        out.writerow((*COLUMNS, "label", "line"))
        yield lambda row, prediction: out.writerow((*fields(prediction), row.label, row.line))
