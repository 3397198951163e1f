"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import click

from mismatch.cli.value_types import SEED, THREADS, WORKERS, FiniteRange, Parsed
from mismatch.cli.verb import choice, described, flag, option
from mismatch.data.columns import MultiImage
from mismatch.io.hub_urls import is_hub_url
from mismatch.io.remote import Remote, is_url, located
from mismatch.io.web_images import is_web_url
from mismatch.specs import LongText, ReviewBand

__all__ = [
    "FETCHING_ROW_OPTIONS",
    "IMAGE_OPTIONS",
    "LEXICON",
    "LOCATION",
    "LONG_TEXT",
    "MODEL",
    "MODEL_ENV",
    "MODEL_OPTIONS",
    "NUM_WORKERS",
    "PAIR_OPTIONS",
    "PATH",
    "PICTURE_OPTIONS",
    "PREVALENCE",
    "PROVIDER",
    "REVIEW_BAND",
    "ROWS",
    "ROW_OPTIONS",
    "SAFE_CSV",
    "SLICE_VALUE",
    "SPREAD_OPTIONS",
    "THREADS_OPTION",
    "THRESHOLD",
    "check_pair",
    "check_rows",
    "fitting_options",
]

MODEL_ENV = "CLIP_FINE_TUNED_MODEL_PATH"
PATH = click.Path(path_type=Path)


def _rows(word: str) -> Path | str:
    """Return a path; a hub's URL stays a text, as a path would lose a slash of it."""
    return word if is_hub_url(word) else Path(word)


def _rows_or_url(word: str) -> Path | Remote | str:
    return word if is_hub_url(word) else located(word)


ROWS = Parsed("path", _rows)  # a file, a folder, or a hub's hf://datasets/OWNER/NAME
LOCATION = Parsed("path", _rows_or_url)  # or a URL of a store


def _batch_size(word: str) -> Any:
    return "auto" if word == "auto" else click.IntRange(1)(word)


def _band(word: str) -> ReviewBand:
    """Return the band of LOW,HIGH."""
    try:
        low, high = map(float, word.split(","))
        return ReviewBand(low, high)
    except ValueError:
        raise ValueError(f"{word!r} is no band; write LOW,HIGH as in 0.3,0.7") from None


def _folder(word: str) -> str:
    if is_url(word):
        raise ValueError(
            "it is a URL, which `mismatch predict` alone takes; mount the store, or copy the images"
            " to a folder"
        )
    return word


def _folder_or_url(word: str) -> str:
    return str(located(word)) if is_url(word) else word


def _image(word: str) -> Path | str:
    """Return a path; a URL stays a text, as a path would lose a slash of it."""
    return word if is_web_url(word) else Path(word)


MODEL_OPTIONS = described(
    f"""
    --model: Folder of a trained model or an ONNX bundle, hub:OWNER/NAME of one on the model hub,
        or FAMILY:MODEL for zero-shot.
        [default: ${MODEL_ENV}]
    --provider: Where it runs; cuda where there is none is an error; tensorrt: bundles only.
    --batch-size: Images a tower call (auto tries first); four times as many texts.
    --num-workers: Threads that decode images.  [default: one per CPU]
    --threads: Threads of the towers.  [default: the engine's own choice]
    """,
    option("--model", required=True, envvar=MODEL_ENV, metavar="DIR"),
    choice("--provider --device provider", ("auto", "cpu", "cuda", "tensorrt"), "auto"),
    option("--batch-size", Parsed("N|auto", _batch_size), 16),
    option("--num-workers", WORKERS),
    option("--threads", THREADS),
)
MODEL, PROVIDER, _, NUM_WORKERS, THREADS_OPTION = MODEL_OPTIONS


def _row_options(parse_base: Callable[[str], str], base_help: str) -> tuple[click.Parameter, ...]:
    """Return how rows are read."""
    return described(
        f"""
        --image-base-path: {base_help}  [default: the working directory]
        --image-column: Column of the images' paths.
        --text-column: Column of the texts.
        --label-column: Column of the labels, where labels are needed.
        --label-map: Names of labels: match=1,mismatch=0, or match/mismatch for short.
            [default: 0 and 1 only]
        --multi-image: Several images a row, separated by ;, and whether a row matches by its best
            one or by all.  [default: one image a row]
        --encoding: Encoding of rows and titles that are not UTF-8, as gb18030.  [default: UTF-8]
        --delimiter: Sign between the columns of CSV, as ; or tab.
            [default: as the name or the header says]
        --allow-outside-images: Let image paths leave --image-base-path, by .., as absolute ones or
            through links.
        --isolate-decoding: Decode images in processes of their own, with bounds of time and memory:
            for images from people you don't trust.
        --fetch-images: Fetch images that are URLs, http or https; each is fetched once.
        --fetch-cache: Folder that keeps fetched images.
            [default: ~/.cache/mismatch/images]
        --fetch-network: Private network in which hosts of images may lie, as 10.0.0.0/8;
            repeatable.
        """,
        option(
            "--image-base-path", Parsed("text", parse_base), "", metavar="D", show_default=False
        ),
        option("--image-column", default="image_path", metavar="NAME"),
        option("--text-column", default="text", metavar="NAME"),
        option("--label-column", default="label", metavar="NAME"),
        option("--label-map", default="", metavar="MAP", show_default=False),
        choice("--multi-image", get_args(MultiImage)),
        option("--encoding", metavar="NAME"),
        option("--delimiter", metavar="SIGN"),
        flag("--allow-outside-images"),
        flag("--isolate-decoding"),
        flag("--fetch-images"),
        option("--fetch-cache", click.Path(path_type=Path, file_okay=False), metavar="DIR"),
        option("--fetch-network fetch_networks", multiple=True, metavar="NETWORK"),
    )


