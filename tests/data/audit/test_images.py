"""mismatch.data.audit.images: one look at an image, and what is odd about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mismatch.data.audit.images import Look, Seen, oddities, oddity_findings
from mismatch.errors import ImageError
from mismatch.runtime.preprocess import open_image
from tests.support.profiles import P3


def moving(path: Path, **options: Any) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize(
    ("name", "make", "odd"),
    [
        ("plain.jpg", lambda path: Image.new("RGB", (64, 64)).save(path), ()),
        ("grey.png", lambda path: Image.new("L", (64, 64)).save(path), ()),
        ("see-through.png", lambda path: Image.new("RGBA", (64, 64)).save(path), ()),
        ("palette.gif", lambda path: Image.new("P", (64, 64)).save(path), ()),
        ("moving.gif", moving, ("animated",)),
        ("moving.webp", moving, ("animated",)),
        ("pages.tiff", moving, ("animated",)),
        ("phone.jpg", lambda path: moving(path, format="MPO"), ()),
        ("print.jpg", lambda path: Image.new("CMYK", (64, 64)).save(path), ("mode",)),
        ("deep.png", lambda path: Image.new("I;16", (64, 64)).save(path), ("mode",)),
        ("banner.png", lambda path: Image.new("RGB", (321, 80)).save(path), ("aspect",)),
        ("long.png", lambda path: Image.new("RGB", (80, 320)).save(path), ()),
        ("dot.gif", lambda path: Image.new("P", (1, 1)).save(path), ("small",)),
        ("line.png", lambda path: Image.new("RGB", (31, 400)).save(path), ("aspect", "small")),
        ("phone.png", lambda path: Image.new("RGB", (64, 64)).save(path, icc_profile=P3), ()),
        (
            "cut.jpg",
            lambda path: Image.new("RGB", (64, 64)).save(path, icc_profile=P3[:200]),
            ("colour_profile",),
        ),
    ],
)
def test_what_is_odd(tmp_path: Path, name: str, make: Any, odd: tuple[str, ...]) -> None:
    make(tmp_path / name)
    assert oddities(tmp_path / name) == odd
    seen = Look(open_image, prints=False)(str(tmp_path / name))
    lacks = ("transparent",) if name == "see-through.png" else ("blank",)
    assert seen == Seen(None, None, (*lacks, *odd)), "these pictures are of one colour"


def test_a_file_that_is_gone_is_not_odd(tmp_path: Path) -> None:
    assert oddities(tmp_path / "gone.jpg") == ()


def test_a_look_keeps_why_it_failed_without_frames() -> None:
    def refuse(path: Path) -> Any:
        try:
            raise OSError("half decoded")
        except OSError as error:
            raise ImageError(f"{path} is damaged") from error

    seen = Look(refuse, prints=True)("a.jpg")
    assert (str(seen.error), seen.print, seen.odd) == ("a.jpg is damaged", None, ())
    assert seen.error is not None
    assert (seen.error.__traceback__, seen.error.__cause__, seen.error.__context__) == (
        None,
        None,
        None,
    )


def test_findings_name_the_lines() -> None:
    images = {"a.gif": [2, 9], "b.gif": [4], "c.jpg": [5], "d.jpg": [6]}
    seen = {
        "a.gif": Seen(odd=("animated",)),
        "b.gif": Seen(odd=("animated", "small")),
        "c.jpg": Seen(),
        "d.jpg": Seen(ImageError("no")),
    }
    moving, small = oddity_findings(images, seen)
    assert (moving.kind, moving.count, moving.lines) == ("animated", 3, [2, 4, 9])
    assert (
        moving.message
        == "2 images hold several frames or pages (lines 2, 4, 9): only the first one is looked at"
    )
    assert (
        small.message
        == "1 image is under 32 pixels on a side (line 4): there is little to see, as in a"
        " placeholder"
    )
