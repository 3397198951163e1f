"""Plots as parts of a page: well-formed, without addresses, in the page's colours, with ids of
their own.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from mismatch.evaluation.curves import sweep
from mismatch.evaluation.decisions import Decisions
from mismatch.reports.plots import (
    VARIABLES,
    precision_recall_plot,
    reliability_plot,
    roc_plot,
    scores_plot,
    sweep_plot,
    training_plots,
)

pytest.importorskip("matplotlib")

LABELS, SCORES = [1, 0, 1, 0, 1, 0], [0.9, 0.2, 0.7, 0.8, 0.3, 0.1]
ROWS = Decisions(LABELS, SCORES, [0.5] * 6)
STATS = {
    "train_losses": [0.7, 0.5, 0.4],
    "val_losses": [0.6, None, 0.5],
    "val_accuracies": [0.6, 0.7, 0.8],
    "val_f1": [0.5, 0.6, 0.7],
    "val_auroc": [None] * 3,
    "best_epoch": 3,
}
PLOTS = {
    "roc": roc_plot(ROWS, 0.75),
    "precision-recall": precision_recall_plot(ROWS),
    "reliability": reliability_plot(ROWS),
    "scores": scores_plot(ROWS, 0.5),
    "sweep": sweep_plot(sweep(LABELS, SCORES), (0.0, 1.0)),
    "losses": training_plots(STATS)["Loss, nats a row"],
    "validation": training_plots(STATS)["Validation rows, decided at 0.5"],
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_stands_inside_a_page(name: str) -> None:
    plot = PLOTS[name]
    root = ET.fromstring(plot)  # well-formed
    assert root.tag == "svg"
    assert root.get("viewBox")
    assert root.get("width") is None
    assert root.get("aria-label") == name
    assert not re.search(r"https?:|xlink|<\?xml|<!DOCTYPE|<metadata", plot)
    identities = re.findall(r'\bid="([^"]*)"', plot)
    assert identities
    assert all(identity.startswith(f"{name}-") for identity in identities)
    assert {
        target
        for pair in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', plot)
        for target in pair
        if target
    } <= set(identities)


@pytest.mark.parametrize("name", PLOTS)
def test_its_colours_are_the_pages(name: str) -> None:
    colours = set(re.findall(r"(?:fill|stroke): ?(#[0-9a-f]{6}|var\([^)]*\))", PLOTS[name]))
    assert colours
    assert {colour for colour in colours if colour.startswith("var")} <= {
        f"var({variable})" for variable in VARIABLES.values()
    }
    assert not colours & set(VARIABLES)
    assert "var(--ink)" in PLOTS[name]


def test_words_are_text() -> None:
    for name, words in {
        "roc": "AUROC 0.7500",
        "sweep": "alarm rate",
        "scores": "mismatches",
        "validation": "best, epoch 3",
    }.items():
        assert f">{words}</text>" in PLOTS[name], name


def test_the_same_rows_give_the_same_bytes() -> None:
    assert roc_plot(ROWS, 0.75) == PLOTS["roc"]


def test_training_without_validation_or_of_one_epoch() -> None:
    assert list(training_plots({"train_losses": [0.5], "val_losses": []})) == ["Loss, nats a row"]
    assert (
        len(
            training_plots(
                {
                    **STATS,
                    **{
                        name: values[:1]
                        for name, values in STATS.items()
                        if isinstance(values, list)
                    },
                    "best_epoch": 1,
                }
            )
        )
        == 2
    )
