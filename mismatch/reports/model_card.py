"""A model's card, README.md, in the form that Hugging Face's hub reads: what the model is, what it
was trained on, how good it is, and how it decides. All of it comes from files next to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mismatch.errors import CheckpointError, InputError
from mismatch.evaluation.threshold import describe_objective
from mismatch.io.reading import read_json
from mismatch.reports.evaluation_words import FIGURES, SHARES, heading
from mismatch.reports.figures import FIGURE_NAMES, decimal_range
from mismatch.reports.markdown import code_span, plain_words
from mismatch.reports.rendering import render
from mismatch.runtime.bundle import MANIFEST, PARITY
from mismatch.runtime.card_file import (
    CARD,
    SCORE_END,
    SCORE_START,
    is_own_card,
    read_score_section,
    replace_score,
    write_card,
)
from mismatch.runtime.score_file import has_score, read_score, score_file
from mismatch.specs import ScoreSpec

__all__ = ["ChosenOn", "update_card", "write_bundle_card", "write_checkpoint_card"]

STATS = "training_stats.json"  # as training/checkpoint.py names it
BEST = "best_model"  # as training/folder/earlier.py names it
UPSTREAM = "config.json"  # of a model in transformers' own format
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(@[\w./-]+)?", re.ASCII)
BUILT_IN = "built-in images and texts"  # as parity.json names pairs that need no file
COUNTS = ("epochs", "best_epoch", "train_rows", "val_rows")  # what a run's statistics have
# figure → list of training_stats.json with its value after each epoch
LISTS = {
    "accuracy": "val_accuracies",
    "auroc": "val_auroc",
    "precision": "val_precision",
    "recall": "val_recall",
    "f1": "val_f1",
}


class ChosenOn(NamedTuple):
    """How good a score is on the rows that it was chosen on."""

    rows: int
    level: float  # of the intervals, 0.5..0.999
    figures: Mapping[str, tuple[float, tuple[float, float]]]  # name → value, interval


def write_checkpoint_card(
    folder: Path, epoch: int | None = None, *, chosen_on: ChosenOn | None = None
) -> None:
    """Write the card of a checkpoint. `epoch`: that it is of; by default what the folder tells.
    `chosen_on`: how good its score is, where that is known.
    """
    record = read_json(score_file(folder))
    run = _Run.of(folder, epoch)
    section = _score_section(folder, read_score(folder), chosen_on)
    _write(folder, record, run, _base_model(folder, record), section)


def write_bundle_card(bundle: Path, checkpoint: Path | None) -> None:
    """Write the card of a bundle. `checkpoint`: the folder that it was exported from, if any."""
    record = read_json(bundle / MANIFEST)
    score = read_score(bundle)
    section = _score_section(bundle, score, None)
    train: Any = {}
    base_model = None
    run = _Run({}, None)
    if checkpoint is not None and has_score(checkpoint):
        source = read_json(score_file(checkpoint))
        train = source.get("train")
        base_model = _base_model(checkpoint, source)
        if is_own_card(checkpoint / CARD) and not _names(checkpoint / CARD, base_model):
            base_model = None  # a folder, as could be seen where it was trained
        run = _Run.of(checkpoint)
        if record["precision"] == "fp32":
            section = _with_source_figures(section, bundle, checkpoint, score)
    _write(bundle, record | {"train": train}, run, base_model, section, _parity(bundle))


def update_card(folder: Path, chosen_on: ChosenOn | None = None) -> bool:
    """Say in a card what calibration and threshold the folder has now; return whether that was
    done. A card that somebody has changed stays as it is.
    """
    return replace_score(folder, _score_section(folder, read_score(folder), chosen_on))


class _Run(NamedTuple):
    """A training run, as a checkpoint's folder tells of it."""

    stats: Mapping[str, Any]
    epoch: int | None  # that the checkpoint is of; None: it is not known

    @classmethod
    def of(cls, folder: Path, epoch: int | None = None) -> _Run:
        """Read it. Without `epoch`, the folder's name or the figures may tell it."""
        stats: Any = {}
        with suppress(CheckpointError):
            stats = read_json(folder / STATS)
        if not isinstance(stats, dict) or not all(isinstance(stats.get(k), int) for k in COUNTS):
            return cls({}, None)  # of a raw backbone, or of an older version
        if epoch is None and (folder.name == BEST or stats["best_epoch"] == stats["epochs"]):
            epoch = stats["best_epoch"]
        elif epoch is None and re.fullmatch(r"final_model|checkpoint_epoch_\d+", folder.name):
            epoch = stats["epochs"]
        return cls(stats, epoch)

    @property
    def is_best(self) -> bool:
        """Return whether the checkpoint is of the best epoch."""
        return self.epoch is not None and self.epoch == self.stats["best_epoch"]


def _write(
    folder: Path,
    record: Mapping[str, Any],
    run: _Run,
    base_model: str | None,
    section: str,
    parity: Mapping[str, Any] | None = None,
) -> None:
    """Write a card. `record`: what mismatch.json or manifest.json says; `section`: on the score;
    `parity`: of a bundle.
    """
    train = record.get("train") or {}
    text = render(
        "model_card.md.j2",
        bundle=None if parity is None else record,
        base_model=base_model,
        backbone=_backbone(record),
        head=record["head"],
        tune=train.get("tune"),
        mismatch_version=record["mismatch_version"],
        data=_data(train, run.stats),
        epoch=run.epoch,
        figures=_figures(run),
        no_figures=_why_no_figures(run),
        parity=parity,
        score_section=f"{SCORE_START}{section}{SCORE_END}",
    )
    write_card(folder, text)


