"""Captions in COCO's form: `images` with ids and file names, `annotations` with image ids and
captions, as rows.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from mismatch.data.readers.json_records import JsonError, JsonText, Record, checked_item

__all__ = ["FILE_NAME", "USUAL", "coco_records", "is_coco"]

IMAGES = "images"
ANNOTATIONS = "annotations"
FILE_NAME = "file_name"
USUAL = {"image_path": FILE_NAME, "text": "caption"}  # COCO's names of these columns
MAX_IMAGES = 20_000_000  # whose names are held in memory; COCO has 123,287


def coco_records(file: IO[bytes], encoding: str | None) -> Iterator[Record]:
    """Yield each annotation with the `file_name` of its image, numbered from 1. The file is read
    twice where images stand behind annotations. JsonError for what is no JSON, or has no such list.
    """
    start = file.tell()
    images = _read_images(file, encoding)
    file.seek(start)
    text = JsonText(file)
    keys = set[str]()
    for key in text.members():
        begin = text.begin_value()
        if key in keys:
            raise JsonError(f"the key {reprlib.repr(key)} stands twice; take one out")
        keys.add(key)
        if key == ANNOTATIONS and begin == "[":
            yield from _annotations(text, images, encoding)
        else:
            text.skip()
    text.end()
    if ANNOTATIONS not in keys:
        raise JsonError(f"there is no list {ANNOTATIONS!r} in this file, as COCO's captions have")


def is_coco(file: IO[bytes]) -> bool:
    """Return whether a file of JSON, from where it stands, is one object with COCO's lists."""
    try:
        text = JsonText(file)
        for key in text.members():
            begin = text.begin_value()
            if key in (IMAGES, ANNOTATIONS) and begin == "[":
                value = next((value for value, _ in text.items()), None)
                needed = {"id", FILE_NAME} if key == IMAGES else {"image_id"}
                return isinstance(value, dict) and needed <= value.keys()
            text.skip()
    except JsonError:
        pass
    return False


@dataclass
class _Images:
    """Images, by their ids."""

    names: dict[Any, str] = field(default_factory=dict)  # of their files
    problems: dict[Any, str] = field(default_factory=dict)  # why a name can't be used


def _read_images(file: IO[bytes], encoding: str | None) -> _Images:
    text = JsonText(file)
    for key in text.members():
        if text.begin_value() == "[" and key == IMAGES:
            return _images_of(text, encoding)
        text.skip()
    raise JsonError(f"there is no list {IMAGES!r} in this file, as COCO's captions have")


def _images_of(text: JsonText, encoding: str | None) -> _Images:
    images = _Images()
    names = images.names
    for number, (value, written) in enumerate(text.items(), start=1):
        image = value if isinstance(value, dict) else {}
        key = _key(image.get("id"))
        name = image.get(FILE_NAME)
        if key is None or not isinstance(name, str):
            raise JsonError(f"image {number} of {IMAGES!r} has no `id` and `{FILE_NAME}`; add them")
        _, damage = checked_item(value, written, encoding)
        if damage:
            images.problems[key] = f"its image, {number} of {IMAGES!r}: {damage}"
        elif names.setdefault(key, name) != name:
            images.problems[key] = f"image_id {reprlib.repr(key)} is the id of two images"
        if len(names) + len(images.problems) > MAX_IMAGES:
            raise JsonError(f"there are more than {MAX_IMAGES:,} images; make several files")
    return images


def _key(value: Any) -> int | str | None:
    """Return what an id is known by: a number or a text."""
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _annotations(text: JsonText, images: _Images, encoding: str | None) -> Iterator[Record]:
    number = 0
    try:
        for number, (value, written) in enumerate(text.items(), start=1):
            data = written.encode("utf-8", "surrogateescape")
            annotation, damage = checked_item(value, written, encoding)
            if annotation is None:
                yield Record(number, data, None, damage)
            else:
                yield Record(number, data, *_of_image(annotation, images))
    except JsonError as error:
        error.number = number + 1
        raise


def _of_image(annotation: dict[str, Any], images: _Images) -> tuple[dict[str, Any], str, str]:
    """Return an annotation with the name of its image's file, no damage, and why it has none."""
    image = annotation.get("image_id")
    key = _key(image)
    problem = images.problems.get(key, "")
    name = "" if problem else images.names.get(key, "")
    if not problem and key not in images.names:
        problem = f"image_id {reprlib.repr(image)} is the id of no image in {IMAGES!r}"
    record = {FILE_NAME: name} | {_renamed(key): item for key, item in annotation.items()}
    return record, "", problem


def _renamed(key: str) -> str:
    """Return an annotation's key; the name of its image's file has that of the column."""
    return f"annotation_{key}" if key == FILE_NAME else key
