"""The picture of a run: which lines it has, for one epoch and for many, with validation and
without.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from PIL import Image

from mismatch.training.folder.curves_picture import curves_png, draw_curves


def stats(epochs: int, *, validated: bool = True, tune: str = "full") -> dict[str, Any]:
    """A run whose second epoch, if there is one, is the best."""
    falling = [0.7 / (epoch + 1) for epoch in range(epochs)]
    names = ("val_losses", "val_accuracies", "val_f1", "val_auroc")
    return {
        "train_losses": falling,
        **{name: falling if validated else [] for name in names},
        "learning_rates": [1e-5 * x if tune == "full" else 0.0 for x in falling],
        "head_learning_rates": [1e-3 * x for x in falling],
        "best_epoch": min(2, epochs),
        "best_metric": "f1",
        "config": {
            "backbone": "hf-clip",
            "model_name": None,
            "tune": tune,
            "learning_rate": 1e-5 if tune == "full" else 0.0,
            "head_learning_rate": 1e-3,
        },
    }


def lines(axes: Any) -> dict[str, list[float]]:
    return {
        line.get_label(): list(line.get_ydata())
        for line in axes.get_lines()
        if len(line.get_xdata()) and not str(line.get_label()).startswith("best")
    }


@pytest.mark.parametrize("epochs", [1, 5, 25])
def test_losses_scores_and_rate_with_the_best_epoch(epochs: int) -> None:
    data = stats(epochs)
    losses, scores, rates = draw_curves(data).axes
    assert lines(losses) == {"training": data["train_losses"], "validation": data["val_losses"]}
    value = f"{data['val_f1'][data['best_epoch'] - 1]:.3f}"
    assert list(lines(scores)) == [f"accuracy {value}", f"F1 {value}", f"AUROC {value}"]
    assert [
        list(line.get_xdata())
        for line in losses.get_lines()
        if str(line.get_label()).startswith("best, epoch")
    ] == [[data["best_epoch"]] * 2]
    [*_, best] = rates.get_lines()
    assert list(best.get_xdata()) == [data["best_epoch"]] * 2
    assert list(rates.get_lines()[0].get_ydata()) == pytest.approx(
        [100 * x for x in data["train_losses"]]
    )
    assert [text.get_text() for text in rates.texts] == ["backbone: 1e-05\nhead: 0.001"]


@pytest.mark.parametrize("epochs", [1, 25])
def test_without_validation_there_are_two_panels_and_no_best(epochs: int) -> None:
    losses, rates = draw_curves(stats(epochs, validated=False, tune="head")).axes
    assert [text.get_text() for text in losses.texts] == ["no validation rows"]
    assert [text.get_text() for text in rates.texts] == ["head: 0.001"]
    assert (len(losses.get_lines()), len(rates.get_lines())) == (1, 1)


def test_a_figure_that_does_not_exist_is_left_out() -> None:
    _, scores, _ = draw_curves(stats(3) | {"val_auroc": [None] * 3}).axes
    assert [label.partition(" ")[0] for label in lines(scores)] == ["accuracy", "F1"]


def test_the_title_says_what_was_trained() -> None:
    assert (
        draw_curves(stats(4)).get_suptitle()
        == "hf-clip, tune full   ·   4 epochs   ·   best is 2, by f1"
    )
    assert (
        draw_curves(stats(1, validated=False)).get_suptitle() == "hf-clip, tune full   ·   1 epoch"
    )


def test_it_is_a_png_and_pyplot_is_left_alone() -> None:
    before = "matplotlib.pyplot" in sys.modules
    with Image.open(io.BytesIO(curves_png(stats(5)))) as picture:
        assert (picture.format, picture.size) == ("PNG", (1935, 585))
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}  # type: ignore[union-attr]
    assert {(0, 114, 178), (213, 94, 0), (0, 158, 115)} <= colours
    assert ("matplotlib.pyplot" in sys.modules) == before
