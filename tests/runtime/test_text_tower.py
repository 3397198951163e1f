"""The text tower: counts belong to a call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.runtime.memo import EmbeddingMemo
from mismatch.runtime.text_tower import TextCounts, TextTower

LONG = "red shirt bag shoe\nblue shirt"


@pytest.mark.parametrize(
    ("long_text", "counts"), [("truncate", (1, 1)), ("chunk", (1, 0)), ("chunk-mean", (1, 0))]
)
def test_new_texts_count_once(colour_engine: Any, long_text: Any, counts: tuple[int, int]) -> None:
    tower = TextTower(colour_engine(), batch_size=4, long_text=long_text)
    known = EmbeddingMemo.empty()
    own = TextCounts()
    tower.embed_new([LONG, "red"], known, own)
    assert (own.long_texts, own.truncated) == counts
    assert all(isinstance(one, np.ndarray) for one in known.text(LONG))


def test_counts_of_two_calls_are_apart(colour_engine: Any) -> None:
    tower = TextTower(colour_engine(), batch_size=4, long_text="truncate")
    first, second = TextCounts(), TextCounts()
    tower.embed([LONG], first)
    tower.embed(["red"], second)
    assert (first.long_texts, second.long_texts) == (1, 0)


def test_pieces_say_why_there_are_none(colour_engine: Any) -> None:
    tower = TextTower(colour_engine(), batch_size=4, long_text="chunk")
    counts = TextCounts()
    long, short, endless = tower.pieces([LONG, "red", "red " * 20_000], counts)
    assert (long, short) == (("red shirt bag shoe", "blue shirt"), ("red",))
    assert isinstance(endless, InputError)
    assert counts.long_texts == 1
