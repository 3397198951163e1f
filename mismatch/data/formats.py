"""What rows are in: by the name of a file where that decides, else by what it holds."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from mismatch.data.readers import coco, image_folder
from mismatch.data.readers.dataset_folder import SPLITS, STATE
from mismatch.data.readers.flickr import is_flickr
from mismatch.data.readers.text_files import open_rows, open_text
from mismatch.data.shards import is_pattern, row_place
from mismatch.errors import InputError, MismatchError
from mismatch.io.hub_urls import located_hub_rows
from mismatch.io.remote import Remote, located

__all__ = [
    "DELIMITERS",
    "IN_JSON",
    "IN_LINES",
    "SUFFIXES",
    "format_location",
    "format_names",
    "kind_of",
    "located_rows",
]

SUFFIXES = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
CONTAINERS = {".arrow": "arrow", ".tar": "webdataset"}  # read, and not written as tables
CSV = ".csv"
DELIMITERS = {"csv": ",", "tsv": "\t"}
IN_JSON = ("jsonl", "array", "coco")  # kinds whose keys may come late
IN_LINES = (*DELIMITERS, "jsonl", "flickr")  # kinds whose rows are found by their line
START = 2**16  # characters in which the first line of a caption file ends
PARQUET = "PAR1"


def kind_of(path: str | Path | Remote) -> str:
    """Return what rows are read as: csv, tsv, jsonl, array, coco, flickr, parquet, arrow,
    webdataset or dataset. What JSON holds says which kind it is, and so does any file of another
    ending than a table has.
    """
    path = located_rows(path)
    if isinstance(path, Path) and path.is_dir():
        return "dataset"
    ending = path.suffix.lower()
    named = "csv" if ending == CSV else (SUFFIXES | CONTAINERS).get(ending, "")
    if named not in ("", "jsonl"):
        return named
    try:
        return _kind_known(path, named, _identity(path))
    except (OSError, MismatchError, ValueError):  # which reading it says
        return named or "csv"


def located_rows(path: str | Path | Remote) -> Path | Remote:
    """Return the file, or the dataset's folder, that rows are read from: of a folder of images its
    metadata. InputError for a folder with several.
    """
    place = located(path)
    if isinstance(place, Path) and place.is_dir():
        if any((place / name).is_file() for name in (STATE, SPLITS)):
            return place
        return image_folder.metadata_file(place) or place
    return place


def format_names(path: str | Path | Remote, kind: str) -> dict[str, str]:
    """Map image_path or text → what the format of these rows calls it."""
    if kind == "coco":
        return coco.USUAL
    place = located(path)
    is_folder = isinstance(place, Path) and place.is_dir() and kind != "dataset"
    return image_folder.USUAL if is_folder else {}


def format_location(path: str | Path | Remote, line: int) -> str:
    """Return where a row stands, for people: `train.csv:17`; of Parquet, datasets and arrays of
    JSON, whose rows have no lines of their own, `train.parquet:row 17`; of an archive
    `00000.tar:000001234`, with the sample's key; of a hub's rows the file's URL.
    """
    hub = located_hub_rows(path)
    if hub is not None:
        return hub.renamed(format_location(hub.path, line))
    try:
        file = located_rows(path)
    except InputError:  # for a folder of several files
        return f"{path}:{line}"
    shown = path if file == located(path) else file
    kind = kind_of(path)
    if kind in IN_LINES:
        return f"{shown}:{line}"
    place = None
    if not isinstance(path, Remote) and (kind == "webdataset" or is_pattern(path)):
        place = row_place(path, line)
    return place or f"{shown}:row {line}"


def _identity(path: Path | Remote) -> tuple[int | str, ...]:
    """Return what changes when a file does."""
    if isinstance(path, Remote):
        return (path.version(),)
    facts = os.stat(path)
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=1_000)
def _kind_known(path: Path | Remote, named: str, _identity: tuple[int | str, ...]) -> str:
    """Return the kind that the beginning of a file says, of JSON or of any ending."""
    with open_text(path, "replace") as opened:
        text = opened.read(START).lstrip()
    start = text[:1]
    if start == "[" and (named or text[1:].lstrip()[:1] in ("{", "]")):
        return "array"
    if start == "{":
        with open_rows(path) as file:
            return "coco" if coco.is_coco(file) else "jsonl"
    if named:
        return named
    if text.startswith(PARQUET):
        return "parquet"
    return "flickr" if is_flickr(text.partition("\n")[0]) else "csv"
