"""The gallery: a page of its own, with pictures in it, in which what rows say is text and nothing
else.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from mismatch.errors import ImageError
from mismatch.evaluation.label_errors import LabelFinding
from mismatch.reports.gallery import SIDE, gallery_fragment, thumbnail, write_gallery

HOSTILE = "<script>alert(1)</script>\"'&"


def finding(image: str, text: str = "red mug", rank: int = 1, label: int = 1) -> LabelFinding:
    return LabelFinding(
        line=rank + 1,
        image_path=image,
        text=text,
        label=label,
        rank=rank,
        score=0.97,
        probability=0.03,
        reason="labelled match, but heads trained without it give 0.03",
        status="ok",
        columns={},
    )


@pytest.fixture
def page(colour_images: Path) -> str:
    """Two rows with pictures, the second one hostile, and one whose picture is gone."""
    Image.new("RGBA", (900, 300), (0, 0, 255, 0)).save(colour_images / "wide.png")
    findings = [
        finding("red.png"),
        finding("wide.png", HOSTILE, 2, 0),
        finding(f"gone{HOSTILE}.png", "a\nb", 3),
    ]
    write_gallery(
        colour_images / "page.html",
        HOSTILE,
        ["5 % look wrong", HOSTILE],
        findings,
        str(colour_images),
    )
    return (colour_images / "page.html").read_text(encoding="utf-8")


def test_it_needs_nothing_beside_it(page: str) -> None:
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:|<link|<script|url\(", page)
    assert [source[:23] for source in re.findall(r'src="([^"]*)"', page)] == [
        "data:image/jpeg;base64,"
    ] * 2


def test_what_rows_say_is_only_text(page: str) -> None:
    assert "<script" not in page
    assert [unescape(text) for text in re.findall(r'class="text">([^<]*)<', page)] == [
        "red mug",
        HOSTILE,
        "a\nb",
    ]
    assert unescape(re.findall(r"<h1>([^<]*)<", page)[0]) == HOSTILE


def test_cards_stand_in_order_with_label_and_reason(page: str) -> None:
    labels = re.findall(r'(\d)\. <span class="label (\w+)">labelled (\w+)<', page)
    assert labels == [
        ("1", "match", "match"),
        ("2", "mismatch", "mismatch"),
        ("3", "match", "match"),
    ]
    assert page.count("heads trained without it give 0.03") == 3


def test_a_picture_that_is_gone_is_said_in_its_place(page: str) -> None:
    assert page.count("<img") == 2
    assert "not found" in page


def test_a_thumbnail_is_small_and_shows_the_picture(colour_images: Path) -> None:
    Image.new("RGB", (900, 300), (0, 0, 255)).save(colour_images / "wide.png")
    head, _, data = thumbnail(colour_images / "wide.png").partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == "data:image/jpeg;base64"
    assert max(picture.size) == SIDE
    red, _, blue = picture.convert("RGB").getpixel((50, 30))  # type: ignore[misc]
    assert (red < 10, blue > 240) == (True, True)


def test_a_broken_picture_has_no_thumbnail(colour_images: Path) -> None:
    with pytest.raises(ImageError):
        thumbnail(colour_images / "cut.jpg")


def test_a_picture_that_was_kept_is_shown() -> None:
    kept = replace(finding("gone.png"), picture="data:image/jpeg;base64,AAAA")
    fragment = "".join(gallery_fragment(["a < b"], [kept], ""))
    assert 'src="data:image/jpeg;base64,AAAA"' in fragment
    assert "a &lt; b" in fragment
    assert "<html" not in fragment
