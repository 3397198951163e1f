"""The page of an audit: what the terminal says, pictures of offenders, nothing that runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from tests.support.commands import run


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_rows: Any) -> str:
    """Of train.csv and test.csv, with one of each fault, hostile names among them."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        noise = np.random.default_rng(number % 5).integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80, 80), Image.Resampling.BICUBIC).save(
            f"{number}.{'png' if number < 5 else 'jpg'}"
        )
    header = ("image_path", "text", "label")
    rows = [
        ("0.png", "red", "1"),
        ("1.png", "a &amp; b <script>alert(1)</script>", "0"),
        ("<b>.png", "blue", "1"),
        ("2.png", "green", "<i>"),
    ]
    write_rows(Path("train.csv"), [header, *rows])
    write_rows(Path("test.csv"), [header, ("5.jpg", "red", "1"), ("4.png", "blue", "0")])
    result = run(
        "validate", "train.csv", "test.csv", "--report", "page.html", "--report", "report.json"
    )
    assert result.exit_code == 1, result.output
    assert Path("report.json").read_text().startswith("{")
    return Path("page.html").read_text()


def test_it_says_what_the_terminal_says(page: str) -> None:
    assert "not fit to train on: 2 problems" in page
    assert "<td>train.csv:4</td>" in page
    assert "have a near-duplicate in" in page or "has a near-duplicate in" in page
    assert "<h2>In train.csv and, nearly the same, in test.csv</h2>" in page
    assert re.search(r'<tr><td>train.csv</td><td class="number">4</td>', page)


def test_offenders_have_pictures(page: str) -> None:
    assert page.count('<img src="data:image/jpeg;base64,') == 2  # the leak and the text with markup
    assert "<br>0.png" in page
    assert "train.csv:3<br>1.png" in page


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    assert "http" not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_a_notebook_shows_the_same(page: str) -> None:
    html = mismatch.audit("train.csv", "test.csv")._repr_html_()
    assert html in page
    assert "<title>" not in html
