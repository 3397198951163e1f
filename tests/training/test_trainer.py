"""The training run: that it learns, what it writes, how it ends, and that only the seed makes
chance.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import mismatch
from mismatch.backbones import registry
from mismatch.errors import CheckpointError, DeviceError, ImageNotFoundError, InputError
from mismatch.evaluation.metrics import auroc
from mismatch.io.locks import locked
from mismatch.progress import shown_by
from mismatch.training import TrainConfig, TrainResult, objective, train
from mismatch.training import config as config_module
from mismatch.training import trainer as trainer_module
from mismatch.training.advice import Adviser
from mismatch.training.callbacks import Callback, EpochInfo, RunInfo
from mismatch.training.checkpoint import load_detector, read_meta
from mismatch.training.feeds.prepare import load_start
from mismatch.training.folder import output
from mismatch.training.folder.history import Validation
from mismatch.training.losses import contrastive_loss
from mismatch.training.tuning.modes import MODES
from tests.support.backbones import ToyBackbone, toy_family
from tests.support.paths import WHOLE
from tests.support.pictures import tinted
from tests.support.processes import command_line, started
from tests.support.rows import WriteRows

pytestmark = pytest.mark.usefixtures("one_thread")
COLOURS = ("red", "green", "blue")
LISTS = [
    "train_losses",
    "train_contrastive_losses",
    "val_losses",
    "val_accuracies",
    "val_f1",
    "val_auroc",
    "confusion_matrices",
]
LISTS += [
    "val_precision",
    "val_recall",
    "val_seconds",
    "elapsed_seconds",
    "learning_rates",
    "head_learning_rates",
    "seconds",
    "rows_per_second",
]


@pytest.fixture
def curves() -> None:
    """Asked for by tests that look at training_curves.png."""


@pytest.fixture(autouse=True)
def no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than most runs here."""
    if "curves" not in request.fixturenames:
        monkeypatch.setattr(output, "curves_png", lambda stats: b"")


