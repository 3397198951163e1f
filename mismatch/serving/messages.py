"""What is sent to the service and what it answers, as models of pydantic: OpenAPI comes from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Answer", "BatchAnswer", "BatchQuestion", "ModelFacts", "PairReference", "Problem", "Question"]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="  # a red pixel


class Strict(BaseModel):
    """Unknown keys are refused: a misspelt one would else be ignored."""

    model_config = ConfigDict(extra="forbid")


class Question(Strict):
    """One pair."""

    image: str = Field(description="The image file, in base64.", examples=[PNG])
    text: str = Field(description="What it is said to show.", examples=["Red leather handbag"])
    slice_value: str | None = Field(None, description="Value of the column by which the model has thresholds, if it has.")


class PairReference(Strict):
    """A pair by the names of its image and its text."""

    image: str = Field(description="A name of `images`.", examples=["front"])
    text: str = Field(description="A name of `texts`.", examples=["title"])
    slice_value: str | None = None


class BatchQuestion(Strict):
    """Many pairs; each image and each text is sent once, however many pairs it is in."""

    images: dict[str, str] = Field(description="Names → image files in base64.", examples=[{"front": PNG}])
    texts: dict[str, str] = Field(description="Names → texts.", examples=[{"title": "Red leather handbag"}])
    pairs: list[PairReference] = Field(min_length=1)


class Answer(BaseModel):
    """What is said of one pair."""

    similarity_score: float | None = Field(description="Probability of a match, 0 to 1 (cosine for zero-shot); null for a pair that can't be scored.")
    threshold: float
    is_match: bool | None
    prediction: Literal["match", "mismatch", "review", "error"]
    status: str = Field(description="ok, or why there is no score.")
    model_id: str = Field(description="Of weights and score: the same for the same answers.")


class BatchAnswer(BaseModel):
    """One answer a pair, in their order."""

    answers: list[Answer]


class ModelFacts(BaseModel):
    """What is being served."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    engine: dict[str, Any]
    version: str = Field(description="Of mismatch.")
    threshold: float
    score: dict[str, Any] = Field(description="Calibration, threshold, review band, slices, as the model's file has them.")
    image_size: int = Field(description="Pixels a side that the model sees.")
    context_length: int = Field(description="Tokens of a text that it sees.")


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
