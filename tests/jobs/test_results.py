"""Results as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mismatch.jobs.results import Result
from mismatch.specs import ReviewBand


@dataclass(frozen=True)
class Part:
    """Within a result."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Whole(Result):
    """A result."""

    part: Part
    band: Any
    place: Path
    numbers: Any
    table: dict[Any, Any]


def test_a_result_is_plain_json() -> None:
    whole = Whole(
        Part((1.0, 2.0)), ReviewBand(0.3, 0.7), Path("a"), np.arange(3), {1: np.float32(0.5)}
    )
    said = whole.to_dict()
    assert json.loads(json.dumps(said)) == said
    assert said == {
        "part": {"values": [1.0, 2.0]},
        "band": ReviewBand(0.3, 0.7).to_dict(),
        "place": "a",
        "numbers": [0, 1, 2],
        "table": {"1": 0.5},
    }
