"""The page of suspicious labels: pictures in it, in which what rows say is text and nothing
else.
"""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from mismatch.evaluation.label_errors import LabelFinding
from mismatch.reports.labels import labels_fragment, write_labels_page

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
    write_labels_page(
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


def test_a_picture_that_was_kept_is_shown() -> None:
    kept = replace(finding("gone.png"), picture="data:image/jpeg;base64,AAAA")
    fragment = labels_fragment(["a < b"], [kept], "")
    assert 'src="data:image/jpeg;base64,AAAA"' in fragment
    assert "a &lt; b" in fragment
    assert "<html" not in fragment