@pytest.fixture
def unlike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the family `unlike` next to the others."""
    family = toy_family("unlike", lambda model_id: ToyBackbone(model_id=model_id))
    installed = registry.Registry(registry.families() | {"unlike": family}, ())
    monkeypatch.setattr(registry, "_installed", lambda: installed)


@pytest.fixture
def catalogue(tmp_path: Path, write_rows: WriteRows) -> Path:
    """90 photos of one colour each, noisy; train.csv of 216 rows, val.csv of 54, shuffled.csv with
    labels that say nothing.
    """
    noise = np.random.default_rng(0)
    photos = []
    for i in range(90):
        tinted(noise, i, 10).save(tmp_path / f"{i}.png")
        photos.append((f"{i}.png", COLOURS[i % 3]))
    things = ("shirt", "shoe", "bag")
    rows = [
        (path, f"{said} {things[(i + k) % 3]}", int(said == colour))
        for k, (path, colour) in enumerate(photos)
        for i, said in enumerate(COLOURS)
    ]
    order = noise.permutation(len(rows))
    held = {f"{i}.png" for i in range(72, 90)}
    header = ("image_path", "text", "label")
    train_rows, val_rows = (
        [rows[i] for i in order if rows[i][0] not in held],
        [rows[i] for i in order if rows[i][0] in held],
    )
    labels = noise.permutation([row[2] for row in train_rows])
    write_rows(tmp_path / "train.csv", [header, *train_rows])
    write_rows(tmp_path / "val.csv", [header, *val_rows])
    write_rows(
        tmp_path / "shuffled.csv",
        [header, *((*row[:2], int(label)) for row, label in zip(train_rows, labels, strict=True))],
    )
    return tmp_path


def config(folder: Path, **options: Any) -> TrainConfig:
    common: dict[str, Any] = {
        "train_csv": str(folder / "train.csv"),
        "val_csv": str(folder / "val.csv"),
        "image_base_path": str(folder),
        "backbone": "unlike",
    }
    common |= {
        "output_dir": str(folder / "out"),
        "device": "cpu",
        "num_workers": 1,
        "epochs": 3,
        "batch_size": 36,
        "cache": str(folder / "cache"),
    }
    if options.get("tune") != "head":
        common |= {"learning_rate": 1e-2}
    return TrainConfig(**common | options)


def quietly(options: TrainConfig) -> TrainResult:
    return train(options)


def read_stats(folder: Path) -> Any:
    return json.loads((folder / "training_stats.json").read_text())


def held_out_auroc(model: Path, folder: Path) -> float:
    rows = [line.split(",") for line in (folder / "val.csv").read_text().splitlines()[1:]]
    predictor = mismatch.load(model, "cpu")
    scores = [
        p.similarity_score
        for p in predictor.predict_pairs(
            [{"image_path": a, "text": b} for a, b, _ in rows], image_base_path=folder
        )
    ]
    return auroc([int(label) for *_, label in rows], np.array(scores, float))


# --- it learns


@pytest.mark.slow
@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize("tune", ["full", "head"] if WHOLE else ["full"])
def test_it_learns_and_shuffled_labels_teach_nothing(catalogue: Path, tune: str) -> None:
    result = quietly(
        config(
            catalogue,
            tune=tune,
            epochs=8,
            batch_size=16,
            head_learning_rate=1e-2,
            best_metric="auroc",
        )
    )
    shuffled = quietly(
        config(
            catalogue,
            tune=tune,
            epochs=12,
            batch_size=16,
            head_learning_rate=1e-2,
            train_csv=str(catalogue / "shuffled.csv"),
            output_dir=str(catalogue / "no"),
        )
    )
    assert result.stats["train_losses"][-1] < 0.5 * result.stats["train_losses"][0]
    assert max(result.stats["val_auroc"]) > 0.97
    assert max(shuffled.stats["val_auroc"]) < 0.8
    # what is stored is what was measured
    assert held_out_auroc(result.best_model, catalogue) == pytest.approx(
        max(result.stats["val_auroc"]), abs=1e-6
    )


@pytest.mark.usefixtures("unlike")
def test_frozen_towers_stay_as_they_were_and_full_tuning_moves_them(catalogue: Path) -> None:
    for tune, moves in (("head", False), ("full", True)):
        quietly(config(catalogue, tune=tune, epochs=2, output_dir=str(catalogue / tune)))
        first, last = (
            load_file(catalogue / tune / f"checkpoint_epoch_{n}" / "towers.safetensors")
            for n in (1, 2)
        )
        assert any(not torch.equal(first[name], last[name]) for name in first) == moves
        heads = [
            load_file(
                catalogue / tune / f"checkpoint_epoch_{n}" / "classification_head.safetensors"
            )
            for n in (1, 2)
        ]
        assert not torch.equal(
            heads[0]["image_adapter.0.4.weight"], heads[1]["image_adapter.0.4.weight"]
        )


def test_each_family_trains_on_its_tiny_model_and_its_checkpoint_predicts(
    catalogue: Path, family: str
) -> None:
    options = config(
        catalogue, backbone=family, model_name="tiny", epochs=1, batch_size=64, learning_rate=1e-3
    )
    result = quietly(options)
    meta = read_meta(result.best_model)
    assert (meta.family, meta.model_id, meta.head.kind) == (family, "tiny", "adapter")
    assert meta.train == options.to_dict() | {
        "head_dim": 128,
        "features": "colour",
        "long_text": "truncate",
    }
    assert held_out_auroc(result.best_model, catalogue) == pytest.approx(
        result.stats["val_auroc"][0], abs=1e-3
    )


# --- what it writes


@pytest.mark.usefixtures("unlike")
def test_the_output_folder_and_its_statistics(logged: list[str], catalogue: Path) -> None:
    result = train(config(catalogue))
    folder = catalogue / "out"
    names = [
        "best_model",
        "checkpoint_epoch_1",
        "checkpoint_epoch_2",
        "checkpoint_epoch_3",
        "final_model",
    ]
    assert sorted(path.name for path in folder.iterdir()) == [
        *names,
        "run.yaml",
        "training_curves.png",
        "training_stats.json",
    ]
    assert (result.best_model, result.final_model) == (
        folder / "best_model",
        folder / "final_model",
    )
    stats = read_stats(folder)
    assert stats == result.stats == read_stats(result.best_model) == read_stats(result.final_model)
    assert {name: len(stats[name]) for name in LISTS} == dict.fromkeys(LISTS, 3)
    assert [
        len(read_stats(folder / f"checkpoint_epoch_{n}")["train_losses"]) for n in (1, 2, 3)
    ] == [1, 2, 3]
    assert (stats["finished"], stats["epochs"], stats["train_rows"], stats["val_rows"]) == (
        True,
        3,
        216,
        54,
    )
    assert [sum(map(sum, matrix)) for matrix in stats["confusion_matrices"]] == [54, 54, 54]
    assert stats["config"] == config(catalogue).to_dict()
    assert stats["learning_rates"][0] > stats["learning_rates"][1] > stats["learning_rates"][2] >= 0
    assert sum(line.startswith("epoch ") for line in logged) == 3
    assert "AUROC" in next(line for line in logged if line.startswith("epoch "))


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize("metric", ["accuracy", "loss", "auroc", "f1"])
def test_best_model_is_the_epoch_with_the_best_metric_and_ties_go_to_the_lower_loss(
    catalogue: Path, metric: str
) -> None:
    result = quietly(config(catalogue, epochs=6, best_metric=metric, head_learning_rate=1e-2))
    stats = result.stats
    values = {
        "accuracy": stats["val_accuracies"],
        "f1": stats["val_f1"],
        "auroc": stats["val_auroc"],
        "loss": [-x for x in stats["val_losses"]],
    }[metric]
    ranks = list(zip(values, [-x for x in stats["val_losses"]], strict=True))
    assert stats["best_epoch"] == 1 + ranks.index(max(ranks))
    best, epoch = (
        load_file(folder / "classification_head.safetensors")
        for folder in (
            result.best_model,
            catalogue / "out" / f"checkpoint_epoch_{stats['best_epoch']}",
        )
    )
    assert all(torch.equal(best[name], epoch[name]) for name in best)
    last = load_file(catalogue / "out" / "checkpoint_epoch_6" / "classification_head.safetensors")
    assert all(
        torch.equal(value, last[name])
        for name, value in load_file(result.final_model / "classification_head.safetensors").items()
    )


@pytest.mark.usefixtures("unlike")
def test_each_model_stores_the_calibration_and_threshold_of_its_own_logits(catalogue: Path) -> None:
    result = quietly(config(catalogue, epochs=6, head_learning_rate=1e-2))
    scores = {read_meta(path).score for path in (catalogue / "out").glob("checkpoint_epoch_*")}
    assert len({score.calibration for score in scores}) == 6
    for folder in (result.best_model, result.final_model):
        score = read_meta(folder).score
        assert score in scores
        assert score.calibration is not None
        assert score.threshold is not None
        assert (
            score.kind,
            score.calibration.rows,
            score.threshold.rows,
            score.threshold.objective,
        ) == ("probability", 54, 54, "accuracy")
    best = result.stats["best_validation"]
    assert best["threshold"] == read_meta(result.best_model).score.threshold_in_use
    assert best["accuracy"] >= max(result.stats["val_accuracies"]) - 1e-9


@pytest.mark.usefixtures("unlike")
def test_without_validation_rows_the_last_epoch_is_best_and_no_threshold_is_stored(
    logged: list[str],
    catalogue: Path,
) -> None:
    result = train(config(catalogue, val_csv=None, val_fraction=0.0))
    assert logged[0].startswith("no validation rows: best_model is the last epoch's")
    assert (
        result.stats["best_epoch"],
        result.stats["best_validation"],
        result.stats["val_rows"],
    ) == (3, None, 0)
    assert read_meta(result.best_model).score == mismatch.ScoreSpec("probability", 0.5)
    assert result.stats["val_losses"] == []


@pytest.mark.usefixtures("unlike")
def test_validation_rows_of_one_label_give_no_auroc_and_no_threshold(
    catalogue: Path, write_rows: WriteRows
) -> None:
    write_rows(
        catalogue / "val.csv",
        [("image_path", "text", "label"), ("72.png", "red shirt", 1), ("73.png", "green shirt", 1)],
    )
    result = quietly(config(catalogue, best_metric="auroc"))
    assert result.stats["val_auroc"] == [None, None, None]
    assert read_meta(result.best_model).score == mismatch.ScoreSpec("probability", 0.5)
    assert result.stats["best_epoch"] == 1 + int(np.argmin(result.stats["val_losses"]))


def test_few_rows_are_warned_of_and_some_are_advised(logged: list[str]) -> None:
    for rows in (499, 520, 5000):
        trainer_module._advise(rows)
    assert [line.partition(" training rows: ")[0] for line in logged] == [
        "warning: 499",
        "advice: 520",
    ]


# --- long texts


@pytest.fixture
def wordy(catalogue: Path, write_rows: WriteRows) -> Path:
    """The catalogue with texts over the context of six tokens, whose colour stands behind it, and
    short ones among the rows to validate on.
    """
    for name in ("train.csv", "val.csv"):
        rows = [line.split(",") for line in (catalogue / name).read_text().splitlines()]
        long = [
            (
                image,
                f"shirt shoe bag shirt\n{text}" if name == "train.csv" or i % 3 else text,
                label,
            )
            for i, (image, text, label) in enumerate(rows[1:])
        ]
        write_rows(catalogue / name, [rows[0], *long])
    return catalogue


def watch_logits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The validation logits of each epoch."""
    seen: list[Any] = []
    real = Validation.of

    def of(logits: Any, labels: Any, objective: Any) -> Validation:
        seen.append(logits)
        return real(logits, labels, objective)

    monkeypatch.setattr(Validation, "of", of)
    return seen


