"""report.html: an evaluation as one page that needs nothing beside it, no network
and no library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mismatch.data.pairs import format_location, resolve_image
from mismatch.errors import ImageError, MismatchError
from mismatch.evaluation.decisions import Decisions, ErrorKind, WrongRow
from mismatch.io.atomic import atomic_file
from mismatch.io.reading import read_json
from mismatch.reports.evaluation_plots import (
    precision_recall_plot,
    reliability_plot,
    roc_plot,
    scores_plot,
    training_plots,
)
from mismatch.reports.evaluation_style import STYLE
from mismatch.reports.evaluation_words import (
    FIGURES,
    SHARES,
    bounds,
    number,
    origin,
    percent,
    percents,
)
from mismatch.reports.gallery import thumbnail
from mismatch.reports.markup import Markup, plot_cards, table, with_bounds
from mismatch.reports.threshold_slider import threshold_slider

__all__ = ["evaluation_fragment", "training_stats", "write_evaluation_page"]

Errors = Mapping[ErrorKind, Sequence[WrongRow]]

STATS = "training_stats.json"
TILES = ("accuracy", "auroc", "mismatch_precision", "mismatch_recall", "mismatch_f1", "ece")
EXPECTED = {"mismatch": "Should become mismatches", "match": "Should stay matches"}
KINDS: dict[ErrorKind, str] = {
    "missed": "Mismatches taken for matches, the highest score first",
    "alarms": "False alarms: matches taken for mismatches, the lowest score first",
}


def write_evaluation_page(
    path: Path, result: Mapping[str, Any], rows: Decisions, errors: Errors
) -> None:
    """Write what report.json says, with plots and the pictures of the worst errors; whatever comes
    from files is escaped.
    """
    with atomic_file(path) as file:
        file.write(
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta'
            ' name="viewport" content="width=device-width, initial-scale=1">\n'
        )
        file.write(
            f'<title>Evaluation of {escape(str(result["model"]))}</title>\n<link rel="icon"'
            f' href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n'
        )
        file.writelines(_page(result, rows, errors))
        file.write("</main>\n</body>\n</html>\n")


def evaluation_fragment(result: Mapping[str, Any]) -> str:
    """Return the figures and the decisions as HTML to stand inside another page."""
    rows = [
        (_words(name), number(result["metrics"][name]), bounds(result["intervals"].get(name)))
        for name in FIGURES | SHARES
    ]
    return (
        f"<p>{result['scored']:,} rows of {escape(str(result['csv']))}, scored by"
        f" {escape(str(result['model']))}; threshold {result['threshold']['value']:.4f},"
        f" {escape(_origin(result))}</p>\n"
        + table(("figure", "value", "interval"), rows, numbers=(1, 2))
        + _matrix(result["metrics"]["confusion_matrix"])
    )


def training_stats(model: str) -> dict[str, Any] | None:
    """Return what lies next to a checkpoint about its training; None where nothing does or it can't
    be read.
    """
    try:
        stats = read_json(Path(model) / STATS)
    except (MismatchError, OSError, ValueError):
        return None
    return (
        stats
        if isinstance(stats, dict)
        and isinstance(stats.get("train_losses"), list)
        and stats["train_losses"]
        else None
    )


def _page(result: Mapping[str, Any], rows: Decisions, errors: Errors) -> Iterator[str]:
    stats = training_stats(str(result["model"]))
    sections = {"figures": "Figures", "curves": "Curves", "threshold": "Threshold"}
    sections |= {"parts": "Parts of the rows"} if result["slices"] or result["kinds"] else {}
    sections |= {"against": "Against another model"} if "against" in result else {}
    sections |= {"stress": "Stress"} if "stress" in result else {}
    sections |= {"training": "Training"} if stats else {}
    sections |= {"errors": "Worst errors", "provenance": "Provenance"}
    yield from _head(result, sections)
    made = {
        "figures": lambda: _figures(result),
        "curves": lambda: _curves(result, rows),
        "threshold": lambda: threshold_slider(rows, result["threshold"]["value"]),
        "parts": lambda: _parts(result),
        "against": lambda: _against(result["against"]),
        "stress": lambda: _stress(result["stress"]),
        "training": lambda: plot_cards(training_plots(stats or {})),
        "errors": lambda: _errors(result, errors),
        "provenance": lambda: _provenance(result),
    }
    for name, title in sections.items():
        yield f'<section id="{name}">\n<h2>{title}</h2>\n'
        yield from made[name]()
        yield "</section>\n"


def _head(result: Mapping[str, Any], sections: Mapping[str, str]) -> Iterator[str]:
    yield (
        f"<h1>How well {escape(Path(str(result['model'])).name or str(result['model']))} tells"
        " matches from mismatches</h1>\n"
    )
    without = f"; {result['unscorable']:,} more could not be scored" if result["unscorable"] else ""
    yield (
        f'<p class="small">{result["scored"]:,} rows of {escape(str(result["csv"]))}{without}.'
        f" {_drawn(result['bootstrap'])}</p>\n"
    )
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in sections.items())
    yield f"<nav>{links}</nav>\n"
    yield '<div class="tiles">\n'
    for name in TILES:
        value = result["metrics"][name]
        interval = bounds(result["intervals"].get(name), 3)
        yield (
            '<div class="card'
            f' tile"><span>{_words(name)}</span><b>{number(value)}</b><span>{interval or "&nbsp;"}</span></div>\n'
        )
    yield "</div>\n"


def _drawn(drawn: Mapping[str, Any]) -> str:
    how = (
        f"{drawn['images']:,} images, each with all its rows,"
        if drawn["resampled_by"] == "image"
        else "rows"
    )
    return (
        f"Intervals hold {drawn['level']:.0%} of the figures when {how} are drawn anew with"
        " replacement (bootstrap)."
    )


def _origin(result: Mapping[str, Any]) -> str:
    return origin(result["threshold"]).replace("`", "")


def _words(name: str) -> str:
    words = (FIGURES | SHARES)[name]
    return words.upper() if name in ("auroc", "mcc") else words[:1].upper() + words[1:]


def _figures(result: Mapping[str, Any]) -> Iterator[str]:
    yield '<div class="two">\n<div class="card">'
    rows = [
        (_words(name), number(result["metrics"][name]), bounds(result["intervals"].get(name)))
        for name in FIGURES | SHARES
    ]
    yield table(("figure", "value", "interval"), rows, numbers=(1, 2))
    yield '</div>\n<div class="card">\n<h3>Decisions</h3>\n'
    yield _matrix(result["metrics"]["confusion_matrix"])
    yield (f"<p>Threshold {result['threshold']['value']:.4f}, {escape(_origin(result))}.</p>\n")
    if review := result["review"]:
        yield (
            f"<p>Review band {review['low']:.4f} to {review['high']:.4f}:"
            f" {percent(review['automatic'])} of the rows are decided without a person "
        )
        yield (
            f"({bounds(review['automatic_interval'], 3)}), of these {percent(review['risk'])}"
            f" wrongly ({bounds(review['risk_interval'], 3)}).</p>\n"
        )
    yield f'<p class="small">{escape(_blind(result["blind"]))}</p>\n</div>\n</div>\n'


def _blind(found: Mapping[str, Any]) -> str:
    if "why" in found:
        return f"No blind baselines: {found['why']}"
    image = (
        "" if found["image_auroc"] is None else f" and of images alone {found['image_auroc']:.3f}"
    )
    what = (
        "Blind baselines: a linear model of texts alone has an AUROC of"
        f" {found['text_auroc']:.3f}{image}."
    )
    return f"{what} Chance is 0.5; what is above could be had without comparing."


def _matrix(matrix: Sequence[Sequence[int]]) -> str:
    rows = ""
    for name, counts, good in zip(("is mismatch", "is match"), matrix, (0, 1), strict=True):
        whole = sum(counts)
        cells = (
            f'<td class="{"right" if at == good else "wrong"}"><b>{count:,}</b><br><small>{percent(count / whole if whole else None)}</small></td>'
            for at, count in enumerate(counts)
        )
        rows += f"<tr><th>{name}</th>{''.join(cells)}</tr>"
    return (
        '<table class="matrix"><thead><tr><th></th><th>said mismatch</th><th>said'
        f" match</th></tr></thead><tbody>{rows}</tbody></table>\n"
    )


def _curves(result: Mapping[str, Any], rows: Decisions) -> Iterator[str]:
    metrics = result["metrics"]
    plots = {}
    if len(set(rows.labels)) == 2:
        plots["ROC"] = roc_plot(rows, metrics["auroc"])
        plots["Precision and recall"] = precision_recall_plot(rows)
    if metrics["ece"] == metrics["ece"]:
        plots[f"Reliability: calibration error {metrics['ece']:.3f}"] = reliability_plot(rows)
    plots["Scores"] = scores_plot(rows, result["threshold"]["value"])
    yield from plot_cards(plots)


def _parts(result: Mapping[str, Any]) -> Iterator[str]:
    if result["kinds"]:
        yield '<div class="card">\n<h3>Kinds of mismatch, each against all matches</h3>\n'
        rows = [
            (
                name,
                f"{part['mismatches']:,}",
                _figure(part, "mismatch_recall"),
                _figure(part, "auroc"),
            )
            for name, part in result["kinds"].items()
        ]
        yield table(("kind", "rows", "caught", "AUROC"), rows, numbers=(1,)) + "</div>\n"
    for column, values in result["slices"].items():
        yield f'<div class="card" style="margin-top:.9rem">\n<h3>By {escape(column)}</h3>\n'
        sliced = [
            (
                name,
                f"{part['rows']:,}",
                percent(part["mismatches"] / part["rows"]),
                _figure(part, "accuracy"),
                _figure(part, "mismatch_recall") if part["mismatches"] else "–",
                _figure(part, "auroc"),
            )
            for name, part in values.items()
        ]
        yield (
            table(
                (column, "rows", "mismatches", "accuracy", "caught", "AUROC"),
                sliced,
                numbers=(1, 2),
            )
            + "</div>\n"
        )


def _figure(part: Mapping[str, Any], name: str) -> Markup:
    return with_bounds(number(part["metrics"][name]), bounds(part["intervals"].get(name), 3))


def _against(found: Mapping[str, Any]) -> Iterator[str]:
    test = found["mcnemar"]
    yield (
        f'<div class="card">\n<p>Against {escape(str(found["model"]))}, its threshold'
        f" {found['threshold']:.4f}, on {found['rows']:,} rows that both scored. "
    )
    yield "A difference above 0 is for the model of this page.</p>\n"
    rows = [
        (
            "accuracy",
            f"{found['accuracy_difference']:+.4f}",
            bounds(found["accuracy_interval"]),
            f"{test['p_value']:.2g} (McNemar, exact)",
        ),
        (
            "AUROC",
            f"{found['auroc_difference']:+.4f}",
            bounds(found["auroc_interval"]),
            f"{found['delong_p_value']:.2g} (DeLong)",
        ),
    ]
    yield table(("figure", "difference", "interval", "p"), rows, numbers=(1,))
    yield (
        f'<p class="small">Only this model is right on {test["only_first"]:,} rows, only the other'
        f" on {test['only_second']:,}. The tests take rows for "
    )
    yield "independent; where images repeat, trust the intervals, which draw images.</p>\n</div>\n"


def _stress(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f'<div class="card">\n<p>{found["rows"]:,} matched rows, scored again after one controlled'
        " change. Right: of those called matches before, how "
    )
    yield "many have the decision that the changed pair should have.</p>\n"
    for expected, title in EXPECTED.items():
        rows = [_stressed(one) for one in found["changes"] if one["expected"] == expected]
        yield f'<h3 style="margin-top:1rem">{title}</h3>\n' + table(
            ("change", "rows", "right", "score moves by"), rows, numbers=(1,)
        )
    yield '<h3 style="margin-top:1rem">What to expect of them</h3>\n'
    yield from (f'<p class="small">{escape(line)}</p>\n' for line in found["ceiling"])
    yield "</div>\n"


def _stressed(one: Mapping[str, Any]) -> tuple[str, ...]:
    name = Markup(f'{escape(one["change"])}<span class="what">{escape(one["what"])}</span>')
    moved = "–" if one["mean_change"] != one["mean_change"] else f"{one['mean_change']:+.3f}"
    right = with_bounds(percent(one["right"]), percents(one["right_interval"]))
    return (
        name,
        f"{one['rows']:,}",
        right,
        with_bounds(moved, bounds(one["mean_change_interval"], 3)),
    )


def _errors(result: Mapping[str, Any], errors: Errors) -> Iterator[str]:
    for kind, title in KINDS.items():
        yield f'<h3 style="margin-top:1rem">{title}</h3>\n'
        if not errors[kind]:
            yield "<p>None.</p>\n"
            continue
        yield '<ol class="errors">\n'
        for error in errors[kind]:
            yield from _card(error, result)
        yield "</ol>\n"


def _card(error: WrongRow, result: Mapping[str, Any]) -> Iterator[str]:
    yield '<li class="card">'
    try:
        picture = error.picture
        if picture is None:
            picture = thumbnail(resolve_image(result["image_base_path"], error.image_path))
        yield f'<img class="thumb" src="{picture}" alt="{escape(error.image_path)}">'
    except ImageError as problem:  # gone since it was scored, or several in one row
        yield f'<p class="small">{escape(str(problem))}</p>'
    yield (
        f'<p class="text">{escape(error.text)}</p><p class="small">score {error.score:.3f},'
        f" threshold {error.threshold:.3f}<br>"
    )
    yield f"{escape(format_location(Path(str(result['csv'])).name, error.line))}</p></li>\n"


def _provenance(result: Mapping[str, Any]) -> Iterator[str]:
    made = result["provenance"]
    facts = {
        "model": result["model"],
        **{
            f"engine: {name}" if name != "engine" else name: value
            for name, value in result["engine"].items()
        },
        "weights": made["weights"],
        "rows": f"{result['csv']}, {result['rows']:,}, of which {result['scored']:,} scored",
        "sha256 of the rows": made["rows_sha256"],
        "images": result["image_base_path"] or "the working directory",
        "threshold": f"{result['threshold']['value']:.6f}, {_origin(result)}",
        "calibration": "none" if made["calibration"] is None else json.dumps(made["calibration"]),
        "long texts": f"{result['long_texts']:,}, policy {result['long_text']}",
        "versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        "command": made["command"],
        "date": made["date"],
    }
    yield '<div class="card"><dl>\n'
    yield from (
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>\n"
        for name, value in facts.items()
    )
    yield "</dl></div>\n"