ROW_OPTIONS = _row_options(_folder, "Folder that image paths of rows are relative to.")
FETCHING_ROW_OPTIONS = _row_options(
    _folder_or_url,
    "Folder, or URL as in s3://BUCKET/NAME, that image paths of rows are relative to.",
)
# of rows too, where a verb has options of its own for all else about them
IMAGE_OPTIONS = ROW_OPTIONS[-4:]
PICTURE_OPTIONS = (
    *described(
        "--near-duplicates: Look at the images for near-duplicates.  [default: yes]",
        option("--near-duplicates/--no-near-duplicates", default=True, show_default=False),
    ),
    NUM_WORKERS,
)
LONG_TEXT, SAFE_CSV, REVIEW_BAND, THRESHOLD, LEXICON, PREVALENCE = described(
    """
    --long-text: Texts over the backbone's context: truncate scores them without their end, chunk in
        pieces, the worst of which decides, chunk-mean by the pieces' mean.
        [default: as the model was trained]
    --safe-csv: Put an apostrophe before cells that a spreadsheet would run as formulas (= + - @).
    --review-band: Scores that a person should look at: LOW <= score < HIGH has the prediction
        `review`.  [default: the model's own, if any]
    --threshold: Score from which a pair is a match.  [default: the model's own]
    --lexicon: YAML with classes of words of your own, as `shape: [round, square]`.
    --prevalence: Share of mismatches in use, as 0.03; rows count so.  [default: the rows' own]
    """,
    choice("--long-text", get_args(LongText)),
    flag("--safe-csv"),
    option("--review-band", Parsed("LOW,HIGH", _band)),
    option("--threshold", float),
    option("--lexicon", click.Path(path_type=Path, dir_okay=False)),
    option("--prevalence", float, metavar="P"),
)
# options of rows, as they are where one pair is meant
PLAIN = {
    "image_column": "image_path",
    "text_column": "text",
    "label_column": "label",
    "label_map": "",
    "multi_image": None,
    "encoding": None,
    "delimiter": None,
}
*PAIR_OPTIONS, SLICE_VALUE = described(
    """
    --image: One image; goes with --text.
    --text: One text; goes with --image.
    --slice-value: One pair's value in the column by which the model has thresholds.
    """,
    option("--image", Parsed("path", _image)),
    option("--text"),
    option("--slice-value", metavar="VALUE"),
)
SPREAD_OPTIONS = described(
    """
    --engine: local: this process. ray: actors on a Ray cluster, --threads CPUs each; --output is a
        folder, or URL, of Parquet parts and manifest.json.
    --actors: Actors of --engine ray, a predictor each.  [default: all that have room]
    --ray-address: Ray cluster to join, auto or HOST:PORT.  [default: one here, for this run]
    --block-rows: Rows of a part: what a lost actor costs.
    """,
    choice("--engine", ("local", "ray"), "local"),
    option("--actors", click.IntRange(1), metavar="N"),
    option("--ray-address", metavar="ADDRESS"),
    option("--block-rows", click.IntRange(1), 4096, metavar="N"),
)


def fitting_options(min_rows: int, seed_help: str) -> tuple[click.Parameter, ...]:
    """Return the options of verbs that fit something to labelled rows and store it."""
    return described(
        f"""
        --min-rows: Fewer labelled rows are refused.
        --level: Level of the intervals.
        --seed: {seed_help}
        --dry-run: Show all, store nothing.
        --json: Print the result as JSON.
        """,
        option("--min-rows", click.IntRange(min_rows), 50),
        option("--level", FiniteRange(0.5, 0.999), 0.95),
        option("--seed", SEED, 0),
        flag("--dry-run"),
        flag("--json as_json"),
    )


def check_pair(
    image: Path | None, text: str | None, options: Mapping[str, Any]
) -> tuple[Path, str]:
    """Return the image and the text; UsageError for a missing one, or for options of rows."""
    if image is None or text is None:
        missing = "image" if image is None else "text"
        raise click.UsageError(f"--image and --text go together; --{missing} is missing")
    if any(options[name] != default for name, default in PLAIN.items()):
        raise click.UsageError(
            "--multi-image, --encoding, --delimiter and options of columns go with --csv"
        )
    return image, text


def check_rows(slice_value: str | None) -> None:
    """Raise UsageError for an option that goes with one pair only."""
    if slice_value is not None:
        raise click.UsageError("--slice-value goes with --image and --text; rows have a column")
