"""An evaluation as report.html, a page that needs no network and no library, and for notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mismatch.data.pairs import format_location
from mismatch.errors import MismatchError
from mismatch.evaluation.curves import sweep
from mismatch.evaluation.decisions import Decisions, ErrorKind, WrongRow
from mismatch.io.atomic import WaitingNames, finite
from mismatch.io.reading import read_json
from mismatch.reports.evaluation_words import origin
from mismatch.reports.plots import (
    AXES,
    precision_recall_plot,
    reliability_plot,
    roc_plot,
    scores_plot,
    sweep_plot,
    training_plots,
)
from mismatch.reports.rendering import render, write_page
from mismatch.reports.thumbnails import Thumbnail, thumbnail_of

__all__ = ["evaluation_fragment", "training_stats", "write_evaluation_page"]

Errors = Mapping[ErrorKind, Sequence[WrongRow]]

STATS = "training_stats.json"
TILES = ("accuracy", "auroc", "mismatch_precision", "mismatch_recall", "mismatch_f1", "ece")
KINDS: dict[ErrorKind, str] = {
    "missed": "Mismatches taken for matches, the highest score first",
    "alarms": "False alarms: matches taken for mismatches, the lowest score first",
}


def write_evaluation_page(
    path: Path,
    result: Mapping[str, Any],
    rows: Decisions,
    errors: Errors,
    names: WaitingNames | None = None,
) -> None:
    """Write what report.json says, with plots and the pictures of the worst errors, see
    `atomic_file`.
    """
    model = str(result["model"])
    stats = training_stats(model)
    slider = _slider(rows, result["threshold"]["value"])
    write_page(
        path,
        "evaluation.html.j2",
        names=names,
        result=result,
        name=Path(model).name or model,
        origin=_origin(result),
        sections=_sections(result, trained=stats is not None),
        tiles=TILES,
        curves=_curves(result, rows),
        sweep=finite(slider),
        sweep_plot=sweep_plot(slider, slider["span"]),
        training={} if stats is None else training_plots(stats),
        errors=[(title, _cards(result, errors[kind])) for kind, title in KINDS.items()],
        facts=_facts(result),
    )


def evaluation_fragment(result: Mapping[str, Any]) -> str:
    """Return the figures and the decisions as HTML to stand inside another page."""
    return render("evaluation_fragment.html.j2", result=result, origin=_origin(result))


def training_stats(model: str) -> dict[str, Any] | None:
    """Return what lies next to a checkpoint about its training; None where nothing does or it can't
    be read.
    """
    try:
        stats = read_json(Path(model) / STATS)
    except (MismatchError, OSError, ValueError):
        return None
    losses = stats.get("train_losses") if isinstance(stats, dict) else None
    return stats if isinstance(losses, list) and losses else None


def _origin(result: Mapping[str, Any]) -> str:
    return origin(result["threshold"]).replace("`", "")


def _sections(result: Mapping[str, Any], *, trained: bool) -> dict[str, str]:
    """Return what the page has, id → heading, in order."""
    sections = {"figures": "Figures", "curves": "Curves", "threshold": "Threshold"}
    if result["slices"] or result["kinds"]:
        sections["parts"] = "Parts of the rows"
    if "against" in result:
        sections["against"] = "Against another model"
    if "stress" in result:
        sections["stress"] = "Stress"
    if trained:
        sections["training"] = "Training"
    return sections | {"errors": "Worst errors", "provenance": "Provenance"}


def _curves(result: Mapping[str, Any], rows: Decisions) -> dict[str, str]:
    """Return the plots that these rows allow, title → SVG."""
    metrics = result["metrics"]
    plots = {}
    if len(set(rows.labels)) == 2:
        plots["ROC"] = roc_plot(rows, metrics["auroc"])
        plots["Precision and recall"] = precision_recall_plot(rows)
    if metrics["ece"] == metrics["ece"]:
        plots[f"Reliability: calibration error {metrics['ece']:.3f}"] = reliability_plot(rows)
    return plots | {"Scores": scores_plot(rows, result["threshold"]["value"])}


def _slider(rows: Decisions, threshold: float) -> dict[str, Any]:
    """Return what would be decided at each threshold, and what the script needs to show one. The
    one in use is `chosen`; `span` are the ends of the plot's axis.
    """
    cuts = sweep(rows.labels, rows.scores, always=[threshold])
    is_probability = min(rows.scores) >= 0 and max(rows.scores) <= 1
    span = (0.0, 1.0) if is_probability else (cuts["threshold"][0], cuts["threshold"][-1])
    chosen = cuts["threshold"].index(threshold)
    return {**cuts, "span": span, "axes": AXES, "chosen": chosen}


def _cards(
    result: Mapping[str, Any], errors: Sequence[WrongRow]
) -> Iterator[tuple[WrongRow, str, Thumbnail]]:
    """Yield each error with its place in the file and its picture."""
    name = Path(str(result["csv"])).name
    for row in errors:
        picture = thumbnail_of(row.image_path, result["image_base_path"], row.picture)
        yield row, format_location(name, row.line), picture


def _facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the figures were measured with, name → value."""
    made = result["provenance"]
    facts = {"model": result["model"]}
    for name, value in result["engine"].items():
        facts["engine" if name == "engine" else f"engine: {name}"] = value
    facts |= {
        "weights": made["weights"],
        "rows": f"{result['csv']}, {result['rows']:,}, of which {result['scored']:,} scored",
        "sha256 of the rows": made["rows_sha256"],
        "images": result["image_base_path"] or "the working directory",
        "threshold": f"{result['threshold']['value']:.6f}, {_origin(result)}",
        "calibration": "none" if made["calibration"] is None else json.dumps(made["calibration"]),
        "long texts": f"{result['long_texts']:,}, policy {result['long_text']}",
        "versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        "command": made["command"],
        "date": made["date"],
    }
    return facts