def predicted(model: Path, folder: Path, **options: Any) -> tuple[list[Any], Any]:
    """The logits that a loaded model has for the rows of val.csv, and its pipeline."""
    with (folder / "val.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    predictor = mismatch.load(model, "cpu", **options)
    return [
        p.logit for p in predictor.predict_pairs(rows, image_base_path=folder)
    ], predictor.pipeline


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize(
    ("long_text", "tune"),
    [("chunk", "full"), ("chunk-mean", "head")]
    + WHOLE * [("chunk", "head"), ("chunk-mean", "full")],
)
def test_what_stands_behind_the_context_is_learnt_from_pieces_and_predicted_alike(
    logged: list[str], wordy: Path, monkeypatch: pytest.MonkeyPatch, tune: str, long_text: str
) -> None:
    logits = watch_logits(monkeypatch)
    result = train(
        config(
            wordy,
            tune=tune,
            epochs=8,
            batch_size=16,
            head_learning_rate=1e-2,
            best_metric="auroc",
            long_text=long_text,
        ),
    )
    assert max(result.stats["val_auroc"]) > 0.95
    found, pipeline = predicted(result.final_model, wordy)
    np.testing.assert_allclose(found, logits[-1], atol=1e-4)
    assert np.ptp(logits[-1]) > 1
    assert (pipeline.long_text, pipeline.totals.long_texts, pipeline.totals.truncated) == (
        long_text,
        9,
        0,
    )
    assert (result.stats["long_texts"], result.stats["long_text"]) == (9, long_text)
    score = read_meta(result.best_model).score
    assert (score.long_text, score.threshold is None) == (long_text, False)
    assert read_meta(result.best_model).train["long_text"] == long_text
    decides = "the worst of which decides" if long_text == "chunk" else "whose mean decides"
    assert (
        f"9 texts are longer than the backbone's 6 tokens and are scored in pieces, {decides}"
        in logged
    )
    again = quietly(
        config(
            wordy,
            tune=tune,
            epochs=1,
            backbone="hf-clip",
            model_name=str(result.final_model),
            output_dir=str(wordy / "again"),
        )
    )
    assert again.stats["long_text"] == read_meta(again.best_model).score.long_text == long_text


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize("tune", ["full", "head"])
def test_texts_whose_worst_piece_is_the_same_are_no_negatives_of_each_other(
    wordy: Path, monkeypatch: pytest.MonkeyPatch, tune: str
) -> None:
    same = list[int]()

    def watched(
        images: Tensor,
        texts: Tensor,
        image_ids: Tensor,
        text_ids: Tensor,
        temperature: Tensor,
        piece_ids: Tensor | None = None,
    ) -> Tensor:
        # (M, M), of different texts
        alike = (texts[:, None] == texts).all(-1) & (text_ids[:, None] != text_ids)
        masked = torch.zeros_like(alike) if piece_ids is None else piece_ids[:, None] == piece_ids
        assert not (alike & ~masked).any(), "an identical vector is no negative"
        same.append(int(alike.sum()))
        return contrastive_loss(
            images,
            texts,
            image_ids,
            text_ids,
            temperature,
            *([] if piece_ids is None else [piece_ids]),
        )

    monkeypatch.setattr(objective, "contrastive_loss", watched)
    # which may drop all that differs
    quietly(
        config(wordy, tune=tune, epochs=2, head_learning_rate=1e-2, long_text="chunk", dropout=0.0)
    )
    assert sum(same) > 50, "the catalogue's texts share their first line"


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize("long_text", ["chunk", "chunk-mean"])
def test_validation_takes_so_many_pieces_at_a_time_as_it_may_hold(
    wordy: Path, monkeypatch: pytest.MonkeyPatch, long_text: str
) -> None:
    logits, sizes, real = (
        watch_logits(monkeypatch),
        list[int](),
        objective.TrainingObjective._row_cosines,
    )

    def watched(self: Any, pairs: Any, rows: Any, images: Tensor, pieces: Tensor) -> Tensor:
        sizes.append(len(pairs.row_pieces(rows)[0]))
        return real(self, pairs, rows, images, pieces)

    options = {
        "tune": "head",
        "epochs": 1,
        "contrastive_weight": 0.0,
        "batch_size": 4,
        "long_text": long_text,
    }
    quietly(config(wordy, **options))
    monkeypatch.setattr(objective.TrainingObjective, "_row_cosines", watched)
    monkeypatch.setattr(objective, "VAL_PIECES", 10)
    quietly(config(wordy, output_dir=str(wordy / "again"), **options))
    assert (max(sizes), sum(sizes)) == (10, 90), "54 rows, 36 of them in two pieces"
    assert min(sizes[:-1]) >= 9
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-6)


