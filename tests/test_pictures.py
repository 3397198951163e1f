"""mismatch.cli.pictures: a file's images in groups, and those that can't be read named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mismatch.cli.pictures import near_duplicates


def test_groups_and_what_cannot_be_read(tmp_path: Path) -> None:
    for name, seed in (("a.png", 0), ("b.png", 1), ("c.jpg", 0)):
        noise = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80, 80), Image.Resampling.BICUBIC).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"x")
    groups, broken = near_duplicates(["a.png", "broken.png", "b.png", "c.jpg", "gone.png"], str(tmp_path), 2)
    assert groups == [0, 1, 2, 0, 3]
    assert set(broken) == {1, 4}
    assert "broken.png" in broken[1]
    assert "gone.png" in broken[4]
