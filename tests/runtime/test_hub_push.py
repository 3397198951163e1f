"""Which names and values of a model go to a hub as they are, and which lose where they lay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import InputError
from mismatch.runtime.hub_push import _last_part, _public, _without_places, push_folder
from tests.support.paths import BUNDLE


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("ViT-B-32/laion2b_s34b_b79k@abc", "ViT-B-32/laion2b_s34b_b79k@abc"),
        ("hf-hub:laion/CLIP", "hf-hub:laion/CLIP"),
        ("efficientnet-lite0+minilm", "efficientnet-lite0+minilm"),
        ("tiny", "tiny"),
        ("/home/me/my_clip", "my_clip"),
        ("ViT-B-32//home/me/weights.pt", "weights.pt"),
        ("ViT-B-32/~/weights.pt", "weights.pt"),
        ("~/clip", "clip"),
        ("../../me/clip/", "clip"),
        (r"C:\Users\me\clip", "clip"),
        ("s3://key@shop/rows.csv?token=1", "rows.csv"),
    ],
)
def test_a_name_is_kept_and_a_place_is_not(place: str, kept: str) -> None:
    assert _last_part(place) == kept


def test_a_folder_that_looks_like_a_name_is_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "customer" / "clip").mkdir(parents=True)
    assert _last_part("customer/clip") == "clip"


def test_options_that_name_places_are_left_out() -> None:
    record = {
        "train": {"cache": "/x", "train_csv": "/x/rows.csv", "val_csv": None, "epochs": 3},
        "backbone": {"family": "hf-clip", "model_id": "/x/clip"},
        "score": {"kind": "probability"},
    }
    assert _public(record) == {
        "train": {"train_csv": "rows.csv", "val_csv": None, "epochs": 3},
        "backbone": {"family": "hf-clip", "model_id": "clip"},
        "score": {"kind": "probability"},
    }


def test_configurations_lose_where_they_were_loaded_from() -> None:
    config = {"_name_or_path": "/x/clip", "text_config": {"_name_or_path": "a/b"}, "size": 2}
    assert _without_places(config, "config.json") == {
        "_name_or_path": "clip",
        "text_config": {"_name_or_path": "a/b"},
        "size": 2,
    }


@pytest.mark.parametrize("option", ["revision", "message"])
def test_an_empty_text_is_refused(option: str) -> None:
    values: Any = {option: " "}
    with pytest.raises(InputError, match=option):
        push_folder(BUNDLE, "shop/model", **values)