@pytest.mark.usefixtures("unlike")
def test_a_text_without_its_end_teaches_only_what_its_beginning_says(
    logged: list[str], wordy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = watch_logits(monkeypatch)
    result = train(config(wordy, epochs=3, head_learning_rate=1e-2))
    found, pipeline = predicted(result.final_model, wordy)
    np.testing.assert_allclose(found, logits[-1], atol=1e-4)
    assert (result.stats["long_texts"], result.stats["long_text"], pipeline.totals.truncated) == (
        9,
        "truncate",
        9,
    )
    lost = (
        "warning: 9 texts are longer than the backbone's 6 tokens and are scored without their end;"
        " --long-text chunk scores them piece by piece"
    )
    assert lost in logged
    long = [i for i in range(54) if i % 3]
    assert len({round(float(logits[-1][i]), 4) for i in long}) <= 18, "18 images, one beginning"


def test_each_family_scores_long_texts_as_it_was_trained(
    catalogue: Path, family: str, write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [line.split(",") for line in (catalogue / "val.csv").read_text().splitlines()]
    long = [
        (image, f"{text}. " + "it has two handles and a zip. " * (i % 4 * 5), label)
        for i, (image, text, label) in enumerate(rows[1:])
    ]
    for name in ("train.csv", "val.csv"):
        write_rows(catalogue / name, [rows[0], *long])
    logits = watch_logits(monkeypatch)
    options = {
        "backbone": family,
        "model_name": "tiny",
        "epochs": 1,
        "batch_size": 27,
        "learning_rate": 1e-3,
        "long_text": "chunk",
    }
    result = quietly(config(catalogue, **options))
    found, pipeline = predicted(result.final_model, catalogue)
    assert (result.stats["long_texts"], pipeline.totals.long_texts) == (
        len({text for _, text, _ in long if len(text) > 250}),
    ) * 2
    np.testing.assert_allclose(found, logits[-1], atol=1e-4)
    cut, _ = predicted(result.final_model, catalogue, long_text="truncate")
    differ = [abs(a - b) > 1e-4 for a, b in zip(found, cut, strict=True)]
    assert differ == [
        abs(a - b) > 1e-4 and i % 4 > 1 for i, (a, b) in enumerate(zip(found, cut, strict=True))
    ]
    assert sum(differ) > 10


# --- from there on


@pytest.mark.usefixtures("unlike")
def test_a_checkpoint_of_the_same_folder_goes_on_from_its_weights(
    logged: list[str], catalogue: Path
) -> None:
    first = quietly(config(catalogue, epochs=4, head_learning_rate=1e-2))
    start = catalogue / "out" / "checkpoint_epoch_4"
    again = train(
        config(
            catalogue,
            backbone="hf-clip",
            model_name=str(start),
            epochs=1,
            head_learning_rate=1e-5,
            learning_rate=1e-6,
        ),
    )
    assert again.stats["val_losses"][0] == pytest.approx(first.stats["val_losses"][-1], rel=0.05)
    assert any(f"unlike:small, from {start}" in line for line in logged)
    assert sorted(path.name for path in (catalogue / "out").iterdir()) == [
        "best_model",
        "checkpoint_epoch_1",
        "final_model",
        "run.yaml",
        "started_from",
        "training_curves.png",
        "training_stats.json",
    ]
    assert read_meta(again.best_model).model_id == "small"


@pytest.mark.usefixtures("unlike")
def test_early_stopping_ends_after_its_patience_and_final_model_is_the_last_epoch(
    logged: list[str],
    catalogue: Path,
) -> None:
    result = train(
        config(catalogue, epochs=40, early_stopping=2, head_learning_rate=3e-2, learning_rate=3e-2),
    )
    assert result.stats["epochs"] == result.stats["best_epoch"] + 2 < 40
    assert (
        f"stopped early: auroc has not improved since epoch {result.stats['best_epoch']}" in logged
    )
    assert len(read_stats(result.final_model)["train_losses"]) == result.stats["epochs"]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_detector(folder)[0].state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize("tune", ["full", "head"])
def test_the_seed_alone_makes_chance_and_threads_make_none(catalogue: Path, tune: str) -> None:
    variants: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"num_workers": 0},
        "c": {"num_workers": 3},
        "other": {"seed": 1},
    }
    found = {}
    for name, options in variants.items():
        state = torch.random.get_rng_state()
        result = quietly(
            config(catalogue, tune=tune, epochs=2, output_dir=str(catalogue / name), **options)
        )
        # the caller's own chance is untouched
        assert torch.equal(torch.random.get_rng_state(), state)
        found[name] = weights(result.final_model)
    assert same(found["a"], found["b"])
    assert same(found["a"], found["c"])
    assert not same(found["a"], found["other"])


