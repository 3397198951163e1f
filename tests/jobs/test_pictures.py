"""mismatch.jobs.pictures: a file's images in groups, and those that can't be read named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mismatch.jobs.pictures import Pictures


def test_groups_and_what_cannot_be_read(tmp_path: Path) -> None:
    for name, seed in (("a.png", 0), ("b.png", 1), ("c.jpg", 0)):
        noise = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80, 80), Image.Resampling.BICUBIC).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"x")
    pictures = Pictures()
    for row in (["a.png"], ["broken.png"], ["b.png"], ["c.jpg"], ["gone.png", "b.png"], ["b.png"]):
        pictures.add(row)
    found = pictures.groups(str(tmp_path), look=True, workers=2)
    groups = found.groups
    broken = found.broken
    assert groups[0] == groups[3] != groups[2] == groups[5]
    assert set(broken) == {1, 4}
    assert "broken.png" in broken[1]
    assert "gone.png" in broken[4]
    unseen = pictures.groups(str(tmp_path), look=False, workers=2)
    assert unseen.groups[0] != unseen.groups[3]
    assert unseen.broken == {}


def test_rows_of_several_images_hold_them_together() -> None:
    pictures = Pictures()
    for row in (["a"], ["b", "c"], ["c", "d"], ["e"], ["d"]):
        pictures.add(row)
    groups = pictures.groups("", look=False, workers=1).groups
    assert groups[1] == groups[2] == groups[4]
    assert len(set(groups)) == 3
