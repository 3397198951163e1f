"""mismatch.data.near_duplicates: pictures encoded again are found, other pictures are not, and a million
fit.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mismatch.data import near_duplicates as similar
from mismatch.data.near_duplicates import (
    Fingerprint,
    fingerprint,
    fingerprint_images,
    groups_of,
    near_duplicate_groups,
)
from mismatch.errors import ImageError, MissingExtraError
from mismatch.runtime.preprocess import open_image


def picture(seed: int, size: int = 120) -> Image.Image:
    """Smooth blobs of colour on white."""
    random = np.random.default_rng(seed)
    blobs = Image.fromarray(random.integers(0, 255, (5, 5, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    page = Image.new("RGB", (size * 2, size * 2), "white")
    page.paste(blobs, (size // 2, size // 2))
    return page


def saved(image: Image.Image, kind: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize(
    "change",
    [
        lambda image: saved(image, "JPEG", quality=30),
        lambda image: saved(image, "JPEG", quality=90),
        lambda image: saved(image, "WEBP", quality=60),
        lambda image: image.resize((120, 120), Image.Resampling.BICUBIC),
        lambda image: image.resize((480, 480), Image.Resampling.BICUBIC),
    ],
    ids=["jpeg30", "jpeg90", "webp", "smaller", "larger"],
)
def test_a_picture_saved_anew_is_found_and_no_other(change: object) -> None:
    pictures = [picture(seed) for seed in range(40)]
    again = [change(image) for image in pictures]  # type: ignore[operator]
    assert near_duplicate_groups([fingerprint(image) for image in (*pictures, *again)]) == [
        *range(40),
        *range(40),
    ]


def test_the_same_shape_in_another_colour_is_another_picture() -> None:
    first = picture(3)
    # red and blue change places: luma and hash stay near
    other = Image.fromarray(np.asarray(first)[..., ::-1].copy())
    assert near_duplicate_groups([fingerprint(first), fingerprint(other)]) == [0, 1]


def test_what_has_no_fingerprint_stands_alone() -> None:
    made = fingerprint(picture(1))
    assert near_duplicate_groups([None, made, None, made]) == [0, 1, 2, 1]
    assert near_duplicate_groups([]) == []
    assert near_duplicate_groups([None, None]) == [0, 1]


def test_every_bit_is_looked_at() -> None:
    thumb = bytes(192)
    for flipped in range(similar.BITS + 2):
        prints = [
            Fingerprint(0, thumb),
            Fingerprint(sum(1 << (9 * bit % 64) for bit in range(flipped)), thumb),
        ]
        assert near_duplicate_groups(prints)[1] == int(flipped > similar.BITS), flipped
    for apart in (similar.LEVELS, similar.LEVELS + 1):
        for part in (0, 100, 191):
            other = bytes(apart if at == part else 0 for at in range(192))
            assert near_duplicate_groups([Fingerprint(5, thumb), Fingerprint(5, other)])[1] == int(
                apart > similar.LEVELS
            )


def test_thousands_of_blank_pictures_are_one_group() -> None:
    assert set(near_duplicate_groups([Fingerprint(0, bytes(192))] * 20_000)) == {0}


def test_components() -> None:
    assert groups_of(6, [(5, 3), (3, 1), (4, 4)]) == [0, 1, 2, 1, 3, 1]


def test_files_in_order_with_what_is_wrong(tmp_path: Path) -> None:
    files = []
    for number in range(30):
        files.append(tmp_path / f"{number}.png")
        picture(number % 10, 30).save(files[-1])
    files[7].write_bytes(b"no image")
    done: list[int] = []
    found = list(fingerprint_images(files, open_image, workers=3, advance=done.append))
    assert sum(done) == 30
    assert isinstance(found[7], ImageError)
    assert "7.png" in str(found[7])
    prints = [made if isinstance(made, Fingerprint) else None for made in found]
    groups = near_duplicate_groups(prints)
    assert groups[:10] == list(range(10))
    assert groups[10:17] == list(range(7))
    assert groups[17] == groups[27] == 10
    assert len(set(groups)) == 11


def test_without_the_library_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(MissingExtraError, match=r'pip install "mismatch-clip\[audit\]"'):
        fingerprint(picture(0))
