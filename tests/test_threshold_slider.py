"""The slider begins at the chosen threshold; in a browser it is moved in test_evaluation_page."""

from __future__ import annotations

import json
import re

import pytest

from mismatch.evaluation.decisions import Decisions
from mismatch.reports.threshold_slider import LIVE, threshold_slider

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(("scores", "span"), [([0.2, 0.7, 0.9], [0, 1]), ([-0.2, 0.1, 0.3], None)])
def test_it_begins_at_the_chosen_threshold(scores: list[float], span: list[float] | None) -> None:
    html = "".join(threshold_slider(Decisions([0, 1, 1], scores, [0.25] * 3), 0.25))
    match = re.search(r'id="sweep">(.*?)</script>', html)
    assert match is not None
    data = json.loads(match[1])
    assert data["threshold"][data["chosen"]] == 0.25
    assert data["span"] == (span or [data["threshold"][0], data["threshold"][-1]])
    for figure in LIVE:
        assert f'id="live-match-{figure}"' in html
