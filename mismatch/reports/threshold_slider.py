"""The section of a page that shows, under a slider, what another threshold would do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mismatch.evaluation.curves import sweep
from mismatch.evaluation.decisions import Decisions
from mismatch.io.atomic import finite
from mismatch.reports.evaluation_plots import AXES, sweep_plot
from mismatch.reports.evaluation_style import SCRIPT
from mismatch.reports.markup import table

__all__ = ["LIVE", "threshold_slider"]

LIVE = ("precision", "recall", "f1")  # figures that follow the slider


def threshold_slider(rows: Decisions, chosen: float) -> Iterator[str]:
    """Yield the section; the slider begins at the `chosen` threshold."""
    cuts = sweep(rows.labels, rows.scores, always=[chosen])
    probable = min(rows.scores) >= 0 and max(rows.scores) <= 1
    span = (0.0, 1.0) if probable else (cuts["threshold"][0], cuts["threshold"][-1])
    start = cuts["threshold"].index(chosen)
    last = len(cuts["threshold"]) - 1
    yield '<div class="two">\n<div class="card">\n<h3>What another threshold would do</h3>\n'
    yield (
        '<label for="slider">Threshold <output id="at"'
        f' for="slider">{chosen:.4f}</output></label>\n'
    )
    yield (f'<input type="range" id="slider" min="0" max="{last}" value="{start}" step="1">\n')
    yield f'<button id="reset" type="button">back to {chosen:.4f}</button>\n'
    yield _live_table()
    yield (
        '<p>Accuracy <output id="live-accuracy"></output>; called mismatches (alarm rate) <output'
        ' id="live-alarm"></output>.</p>\n'
    )
    yield (
        '<p class="small"><span id="live-counts"></span>. A lower threshold lets more pairs pass,'
        " so it catches fewer mismatches.</p>\n</div>\n"
    )
    yield (
        f'<div class="card"><h3>Threshold sweep</h3><div class="plot">{sweep_plot(cuts, span)}<div'
        ' id="marker"></div></div></div>\n</div>\n'
    )
    data = {**cuts, "span": list(span), "axes": AXES, "chosen": start}
    yield (
        '<script type="application/json"'
        f' id="sweep">{_json(data)}</script>\n<script>{SCRIPT}</script>\n'
    )


def _live_table() -> str:
    """Return the table whose cells the script fills."""
    rows = []
    for label, name in (("mismatch", "mismatches"), ("match", "matches")):
        cells = [f'<span id="live-{label}-{figure}"></span>' for figure in LIVE]
        rows.append((name, *cells))
    return table(("", "precision", "recall", "F1"), rows, numbers=(1, 2, 3), plain=False)


def _json(data: Any) -> str:
    """Return JSON that can stand inside of a script element, whatever its strings say."""
    return json.dumps(finite(data), separators=(",", ":")).replace("<", "\\u003c")
