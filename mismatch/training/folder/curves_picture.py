"""A run as a picture, training_curves.png: losses, what validation says, the learning rate, and the
best epoch marked in each.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mismatch.io.outputs import SOFTWARE

__all__ = ["CURVES", "curves_png", "draw_curves"]

CURVES = "training_curves.png"
INK = "#333333"
FAINT = "#7a7a7a"
GRID = "#e6e6e6"
# colours of Okabe and Ito, told apart by colour-blind people too
TRAIN = "#0072B2"
VAL = "#D55E00"
SCORES = {
    "val_accuracies": ("accuracy", "#009E73"),
    "val_f1": ("F1", "#CC79A7"),
    "val_auroc": ("AUROC", "#E69F00"),
}
FEW = 12  # epochs that are shown as dots on the lines


def curves_png(stats: Mapping[str, Any]) -> bytes:
    """Return `training_stats.json` as a PNG."""
    buffer = io.BytesIO()
    draw_curves(stats).savefig(
        buffer, format="png", dpi=150, facecolor="white", metadata=dict([SOFTWARE])
    )
    return buffer.getvalue()


def draw_curves(stats: Mapping[str, Any]) -> Any:
    """Draw `training_stats.json` as a figure of matplotlib that belongs to no window and leaves
    pyplot's state alone. At least one epoch is needed.
    """
    from matplotlib.figure import Figure

    validated = bool(stats.get("val_losses"))
    panels = [_losses, *([_scores] if validated else []), _rates]
    figure = Figure(figsize=(4.3 * len(panels), 3.9))
    figure.suptitle(
        _title(stats),
        x=0.15 / figure.get_figwidth(),
        y=0.97,
        ha="left",
        fontsize=12,
        fontweight="bold",
        color=INK,
    )
    for axes, draw in zip(
        figure.subplots(1, len(panels), gridspec_kw=_margins(len(panels))), panels, strict=True
    ):
        _style(axes, len(stats["train_losses"]))
        draw(axes, stats)
        if validated:  # without it the last epoch is taken, and there is nothing to mark
            _mark_best(axes, stats["best_epoch"])
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _margins(panels: int) -> dict[str, float]:
    """Return fixed margins, in inches over 4.3 a panel. Fitting them to the texts would take as
    long as the drawing.
    """
    width = 4.3 * panels
    return {
        "left": 0.62 / width,
        "right": 1 - 0.2 / width,
        "top": 0.83,
        "bottom": 0.13,
        "wspace": 0.19,
    }


def _title(stats: Mapping[str, Any]) -> str:
    config = stats.get("config", {})
    epochs = len(stats["train_losses"])
    parts = [
        (
            f"{config.get('model_name') or config.get('backbone', 'training')}, tune"
            f" {config.get('tune', 'full')}"
        ),
        f"{epochs} epoch{'s' * (epochs != 1)}",
    ]
    if stats.get("val_losses"):
        parts.append(f"best is {stats['best_epoch']}, by {stats.get('best_metric', 'accuracy')}")
    return "   ·   ".join(parts)


def _losses(axes: Any, stats: Mapping[str, Any]) -> None:
    axes.set_title("Loss, nats a row", **_heading())
    _line(axes, stats["train_losses"], "training", TRAIN)
    if stats.get("val_losses"):
        _line(axes, stats["val_losses"], "validation", VAL)
    else:
        _corner(axes, "no validation rows")


def _scores(axes: Any, stats: Mapping[str, Any]) -> None:
    axes.set_title("Validation rows, decided at 0.5", **_heading())
    for name, (label, colour) in SCORES.items():
        if any(value is not None for value in stats.get(name, [])):
            _line(axes, stats[name], f"{label} {_best_value(stats, name)}", colour)
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low), min(high, 1.0 + 0.02 * (1.0 - low)))


def _best_value(stats: Mapping[str, Any], name: str) -> str:
    """Return the value of the best epoch, for the legend."""
    best = stats["best_epoch"]
    value = stats[name][best - 1] if 0 < best <= len(stats[name]) else None
    return "" if value is None else f"{value:.3f}"


def _rates(axes: Any, stats: Mapping[str, Any]) -> None:
    """Draw one line for both parts, as a share of their peaks: they follow one schedule."""
    config = stats.get("config", {})
    names = {
        "backbone": ("learning_rates", "learning_rate"),
        "head": ("head_learning_rates", "head_learning_rate"),
    }
    trained = {
        part: (stats[rates], config.get(peak) or max(stats[rates]))
        for part, (rates, peak) in names.items()
        if config.get(peak) or any(stats[rates])
    }
    axes.set_title("Learning rate, % of its peak", **_heading())
    _corner(axes, "\n".join(f"{part}: {peak:.2g}" for part, (_, peak) in trained.items()))
    for rates, peak in list(trained.values())[:1]:
        _line(axes, [100 * rate / peak for rate in rates], "", INK)
    axes.set_ylim(0, 105)


def _corner(axes: Any, text: str) -> None:
    axes.text(
        0.94, 0.94, text, transform=axes.transAxes, ha="right", va="top", fontsize=9, color=INK
    )


def _line(axes: Any, values: Sequence[float | None], label: str, colour: str) -> None:
    epochs = range(1, len(values) + 1)
    plain = [math.nan if value is None else value for value in values]
    axes.plot(
        epochs,
        plain,
        color=colour,
        linewidth=1.8,
        marker="o" if len(values) <= FEW else "",
        markersize=4,
        label=label or None,
        clip_on=False,
        zorder=3,
    )


def _mark_best(axes: Any, epoch: int) -> None:
    named = bool(axes.get_legend_handles_labels()[0])  # only where there is a legend anyway
    axes.axvline(
        epoch,
        color=FAINT,
        linewidth=1,
        linestyle=(0, (4, 3)),
        zorder=1,
        label=f"best, epoch {epoch}" if named else None,
    )


def _style(axes: Any, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("epoch", fontsize=9, color=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim((0.5, 1.5) if epochs == 1 else (1 - 0.02 * epochs, epochs + 0.02 * epochs))


def _heading() -> dict[str, Any]:
    return {"loc": "left", "fontsize": 10, "color": INK}
