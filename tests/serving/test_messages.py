"""What is sent and answered: unknown keys are refused, and the examples hold."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from mismatch.serving.messages import (
    PNG,
    BatchQuestion,
    Limits,
    ModelFacts,
    Question,
    without_folders,
)


def test_the_example_is_an_image() -> None:
    with Image.open(io.BytesIO(base64.b64decode(PNG))) as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_misspelt_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="txt"):
        Question.model_validate({"image": PNG, "text": "red", "txt": "red"})
    with pytest.raises(ValidationError, match="at least 1"):
        BatchQuestion.model_validate({"images": {}, "texts": {}, "pairs": []})


PATHS = {
    "/models/clip": "clip",
    "/models/clip/": "clip",
    "./clip": "clip",
    "../a/clip": "clip",
    "~/clip": "clip",
    "a/b/clip": "clip",
    "C:\\models\\clip": "clip",
    "C:/models/clip": "clip",
    "ViT-B-32//home/me/weights.pt": "weights.pt",
    "tiny": "tiny",
    "openai/clip-vit-base-patch32": "openai/clip-vit-base-patch32",
    "ViT-B-32/laion2b_s34b_b79k": "ViT-B-32/laion2b_s34b_b79k",
}


def facts_of(model_id: str, **more: Any) -> ModelFacts:
    facts: dict[str, Any] = {
        "name": "default",
        "model_id": "0",
        "engine": {"engine": "torch", "backbone": f"hf-clip:{model_id}"},
        "backbone": {"family": "hf-clip", "model_id": model_id},
        "versions": {},
        "files": {},
        "threshold": 0.5,
        "score": {},
        "image_size": 8,
        "context_length": 6,
        "scripts": ["Latin"],
        "limits": Limits(max_body=1, max_image=1, max_pixels=1, max_text=1, max_pairs=1),
    }
    return ModelFacts(**facts | more)


@pytest.mark.parametrize("model_id", PATHS)
def test_where_a_model_lies_is_not_told(model_id: str) -> None:
    facts = facts_of(model_id)
    assert facts.backbone == {"family": "hf-clip", "model_id": PATHS[model_id]}
    assert facts.engine["backbone"] == f"hf-clip:{PATHS[model_id]}"


def test_a_relative_path_that_is_there_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "clip").mkdir(parents=True)
    assert without_folders("models/clip") == "models/clip"
    monkeypatch.chdir(tmp_path)
    assert without_folders("models/clip") == "clip"


@pytest.mark.parametrize("model_id", ["a" * 300, "a" * 5000, "a\0b"])
def test_a_name_that_can_be_no_path_is_a_name(model_id: str) -> None:
    assert facts_of(model_id).backbone["model_id"] == model_id


def test_half_of_a_surrogate_pair_is_told_as_a_question_mark() -> None:
    """A manifest may hold one: as a letter of a path that is no UTF-8."""
    facts = facts_of(
        "caf\udce9",
        versions={"written_by": "1\ud800"},
        score={"threshold": 0.5, "slices": {"column": "\ud83d", "values": {"\ude00": [1, "😀"]}}},
    )
    plain = json.loads(facts.model_dump_json())
    assert plain["backbone"]["model_id"] == "caf?"
    assert plain["engine"]["backbone"] == "hf-clip:caf?"
    assert plain["versions"] == {"written_by": "1?"}
    slices = {"column": "?", "values": {"?": [1, "😀"]}}
    assert plain["score"] == {"threshold": 0.5, "slices": slices}
