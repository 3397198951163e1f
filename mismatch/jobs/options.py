"""Options that many jobs share: how rows are read, and how a model is run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from mismatch.data.columns import Columns, MultiImage
from mismatch.data.readers.memory import RowsLike, rows_file
from mismatch.errors import InputError
from mismatch.io.remote import Remote
from mismatch.io.text import did_you_mean
from mismatch.runtime.arguments import review_band as checked_band
from mismatch.runtime.predictor import Predictor, load
from mismatch.runtime.preprocess import Decoder
from mismatch.specs import LongText, ReviewBand

__all__ = [
    "MODEL_DEFAULTS",
    "ROW_DEFAULTS",
    "ModelOptions",
    "ModelRowOptions",
    "RowOptions",
    "RowSource",
    "check_options",
    "isolated_decoding",
    "model_name",
    "open_predictor",
    "open_rows",
]


class RowOptions(TypedDict, total=False):
    """How rows are read, and from where their images come."""

    image_base_path: str | Path  # folder that image paths are relative to; "": working directory
    image_column: str  # column of the images' paths; "image_path"
    text_column: str  # column of the texts; "text"
    label_column: str  # column of the labels, where labels are needed; "label"
    label_map: str  # names of labels, as in "match=1,mismatch=0"; "": 0 and 1 only
    multi_image: MultiImage | None  # several images a row, separated by ;, "best" or "all"; None
    allow_outside_images: bool  # whether image paths may leave image_base_path; False
    isolate_decoding: bool  # decode in processes with bounds of time and memory; False


class ModelOptions(TypedDict, total=False):
    """How a model is run, where it is given by its folder or name."""

    provider: Literal["auto", "cpu", "cuda", "tensorrt"]  # where it runs; "auto"
    batch_size: int | Literal["auto"]  # images a tower call, four times as many texts; 16
    num_workers: int | None  # threads that decode images; None: one per CPU
    threads: int | None  # of the towers; None: the engine's own choice


class ModelRowOptions(ModelOptions, RowOptions, total=False):
    """How a model is run, and how rows are read."""


ROW_DEFAULTS: dict[str, Any] = {
    "image_base_path": "",
    "image_column": "image_path",
    "text_column": "text",
    "label_column": "label",
    "label_map": "",
    "multi_image": None,
    "allow_outside_images": False,
    "isolate_decoding": False,
}
MODEL_DEFAULTS: dict[str, Any] = {
    "provider": "auto",
    "batch_size": 16,
    "num_workers": None,
    "threads": None,
}


@dataclass(frozen=True)
class RowSource:
    """Rows that can be read again and again."""

    name: str  # as given; of a table the name of its type
    path: Path | Remote
    base: str  # folder, or URL, that image paths are relative to; "": the working directory
    columns: Columns


@contextmanager
def open_rows(
    rows: RowsLike, options: Mapping[str, Any], *, absolute_images: bool = False
) -> Iterator[RowSource]:
    """Yield rows as a file, read as the `RowOptions` among `options` say, until the block ends.

    A table or an iterable is written to a temporary file first; `absolute_images`: with absolute
    paths of images that are in memory, as several sources with one base need.
    """
    chosen = ROW_DEFAULTS | {name: options[name] for name in ROW_DEFAULTS if name in options}
    base = str(chosen["image_base_path"])
    columns = Columns(
        image=chosen["image_column"],
        text=chosen["text_column"],
        label=chosen["label_column"],
        label_map=chosen["label_map"],
        multi_image=chosen["multi_image"],
        inside="" if chosen["allow_outside_images"] else base,
    )
    spooled = rows_file(rows, columns, base, absolute_images=absolute_images)
    with spooled as file, isolated_decoding(chosen["isolate_decoding"]):
        folder = base if file.image_folder is None else str(file.image_folder)
        yield RowSource(_name(rows), file.path, folder, columns)


def _name(rows: RowsLike) -> str:
    return str(rows) if isinstance(rows, (str, os.PathLike, Remote)) else type(rows).__name__


@contextmanager
def isolated_decoding(wanted: bool) -> Iterator[None]:
    """Decode all images in processes of their own until the block ends, if that is wanted."""
    if not wanted:
        yield
        return
    from mismatch.runtime.decoding import DecodingPool
    from mismatch.runtime.preprocess import decoded_by

    with DecodingPool() as pool, decoded_by(pool):
        yield


def open_predictor(
    model: str | Path | Predictor,
    options: Mapping[str, Any],
    *,
    threshold: float | None = None,
    review_band: ReviewBand | None = None,
    long_text: LongText | None = None,
    cache: str | Path | None = None,
    decoder: Decoder | None = None,
) -> Predictor:
    """Return a model that is ready to predict, run as the `ModelOptions` among `options` say.

    One that is loaded already is taken as it is; InputError where options ask for another, and for
    a `review_band` that does not hold the threshold in use.
    """
    chosen = {name: options[name] for name in MODEL_DEFAULTS if name in options}
    overrides = {
        "threshold": threshold,
        "review_band": review_band,
        "long_text": long_text,
        "cache": cache,
        "decoder": decoder,
    }
    if isinstance(model, Predictor):
        given = [name for name, value in overrides.items() if value is not None]
        given += [name for name, value in chosen.items() if value != MODEL_DEFAULTS[name]]
        if given:
            raise InputError(
                f"`{given[0]}` goes with a model's folder or name; this model is loaded already:"
                " give it to mismatch.load"
            )
        return model
    band = checked_band(review_band, "review_band")
    chosen = MODEL_DEFAULTS | chosen
    predictor = load(
        model,
        chosen["provider"],
        chosen["threads"],
        threshold=threshold,
        batch_size=chosen["batch_size"],
        workers=chosen["num_workers"],
        long_text=long_text,
        cache=cache,
        decoder=decoder,
    )
    if band is not None:  # `load` has another name for the option
        band.check_thresholds(predictor.thresholds)
        predictor.review = band
    return predictor


def model_name(model: str | Path | Predictor) -> str:
    """Return what a model is called in messages and reports: its folder or name as given."""
    if isinstance(model, (str, Path)):
        return str(model)
    origin = model.origin
    return "(a model without a folder)" if origin is None else str(origin)


def check_options(options: Mapping[str, Any], *known: Mapping[str, Any]) -> None:
    """Refuse options that a job does not have; InputError with the nearest name.

    `known`: the defaults of those that it has.
    """
    names = {name for defaults in known for name in defaults}
    for name in options:
        if name not in names:
            raise InputError(f"there is no option {name!r}{did_you_mean(name, sorted(names))}")
