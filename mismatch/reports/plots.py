"""The plots of an evaluation as SVG to stand inside a page. matplotlib draws them and the page
colours them, so that they are right in light, dark and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mismatch.evaluation.curves import histogram, precision_recall_curve, roc_curve
from mismatch.evaluation.decisions import Decisions
from mismatch.evaluation.metrics import reliability

__all__ = [
    "AXES",
    "precision_recall_plot",
    "reliability_plot",
    "roc_plot",
    "scores_plot",
    "sweep_plot",
    "training_plots",
]

# placeholders of the page's own colours
INK, FAINT, GRID, CARD, ONE, TWO, THREE = (f"#0{n}0{n}0{n}" for n in range(1, 8))
VARIABLES = {
    INK: "--ink",
    FAINT: "--faint",
    GRID: "--grid",
    CARD: "--card",
    ONE: "--one",
    TWO: "--two",
    THREE: "--three",
}
SIZE = 4.4, 3.3  # inches
# shares of the figure; a marker over the sweep is placed by them
AXES = {"left": 0.13, "right": 0.97, "top": 0.91, "bottom": 0.16}
VALIDATION = {
    "val_accuracies": ("accuracy", ONE),
    "val_f1": ("F1", TWO),
    "val_auroc": ("AUROC", THREE),
}


def roc_plot(rows: Decisions, auroc: float) -> str:
    """Plot matches found against mismatches that pass."""
    figure, axes = _figure("mismatches taken for matches", "matches found")
    curve = roc_curve(rows.labels, rows.scores)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(curve[:, 0], curve[:, 1], color=ONE, linewidth=1.8, label=f"AUROC {auroc:.4f}")
    _point(axes, *_rates(rows))
    _unit(axes, 0.03)
    return _svg(figure, "roc", "lower right")


def precision_recall_plot(rows: Decisions) -> str:
    """Plot precision and recall of either class."""
    figure, axes = _figure("recall", "precision")
    for of, name, colour in ((0, "mismatches", TWO), (1, "matches", ONE)):
        curve = precision_recall_curve(rows.labels, rows.scores, of=of)
        axes.plot(curve[:, 0], curve[:, 1], color=colour, linewidth=1.8, label=name)
    _unit(axes, 0.03)
    return _svg(figure, "precision-recall", "lower left")


def reliability_plot(rows: Decisions) -> str:
    """Plot the share of matches against score, a dot a bin, by size of the bin."""
    figure, axes = _figure("mean score of a bin", "share of matches in it")
    bins = reliability(rows.labels, rows.scores)
    axes.plot(
        [0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label="as it should be"
    )
    axes.plot(bins[:, 0], bins[:, 1], color=ONE, linewidth=1.2)
    axes.scatter(
        bins[:, 0],
        bins[:, 1],
        s=12 + 160 * bins[:, 2] / max(1.0, bins[:, 2].max()),
        color=ONE,
        alpha=0.7,
        label="bins, by their rows",
    )
    _unit(axes, 0.03)
    return _svg(figure, "reliability", "upper left")


def scores_plot(rows: Decisions, threshold: float) -> str:
    """Plot how many rows have which score."""
    figure, axes = _figure("score", "rows")
    edges, mismatches, matches = histogram(rows.labels, rows.scores)
    for counts, name, colour in ((mismatches, "mismatches", TWO), (matches, "matches", ONE)):
        axes.bar(
            edges[:-1],
            counts,
            np.diff(edges),
            align="edge",
            color=colour,
            alpha=0.55,
            label=name,
            linewidth=0,
        )
    axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="threshold")
    axes.set_xlim(edges[0], edges[-1])
    return _svg(figure, "scores", "upper center")


def sweep_plot(table: Mapping[str, Sequence[float]], span: tuple[float, float]) -> str:
    """Plot precision and recall of the mismatches, and the share of rows that are called
    mismatches, at each threshold of `curves.sweep`.
    """
    figure, axes = _figure("threshold", "share")
    tn, fp, fn, tp = (np.asarray(table[name], float) for name in ("tn", "fp", "fn", "tp"))
    with np.errstate(invalid="ignore", divide="ignore"):
        lines = (
            (tn / (tn + fn), "precision of mismatches", TWO),
            (tn / (tn + fp), "their recall", ONE),
            ((tn + fn) / (tn + fp + fn + tp), "alarm rate", THREE),
        )
    for values, name, colour in lines:
        axes.plot(table["threshold"], values, color=colour, linewidth=1.8, label=name)
    _unit(axes, 0.03)
    axes.set_xlim(*span)
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.45, 1.0),
        ncols=3,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        columnspacing=1.1,
        handlelength=1.4,
    )
    return _svg(figure, "sweep")


def training_plots(stats: Mapping[str, Any]) -> dict[str, str]:
    """Plot `training_stats.json`: the loss and, where there were validation rows, accuracy, F1 and
    AUROC; by title.
    """
    epochs = range(1, len(stats["train_losses"]) + 1)
    figure, axes = _figure("epoch", "")
    _epochs(axes, stats, epochs)
    axes.plot(epochs, stats["train_losses"], color=ONE, linewidth=1.8, marker=".", label="training")
    validated = bool(stats.get("val_losses"))
    if validated:
        axes.plot(
            epochs,
            _numbers(stats["val_losses"]),
            color=TWO,
            linewidth=1.8,
            marker=".",
            label="validation",
        )
    plots = {"Loss, nats a row": _svg(figure, "losses", "best")}
    if not validated:
        return plots
    figure, axes = _figure("epoch", "")
    _epochs(axes, stats, epochs)
    for name, (label, colour) in VALIDATION.items():
        if any(value is not None for value in stats.get(name, [])):
            axes.plot(
                epochs, _numbers(stats[name]), color=colour, linewidth=1.8, marker=".", label=label
            )
    return plots | {"Validation rows, decided at 0.5": _svg(figure, "validation", "best")}


def _epochs(axes: Any, stats: Mapping[str, Any], epochs: range) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if stats.get("val_losses") and stats.get("best_epoch"):
        axes.axvline(
            stats["best_epoch"],
            color=FAINT,
            linewidth=1,
            linestyle=(0, (4, 3)),
            label=f"best, epoch {stats['best_epoch']}",
        )
    if len(epochs) == 1:
        axes.set_xlim(0.5, 1.5)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _figure(x: str, y: str) -> tuple[Any, Any]:
    """Return a figure of matplotlib that belongs to no window and leaves pyplot's state alone, and
    its axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE)
    figure.subplots_adjust(**AXES)
    axes = figure.add_subplot()
    axes.set_xlabel(x, color=FAINT, fontsize=10)
    axes.set_ylabel(y, color=FAINT, fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=9.5)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _unit(axes: Any, margin: float) -> None:
    axes.set_xlim(-margin, 1 + margin)
    axes.set_ylim(-margin, 1 + margin)


