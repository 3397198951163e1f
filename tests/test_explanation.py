"""What a notebook shows of an explanation: marked words, two pictures, and nothing that runs."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.data.lexicon import Lexicon
from mismatch.runtime.predictor import Predictor

HOSTILE = 'red "shirt" </script><img src=x onerror=alert(1)> {{ 7 * 7 }} \u202eabc'


@pytest.fixture
def blue_for_red(colour_engine: Any, colour_images: Path) -> mismatch.Explanation:
    predictor = Predictor(colour_engine())
    return mismatch.explain(predictor, colour_images / "red.png", "blue shirt", lexicon=Lexicon())


def test_the_wrong_word_is_marked_and_another_is_named(blue_for_red: mismatch.Explanation) -> None:
    html = blue_for_red._repr_html_()
    assert '<p class="text"><mark>blue</mark> shirt</p>' in html
    assert re.search(r"“red” for “blue” raises 0\.\d\d to 0\.\d\d", html)
    assert '<tr><td>blue</td><td class="number bad">' in html
    assert html.count('<img src="data:image/jpeg;base64,') == 2
    assert not re.search(r"https?:|<script|<link", html)


def test_without_a_heat_map_it_has_no_pictures(blue_for_red: mismatch.Explanation) -> None:
    html = replace(blue_for_red, heat=None, picture=None, named=())._repr_html_()
    assert '<p class="text">blue shirt</p>' in html
    assert "<img" not in html


def test_what_the_text_says_is_only_text(colour_engine: Any, colour_images: Path) -> None:
    found = mismatch.explain(Predictor(colour_engine()), colour_images / "red.png", HOSTILE)
    html = replace(found, named=found.words[:1])._repr_html_()
    assert "<mark>red</mark> &#34;shirt&#34; &lt;/script&gt;&lt;img" in html
    assert "{{ 7 * 7 }} \u202eabc</p>" in html


def test_it_is_the_explanation_of_the_runtime(blue_for_red: mismatch.Explanation) -> None:
    assert repr(blue_for_red).startswith("Explanation(image_path=")
    assert pickle.loads(pickle.dumps(blue_for_red)) == blue_for_red  # noqa: S301
    rows = mismatch.ExplainRowsResult(2, 0, (mismatch.RowExplanation(3, blue_for_red),) * 2)
    assert rows._repr_html_() == 2 * blue_for_red._repr_html_()