# --- how it ends otherwise


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize("tune", ["full", "head"])
def test_an_image_missing_in_training_is_named_by_file_and_line(catalogue: Path, tune: str) -> None:
    with (catalogue / "train.csv").open("a") as file:
        file.write("absent.png,red shirt,1\n")
    with pytest.raises(
        ImageNotFoundError,
        match=(
            r"train.csv:218: image '.*absent.png' not found|train.csv:218: image '.*absent.png'"
            r" can't be read"
        ),
    ):
        quietly(config(catalogue, tune=tune))
    assert not list((catalogue / "out").glob("*"))


@pytest.mark.usefixtures("unlike")
def test_validate_data_reports_everything_and_trains_nothing_when_a_row_fails(
    logged: list[str],
    catalogue: Path,
) -> None:
    with (catalogue / "val.csv").open("a") as file:
        file.write("absent.png,red shirt,1\n0.png,red shirt,yes\n")
    with pytest.raises(
        InputError, match="the data did not pass `validate_data`, so nothing was trained"
    ):
        train(config(catalogue, validate_data=True))
    text = "\n".join(logged)
    assert "val.csv:56: " in text
    assert "val.csv:57: " in text
    assert not (catalogue / "out").exists()


@pytest.mark.usefixtures("unlike")
def test_validate_data_trains_when_all_passes(logged: list[str], catalogue: Path) -> None:
    assert train(config(catalogue, epochs=1, validate_data=True)).stats["finished"]
    assert any("fit to train on: 270 rows" in line for line in logged)
    assert sum("216 training rows" in line for line in logged) == 1


