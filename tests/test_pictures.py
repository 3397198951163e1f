"""mismatch.cli.pictures: a file's images in groups, and those that can't be read named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mismatch.cli.pictures import Pictures


def test_groups_and_what_cannot_be_read(tmp_path: Path) -> None:
    for name, seed in (("a.png", 0), ("b.png", 1), ("c.jpg", 0)):
        noise = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80, 80), Image.Resampling.BICUBIC).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"x")
    pictures = Pictures()
    for row in (["a.png"], ["broken.png"], ["b.png"], ["c.jpg"], ["gone.png", "b.png"], ["b.png"]):
        pictures.add(row)
    groups, broken = pictures.groups(str(tmp_path), look=True, workers=2)
    assert groups[0] == groups[3] != groups[2] == groups[5]
    assert set(broken) == {1, 4}
    assert "broken.png" in broken[1]
    assert "gone.png" in broken[4]
    unseen, nothing = pictures.groups(str(tmp_path), look=False, workers=2)
    assert unseen[0] != unseen[3]
    assert nothing == {}


def test_rows_of_several_images_hold_them_together() -> None:
    pictures = Pictures()
    for row in (["a"], ["b", "c"], ["c", "d"], ["e"], ["d"]):
        pictures.add(row)
    groups, _ = pictures.groups("", look=False, workers=1)
    assert groups[1] == groups[2] == groups[4]
    assert len(set(groups)) == 3