def _backbone(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what may be said of a backbone: a folder's name without where it lies."""
    backbone = record["backbone"]
    return {
        "family": backbone["family"],
        "model": _hub_name(backbone["model_id"]) or _file_name(backbone["model_id"]),
        "commit": record.get("backbone_commit") or backbone.get("commit", ""),
        "distribution": backbone["distribution"],
        "version": backbone["version"],
    }


def _hub_name(model_id: str) -> str | None:
    """Return a name that a hub may have, without its revision; None for a folder."""
    name = HUB_NAME.fullmatch(model_id)
    return None if name is None or Path(model_id).exists() else name[1]


def _base_model(checkpoint: Path, record: Mapping[str, Any]) -> str | None:
    """Return the name on the hub of what was fine-tuned. Only a model in transformers' own format
    is sure to be named as there.
    """
    if not (checkpoint / UPSTREAM).is_file():
        return None
    return _hub_name(record["backbone"]["model_id"])


def _names(card: Path, base_model: str | None) -> bool:
    return f"\nbase_model: {base_model}\n" in card.read_text(encoding="utf-8")


def _file_name(path: str) -> str:
    """Return the last part of a path or a URL: folders, hosts and keys are nobody else's matter."""
    place = path.partition("?")[0] if "://" in path else path
    return re.split(r"[/\\]", place.rstrip("/\\"))[-1]


def _data(train: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a model was trained on; None where nothing is recorded."""
    if not stats or not train.get("train_csv"):
        return None
    val = train.get("val_csv")
    return {
        "train": _file_name(train["train_csv"]),
        "train_rows": stats["train_rows"],
        "val": val and _file_name(val),
        "val_rows": stats["val_rows"],
        "epochs": stats["epochs"],
        "planned": train.get("epochs", stats["epochs"]),
        "seed": train.get("seed"),
    }


def _figures(run: _Run) -> dict[str, Any] | None:
    """Return the figures of the checkpoint's epoch on the validation rows; None without any."""
    if run.is_best:
        best = run.stats.get("best_validation")
        if not isinstance(best, dict) or not isinstance(best.get("threshold"), float):
            return None
        return {
            "calibrated": True,
            "threshold": best["threshold"],
            "rows": list(_named({name: best.get(name) for name in (*FIGURES, *SHARES)})),
        }
    if run.epoch is None or not run.stats.get("val_losses"):
        return None
    lists = {name: run.stats.get(stored) or [] for name, stored in LISTS.items()}
    values = {name: items[run.epoch - 1] for name, items in lists.items() if items}
    return {"calibrated": False, "rows": list(_named(values))}


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield figures that exist under the names that people know."""
    for name, value in values.items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield heading(name), value


def _why_no_figures(run: _Run) -> str:
    if not run.stats:
        return "no run of training is recorded with this model"
    if not run.stats.get("val_losses"):
        return "no rows were held out from training"
    return "which epoch of the run this is, is not recorded"


def _parity(bundle: Path) -> dict[str, Any]:
    """Return how a bundle's scores compare with torch's."""
    facts = read_json(bundle / PARITY)
    source = facts["source"]
    judged = facts.get("int8") or facts.get("fp16") or {}
    aurocs = [judged.get("auroc"), judged.get("auroc_after")]
    return {
        "pairs": facts["pairs"],
        "source": source if source == BUILT_IN else code_span(_file_name(source)),
        "difference": facts["max_score_difference"],
        "flipped": judged.get("flipped", facts["flipped_decisions"]),
        "auroc": None if None in aurocs else aurocs,
    }


def _score_section(folder: Path, score: ScoreSpec, chosen_on: ChosenOn | None) -> str:
    return render(
        "model_card_score.md.j2",
        score=score,
        objective=_objective(score),
        file=score_file(folder).name,
        rows=chosen_on and chosen_on.rows,
        level=chosen_on and chosen_on.level,
        figures=[
            (words, chosen_on.figures[name][0], decimal_range(*chosen_on.figures[name][1]))
            for name, words in FIGURE_NAMES.items()
        ]
        if chosen_on
        else [],
    )


def _with_source_figures(section: str, bundle: Path, checkpoint: Path, score: ScoreSpec) -> str:
    """Return the checkpoint's own section, which may have figures with intervals, where it is on
    the very same score.
    """
    facts = _score_section(checkpoint, score, None).partition("\n\n")[0]
    written = read_score_section(checkpoint)
    if written is None or written.partition("\n\n")[0] != facts:
        return section
    return written.replace(f"`{score_file(checkpoint).name}`", f"`{score_file(bundle).name}`")


def _objective(score: ScoreSpec) -> str:
    """Return what the threshold was chosen for."""
    if score.threshold is None:
        return ""
    objective = score.threshold.objective
    with suppress(InputError):  # of a version that knows more of them
        objective = describe_objective(objective)
    return plain_words(objective)
