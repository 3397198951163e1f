"""What is sent and answered: unknown keys are refused, and the examples hold."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image
from pydantic import ValidationError

from mismatch.serving.messages import PNG, BatchQuestion, Question


def test_the_example_is_an_image() -> None:
    with Image.open(io.BytesIO(base64.b64decode(PNG))) as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_misspelt_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="txt"):
        Question.model_validate({"image": PNG, "text": "red", "txt": "red"})
    with pytest.raises(ValidationError, match="at least 1"):
        BatchQuestion.model_validate({"images": {}, "texts": {}, "pairs": []})
