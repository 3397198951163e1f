"""Explanations: are the words that `mismatch explain` names the wrong ones, does deleting them
raise the score, what does an explanation cost?

    python benchmarks/bench_explain.py --model bundle --csv test_kinds.csv --image-base-path photos
    [--quickstart DIR] [--json results.json]

The rows have a column `kind` with match, hard_colour and hard_type (another colour, another
article), and each image a row that matches it. The wrong words of a mismatch are its colour words,
or its article words, that the matching text lacks; a title's last word where the lexicon knows no
article in it. No explanation uses the lexicon. For `--quickstart`, a folder that `mismatch
quickstart` wrote, photos of its held-out combinations are drawn again with titles of which two
attributes are wrong.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from bench_engines import machine

import mismatch
from mismatch.data.catalogue import split_combinations, title
from mismatch.data.drawing import ARTICLES, COLOURS, COUNTS, MATERIALS, PATTERNS, Combination, draw
from mismatch.data.lexicon import Lexicon
from mismatch.runtime.explain import explain
from mismatch.runtime.explanation import Explanation
from mismatch.runtime.phrases import Span, without
from mismatch.runtime.predictor import Predictor
from mismatch.words import word_spans

DRAWS = 5  # sets of random words to compare with
CLASSES = {"hard_colour": "colour", "hard_type": "article"}  # of the lexicon
TARGETS = {"hard_colour": 0.6, "hard_type": 0.6, "match": 0.9, "catalogue": 0.8}
VALUES: tuple[Sequence[Any], ...] = (ARTICLES, COLOURS, PATTERNS, COUNTS)  # in Combination's order
SIZE = 64  # pixels, as quickstart draws


@dataclass
class Case:
    """An explained mismatch that the model gets right, and its wrong words."""

    found: Explanation
    wrong: frozenset[int]  # where they start, characters

    def first(self, count: int) -> bool:
        """Whether a wrong word is among the `count` that are named most wrong."""
        return any(word.start in self.wrong for word in self.found.named[:count])

    def by_chance(self, count: int) -> float:
        """The same, expected of words drawn at random."""
        words = [word.start in self.wrong for word in self.found.words]
        rest = len(words) - sum(words)
        return 1 - math.comb(rest, min(count, len(words))) / math.comb(
            len(words), min(count, len(words))
        )


@click.command()
@click.option(
    "--model", required=True, type=click.Path(path_type=Path), help="Checkpoint or bundle."
)
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path), help="Rows image_path,text,label,kind."
)
@click.option("--image-base-path", default="", help="Folder of the images.")
@click.option("--rows", type=int, help="Rows of each kind at most.  [default: all]")
@click.option(
    "--quickstart", type=click.Path(path_type=Path), help="Folder that mismatch quickstart wrote."
)
@click.option(
    "--edits", default=300, show_default=True, help="Drawn photos with two wrong attributes."
)
@click.option(
    "--timed", default=10, show_default=True, help="Explanations with a heat map that are timed."
)
@click.option("--threads", default=1, show_default=True, help="Of the towers.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here too."
)
def main(
    model: Path,
    csv_file: Path | None,
    image_base_path: str,
    rows: int | None,
    quickstart: Path | None,
    json_file: Path | None,
    **options: int,
) -> None:
    """Print how often the wrong words are named, what deleting them does, and the cost."""
    result: dict[str, Any] = {"machine": machine(options["threads"])}
    if csv_file is not None:
        predictor = mismatch.load(model, threads=options["threads"])
        result["rows"] = of_rows(predictor, csv_file, Path(image_base_path), rows, options["timed"])
        click.echo("\n".join(row_lines(result["rows"])))
    if quickstart is not None:
        result["catalogue"] = of_catalogue(
            mismatch.load(quickstart / "bundle", threads=options["threads"]), options["edits"]
        )
        click.echo("\n".join(catalogue_lines(result["catalogue"])))
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


# --- labelled rows


def of_rows(
    predictor: Predictor, csv_file: Path, base: Path, most: int | None, timed: int
) -> dict[str, Any]:
    """Figures of each kind."""
    with csv_file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    own = {row["image_path"]: row["text"] for row in rows if row["kind"] == "match"}
    lexicon = Lexicon()
    result: dict[str, Any] = {}
    for kind, group in CLASSES.items():
        chosen = [row for row in rows if row["kind"] == kind][:most]
        found = [
            explain(predictor, base / row["image_path"], row["text"], heat_map=False)
            for row in chosen
        ]
        right = [
            Case(one, wrong)
            for row, one in zip(chosen, found, strict=True)
            if one.similarity_score < one.threshold
            and (wrong := wrong_words(lexicon, group, row["text"], own[row["image_path"]]))
        ]
        result[kind] = naming(right) | {"rows": len(chosen)} | deletion(predictor, base, right)
    matches = [row for row in rows if row["kind"] == "match"][:most]
    explained = [
        explain(predictor, base / row["image_path"], row["text"], heat_map=False) for row in matches
    ]
    result["match"] = {
        "rows": len(matches),
        "without_blame": float(np.mean([not one.named for one in explained])),
    }
    return result | {"cost": cost(predictor, base, matches[:timed])}


def spans_of(text: str) -> list[Span]:
    """All words of a text."""
    return [Span(start, end, text[start:end]) for start, end in word_spans(text)]


def wrong_words(lexicon: Lexicon, group: str, text: str, own: str) -> frozenset[int]:
    """Where the words start that are wrong in `text` by its class of words; `own`: what fits the
    image. Empty where the two agree in it.
    """
    right = {word.text.lower() for word in spans_of(own)}
    words = spans_of(text)
    chosen = [one for one in lexicon.find(text) if one.kind == group]
    if group == "article" and not chosen:
        return frozenset(word.start for word in words[-1:] if word.text.lower() not in right)
    return frozenset(
        word.start
        for word in words
        if word.text.lower() not in right
        and any(one.start <= word.start < one.end for one in chosen)
    )


def naming(cases: Sequence[Case]) -> dict[str, Any]:
    """How often a wrong word is named, next to chance."""
    figures: dict[str, Any] = {
        "judged": len(cases),
        "named_words": mean(len(case.found.named) for case in cases),
    }
    for count in (1, 2):
        figures[f"top_{count}"] = mean(case.first(count) for case in cases)
        figures[f"top_{count}_by_chance"] = mean(case.by_chance(count) for case in cases)
    return figures


def deletion(predictor: Predictor, base: Path, cases: Sequence[Case]) -> dict[str, Any]:
    """What deleting the named words does to the score, and what deleting as many others does, drawn
    at random from all words; and how often it is more.
    """
    rng = np.random.default_rng(0)
    named, chance = [], []
    for case in cases:
        found, count = case.found, len(case.found.named)
        if not 0 < count < len(found.words):
            continue
        sets = [
            found.named,
            *(
                [found.words[i] for i in rng.choice(len(found.words), count, replace=False)]
                for _ in range(DRAWS)
            ),
        ]
        texts = [
            without(found.text, [Span(word.start, word.end, word.text) for word in words])
            for words in sets
        ]
        scores = [
            one.similarity_score or 0.0
            for one in predictor.predict_pairs(
                [{"image_path": found.image_path, "text": text} for text in texts]
            )
        ]
        named.append(scores[0] - found.similarity_score)
        chance.append(float(np.mean(scores[1:])) - found.similarity_score)
    return {
        "deleted": len(named),
        "gain": mean(named),
        "gain_by_chance": mean(chance),
        "more_than_chance": mean(np.greater(named, chance)),
    }


def cost(predictor: Predictor, base: Path, rows: Sequence[dict[str, str]]) -> dict[str, float]:
    """Medians of one explanation."""
    result: dict[str, float] = {}
    for heat_map in (False, True):
        seconds, found = [], []
        for row in rows:
            start = time.perf_counter()
            found.append(
                explain(predictor, base / row["image_path"], row["text"], heat_map=heat_map)
            )
            seconds.append(time.perf_counter() - start)
        name = "with_heat_map" if heat_map else "words"
        result |= {
            f"{name}_seconds": float(np.median(seconds)),
            f"{name}_images": float(np.median([one.images_encoded for one in found])),
        }
        result["texts"] = float(np.median([one.texts_encoded for one in found]))
    return result


def row_lines(result: dict[str, Any]) -> Iterator[str]:
    """Tables."""
    yield (
        "| mismatches that the model gets right | rows | wrong word named first | by chance | among"
        " the first two | by chance | target |"
    )
    yield "|---|---|---|---|---|---|---|"
    for kind in CLASSES:
        one = result[kind]
        rates = " | ".join(
            f"{100 * one[name]:.1f} %"
            for name in ("top_1", "top_1_by_chance", "top_2", "top_2_by_chance")
        )
        yield (
            f"| {kind} | {one['judged']} of {one['rows']} | {rates} | {100 * TARGETS[kind]:.0f} % |"
        )
    yield (
        "\n| deleting | mean rise of the score | as many random words | rows where it is more"
        " |\n|---|---|---|---|"
    )
    for kind in CLASSES:
        one = result[kind]
        yield (
            f"| the words named, {kind} | {one['gain']:.3f} | {one['gain_by_chance']:.3f} |"
            f" {100 * one['more_than_chance']:.1f} % |"
        )
    match, spent = result["match"], result["cost"]
    yield (
        f"\nMatching rows without a blamed word: {100 * match['without_blame']:.1f} % of"
        f" {match['rows']} (target {100 * TARGETS['match']:.0f} %)."
    )
    yield (
        f"One explanation: {spent['texts']:.0f} texts and {spent['words_images']:.0f} image,"
        f" {spent['words_seconds']:.2f} s; with a heat map {spent['with_heat_map_images']:.0f}"
        f" images, {spent['with_heat_map_seconds']:.2f} s."
    )


# --- planted edits


def of_catalogue(predictor: Predictor, edits: int) -> dict[str, Any]:
    """Naming where two attributes of a title are wrong."""
    found = [
        Case(explain(predictor, picture, text, heat_map=False), wrong)
        for picture, text, wrong in planted(edits)
    ]
    right = [case for case in found if case.found.similarity_score < case.found.threshold]
    return naming(right) | {"rows": len(found)}


def planted(count: int, seed: int = 0) -> Iterator[tuple[Any, str, frozenset[int]]]:
    """Photos of held-out combinations, titles with two wrong attributes, and where their wrong
    words start.
    """
    combinations = split_combinations()["test"]
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        combination, material = (
            combinations[number % len(combinations)],
            int(rng.integers(MATERIALS)),
        )
        other = edited(combination, rng)
        own, text = (
            title(one, np.random.default_rng((seed, number, 1))) for one in (combination, other)
        )
        right = {word.text.lower() for word in spans_of(own)}
        wrong = frozenset(word.start for word in spans_of(text) if word.text.lower() not in right)
        yield np.asarray(draw(combination, rng, SIZE, material)), text, wrong


def edited(combination: Combination, rng: np.random.Generator) -> Combination:
    """With two of its attributes changed."""
    values: list[Any] = list(combination)
    for place in rng.choice(len(VALUES), 2, replace=False):
        others = [value for value in VALUES[place] if value != values[place]]
        values[place] = others[int(rng.integers(len(others)))]
    return Combination(*values)


def catalogue_lines(result: dict[str, Any]) -> Iterator[str]:
    """A sentence."""
    yield (
        "Drawn photos, two attributes wrong: a wrong word named first in"
        f" {100 * result['top_1']:.1f} % of the {result['judged']} (of {result['rows']}) that the"
        f" model gets right, by chance {100 * result['top_1_by_chance']:.1f} % (target"
        f" {100 * TARGETS['catalogue']:.0f} %)."
    )


def mean(values: Iterable[Any]) -> float:
    """nan of none."""
    found = [float(value) for value in values]
    return float(np.mean(found)) if found else math.nan


if __name__ == "__main__":
    main()
