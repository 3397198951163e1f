"""mismatch.serving.problems: which error becomes which answer."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from mismatch.errors import CheckpointError, ImageError, MachineError
from mismatch.serving.batching import ClosedError, FullError
from mismatch.serving.messages import BatchQuestion
from mismatch.serving.problems import problem, problem_of


def test_each_error_has_its_answer() -> None:
    full = problem_of(FullError("12 pairs wait already", 3))
    assert (full.status_code, full.headers["retry-after"], full.media_type) == (
        503,
        "3",
        "application/problem+json",
    )
    closed = problem_of(ClosedError("going down"))
    assert (closed.status_code, closed.headers["connection"]) == (503, "close")
    assert problem_of(ImageError("cut short")).status_code == 400
    assert problem_of(HTTPException(415, "no")).status_code == 415
    broken = problem_of(CheckpointError("/a/secret/path can't be run"))
    assert (broken.status_code, b"secret" in bytes(broken.body)) == (500, False)
    short = problem_of(MachineError("a secret path can't be read"))
    assert (short.status_code, short.headers["retry-after"], b"secret" in bytes(short.body)) == (
        503,
        "5",
        False,
    )
    with pytest.raises(RuntimeError):
        problem_of(RuntimeError("a bug is not for the client"))


def test_what_is_not_understood_is_named_by_its_place() -> None:
    with pytest.raises(ValidationError) as error:
        BatchQuestion.model_validate(
            {"images": {"a": 7}, "texts": {}, "pairs": [{"image": "a", "text": "t"}]}
        )
    said = json.loads(bytes(problem_of(error.value).body))
    assert (said["status"], said["title"], said["detail"]) == (
        422,
        "Not understood",
        "images.a: Input should be a valid string",
    )


def test_a_sentence_is_bounded() -> None:
    assert len(json.loads(bytes(problem(400, "x" * 10_000).body))["detail"]) == 500
