"""Rows of a webdataset archive: each sample's image by its name, its text of `.txt`, and what its
`.json` and `.cls` say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from mismatch.data.columns import Columns
from mismatch.data.embedded.containers import open_tar
from mismatch.data.embedded.names import member_name
from mismatch.data.embedded.tar import IMAGES, Sample, TarSamples, no_image
from mismatch.data.readers.json import parsed_object
from mismatch.data.readers.text_files import wrong_byte
from mismatch.data.rows import MAX_FIELD, Reading, Row, as_text, is_too_long, not_text
from mismatch.errors import InputError
from mismatch.io.remote import Remote
from mismatch.io.retries import is_transient

__all__ = ["webdataset_header", "webdataset_rows"]

HEADER_SAMPLES = 100  # whose keys are the columns
TEXT = "txt"
VALUES = "json"
LABEL = "cls"
CAPTION = "caption"  # what img2dataset calls the text in its JSON


class _Record(NamedTuple):
    """What a sample says, by the names of columns in the archive."""

    values: dict[str, Any]
    damage: str | None  # why that can't be read


def webdataset_header(reading: Reading) -> list[str]:
    """Return the columns as rows have them: the keys of the first hundred samples."""
    header = _header(_opened(reading), reading.columns)
    names = reading.names(header) or []
    reading.present(header, names)
    return names


def webdataset_rows(reading: Reading) -> Iterator[Row]:
    """Stream the samples as rows, numbered from 1; what a sample lacks is an empty column."""
    archive = _opened(reading)
    header = _header(archive, reading.columns)
    names = reading.names(header)
    if names is None:
        return
    present = reading.present(header, names)
    renamed = {name: new for name, new in zip(header, names, strict=True) if name != new}
    for new in list(renamed.values()):
        # a key that only a later sample has doesn't stand for the column that was asked for
        renamed.setdefault(new, f"input_{new}")
    start = member_name(archive.path, reading.columns.base)
    for number, sample in enumerate(archive.samples, start=1):
        record = _record(archive, sample, reading.columns)
        values = {renamed.get(name, name): value for name, value in record.values.items()}
        values = {"image_path": f"{start}:{sample.key}"} | values
        yield _row(number, sample, values, record.damage, present, reading)


def _opened(reading: Reading) -> TarSamples:
    if isinstance(reading.path, Remote):
        raise InputError(
            f"{reading.path} is a tar archive in a store; download it and give its path"
        )
    try:
        return open_tar(reading.path)
    except OSError as error:
        if is_transient(error):
            raise
        raise InputError(f"{reading.path}: {error.strerror}") from error


def _row(
    number: int,
    sample: Sample,
    values: Mapping[str, Any],
    damage: str | None,
    present: tuple[str, ...],
    reading: Reading,
) -> Row:
    columns = {name: as_text(value) for name, value in values.items()}
    problem = sample.problem or damage or (None if sample.image else no_image(sample))
    if is_too_long(columns.values()):
        problem = f"a value is longer than {MAX_FIELD:,} characters"
        return Row(number, columns["image_path"], "", None, {}, problem, intact=False)
    if "\0" in "".join(columns.values()):
        problem = "a NUL character stands in this row; take it out"
        return Row(number, columns["image_path"], "", None, columns, problem, intact=False)
    text = values.get("text")
    if problem is None and not (text is None or isinstance(text, str)):
        problem = not_text("text", text)
    return reading.row(number, columns, present, problem)


def _header(archive: TarSamples, columns: Columns) -> list[str]:
    """Return the columns that samples have: the image's first, then those that are said."""
    header = dict.fromkeys([columns.image])
    for sample in islice(archive.samples, HEADER_SAMPLES):
        header |= dict.fromkeys(_record(archive, sample, columns).values)
    if not archive.samples:
        raise InputError(
            f"{archive.path} holds no samples; KEY.{TEXT} or KEY.{VALUES} next to each"
            f" KEY.{IMAGES[0]} is needed"
        )
    return list(header)


def _record(archive: TarSamples, sample: Sample, columns: Columns) -> _Record:
    """Return what a sample says. Its JSON's lists and objects are left out."""
    record_values: dict[str, Any] = {}
    problems = []
    if VALUES in sample.members:
        record, damage = _parsed(archive, sample)
        record_values = {
            name: value
            for name, value in (record or {}).items()
            if not isinstance(value, (list, dict)) and name != columns.image
        }
        if damage:
            problems.append(damage)
    for ending, column in ((TEXT, columns.text), (LABEL, columns.label)):
        if ending in sample.members and (ending == TEXT or column not in record_values):
            text, wrong = _text(archive, sample, ending)
            # JSON keeps the blanks around it too
            written = record_values.get(column)
            if not (isinstance(written, str) and written.strip() == text):
                record_values[column] = text
            problems += [wrong] if wrong else []
    if columns.text == Columns.text and "text" not in record_values and CAPTION in record_values:
        record_values["text"] = record_values[CAPTION]
    return _Record(record_values, "; ".join(problems) or None)


def _parsed(archive: TarSamples, sample: Sample) -> tuple[dict[str, Any] | None, str]:
    member = sample.members[VALUES]
    if member.size > MAX_FIELD:
        return None, f"its .{VALUES} has more than {MAX_FIELD:,} bytes"
    record, damage = parsed_object(archive.read(member), None)
    return record, damage.replace("this line", f"its .{VALUES}")


def _text(archive: TarSamples, sample: Sample, ending: str) -> tuple[str, str | None]:
    """Return what a member says, without blanks at its ends, and why it can't be read."""
    member = sample.members[ending]
    if member.size > MAX_FIELD:
        return "", f"its .{ending} has more than {MAX_FIELD:,} bytes"
    data = archive.read(member)
    try:
        return data.decode("utf-8-sig").strip(), None
    except UnicodeDecodeError as error:
        wrong = wrong_byte(data[error.start], None)
        return "", f"its .{ending}: {wrong.replace(', or pass its `encoding`', '')}"
