"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from mismatch.cli.number_types import THREADS, WORKERS
from mismatch.data.columns import MultiImage
from mismatch.io.remote import Remote, is_url, located
from mismatch.specs import LongText, ReviewBand

__all__ = [
    "ISOLATE_HELP",
    "MODEL_ENV",
    "LocationType",
    "fetching_row_options",
    "job_row_options",
    "long_text_option",
    "model_option",
    "model_options",
    "provider_option",
    "review_band_option",
    "safe_csv_option",
    "shard_option",
    "spread_options",
    "threads_option",
]

MODEL_ENV = "CLIP_FINE_TUNED_MODEL_PATH"
ISOLATE_HELP = (
    "Decode images in processes of their own, with bounds of time and memory: for images from"
    " people you don't trust."
)
F = TypeVar("F", bound=Callable[..., Any])


class BatchSize(click.ParamType[int | str]):
    """A number from 1 on, or auto."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return auto, or the number."""
        return "auto" if value == "auto" else click.IntRange(1).convert(value, param, ctx)


def model_option(function: F) -> F:
    """Add `--model`."""
    text = (
        "Folder of a trained model or an ONNX bundle, or FAMILY:MODEL for zero-shot.  [default:"
        f" ${MODEL_ENV}]"
    )
    return click.option("--model", required=True, envvar=MODEL_ENV, metavar="DIR", help=text)(
        function
    )


def threads_option(function: F) -> F:
    """Add `--threads`."""
    return click.option(
        "--threads", type=THREADS, help="Threads of the towers.  [default: the engine's own choice]"
    )(function)


def provider_option(function: F) -> F:
    """Add `--provider`, or `--device`."""
    kinds = click.Choice(["auto", "cpu", "cuda", "tensorrt"])
    text = "Where it runs; cuda where there is none is an error; tensorrt: bundles only."
    return click.option(
        "--provider",
        "--device",
        "provider",
        type=kinds,
        default="auto",
        show_default=True,
        help=text,
    )(function)


def model_options(function: F) -> F:
    """Add `--model`, and how to run it."""
    for decorate in (
        threads_option,
        click.option(
            "--num-workers",
            type=WORKERS,
            help="Threads that decode images.  [default: one per CPU]",
        ),
        click.option(
            "--batch-size",
            type=BatchSize(),
            default=16,
            show_default=True,
            help="Images a tower call (auto tries first); four times as many texts.",
        ),
        provider_option,
        model_option,
    ):
        function = decorate(function)
    return function


def long_text_option(function: F) -> F:
    """Add `--long-text`."""
    text = (
        "Texts over the backbone's context: truncate scores them without their end, chunk in"
        " pieces, the worst of which decides, chunk-mean by the pieces' mean.  [default: as the"
        " model was trained]"
    )
    return click.option("--long-text", type=click.Choice(get_args(LongText)), help=text)(function)


def safe_csv_option(function: F) -> F:
    """Add `--safe-csv`."""
    text = (
        "Put an apostrophe before cells that a spreadsheet would run as a formula (= + - @);"
        " numbers stay as they are."
    )
    return click.option("--safe-csv", is_flag=True, help=text)(function)


class Band(click.ParamType[ReviewBand]):
    """LOW,HIGH."""

    name = "LOW,HIGH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ReviewBand:
        """Return the band of two scores, the lower one first."""
        if isinstance(value, ReviewBand):
            return value
        parts = str(value).split(",")
        try:
            low, high = map(float, parts)
            return ReviewBand(low, high)
        except ValueError:
            self.fail(f"{value!r} is no band; write LOW,HIGH as in 0.3,0.7", param, ctx)


def review_band_option(function: F) -> F:
    """Add `--review-band`."""
    text = (
        "Scores that a person should look at: LOW <= score < HIGH has the prediction `review`. "
        " [default: the model's own, if any]"
    )
    return click.option("--review-band", type=Band(), help=text)(function)


class LocationType(click.ParamType[Path | Remote]):
    """A path, or a URL of a store."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | Remote:
        """Return what it names."""
        return located(value)


def job_row_options(function: F) -> F:
    """Add how rows are read; the function is given the options as a job takes them."""
    for decorate in reversed((BASE, *ROW_OPTIONS)):
        function = decorate(function)
    return function


def fetching_row_options(function: F) -> F:
    """Add the options of `job_row_options`; `--image-base-path` may be a URL of a store."""
    for decorate in reversed((BASE_OR_URL, *ROW_OPTIONS)):
        function = decorate(function)
    return function


def _folder(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if is_url(value):
        raise click.BadParameter(
            "it is a URL, which `mismatch predict` alone takes; mount the store, or copy the images"
            " to a folder"
        )
    return value


def _folder_or_url(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    return str(located(value)) if is_url(value) else value


BASE = click.option(
    "--image-base-path",
    default="",
    metavar="D",
    callback=_folder,
    help="Folder that image paths of rows are relative to.  [default: the working directory]",
)
BASE_OR_URL = click.option(
    "--image-base-path",
    default="",
    metavar="D",
    callback=_folder_or_url,
    help=(
        "Folder, or URL as in s3://BUCKET/NAME, that image paths of rows are relative to. "
        " [default: the working directory]"
    ),
)
ROW_OPTIONS = (
    click.option(
        "--image-column",
        default="image_path",
        metavar="NAME",
        show_default=True,
        help="Column of the images' paths.",
    ),
    click.option(
        "--text-column",
        default="text",
        metavar="NAME",
        show_default=True,
        help="Column of the texts.",
    ),
    click.option(
        "--label-column",
        default="label",
        metavar="NAME",
        show_default=True,
        help="Column of the labels, where labels are needed.",
    ),
    click.option(
        "--label-map",
        default="",
        metavar="MAP",
        help=(
            "Names of labels: match=1,mismatch=0, or match/mismatch for short.  [default: 0 and 1"
            " only]"
        ),
    ),
    click.option(
        "--multi-image",
        type=click.Choice(get_args(MultiImage)),
        help=(
            "Several images a row, separated by ;, and whether a row matches by its best one or by"
            " all.  [default: one image a row]"
        ),
    ),
    click.option(
        "--allow-outside-images",
        is_flag=True,
        help="Let image paths leave --image-base-path, by .., as absolute ones or through links.",
    ),
    click.option("--isolate-decoding", is_flag=True, help=ISOLATE_HELP),
)


def shard_option(function: F) -> F:
    """Add `--shard`."""
    text = "Score every N-th row, from row I on: 1/4 to 4/4 together are all rows, each once."
    return click.option("--shard", metavar="I/N", help=text)(function)


def spread_options(function: F) -> F:
    """Add `--engine`, and the options of its ray."""
    for decorate in reversed(SPREAD_OPTIONS):
        function = decorate(function)
    return function


SPREAD_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help=(
            "local: this process. ray: actors on a Ray cluster, --threads CPUs each; --output is a"
            " folder, or URL, of Parquet parts and manifest.json."
        ),
    ),
    click.option(
        "--actors",
        metavar="N",
        type=click.IntRange(1),
        help="Actors of --engine ray, a predictor each.  [default: all that have room]",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help=(
            "Ray cluster to join, auto or HOST:PORT.  [default: one on this machine, for this run]"
        ),
    ),
    click.option(
        "--block-rows",
        metavar="N",
        type=click.IntRange(1),
        default=4096,
        show_default=True,
        help="Rows of a part: what a lost actor costs.",
    ),
)
