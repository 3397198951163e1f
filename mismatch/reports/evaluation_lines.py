"""What `mismatch evaluate` has measured, as lines for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mismatch.data.pairs import format_location
from mismatch.reports.evaluation_words import (
    FIGURES,
    SHARES,
    bounds,
    number,
    origin,
    percent,
    percents,
)
from mismatch.reports.figures import figure_lines

__all__ = ["result_lines"]

WIDTH = 20


def result_lines(result: Mapping[str, Any], long: str | None) -> Iterator[str]:
    """Yield what report.json says, with what is to say of long texts."""
    yield f"{result['csv']}: {result['scored']:,} rows scored by {result['model']}"
    yield f"threshold          {result['threshold']['value']:.4f}  {origin(result['threshold'])}"
    yield f"\n{'':<{WIDTH}}value   {_interval_head(result['bootstrap'])}"
    for name, words in (FIGURES | SHARES).items():
        yield (
            f"{words:<{WIDTH}}{number(result['metrics'][name])} "
            f" {bounds(result['intervals'].get(name))}".rstrip()
        )
    yield ""
    yield from _confusion(result["metrics"]["confusion_matrix"])
    yield from _at_prevalence(result.get("at_prevalence"))
    yield from _review(result["review"])
    yield from _parts(result)
    yield from _blind(result["blind"])
    yield from _against(result.get("against"))
    yield from _stress(result.get("stress"))
    if long:
        yield f"\n{long}"
    yield from _unscorable(result)


def _interval_head(drawn: Mapping[str, Any]) -> str:
    by = (
        f"{drawn['images']:,} images drawn again, with all their rows"
        if drawn["resampled_by"] == "image"
        else "rows drawn again"
    )
    return f"{drawn['level']:.0%} interval ({by})"


def _confusion(matrix: list[list[int]]) -> Iterator[str]:
    yield f"{'':<18} {'said mismatch':>13} {'said match':>11}"
    yield from (
        f"{name:<18} {row[0]:>13,} {row[1]:>11,}"
        for name, row in zip(("is mismatch", "is match"), matrix, strict=True)
    )


def _at_prevalence(weighed: Mapping[str, Any] | None) -> Iterator[str]:
    if weighed:
        yield f"\nwhere {100 * weighed['prevalence']:g} % of the pairs are mismatches"
        yield from figure_lines(weighed["figures"], weighed["intervals"])


def _review(review: Mapping[str, Any] | None) -> Iterator[str]:
    if review:
        yield (
            f"\nreview band {review['low']:.4f} to {review['high']:.4f}:"
            f" {percent(review['automatic'])} of the rows are decided without a person"
        )
        yield (
            f"({bounds(review['automatic_interval'])}); of these {percent(review['risk'])} wrongly"
            f" ({bounds(review['risk_interval'])})"
        )


def _parts(result: Mapping[str, Any]) -> Iterator[str]:
    tables = {f"by {column}": values for column, values in result["slices"].items()}
    if result["kinds"]:
        tables["kind of mismatch, against all matches"] = result["kinds"]
    for title, values in tables.items():
        yield f"\n{title}"
        caught = title.startswith("kind")
        yield (
            f"{'':<24}{'mismatches' if caught else 'rows':>10} "
            f" {'caught' if caught else 'accuracy':<26}AUROC"
        )
        for name, part in values.items():
            rows, key = (
                (part["mismatches"], "mismatch_recall") if caught else (part["rows"], "accuracy")
            )
            figure = f"{number(part['metrics'][key])}  {bounds(part['intervals'][key])}"
            yield (
                f"{_short(name):<24}{rows:>10,}  {figure:<26}{number(part['metrics']['auroc'])} "
                f" {bounds(part['intervals']['auroc'])}".rstrip()
            )


def _short(name: str) -> str:
    return name if len(name) <= 23 else name[:22] + "…"


def _blind(baselines: Mapping[str, Any]) -> Iterator[str]:
    if "why" in baselines:
        yield f"\nno blind baselines: {baselines['why']}"
        return
    image = baselines["image_auroc"]
    of_images = "" if image is None else f", of images alone {image:.4f}"
    yield (
        f"\nblind baselines    AUROC of texts alone {baselines['text_auroc']:.4f}{of_images};"
        " 0.5 is chance"
    )


def _against(comparison: Mapping[str, Any] | None) -> Iterator[str]:
    if not comparison:
        return
    test = comparison["mcnemar"]
    yield (
        f"\nagainst {comparison['model']} (its threshold {comparison['threshold']:.4f}), on"
        f" {comparison['rows']:,} rows that both scored"
    )
    yield (
        f"accuracy           {comparison['accuracy_difference']:+.4f} "
        f" {bounds(comparison['accuracy_interval'])}  only this one is right on"
    )
    yield (
        f"                   {test['only_first']:,} rows, only the other on"
        f" {test['only_second']:,}: p = {test['p_value']:.2g} (McNemar, exact)"
    )
    yield (
        f"auroc              {comparison['auroc_difference']:+.4f} "
        f" {bounds(comparison['auroc_interval'])}  p = {comparison['delong_p_value']:.2g} (DeLong)"
    )


def _stress(stress: Mapping[str, Any] | None) -> Iterator[str]:
    if not stress:
        return
    yield (
        f"\nstress: {stress['rows']:,} matched rows under controlled changes; `right` of those that"
        " were called matches before"
    )
    yield f"{'change':<21}{'should be':<10}{'rows':>6}  {'right':<24}score moves by"
    for change in stress["changes"]:
        right = f"{percent(change['right']):<9}{percents(change['right_interval'])}"
        moved = (
            "–"
            if change["mean_change"] != change["mean_change"]
            else f"{change['mean_change']:+.3f}  {bounds(change['mean_change_interval'], 3)}"
        )
        name = f"{change['change']:<21}{change['expected']:<10}"
        yield f"{name}{change['rows']:>6,}  {right:<24}{moved}"
    yield "what to expect of them:"
    yield from (f"- {line}" for line in stress["ceiling"])


def _unscorable(result: Mapping[str, Any]) -> Iterator[str]:
    if not result["unscorable"]:
        return
    yield (
        f"\n{result['unscorable']:,} of {result['rows']:,} rows could not be scored and are not in"
        " these figures:"
    )
    yield from (
        f"{format_location(result['csv'], row['line'])}: {row['status']}"
        for row in result["first_unscorable"]
    )
    if more := result["unscorable"] - len(result["first_unscorable"]):
        yield f"… and {more:,} more"
