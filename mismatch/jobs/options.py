"""Options that many jobs share: how rows are read, and how a model is run."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

from mismatch.data.columns import Columns, MultiImage
from mismatch.data.pairs import reading_remark
from mismatch.data.readers.memory import RowsLike, rows_file
from mismatch.errors import InputError, MismatchError
from mismatch.io.hub_urls import is_hub_url
from mismatch.io.remote import Remote
from mismatch.io.text import did_you_mean
from mismatch.jobs.fetching import FetchOptions, fetch_rows_ahead, fetched_images
from mismatch.jobs.value_checks import check_kinds
from mismatch.runtime.arguments import review_band as checked_band
from mismatch.runtime.hub_models import local_model
from mismatch.runtime.hub_rows import hub_rows
from mismatch.runtime.predictor import Predictor, load
from mismatch.runtime.preprocess import Decoder
from mismatch.specs import LongText, ReviewBand

__all__ = [
    "ModelOptions",
    "ModelRowOptions",
    "ModelRowSettings",
    "ModelSettings",
    "RowOptions",
    "RowSettings",
    "RowSource",
    "check_options",
    "check_slice_value",
    "given_options",
    "isolated_decoding",
    "located_model",
    "model_name",
    "open_predictor",
    "open_rows",
]


logger = logging.getLogger(__name__)


class RowOptions(TypedDict, total=False):
    """How rows are read, and from where their images come."""

    image_base_path: str | Path  # folder that image paths are relative to; "": working directory
    image_column: str  # column of the images' paths; "image_path"
    text_column: str  # column of the texts; "text"
    label_column: str  # column of the labels, where labels are needed; "label"
    label_map: str  # names of labels, as in "match=1,mismatch=0"; "": 0 and 1 only
    multi_image: MultiImage | None  # several images a row, separated by ;, "best" or "all"; None
    encoding: str | None  # of CSV, TSV and JSON; None: UTF-8, or what the first bytes say
    delimiter: str | None  # between columns of CSV; None: what the name or the header says
    allow_outside_images: bool  # whether image paths may leave image_base_path; False
    isolate_decoding: bool  # decode in processes with bounds of time and memory; False
    fetch_images: bool  # fetch images that are URLs, http or https; False
    fetch_cache: str | Path | None  # folder that keeps them; None: one of this user's
    fetch_networks: Sequence[str]  # private networks in which their hosts may lie; ()


class ModelOptions(TypedDict, total=False):
    """How a model is run, where it is given by its folder or name."""

    provider: Literal["auto", "cpu", "cuda", "tensorrt"]  # where it runs; "auto"
    batch_size: int | Literal["auto"]  # images a tower call, four times as many texts; 16
    num_workers: int | None  # threads that decode images; None: one per CPU
    threads: int | None  # the towers'; None: the engine's own choice


class ModelRowOptions(ModelOptions, RowOptions, total=False):
    """How a model is run, and how rows are read."""


@dataclass(frozen=True)
class _Settings:
    """Options that a job takes as keywords, with their defaults."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Return the options that are given, and defaults of the others.

        InputError, with the nearest name, for one that the job does not have.
        """
        check_options(options, [field.name for field in fields(cls)])
        return cls(**options)


@dataclass(frozen=True)
class RowSettings(_Settings):
    """All of `RowOptions`."""

    image_base_path: str | Path = ""
    image_column: str = "image_path"
    text_column: str = "text"
    label_column: str = "label"
    label_map: str = ""
    multi_image: MultiImage | None = None
    encoding: str | None = None
    delimiter: str | None = None
    allow_outside_images: bool = False
    isolate_decoding: bool = False
    fetch_images: bool = False
    fetch_cache: str | Path | None = None
    fetch_networks: Sequence[str] = ()

    def __post_init__(self) -> None:
        kinds = {field.name: str(field.type) for field in fields(RowSettings)}
        check_kinds(kinds, {name: getattr(self, name) for name in kinds})
        _ = self.fetching  # refuses what does not go together

    @property
    def fetching(self) -> FetchOptions:
        """Return whether images are fetched, and how."""
        return FetchOptions(self.fetch_images, self.fetch_cache, self.fetch_networks)


@dataclass(frozen=True)
class ModelSettings(_Settings):
    """All of `ModelOptions`."""

    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    batch_size: int | Literal["auto"] = 16
    num_workers: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class ModelRowSettings(ModelSettings, RowSettings):
    """All of `ModelRowOptions`."""


@dataclass(frozen=True)
class RowSource:
    """Rows that can be read again and again."""

    name: str  # a path as given; a table has the name of its type
    path: Path | Remote
    base: str  # folder, or URL, that image paths are relative to; "": the working directory
    columns: Columns


@contextmanager
def open_rows(
    rows: RowsLike,
    settings: RowSettings,
    *,
    absolute_images: bool = False,
    ahead: bool = True,
) -> Iterator[RowSource]:
    """Yield rows as a file, read as `settings` say, until the block ends.

    A table or an iterable is written to a temporary file first; `absolute_images`: images that are
    in memory have absolute paths there, as several sources with one base need. `ahead`: begin to
    fetch the images of all rows, where they are fetched. Rows of a hub are files of its cache.
    """
    if isinstance(rows, (str, os.PathLike)):
        check_kinds({"rows": "str | Path"}, {"rows": rows})
    base = str(settings.image_base_path)
    columns = Columns(
        image=settings.image_column,
        text=settings.text_column,
        label=settings.label_column,
        label_map=settings.label_map,
        multi_image=settings.multi_image,
        inside="" if settings.allow_outside_images else base,
        base=base,
        encoding=settings.encoding,
        delimiter=settings.delimiter,
        outside=settings.allow_outside_images,
    )
    hub = hub_rows(rows) if is_hub_url(rows) else None
    local = rows if hub is None else hub.path
    spooled = rows_file(local, columns, base, absolute_images=absolute_images)
    with spooled as file, isolated_decoding(settings.isolate_decoding):
        folder = base if file.image_folder is None else str(file.image_folder)
        naming = _rows_named(rows, file.path) if hub is None else hub.naming()
        with naming, fetched_images(settings.fetching):
            if remark := reading_remark(file.path, columns, _name(rows)):
                logger.info("%s", remark)
            if ahead:
                fetch_rows_ahead(file.path, columns)
            yield RowSource(_name(rows), file.path, folder, columns)


@contextmanager
def _rows_named(rows: RowsLike, file: Path | Remote) -> Iterator[None]:
    """Name rows in memory, in errors, as the user knows them: `list:row 2`, and not by the line of
    a temporary file.
    """
    try:
        yield
    except MismatchError as error:
        if not isinstance(rows, (str, os.PathLike, Remote)):
            place = re.compile(rf"{re.escape(str(file))}(:(?=\d))?")
            name = _name(rows)
            message = place.sub(lambda found: f"{name}:row " if found[1] else name, str(error))
            error.args = (message, *error.args[1:])
        raise


def _name(rows: RowsLike) -> str:
    return str(rows) if isinstance(rows, (str, os.PathLike, Remote)) else type(rows).__name__


@contextmanager
def isolated_decoding(wanted: bool) -> Iterator[None]:
    """Decode all images in processes of their own until the block ends, if that is wanted."""
    if not wanted:
        yield
        return
    _isolation.enter()
    try:
        yield
    finally:
        _isolation.leave()


class _Isolation:
    """The processes that decode, of all jobs that want some: a process has one decoder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs = 0
        self._open = ExitStack()

    def enter(self) -> None:
        """Start them where no job has."""
        from mismatch.runtime.decoding import DecodingPool
        from mismatch.runtime.preprocess import decoded_by

        with self._lock:
            if not self._jobs:
                self._open.enter_context(decoded_by(self._open.enter_context(DecodingPool())))
            self._jobs += 1

    def leave(self) -> None:
        """End them behind the last job."""
        with self._lock:
            self._jobs -= 1
            if not self._jobs:
                self._open.close()


