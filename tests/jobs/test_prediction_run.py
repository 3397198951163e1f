"""mismatch.jobs.prediction_run: what an output depends on, and how its rows are chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mismatch.jobs.options import ModelSettings, RowSettings
from mismatch.jobs.prediction_rows import Shard, open_prediction_rows
from mismatch.jobs.prediction_run import BLOCK_ROWS, Cluster, PredictSettings, run_settings
from mismatch.runtime.predictor import Predictor

SETTINGS = PredictSettings(
    model=ModelSettings(),
    threshold=None,
    review_band=None,
    long_text=None,
    cache=None,
    shard=None,
    keep_columns=False,
    resume=False,
    isolate_decoding=False,
)


def test_a_shard_and_kept_columns(colour_images: Path) -> None:
    rows = [{"image_path": "red.png", "text": str(number), "sku": "x"} for number in range(5)]
    with open_prediction_rows(rows, None, None, RowSettings(), whole_header=True) as source:
        assert [row.text for row in SETTINGS.rows(source)] == ["0", "1", "2", "3", "4"]
        half = replace(SETTINGS, shard=Shard(2, 2), keep_columns=True)
        assert [row.text for row in half.rows(source)] == ["1", "3"]
        assert (SETTINGS.kept(source), half.kept(source)) == ({}, {"sku": "sku"})


def test_what_an_output_depends_on_has_the_names_of_earlier_versions(
    colour_engine: Any, colour_images: Path
) -> None:
    predictor = Predictor(colour_engine(), threshold=0.25)
    rows = [{"image_path": "red.png", "text": "red"}]
    sharded = replace(SETTINGS, shard=Shard(1, 2))
    with open_prediction_rows(rows, None, None, RowSettings(), whole_header=False) as source:
        run = run_settings(predictor, source, sharded, {"a": "b"}, "csv")
        other = run_settings(Predictor(colour_engine()), source, SETTINGS, {}, "csv")
    assert list(run) == [
        "the model",
        "the engine",
        "the images' folder",
        "--threshold",
        "--review-band",
        "--long-text",
        "--batch-size",
        "--shard",
        "--keep-columns",
        "the format",
    ]
    assert (run["--threshold"], run["--shard"], run["--keep-columns"]) == (
        0.25,
        "1/2",
        [("a", "b")],
    )
    assert run["the model"] == other["the model"]
    assert other["--shard"] == "none"


def test_options_of_a_cluster_that_are_changed() -> None:
    assert Cluster(None, None, BLOCK_ROWS).changed_options() == []
    assert Cluster(2, "auto", 9).changed_options() == ["actors", "ray_address", "block_rows"]


def test_an_output_depends_on_where_its_relative_paths_lead(
    colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words in another working directory name other images."""
    rows = [{"image_path": "red.png", "text": "red"}]
    folders: dict[str, set[str]] = {"": set(), ".": set(), str(colour_images): set()}
    for place in (colour_images, colour_images.parent):
        monkeypatch.chdir(place)
        for base, found in folders.items():
            options = RowSettings(image_base_path=base)
            with open_prediction_rows(rows, None, None, options, whole_header=False) as source:
                run = run_settings(Predictor(colour_engine()), source, SETTINGS, {}, "csv")
            found.add(run["the images' folder"])
    assert [len(found) for found in folders.values()] == [2, 2, 1]


def test_an_output_depends_on_which_images_may_be_used(
    colour_engine: Any, colour_images: Path
) -> None:
    (colour_images / "base").mkdir()
    rows = [{"image_path": "../red.png", "text": "red"}]
    base = RowSettings(image_base_path=colour_images / "base")
    isolated = replace(SETTINGS, isolate_decoding=True)
    found: dict[int, list[str]] = {}
    for options, settings in (
        (base, SETTINGS),
        (replace(base, allow_outside_images=True), SETTINGS),
        (base, isolated),
        (RowSettings(allow_outside_images=True), SETTINGS),
    ):
        with open_prediction_rows(rows, None, None, options, whole_header=False) as source:
            run = run_settings(Predictor(colour_engine()), source, settings, {}, "csv")
        found[len(found)] = [name for name in run if "images" in name or "decoding" in name]
    own = "the images' folder"
    assert found == {
        0: [own],
        1: [own, "--allow-outside-images"],
        2: [own, "--isolate-decoding"],
        3: [own],
    }
