"""What is sent to the service and what it answers, as models of pydantic: OpenAPI
comes from them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "Answer",
    "BatchAnswer",
    "BatchQuestion",
    "ExplainQuestion",
    "ExplanationAnswer",
    "ModelFacts",
    "ModelList",
    "PairReference",
    "Problem",
    "Question",
    "Reloaded",
    "without_folders",
]

# a red pixel
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJg"
    "gg=="
)
MODEL = "Name of one of the service's models; without it, the first one."
EXAMPLE_ID = "559772008b324a0e"
ID = "Of weights and score: the same for the same answers."
Decision = Literal["match", "mismatch", "review"]


class Message(BaseModel):
    """Fields may begin with `model_`."""

    model_config = ConfigDict(protected_namespaces=())


class Strict(Message):
    """Unknown keys are refused: a misspelt one would else be ignored."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Question(Strict):
    """One pair."""

    image: str | None = Field(None, description="The image file, in base64.", examples=[PNG])
    image_url: str | None = Field(
        None,
        description=(
            "In its place: where the service fetches it, from a host that its settings allow."
        ),
        max_length=2000,
    )
    text: str = Field(description="What it is said to show.", examples=["Red leather handbag"])
    slice_value: str | None = Field(
        None, description="Value of the column by which the model has thresholds, if it has."
    )
    model: str | None = Field(None, description=MODEL)

    @model_validator(mode="after")
    def _one_image(self) -> Self:
        if (self.image is None) == (self.image_url is None):
            raise ValueError("one of image and image_url is needed")
        return self


class PairReference(Strict):
    """A pair by the names of its image and its text."""

    image: str = Field(description="A name of `images` or `image_urls`.", examples=["front"])
    text: str = Field(description="A name of `texts`.", examples=["title"])
    slice_value: str | None = None


class BatchQuestion(Strict):
    """Many pairs; each image and each text is sent once, however many pairs it is in."""

    images: dict[str, str] = Field(
        {}, description="Names → image files in base64.", examples=[{"front": PNG}]
    )
    image_urls: dict[str, str] = Field(
        {},
        description="Names → where the service fetches them, from hosts that its settings allow.",
    )
    texts: dict[str, str] = Field(
        description="Names → texts.", examples=[{"title": "Red leather handbag"}]
    )
    pairs: list[PairReference] = Field(min_length=1)
    model: str | None = Field(None, description=MODEL)


class ExplainQuestion(Question):
    """A pair, and whether parts of its image are covered too, which takes fifty times as long."""

    heat_map: bool = Field(True, strict=True)  # no "true", and no 1


class Answer(Message):
    """What is said of one pair."""

    similarity_score: float | None = Field(
        description=(
            "Probability of a match, 0 to 1 (cosine for zero-shot); null for a pair that can't be"
            " scored."
        ),
        examples=[0.93],
    )
    threshold: float = Field(examples=[0.48])
    is_match: bool | None = Field(
        description="Whether the score reaches the threshold.", examples=[True]
    )
    prediction: Literal["match", "mismatch", "review", "error"] = Field(examples=["match"])
    status: str = Field(description="ok, or why there is no score.", examples=["ok"])
    model_id: str = Field(description=ID, examples=[EXAMPLE_ID])


class BatchAnswer(Message):
    """One answer a pair, in their order."""

    answers: list[Answer]


class PartAnswer(Message):
    """A word or a phrase, and what leaving it out does."""

    start: int = Field(description="Of the text's code points.")
    end: int
    text: str = Field(examples=["Red"])
    effect: float = Field(
        description=(
            "Change of the log-odds (zero-shot: of the cosine) without it; above 0: it lowers the"
            " probability."
        )
    )
    score_without: float
    interaction: float = Field(description="Of a phrase: its effect beyond the sum of its words'.")


class SwapAnswer(Message):
    """A word, and others in its place that the model likes better."""

    start: int
    end: int
    text: str
    kind: str = Field(description="colour, material, …")
    alternatives: list[tuple[str, float]] = Field(
        description="Words and the score with them, the highest first."
    )


