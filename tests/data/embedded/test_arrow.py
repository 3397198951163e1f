"""mismatch.data.embedded.arrow: images of mapped files, in either format; none of compressed ones,
whose size says nothing.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.embedded import arrow
from mismatch.data.embedded.arrow import ArrowImages
from mismatch.errors import InputError

pa = pytest.importorskip("pyarrow")

VALUES = [b"one", None, b"", b"four" * 1_000, b"five"]


def write(path: Path, table: Any, *, is_file: bool, compression: str | None = None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


@pytest.mark.parametrize("is_file", [True, False])
@pytest.mark.parametrize("kind", ["binary", "large_binary", "struct"])
def test_each_image(tmp_path: Path, kind: str, is_file: bool) -> None:
    images = (
        pa.array([{"bytes": value, "path": None} if value else None for value in VALUES])
        if kind == "struct"
        else pa.array(VALUES, getattr(pa, kind)())
    )
    words = pa.array(["a"] * 5).dictionary_encode()
    table = pa.table({"word": words, "image": images})
    opened = ArrowImages(write(tmp_path / "a.arrow", table, is_file=is_file), pa)
    [column] = opened.columns
    assert (column.name, opened.count) == ("image", 5)
    found = [opened.value(column, row) for row in (4, 3, 2, 1, 0)]
    assert found[::-1] == [b"one", None, None if kind == "struct" else b"", VALUES[3], b"five"]


@pytest.mark.parametrize("is_file", [True, False])
def test_compressed_batches_are_refused(tmp_path: Path, is_file: bool) -> None:
    table = pa.table({"image": [b"\0" * 100_000] * 4})
    path = write(tmp_path / "a.arrow", table, is_file=is_file, compression="zstd")
    with pytest.raises(InputError, match="compressed batches"):
        ArrowImages(path, pa)


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "MAX_BATCHES", 2)
    path = write(tmp_path / "a.arrow", pa.table({"image": VALUES}), is_file=True)
    with pytest.raises(InputError, match="more than 2 batches"):
        ArrowImages(path, pa)


@pytest.mark.parametrize("is_file", [True, False])
def test_damage_ends_in_a_line(tmp_path: Path, is_file: bool) -> None:
    table = pa.table({"image": pa.array([{"bytes": value, "path": "a"} for value in VALUES])})
    path = write(tmp_path / "a.arrow", table, is_file=is_file)
    whole = path.read_bytes()
    refused = 0
    chance = random.Random(0)
    for number in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        # another file each time: what is mapped may not change
        path = tmp_path / f"{number}.arrow"
        path.write_bytes(damaged)
        try:
            opened = ArrowImages(path, pa)
            for row in range(opened.count):
                for column in opened.columns:
                    opened.value(column, row)
        except InputError:
            refused += 1
    assert refused > 10, "damage is seen"
