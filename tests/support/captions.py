"""The same rows in every form that sets of captions come in, as `tests.support.embedded` has them
with their pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import mismatch
from tests.support.embedded import Drawn, as_files
from tests.support.rows import write_rows

__all__ = ["CAPTIONS", "write_coco"]


def write_coco(path: Path, captions: Sequence[tuple[str, str]]) -> Path:
    """Write file names and captions in COCO's form, an image once however many captions it has."""
    names = list(dict.fromkeys(name for name, _ in captions))
    content = {
        "info": {"year": 2014},
        "images": [{"id": 7 + i, "file_name": name} for i, name in enumerate(names)],
        "licenses": [],
        "annotations": [
            {"image_id": 7 + names.index(name), "id": i, "caption": text}
            for i, (name, text) in enumerate(captions)
        ],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _captions(folder: Path, rows: Sequence[Drawn]) -> list[tuple[str, str]]:
    as_files(folder, rows)
    return [(f"photos/{row.name}", row.text) for row in rows]


def _folder(folder: Path, rows: Sequence[Drawn]) -> Path:
    write_rows(folder / "metadata.csv", [("file_name", "text"), *_captions(folder, rows)])
    return folder


def _folder_of_lines(folder: Path, rows: Sequence[Drawn]) -> Path:
    lines = [{"file_name": name, "caption": text} for name, text in _captions(folder, rows)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _folder_of_parquet(folder: Path, rows: Sequence[Drawn]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, texts = zip(*_captions(folder, rows), strict=True)
    pq.write_table(pa.table({"file_name": names, "text": texts}), folder / "metadata.parquet")
    return folder


def _coco(folder: Path, rows: Sequence[Drawn]) -> Path:
    return write_coco(folder / "captions_val2014.json", _captions(folder, rows))


def _array(folder: Path, rows: Sequence[Drawn]) -> Path:
    content = [{"image": name, "caption": text} for name, text in _captions(folder, rows)]
    (folder / "rows.json").write_text(json.dumps(content, indent=1))
    return folder / "rows.json"


def _flickr(folder: Path, rows: Sequence[Drawn]) -> Path:
    lines = [f"{name}#0\t{text}\n" for name, text in _captions(folder, rows)]
    (folder / "results_20130124.token").write_text("".join(lines))
    return folder / "results_20130124.token"


def _bars(folder: Path, rows: Sequence[Drawn]) -> Path:
    lines = [f"{name}| 0| {text}\n" for name, text in _captions(folder, rows)]
    (folder / "results.csv").write_text("image_name| comment_number| comment\n" + "".join(lines))
    return folder / "results.csv"


def _wide(folder: Path, rows: Sequence[Drawn]) -> Path:
    """Write what a spreadsheet calls Unicode text."""
    lines = [f'{name};"{text}"\n' for name, text in _captions(folder, rows)]
    (folder / "wide.csv").write_text("file;title\n" + "".join(lines), encoding="utf-16")
    return folder / "wide.csv"


def _converted(folder: Path, rows: Sequence[Drawn], output: str) -> Path:
    mismatch.convert(
        as_files(folder, rows),
        output=folder / output,
        image_base_path=folder,
        embed_images=True,
        rows_per_shard=13 if "%" in output else None,
    )
    return folder / output


def _parquet(folder: Path, rows: Sequence[Drawn]) -> Path:
    return _converted(folder, rows, "converted.parquet")


def _shards(folder: Path, rows: Sequence[Drawn]) -> Path:
    _converted(folder, rows, "shards/%05d.tar")
    return folder / "shards" / f"{{00000..{(len(rows) - 1) // 13:05}}}.tar"


# what writes the rows to a folder, and returns what a user names
CAPTIONS: dict[str, Callable[[Path, Sequence[Drawn]], Path]] = {
    "image folder": _folder,
    "image folder of lines": _folder_of_lines,
    "image folder of parquet": _folder_of_parquet,
    "coco": _coco,
    "json array": _array,
    "flickr": _flickr,
    "bars": _bars,
    "semicolons in utf-16": _wide,
    "converted to parquet": _parquet,
    "converted to webdataset": _shards,
}