class ExplanationAnswer(Message):
    """What the score of a pair hangs on, as the model sees it, which may be wrong."""

    model_id: str = Field(description=ID)
    similarity_score: float
    threshold: float
    prediction: Decision
    words: list[PartAnswer]
    phrases: list[PartAnswer]
    named: list[PartAnswer] = Field(
        description="The words that don't fit, the worst first; none where the text fits."
    )
    swaps: list[SwapAnswer]
    unseen: str = Field(description="The end of the text that is beyond the model's context.")
    texts_encoded: int
    images_encoded: int
    left_out: int = Field(
        description=(
            "Variants of the text that were not tried, as it is too long: exchanges first, then"
            " phrases, then its last words."
        )
    )
    heat: list[list[float]] | None = Field(
        description=(
            "16 rows of 16 from the top: above 0 speaks for the text, below against it, in"
            " log-odds."
        )
    )
    picture: str | None = Field(
        description="The square that the model sees, which `heat` lies over: a PNG in base64."
    )


class Limits(Message):
    """What one request may hold."""

    max_body: int = Field(description="Bytes.")
    max_image: int = Field(description="Bytes.")
    max_pixels: int
    max_text: int = Field(description="Characters.")
    max_pairs: int


PATH = re.compile(r"[/~.]|.*\\|[A-Za-z]:/|[^/]*/[^/]*/")  # begins what is no name of a hub


def without_folders(model_id: str) -> str:
    """Return a backbone's model; of one that was read from a path only the last part, as a name."""
    if not PATH.match(model_id) and not os.path.exists(model_id):  # no Path: a name may be long
        return model_id
    return model_id.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _in_utf8(value: Any) -> Any:
    """Return a value of JSON with ? for each half of a surrogate pair, which UTF-8 has not."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_in_utf8(name): _in_utf8(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_in_utf8(part) for part in value]
    return value


class ModelFacts(Message):
    """What is being served."""

    name: str
    model_id: str = Field(description=ID)
    engine: dict[str, Any]
    backbone: dict[str, Any] = Field(
        description="Family, model, and the plugin's distribution and version."
    )
    versions: dict[str, str] = Field(
        description="Of mismatch, and of the mismatch that wrote the model."
    )
    files: dict[str, str] = Field(
        description="The bundle's files → SHA-256; empty for a checkpoint."
    )
    threshold: float
    score: dict[str, Any] = Field(
        description="Calibration, threshold, review band, slices, as the model's file has them."
    )
    image_size: int = Field(description="Pixels a side that the model sees.")
    context_length: int = Field(description="Tokens of a text that it sees.")
    scripts: list[str] = Field(
        description="Scripts that its tokenizer reads (Latin, Han, …), by a sample of each."
    )
    limits: Limits

    @field_validator("engine", "backbone", "versions", "files", "score")
    @classmethod
    def _texts_in_utf8(cls, facts: dict[str, Any]) -> dict[str, Any]:
        return {_in_utf8(name): _in_utf8(fact) for name, fact in facts.items()}

    @field_validator("engine")
    @classmethod
    def _engine_without_folders(cls, engine: dict[str, Any]) -> dict[str, Any]:
        if "backbone" not in engine:
            return engine
        family, colon, model_id = str(engine["backbone"]).partition(":")
        return engine | {"backbone": family + colon + without_folders(model_id)}

    @field_validator("backbone")
    @classmethod
    def _backbone_without_folders(cls, backbone: dict[str, Any]) -> dict[str, Any]:
        if "model_id" not in backbone:
            return backbone
        return backbone | {"model_id": without_folders(str(backbone["model_id"]))}


class ModelName(Message):
    """A name, and what is behind it."""

    name: str = Field(examples=["default"])
    model_id: str = Field(description=ID, examples=[EXAMPLE_ID])


class ModelList(Message):
    """All models of the service."""

    default: str
    models: list[ModelName]


class Reloaded(Message):
    """What each name stands for now."""

    models: list[ModelName]
    changed: list[str] = Field(description="Names whose answers are other ones now.")


class Problem(Message):
    """RFC 9457."""

    type: str = "about:blank"
    title: str = Field(examples=["Too busy"])
    status: int = Field(examples=[503])
    detail: str = Field(examples=["512 pairs wait already; try again in a moment"])
