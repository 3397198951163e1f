"""mismatch.reports.explanation_lines: what people read of an explanation, which obeys no row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.lexicon import Lexicon
from mismatch.reports.explanation_lines import explanation_lines
from mismatch.runtime.explain import explain
from mismatch.runtime.predictor import Predictor


def test_a_row_has_its_line_and_each_word_its_own(colour_engine: Any, colour_images: Path) -> None:
    found = explain(
        Predictor(colour_engine()), colour_images / "red.png", "a blue\n shirt", lexicon=Lexicon()
    )
    lines = list(explanation_lines(found, line=7))
    assert lines[0] == f"line 7: {colour_images / 'red.png'}"
    assert lines[1] == "  a [blue] shirt"
    assert lines[4] == "without the word   score"
    assert lines[5].split()[0] == "blue"


@pytest.mark.parametrize("colour", [False, True])
def test_what_a_terminal_would_obey_is_shown_by_its_code(
    colour_engine: Any, colour_images: Path, colour: bool
) -> None:
    found = explain(
        Predictor(colour_engine()), colour_images / "red.png", "blue\x1b[2J \u202eshirt"
    )
    found = replace(found, image_path="a\n\x1b]0;x\x07.png", unseen="end\x1b[31m")
    text = "\n".join(explanation_lines(found, colour=colour))
    without_style = text.replace("\x1b[31m\x1b[1m", "").replace("\x1b[0m", "")
    assert without_style.isprintable() or set("\n") == {
        c for c in without_style if not c.isprintable()
    }
    assert "a\\n\\x1b]0;x\\x07.png" in text
    assert "\\u202eshirt" in text
    assert text.endswith("end\\x1b[31m")