@pytest.mark.usefixtures("unlike")
def test_a_temperature_at_its_bound_can_come_down(
    catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLIP starts at 100, the bound; a clamp in the graph would freeze it there."""

    def at_the_bound(*args: Any) -> Any:
        start: Any = load_start(*args)
        start.detector.head.start(100.0, 0.25)
        return start

    monkeypatch.setattr(trainer_module, "load_start", at_the_bound)
    detector, _ = load_detector(quietly(config(catalogue, epochs=2)).final_model)
    temperature = float(detector.head.get_parameter("log_temperature").detach().exp())
    assert 50 < temperature < 99.999


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize("options", [{}, {"val_csv": None}], ids=["val-csv", "held-out"])
def test_few_rows_are_said_to_be_few_and_counted_before_some_are_held_out(
    logged: list[str], catalogue: Path, options: dict[str, Any]
) -> None:
    train(config(catalogue, epochs=1, **options))
    assert any(
        line.startswith("warning: 216 training rows: too few to learn from") for line in logged
    )


@pytest.mark.usefixtures("unlike")
def test_a_loss_that_is_no_number_ends_the_run_in_words(catalogue: Path) -> None:
    with pytest.raises(
        InputError, match="training has diverged; lower `learning_rate` or `head_learning_rate`"
    ):
        quietly(config(catalogue, learning_rate=1e30, head_learning_rate=1e30))


def test_cuda_without_cuda_is_an_error_before_anything_is_read(
    catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="device 'cuda' was asked for"):
        quietly(config(catalogue, device="cuda", train_csv="absent.csv"))


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize(
    ("when", "held"),
    [
        ("training on ", "interrupted before the first step: nothing has been written"),
        (
            "epoch 2/5",
            (
                "_epoch_1, checkpoint_epoch_2, best_model; the same command with --resume goes on"
                " from there"
            ),
        ),
    ],
)
def test_an_interrupted_run_keeps_its_epochs_and_says_so(
    logged: list[str], catalogue: Path, when: str, held: str
) -> None:

    class Killing(Callback):
        def on_train_begin(self, run: RunInfo) -> None:
            if when == "training on ":
                os.kill(os.getpid(), signal.SIGTERM)

        def on_epoch_end(self, epoch: EpochInfo) -> None:
            if when == f"epoch {epoch.epoch}/{epoch.epochs}":
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(config(catalogue, epochs=5), callbacks=[Killing()])
    assert logged[-1].startswith("interrupted ")
    assert logged[-1].endswith(held)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    folders = [path for path in (catalogue / "out").iterdir() if path.is_dir()]
    assert len(folders) == (3 if when == "epoch 2/5" else 0)
    for folder in folders:
        assert load_detector(folder)[1].family == "unlike"


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM] if WHOLE else [signal.SIGTERM])
def test_a_signal_in_the_middle_of_an_epoch_leaves_whole_folders_only(
    catalogue: Path, signal_: signal.Signals
) -> None:
    out = catalogue / "out"
    options = [
        "--train-csv",
        catalogue / "train.csv",
        "--val-csv",
        catalogue / "val.csv",
        "--image-base-path",
        catalogue,
        "--output-dir",
        out,
        "--model-name",
        "tiny",
    ]
    command = command_line("train", *options, "--epochs", 500, "--threads", 1)
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = _until(process.stdout, "epoch 1/500")
        time.sleep(0.3)
        process.send_signal(signal_)
        rest, errors = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[signal_], errors
    assert f"{out} holds checkpoint_epoch_1" in rest
    assert "goes on from there" in rest
    assert "interrupted in epoch " in rest
    assert "Traceback" not in errors
    assert lines
    assert not list(out.glob(".*"))
    for folder in (path for path in out.iterdir() if path.is_dir()):
        assert load_detector(folder)[1].family == "hf-clip"


def _until(stream: Iterable[str], start: str) -> list[str]:
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if line.startswith(start):
            return lines
    raise AssertionError(f"the run ended before {start!r}: {lines}")


@pytest.mark.usefixtures("unlike")
def test_training_works_outside_the_main_thread(catalogue: Path) -> None:
    results: list[TrainResult] = []
    thread = threading.Thread(target=lambda: results.append(quietly(config(catalogue, epochs=1))))
    thread.start()
    thread.join()
    assert results[0].stats["finished"]


@pytest.mark.usefixtures("unlike")
def test_progress_counts_every_row_and_says_loss_rate_and_time_left(catalogue: Path) -> None:
    seen: dict[str, list[int]] = {}
    notes: list[str] = []

    class Bar:
        def __init__(self, label: str, total: Any, unit: str) -> None:
            seen[label] = [total, 0]
            self.label = label

        def __enter__(self) -> Callable[..., None]:
            return self.advance

        def advance(self, done: int, note: Callable[[], str] | None = None) -> None:
            seen[self.label][1] += done
            notes.extend([note()] if note else [])

        def __exit__(self, *_: object) -> None:
            return None

    with shown_by(Bar):
        result = train(config(catalogue, epochs=2))
    means = [notes[last].partition(",")[0] for last in (5, 11)]
    assert means == [f"loss {loss:.4f}" for loss in result.stats["train_losses"]]
    assert f"rate {result.stats['learning_rates'][0]:.1e}, 0:" in notes[5]
    assert seen == {"epoch 1/2": [216, 216], "epoch 2/2": [216, 216]}


@pytest.mark.parametrize("tune", ["full", "head"])
def test_a_head_with_nothing_to_train_is_refused_before_anything_is_embedded(
    catalogue: Path, monkeypatch: pytest.MonkeyPatch, tune: str
) -> None:
    from mismatch.training.checkpoint import save_checkpoint
    from mismatch.training.engine import open_backbone

    engine = open_backbone("hf-clip:tiny", provider="cpu")
    save_checkpoint(catalogue / "raw", engine.detector, replace(engine.meta), {})
    monkeypatch.setattr(trainer_module, "make_feeds", None)
    with pytest.raises(InputError, match="has nothing to train; start from its backbone instead"):
        quietly(config(catalogue, backbone="hf-clip", model_name=str(catalogue / "raw"), tune=tune))


@pytest.mark.usefixtures("unlike")
def test_weights_that_diverge_in_the_last_step_end_the_run_in_words(catalogue: Path) -> None:
    with pytest.raises(InputError, match="training has diverged; lower `learning_rate`"):
        quietly(
            config(
                catalogue, epochs=1, batch_size=10_000, head_learning_rate=1e38, learning_rate=1e38
            )
        )


# --- seeing it learn


@pytest.mark.usefixtures("unlike")
@pytest.mark.parametrize("tune", ["full", "head"])
def test_the_options_that_a_run_saves_repeat_it_to_the_bit(
    catalogue: Path, monkeypatch: pytest.MonkeyPatch, tune: str
) -> None:
    changed = {**MODES[tune], "epochs": 2, "batch_size": 54}
    monkeypatch.setattr(config_module, "MODES", {**MODES, tune: changed})
    result = quietly(config(catalogue, tune=tune, epochs=None, batch_size=None, warmup=0.2))
    # of a later release
    changed = {**MODES[tune], "epochs": 4, "batch_size": 10}
    monkeypatch.setattr(config_module, "MODES", {**MODES, tune: changed})
    again = quietly(
        TrainConfig.from_file(catalogue / "out" / "run.yaml", output_dir=str(catalogue / "again"))
    )
    assert (again.stats["epochs"], again.stats["config"]["batch_size"]) == (2, 54)
    assert same(weights(result.final_model), weights(again.final_model))
    assert again.stats["val_losses"] == result.stats["val_losses"]
    assert (catalogue / "again" / "run.yaml").read_text() == (
        catalogue / "out" / "run.yaml"
    ).read_text().replace("/out\n", "/again\n")


@pytest.mark.usefixtures("unlike")
def test_seconds_are_those_of_the_parts_and_of_the_whole(catalogue: Path) -> None:
    frozen = quietly(config(catalogue, tune="head")).stats
    full = quietly(config(catalogue)).stats
    assert (full["embedding_seconds"], frozen["embedding_seconds"] > 0) == (0.0, True)
    for stats in (frozen, full):
        parts = sum(stats["seconds"]) + sum(stats["val_seconds"]) + stats["embedding_seconds"]
        assert 0 < parts < stats["elapsed_seconds"][-1]
        assert sorted(stats["elapsed_seconds"]) == stats["elapsed_seconds"]
        assert stats["rows_per_second"] == [216 / seconds for seconds in stats["seconds"]]


@pytest.mark.usefixtures("unlike", "curves")
def test_curves_are_drawn_of_the_epochs_that_are_done_when_it_is_interrupted(
    catalogue: Path,
) -> None:
    class Stopping(Callback):
        def __init__(self, epoch: int) -> None:
            self.epoch = epoch

        def on_train_begin(self, run: RunInfo) -> None:
            if self.epoch == 0:
                raise KeyboardInterrupt

        def on_epoch_end(self, epoch: EpochInfo) -> None:
            if epoch.epoch == self.epoch:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(catalogue), callbacks=[Stopping(0)])
    assert not (catalogue / "out" / "training_curves.png").exists()
    with pytest.raises(KeyboardInterrupt):
        train(config(catalogue), callbacks=[Stopping(2)])
    with Image.open(catalogue / "out" / "training_curves.png") as picture:
        assert picture.size == (1935, 585)
    assert not list((catalogue / "out").glob(".*"))


@pytest.mark.usefixtures("unlike", "curves")
def test_what_can_not_be_drawn_and_what_can_not_be_tracked_are_warnings(
    logged: list[str], catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.tracking import TensorBoardTracker

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("the service\nis gone")

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(TensorBoardTracker, "log", fail)
    assert train(config(catalogue, epochs=2, track="tensorboard")).stats["finished"]
    assert [line for line in logged if "--track" in line] == [
        (
            "warning: --track tensorboard failed and is left out from here on: ConnectionError: the"
            " service is gone"
        )
    ]
    [drawing] = [line for line in logged if "be drawn" in line]
    assert drawing.startswith(
        f"warning: {catalogue / 'out' / 'training_curves.png'} can't be drawn:"
        " ModuleNotFoundError: "
    )
    assert not (catalogue / "out" / "training_curves.png").exists()


@pytest.mark.usefixtures("unlike")
def test_tensorboard_is_told_the_options_each_epoch_and_some_steps(catalogue: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stats = quietly(
        config(catalogue, epochs=2, batch_size=4, track="tensorboard", run_name="first")
    ).stats
    events = EventAccumulator(str(catalogue / "out" / "tensorboard" / "first"))
    events.Reload()
    for name, values in {
        "train/loss": "train_losses",
        "val/loss": "val_losses",
        "val/auroc": "val_auroc",
        "rate/head": "head_learning_rates",
    }.items():
        found = {event.step: event.value for event in events.Scalars(name)}
        assert [found[step] for step in (54, 108)] == pytest.approx(stats[values], rel=1e-6)
    steps = [event.step for event in events.Scalars("step/loss")]
    assert steps == [step for step in range(1, 109) if step % 3 == 0]
    halves = [
        np.mean([event.value for event in events.Scalars("step/loss")][half : half + 18])
        for half in (0, 18)
    ]
    assert halves == pytest.approx(stats["train_losses"], rel=1e-5)
    options = list((catalogue / "out" / "tensorboard" / "first").glob("*/hparams.yml"))
    assert "batch_size: 4" in options[0].read_text()


@pytest.mark.usefixtures("unlike")
def test_what_looks_wrong_is_said_in_words(
    logged: list[str], catalogue: Path, write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(
        Adviser,
        "look",
        lambda self, history: looked.append(len(history.lists["train_losses"])),
    )
    rows = [line.split(",") for line in (catalogue / "train.csv").read_text().splitlines()[1:]]
    few = [row for row in rows if row[2] == "1"][:20]
    write_rows(
        catalogue / "skewed.csv",
        [("image_path", "text", "label"), *few, *(row for row in rows if row[2] == "0")],
    )
    train(config(catalogue, epochs=2, train_csv=str(catalogue / "skewed.csv")))
    assert looked == [1, 2]
    warned = [line.removeprefix("warning: ") for line in logged if line.startswith("warning: ")]
    assert [line[:40] for line in warned[1:]] == [
        "training: only 12.2% of the rows are lab",
        "--learning-rate 0.01 is above 1e-04: a p",
    ]


def test_a_second_run_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "run"),
        pytest.raises(
            CheckpointError, match=rf"can't write {tmp_path / 'run'}: process {os.getpid()} on "
        ),
    ):
        train(TrainConfig(train_csv="absent.csv", output_dir=str(tmp_path / "run")))
    assert list(tmp_path.iterdir()) == []
