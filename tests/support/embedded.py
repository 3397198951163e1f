"""The same pictures and texts in every format that rows are read from."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.support.rows import write_rows

__all__ = ["FORMATS", "Drawn", "as_files", "drawn_rows", "image_table", "write_tar"]

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 50, 220)}
OBJECTS = ("mug", "chair", "lamp", "shirt", "shoe", "ball")
SHARD = 13  # samples of an archive, and rows of a file


class Drawn(NamedTuple):
    """A row: an encoded picture, and what it shows."""

    name: str  # of its file
    image: bytes
    text: str


def drawn_rows(count: int, *, seed: int = 0, side: int = 48) -> list[Drawn]:
    """Return pictures of one colour with much noise, no two of them alike, as JPEG, PNG or WebP."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        colour = list(COLOURS)[number % len(COLOURS)]
        pixels = random.integers(0, 256, (side, side, 3)) * 0.4 + np.array(COLOURS[colour]) * 0.6
        kind = ("JPEG", "PNG", "WEBP")[number % 3 if number < count // 2 else 0]
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
        ending = {"JPEG": "jpg"}.get(kind, kind.lower())
        text = f"a {colour} {OBJECTS[number % len(OBJECTS)]}, number {number}"
        rows.append(Drawn(f"{number:09}.{ending}", file.getvalue(), text))
    return rows


def as_files(folder: Path, rows: Sequence[Drawn]) -> Path:
    """Write the pictures to files, and a CSV that names them."""
    (folder / "photos").mkdir()
    for row in rows:
        (folder / "photos" / row.name).write_bytes(row.image)
    lines = [(f"photos/{row.name}", row.text) for row in rows]
    return write_rows(folder / "rows.csv", [("image_path", "text"), *lines])


def image_table(rows: Iterable[Drawn], *, as_struct: bool = True, name: str = "image") -> Any:
    """Return a table of pyarrow with the pictures: bytes and path, as datasets has them, or bytes.

    `name`: of their column.
    """
    import pyarrow as pa

    rows = list(rows)
    images: list[Any] = [
        {"bytes": row.image, "path": row.name} if as_struct else row.image for row in rows
    ]
    return pa.table({name: images, "text": [row.text for row in rows]})


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write an archive of these names and contents."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _parquet(folder: Path, rows: Sequence[Drawn]) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(image_table(rows), folder / "rows.parquet", row_group_size=7)
    return folder / "rows.parquet"


def _parquet_bytes(folder: Path, rows: Sequence[Drawn]) -> Path:
    import pyarrow.parquet as pq

    table = image_table(rows, as_struct=False, name="image_path")
    pq.write_table(table, folder / "bytes.parquet", compression="zstd", data_page_size=4096)
    return folder / "bytes.parquet"


def _parquet_shards(folder: Path, rows: Sequence[Drawn]) -> Path:
    import pyarrow.parquet as pq

    for number, start in enumerate(range(0, len(rows), SHARD)):
        table = image_table(rows[start : start + SHARD])
        pq.write_table(table, folder / f"train-{number}.parquet")
    return folder / f"train-{{0..{(len(rows) - 1) // SHARD}}}.parquet"


def _arrow(folder: Path, rows: Sequence[Drawn]) -> Path:
    import pyarrow as pa

    table = image_table(rows)
    with (
        pa.OSFile(str(folder / "rows.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=5)
    return folder / "rows.arrow"


def _dataset(folder: Path, rows: Sequence[Drawn]) -> Path:
    """Write what `save_to_disk` does."""
    import pyarrow as pa

    names = []
    (folder / "dataset").mkdir()
    for number, start in enumerate(range(0, len(rows), SHARD)):
        table = image_table(rows[start : start + SHARD])
        names.append(f"data-{number:05}-of-00009.arrow")
        with (
            pa.OSFile(str(folder / "dataset" / names[-1]), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=5)
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "dataset" / "state.json").write_text(json.dumps(state))
    return folder / "dataset"


def _webdataset(folder: Path, rows: Sequence[Drawn]) -> Path:
    members = [
        member
        for row in rows
        for member in ((row.name, row.image), (f"{row.name[:9]}.txt", row.text.encode()))
    ]
    return write_tar(folder / "rows.tar", members)


def _webdataset_shards(folder: Path, rows: Sequence[Drawn]) -> Path:
    """Write archives with the texts in JSON, as img2dataset does."""
    (folder / "shards").mkdir()
    for number, start in enumerate(range(0, len(rows), SHARD)):
        members = [
            member
            for row in rows[start : start + SHARD]
            for member in (
                (f"{row.name[:9]}.json", json.dumps({"caption": row.text, "size": [1]}).encode()),
                (row.name, row.image),
            )
        ]
        write_tar(folder / "shards" / f"{number:05}.tar", members)
    return folder / "shards" / f"{{00000..{(len(rows) - 1) // SHARD:05}}}.tar"


def _img2dataset(folder: Path, rows: Sequence[Drawn]) -> Path:
    """Write a table of keys next to an archive."""
    _webdataset(folder, rows).rename(folder / "00000.tar")
    return _keys(folder, rows)


def _img2dataset_files(folder: Path, rows: Sequence[Drawn]) -> Path:
    """Write a table of keys next to a folder."""
    (folder / "00000").mkdir()
    for row in rows:
        (folder / "00000" / row.name).write_bytes(row.image)
    return _keys(folder, rows)


def _keys(folder: Path, rows: Sequence[Drawn]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: Mapping[str, list[str]] = {
        "url": ["http://example.org"] * len(rows),
        "caption": [row.text for row in rows],
        "key": [row.name[:9] for row in rows],
        "status": ["success"] * len(rows),
    }
    pq.write_table(pa.table(columns), folder / "00000.parquet")
    return folder / "00000.parquet"


# what writes the rows to a folder, and returns what a user names
FORMATS: dict[str, Callable[[Path, Sequence[Drawn]], Path]] = {
    "parquet": _parquet,
    "parquet of bytes": _parquet_bytes,
    "parquet files": _parquet_shards,
    "arrow": _arrow,
    "dataset": _dataset,
    "webdataset": _webdataset,
    "webdataset shards": _webdataset_shards,
    "img2dataset": _img2dataset,
    "img2dataset files": _img2dataset_files,
}
