"""What a call has encoded so far: equal images have equal keys, and the oldest are forgotten."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mismatch.errors import InputError
from mismatch.runtime.memo import ENTRY, EmbeddingMemo, image_digest, image_key


def test_paths_and_bytes_are_known_again_and_pixels_are_new() -> None:
    picture = Image.new("RGB", (2, 2))
    assert image_key("a.png") == image_key("a.png")
    assert image_key(Path("a.png")) == image_key(Path("a.png"))
    assert image_key(b"abc") == image_key(bytes(bytearray(b"abc"))) == image_digest(b"abc")
    assert image_key(picture) != image_key(picture)


def test_the_oldest_are_forgotten_between_windows() -> None:
    known = EmbeddingMemo.empty(2 * ENTRY)
    for text in "abc":
        known.texts.add(text, InputError("why"))
    assert len(known.texts.values) == 3
    known.trim()
    assert list(known.texts.values) == ["b", "c"]


def test_a_long_text_is_known_by_its_pieces() -> None:
    known = EmbeddingMemo.empty()
    known.pieces.add("ab", ("a", "b"))
    known.texts.add("a", np.zeros(2, np.float32))
    first, second = known.text("ab")
    assert first is not None
    assert second is None
    assert known.image("a.png") is None


def test_long_texts_are_counted_with_what_is_known_of_them() -> None:
    """A text is its own key: 8,000 letters beyond U+FFFF take 32 kB, an embedding may take two."""
    most = 1_000_000
    memo = EmbeddingMemo.empty(most).texts
    for number in range(100):
        memo.add(f"{number}" + "\U0001f600" * 8_000, np.zeros(512, np.float32))
    memo.trim()
    held = sum(sys.getsizeof(text) for text in memo.values) + 2048 * len(memo.values)
    assert most / 2 < held <= most


def test_what_is_noted_twice_is_counted_once() -> None:
    memo = EmbeddingMemo.empty(0).texts
    for _ in range(2):
        memo.add("a", np.zeros(8, np.float32))
    memo.trim()
    assert (len(memo.values), memo.size) == (0, 0)
