"""`mismatch explain`: which words don't fit, what other words would do, and where the image speaks
for or against.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.options import long_text_option, model_options, row_options
from mismatch.cli.output_file import names_folder
from mismatch.cli.parts import hold
from mismatch.cli.progress import progress_bar
from mismatch.data.columns import Columns
from mismatch.data.pairs import rows_files
from mismatch.errors import CheckpointError, InputError
from mismatch.outputs import OutputKind, check_outputs, json_report, picture

if TYPE_CHECKING:
    from mismatch.data.lexicon import Lexicon
    from mismatch.data.rows import Row
    from mismatch.runtime.explain import Explanation, Part, Swap
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = ["command", "explanation_lines", "raising"]

# what is written to a folder
IN_FOLDER = re.compile(r"explanations?\.json|explanation\.png|\d{3,}-line-\d+\.png")
FILES = (".png", ".json")  # endings of --output that name a file; anything else is a folder
WORDS_SHOWN = 12
PHRASES_SHOWN = 3
LEAST_RISE = 0.01  # of the score, by another word
WORSE = 1.1  # times the effect of its worst word, from which a phrase is worth a line
Explainer = Callable[..., "Explanation"]


class FileOrFolder(click.Path):
    """A path; NAME.json/ would be a folder, and is refused: whether there is a slash
    is lost later.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if names_folder(value) and Path(value).suffix.lower() in FILES:
            self.fail(
                f"{value} names a folder, and {' and '.join(FILES)} are files; leave out what"
                " follows the name",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


@click.command(short_help="Which words don't fit, and where in the image that shows.")
@model_options
@click.option("--image", type=click.Path(path_type=Path), help="One image; goes with --text.")
@click.option("--text", help="One text; goes with --image.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    help="Rows image_path,text, the worst of which are explained; with labels, the worst errors.",
)
@row_options
@click.option(
    "--worst",
    metavar="N",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="How many rows of --csv.",
)
@click.option(
    "--output",
    type=FileOrFolder(path_type=Path),
    metavar="PATH",
    help=(
        "NAME.png: a picture with the heat map (one pair); NAME.json: figures; any other name is a"
        " folder for both."
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--no-heat-map",
    is_flag=True,
    help="Look at words only, which takes one pass of the image instead of fifty.",
)
@click.option(
    "--no-lexicon",
    is_flag=True,
    help="Don't try other words; which words are named does not depend on it.",
)
@click.option(
    "--lexicon",
    "lexicon_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML with classes of words of your own, as `shape: [round, square]`.",
)
@click.option(
    "--threshold",
    type=float,
    help="Score from which a pair is a match.  [default: the model's own]",
)
@click.option(
    "--slice-value",
    metavar="VALUE",
    help="Of one pair, in the column by which the model has thresholds; rows have the column.",
)
@long_text_option
def command(
    image: Path | None,
    text: str | None,
    csv_file: Path | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say which words of a text don't fit its image (--image, --text), or those of the worst rows
    of a file (--csv).

    Each word and each phrase is left out once, and words of the lexicon (colours, materials,
    counts, …) are exchanged for others; the scores of all these texts say what each does. Words are
    named only where the model takes the pair for no match. For the heat map, parts of the image are
    covered. All of it is the model's view: it says what the score hangs on, not what is true.
    """
    _check(image, text, csv_file, output, options)
    if output is not None:
        inputs = [
            path
            for path in (
                image and Path(options["image_base_path"]) / image,
                options["lexicon_file"],
            )
            if path
        ]
        check_outputs(
            _outputs(output), [*inputs, *([] if csv_file is None else rows_files(csv_file))]
        )
        hold(output, folder=output.suffix.lower() not in FILES)
    base = options["image_base_path"]
    columns = options["columns"]
    lexicon = _lexicon(options)
    if csv_file is None:
        predictor = _predictor(options)
        one = _explainer(predictor, lexicon, options)(
            Path(base) / (image or ""), text, slice_value=options["slice_value"]
        )
        found: list[tuple[int | None, Explanation]] = [(None, one)]
    else:
        found = _of_rows(csv_file, base, columns, lexicon, options)
    if output is not None:
        _write(output, found, many=csv_file is not None)
    plain = [_plain(line, one) for line, one in found]
    if as_json:
        from mismatch.files import finite

        click.echo(
            json.dumps(
                finite(plain if csv_file is not None else plain[0]), indent=2, ensure_ascii=False
            )
        )
    else:
        colour = sys.stdout.isatty()
        for number, (line, one) in enumerate(found):
            click.echo(
                "\n" * (number > 0) + "\n".join(explanation_lines(one, colour=colour, line=line))
            )
    if output is not None:
        click.echo(f"written to {output}", err=True)


def _check(
    image: Path | None,
    text: str | None,
    csv_file: Path | None,
    output: Path | None,
    options: dict[str, Any],
) -> None:
    """UsageError for options that don't go together, before a model is loaded."""
    if (image is not None or text is not None) == (csv_file is not None):
        raise click.UsageError(
            "give either --image and --text for one pair, or --csv for the worst rows of a file"
        )
    if csv_file is None and (image is None or text is None):
        raise click.UsageError(
            f"--image and --text go together; {'--text' if text is None else '--image'} is missing"
        )
    if csv_file is None and replace(options["columns"], inside="") != Columns():
        raise click.UsageError(
            "--image-column, --text-column, --label-column, --label-map and --multi-image go with"
            " --csv"
        )
    if csv_file is not None and options["slice_value"] is not None:
        raise click.UsageError(
            "--slice-value goes with --image and --text; rows have their value in a column"
        )
    if options["no_lexicon"] and options["lexicon_file"] is not None:
        raise click.UsageError("--no-lexicon and --lexicon exclude each other")
    if output is not None and csv_file is not None and output.suffix.lower() == ".png":
        raise click.UsageError(
            "a .png holds one pair; with --csv, give --output a folder or a .json"
        )


def _outputs(output: Path) -> list[tuple[str, Path, OutputKind | None]]:
    """What is written: one file, or of a folder what may be replaced in it."""
    kinds = {
        ".png": picture("a picture"),
        ".json": json_report("an explanation", ("similarity_score", "words")),
    }
    if output.suffix.lower() in FILES:
        return [("--output", output, kinds[output.suffix.lower()])]
    names = (
        sorted(path.name for path in output.iterdir() if IN_FOLDER.fullmatch(path.name))
        if output.is_dir()
        else []
    )
    inside = [("--output", output / name, kinds[Path(name).suffix]) for name in names]
    return [("--output", output, None), *inside]


def _lexicon(options: dict[str, Any]) -> Lexicon | None:
    from mismatch.data.lexicon import Lexicon
    from mismatch.jobs.lexicon_file import read_lexicon

    return None if options["no_lexicon"] else Lexicon(read_lexicon(options["lexicon_file"]))


def _predictor(options: dict[str, Any]) -> Predictor:
    from mismatch.cli.predict import load_predictor

    return load_predictor(options)


def _explainer(predictor: Predictor, lexicon: Lexicon | None, options: dict[str, Any]) -> Explainer:
    from mismatch.runtime.explain import explain

    return partial(explain, predictor, heat_map=not options["no_heat_map"], lexicon=lexicon)


# --- rows of a file


def _of_rows(
    csv_file: Path, base: str, columns: Columns, lexicon: Lexicon | None, options: dict[str, Any]
) -> list[tuple[int | None, Explanation]]:
    """The worst rows with their lines, the worst first."""
    from mismatch.data.pairs import read_header, resolve_image

    labelled = "label" in read_header(csv_file, require_label=False, columns=columns)
    predictor = _predictor(options)
    explained = _explainer(predictor, lexicon, options)
    rows = _worst(predictor, csv_file, base, columns, labelled, options["worst"])
    found: list[tuple[int | None, Explanation]] = []
    with progress_bar("explain", total=len(rows), unit="row") as advance:
        for row in rows:
            value = None if predictor.slices is None else row.columns.get(predictor.slices.column)
            image = resolve_image(base, _decisive(predictor, row, base, columns))
            found.append((row.line, explained(image, row.text, slice_value=value)))
            advance(1)
    return found


def _worst(
    predictor: Predictor, csv_file: Path, base: str, columns: Columns, labelled: bool, count: int
) -> list[Row]:
    """The lowest scores, or of labelled rows those that lie farthest on the wrong side of the
    threshold.
    """
    from mismatch.data.pairs import read_rows
    from mismatch.jobs.scored_rows import predict_rows

    ranked: list[tuple[float, int, Row]] = []
    rows = failed = 0
    with progress_bar("score", unit="row") as advance:
        for row, prediction in predict_rows(
            predictor, read_rows(csv_file, require_label=labelled, columns=columns), base, columns
        ):
            rows += 1
            wrongness = _wrongness(row, prediction, labelled)
            failed += prediction.similarity_score is None
            if wrongness is not None:
                ranked.append((-wrongness, rows, row))
                ranked = (
                    sorted(ranked, key=lambda one: one[:2])[:count]
                    if len(ranked) > 2 * count + 1000
                    else ranked
                )
            advance(1)
    if failed:
        click.echo(
            f"{failed:,} of {rows:,} rows could not be scored; mismatch validate says why row"
            " by row",
            err=True,
        )
    if failed == rows:
        empty = "there are no rows under the header; nothing to explain"
        raise InputError(f"{csv_file}: {'not one of its rows could be scored' if rows else empty}")
    if not ranked:
        click.echo(f"{csv_file}: no row is scored against its label; nothing to explain", err=True)
    return [row for _, _, row in sorted(ranked, key=lambda one: one[:2])[:count]]


def _wrongness(row: Row, prediction: Prediction, labelled: bool) -> float | None:
    """How far the score lies on the wrong side; None for a row that is right, or has none."""
    score = prediction.similarity_score
    if score is None or (labelled and row.label is None):
        return None
    if not labelled:
        return -score
    wrong = prediction.is_match != bool(row.label)
    return abs(score - prediction.threshold) if wrong else None


def _decisive(predictor: Predictor, row: Row, base: str, columns: Columns) -> str:
    """Of several images the one whose score stands for the row."""
    images = columns.images(row.image_path)
    if len(images) == 1:
        return images[0]
    # which `columns` has let pass
    pairs = [{"image_path": name, "text": row.text} for name in images]
    scores = [
        one.similarity_score or 0.0
        for one in predictor.predict_pairs(pairs, image_base_path=base, outside_images=True)
    ]
    return images[scores.index(max(scores) if columns.multi_image == "best" else min(scores))]


# --- what is written


def _plain(line: int | None, found: Explanation) -> dict[str, Any]:
    return ({} if line is None else {"line": line}) | found.to_dict()


def _write(output: Path, found: Sequence[tuple[int | None, Explanation]], *, many: bool) -> None:
    """A picture, a JSON file, or a folder of both."""
    from mismatch.cli.explained_picture import explanation_png
    from mismatch.files import write_bytes, write_json

    data = [_plain(line, one) for line, one in found]
    if output.suffix.lower() == ".png":
        write_bytes(output, explanation_png(found[0][1], raising(found[0][1])))
    elif output.suffix.lower() == ".json":
        write_json(output, data if many else data[0])
    else:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"--output {output} can't be created: {error.strerror}; choose another"
            ) from error
        for rank, (line, one) in enumerate(found, start=1):
            write_bytes(
                output / (f"{rank:03}-line-{line}.png" if many else "explanation.png"),
                explanation_png(one, raising(one)),
            )
        write_json(
            output / ("explanations.json" if many else "explanation.json"),
            data if many else data[0],
        )


def explanation_lines(
    found: Explanation, *, colour: bool = False, line: int | None = None
) -> Iterator[str]:
    """An explanation for people: its named words in red where there is `colour`,
    else in brackets.
    """
    yield f"{'' if line is None else f'line {line}: '}{found.image_path}"
    yield f"  {_marked(found, colour)}"
    yield f"score {found.similarity_score:.4f}, threshold {found.threshold:.4f}: {found.prediction}"
    yield _verdict(found)
    ranked = sorted(found.words, key=lambda word: -word.effect)
    shown = (
        ranked
        if len(ranked) <= WORDS_SHOWN
        else [*ranked[: WORDS_SHOWN // 2], *ranked[-WORDS_SHOWN // 2 :]]
    )
    width = max((len(word.text) for word in shown), default=0)
    yield "without the word   score" if width < 16 else f"{'without the word':<{width + 2}} score"
    for word in shown:
        yield f"  {word.text:<{max(width, 16)}} {word.score_without:.4f}  {word.effect:+.2f}"
    for phrase in _phrases(found):
        yield (
            f"  without “{phrase.text}” {phrase.score_without:.4f}  {phrase.effect:+.2f}, of which"
            f" {phrase.interaction:+.2f} because they go together"
        )
    if swaps := raising(found):
        yield "other words, in the model's view:"
        yield from (
            f"  {swap.text} → {_alternatives(swap.alternatives, found.similarity_score)}"
            for swap in swaps
        )
    if found.left_out:
        yield (
            f"the text is long: {found.left_out:,} of its variants (words left out or exchanged)"
            " were not tried"
        )
    if found.unseen:
        yield f"beyond the model's context, so without any effect: {found.unseen}"


def _verdict(found: Explanation) -> str:
    if found.named:
        return (
            f"{'words' if len(found.named) > 1 else 'word'} that would have to go, the worst first:"
            f" {', '.join(word.text for word in found.named)}"
        )
    return (
        "no word is named: the model takes the text for fitting"
        if found.similarity_score >= found.threshold
        else "no word by itself lowers the score"
    )


def raising(found: Explanation) -> list[Swap]:
    """The swaps that are worth a line: those whose best word raises the score by 0.01 or more."""
    return [
        swap
        for swap in found.swaps
        if swap.alternatives[0][1] >= found.similarity_score + LEAST_RISE
    ]


def _phrases(found: Explanation) -> list[Part]:
    """Those without which the score rises clearly more than without any of their words."""
    if not found.named:
        return []
    best = found.named[0].effect
    ranked = sorted(
        (phrase for phrase in found.phrases if phrase.effect > WORSE * best),
        key=lambda phrase: -phrase.effect,
    )
    return ranked[:PHRASES_SHOWN]


def _alternatives(alternatives: Sequence[tuple[str, float]], score: float) -> str:
    (first, raised), *others = alternatives
    more = "".join(f", {word} {value:.2f}" for word, value in others)
    return f"{first} raises {score:.2f} to {raised:.2f}{f'; also{more[1:]}' if more else ''}"


def _marked(found: Explanation, colour: bool) -> str:
    text = found.text
    parts = sorted(found.named, key=lambda word: word.start)
    said = []
    at = 0
    for word in parts:
        said += [
            text[at : word.start],
            click.style(word.text, fg="red", bold=True) if colour else f"[{word.text}]",
        ]
        at = word.end
    return " ".join("".join([*said, text[at:]]).split())
