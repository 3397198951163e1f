"""Styles and script name nothing outside of the page and speak of the same things as the page and
the plots.
"""

from __future__ import annotations

import re

from mismatch.reports.evaluation_plots import VARIABLES
from mismatch.reports.evaluation_style import SCRIPT, STYLE
from mismatch.reports.threshold_slider import LIVE


def test_they_name_no_address() -> None:
    for text in (STYLE, SCRIPT):
        assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|import\(", text)
        assert "</" not in text


def test_light_dark_and_print_define_the_same_colours() -> None:
    blocks = [
        set(re.findall(r"(--[a-z]+):", part))
        for part in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    ]
    assert len(blocks) == 3
    assert blocks[0] == blocks[1] == blocks[2] >= set(VARIABLES.values())


def test_the_script_fills_every_live_figure() -> None:
    for name in (f"live-{said}-{figure}" for said in ("match", "mismatch") for figure in LIVE):
        assert f'"{name}"' in SCRIPT