_isolation = _Isolation()


def open_predictor(
    model: str | Path | Predictor,
    settings: ModelSettings,
    *,
    threshold: float | None = None,
    review_band: ReviewBand | None = None,
    long_text: LongText | None = None,
    cache: str | Path | None = None,
    decoder: Decoder | None = None,
) -> Predictor:
    """Return a model that is ready to predict, run as `settings` say.

    One that is loaded already is taken as it is; InputError where options ask for another, and for
    a `review_band` that does not hold the threshold in use.
    """
    overrides = {
        "threshold": threshold,
        "review_band": review_band,
        "long_text": long_text,
        "cache": cache,
        "decoder": decoder,
    }
    if isinstance(model, Predictor):
        names = [name for name, value in overrides.items() if value is not None]
        names += given_options(settings, ModelSettings())
        if names:
            raise InputError(
                f"`{names[0]}` goes with a model's folder or name; this model is loaded already:"
                " give it to mismatch.load"
            )
        return model
    band = checked_band(review_band, "review_band")
    predictor = load(
        model,
        settings.provider,
        settings.threads,
        threshold=threshold,
        batch_size=settings.batch_size,
        workers=settings.num_workers,
        long_text=long_text,
        cache=cache,
        decoder=decoder,
    )
    if band is not None:  # `load` has another name for the option
        band.check_thresholds(predictor.thresholds)
        predictor.review = band
    return predictor


def check_slice_value(predictor: Predictor, slice_value: str | None) -> None:
    """Refuse a value that a pair has in the model's slice column where there is no such column."""
    if slice_value is not None and predictor.slices is None:
        raise InputError(
            "`slice_value` has no effect: the model has no thresholds by slice, or `threshold` is"
            " given"
        )


def located_model(model: str | Path | Predictor) -> str | Path | Predictor:
    """Return a model, where it is a name on a hub as its folder in the hub's cache."""
    return model if isinstance(model, Predictor) else local_model(model)


def model_name(model: str | Path | Predictor) -> str:
    """Return what a model is called in messages and reports: its folder or name as given."""
    if isinstance(model, (str, Path)):
        return str(model)
    origin = model.origin
    return "(a model without a folder)" if origin is None else str(origin)


def given_options(settings: object, defaults: object) -> list[str]:
    """Return the names of the options in `defaults`, a dataclass, that `settings` differ in."""
    names = []
    for name, default in vars(defaults).items():
        value = getattr(settings, name)
        if value is not default and (default is None or value != default):
            names.append(name)
    return names


def check_options(options: Iterable[str], names: Iterable[str]) -> None:
    """Refuse options that are none of a job's; InputError with the nearest name."""
    job_options = sorted(names)
    for option in options:
        if option not in job_options:
            raise InputError(f"there is no option {option!r}{did_you_mean(option, job_options)}")