def _rates(rows: Decisions) -> tuple[float, float]:
    """Return the decisions' place on the ROC; nan with one class."""
    truth = np.array(rows.labels)
    decided = np.array(rows.scores) >= np.array(rows.thresholds)
    shares = [
        float(decided[truth == label].mean()) if (truth == label).any() else float("nan")
        for label in (0, 1)
    ]
    return shares[0], shares[1]


def _point(axes: Any, x: float, y: float) -> None:
    axes.plot(
        [x],
        [y],
        color=TWO,
        marker="o",
        markersize=7,
        linestyle="",
        label="these decisions",
        zorder=3,
    )


def _svg(figure: Any, name: str, legend: str = "") -> str:
    """Return it as SVG: with ids of its own, the page's colours and fonts, as wide as its place,
    and nothing that names an address.
    """
    import matplotlib as mpl

    if legend and figure.axes[0].get_legend_handles_labels()[0]:
        figure.axes[0].legend(
            loc=legend,
            facecolor=CARD,
            edgecolor="none",
            framealpha=0.85,
            fontsize=9.5,
            labelcolor=INK,
        )
    held = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            held,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = held.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>",
        rf'<svg \1 role="img" aria-label="{name}">',
        text,
        count=1,
    )
    text = re.sub(
        r'\b(id="|xlink:href="#|url\(#)',
        lambda attribute: f"{attribute[1].replace('xlink:', '')}{name}-",
        text,
    )
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
