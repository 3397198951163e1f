"""`mismatch convert`: the function and the command."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.data.pairs import load_pairs, read_rows
from mismatch.errors import CheckpointError, InputError
from mismatch.jobs.convert import convert
from mismatch.runtime.open_image import open_image_file
from tests.support import commands
from tests.support.rows import write_rows

run = partial(commands.run, "convert")
TEXTS = [' red, "5\\"\u00a0', "red\r\nand more", "блю; \t|", "nan"]


@pytest.fixture
def rows(colour_images: Path) -> Path:
    """Rows of pictures with texts that formats have to escape, and a column of their own."""
    names = ["red.png", "red.png", "green.png", "blue.png"]
    lines = [
        (name, text, i % 2, i) for i, (name, text) in enumerate(zip(names, TEXTS, strict=True))
    ]
    return write_rows(colour_images / "rows.csv", [("image_path", "text", "label", "sku"), *lines])


def images_of(path: Path | str, base: Path) -> list[bytes]:
    content = []
    for row in load_pairs(path):
        with open_image_file(base / row.image_path) as file:
            content.append(file.read())
    return content


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_all_columns_stay_and_texts_to_the_letter(rows: Path, tmp_path: Path, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    result = convert(rows, output=tmp_path / f"out.{ending}")
    assert (result.rows, result.images) == (4, 0)
    assert result.columns == ["image_path", "text", "label", "sku"]
    before = load_pairs(rows)
    after = load_pairs(tmp_path / f"out.{ending}")
    assert [row.columns for row in after] == [row.columns for row in before]
    assert [row.text for row in after] == TEXTS


def test_parquet_has_the_images_as_they_are(rows: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "out.parquet"
    result = convert(rows, output=output, image_base_path=tmp_path, embed_images=True)
    assert (result.rows, result.images) == (4, 4)
    assert parquet.read_schema(output).names == ["image", "text", "label", "sku"] == result.columns
    column = parquet.read_table(output)["image"].to_pylist()
    assert [value["path"] for value in column][:2] == ["red.png", "red.png"]
    assert images_of(output, tmp_path) == images_of(rows, tmp_path)
    assert [row.text for row in load_pairs(output)] == TEXTS


def test_archives_have_so_many_rows_each(rows: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"image_base_path": tmp_path, "rows_per_shard": 3}
    result = convert(rows, output=tmp_path / "new" / "shards" / "%05d.tar", **options)
    names = ["00000.tar", "00001.tar"]
    folder = tmp_path / "new" / "shards"
    assert result.paths == [folder / name for name in names]
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".tar") == names
    pattern = folder / "{00000..00001}.tar"
    assert images_of(pattern, tmp_path) == images_of(rows, tmp_path)
    back = load_pairs(pattern)
    assert [row.columns["sku"] for row in back] == ["0", "1", "2", "3"]
    assert [row.label for row in back] == [0, 1, 0, 1]
    assert [row.text for row in back] == TEXTS
    first = [path.read_bytes() for path in result.paths]
    convert(rows, output=folder / "%05d.tar", overwrite=True, **options)
    assert [path.read_bytes() for path in result.paths] == first


def test_fewer_archives_leave_none_of_an_earlier_time(rows: Path, tmp_path: Path) -> None:
    output = tmp_path / "shards" / "%02d.tar"
    for count, left in ((1, 4), (2, 2), (3, 2)):
        convert(
            rows,
            output=output,
            image_base_path=tmp_path,
            rows_per_shard=count,
            overwrite=True,
        )
        assert len(list(output.parent.glob("*.tar"))) == left


def test_one_archive_holds_all_rows(rows: Path, tmp_path: Path) -> None:
    result = convert(rows, output=tmp_path / "out.tar", image_base_path=tmp_path)
    assert result.paths == [tmp_path / "out.tar"]
    assert len(load_pairs(tmp_path / "out.tar")) == 4


def test_rows_in_memory_are_converted_with_their_images(colour_images: Path) -> None:
    pytest.importorskip("pyarrow")
    data = (colour_images / "red.png").read_bytes()
    records = [{"image": data, "text": "red"}, {"image": data, "text": "a red one"}]
    output = colour_images / "out.parquet"
    convert(records, output=output, embed_images=True)
    rows = list(read_rows(output, require_label=False))
    assert [row.text for row in rows] == ["red", "a red one"]
    with open_image_file(rows[1].image_path) as file:
        assert file.read() == data
    with pytest.raises(InputError, match="its image is in memory"):
        convert(records, output=colour_images / "out.csv")
    assert not (colour_images / "out.csv").exists()


def test_labels_are_kept_as_they_are_written_or_checked(tmp_path: Path) -> None:
    rows = write_rows(
        tmp_path / "a.csv", [("image_path", "text", "label"), ("a.png", "red", "perhaps")]
    )
    convert(rows, output=tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "image_path,text,label\na.png,red,perhaps\n"
    with pytest.raises(InputError, match=r"a\.csv:2: label 'perhaps' is none of"):
        convert(rows, output=tmp_path / "c.csv", label_map="yes/no")


def test_rows_with_problems_are_named_and_nothing_is_written(rows: Path, tmp_path: Path) -> None:
    lines = [("gone.png", "red", 1), ("lie.jpg", "red", 1), ("red.png", "", 1), ("red.png", "a", 1)]
    write_rows(rows, [("image_path", "text", "label"), *lines])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError) as caught:
        convert(rows, output=tmp_path / "out.tar", image_base_path=tmp_path)
    message = str(caught.value)
    assert "rows.csv:2: image 'gone.png' not found" in message.replace(f"{tmp_path}/", "")
    assert "rows.csv:3: image 'lie.jpg' is no JPEG, PNG or WebP" in message
    assert "rows.csv:4: the text is empty" in message
    assert "rows.csv:5" not in message
    assert [path for path in sorted(tmp_path.iterdir()) if path.suffix != ".lock"] == before


def test_nothing_but_what_was_converted_is_replaced(rows: Path, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "other.csv", [("name",), ("x",)])
    with pytest.raises(InputError, match="is there already; choose another name"):
        convert(rows, output=other)
    with pytest.raises(InputError, match="is not a table of such rows of mismatch"):
        convert(rows, output=other, overwrite=True)
    with pytest.raises(InputError, match="is the input"):
        convert(rows, output=rows, overwrite=True)
    (tmp_path / "out.tar").write_bytes(b"of somebody else")
    with pytest.raises(InputError, match="is not an archive of such rows of mismatch"):
        convert(rows, output=tmp_path / "out.tar", image_base_path=tmp_path, overwrite=True)
    convert(rows, output=tmp_path / "out.csv")
    convert(rows, output=tmp_path / "out.csv", overwrite=True)
    assert len(load_pairs(tmp_path / "out.csv")) == 4


def test_nothing_is_written_into_a_model(
    rows: Path, tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_checkpoints["openclip"], tmp_path / "model")
    with pytest.raises(CheckpointError, match="lies in the model"):
        convert(rows, output=model / "%02d.tar", image_base_path=tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "a.csv", "embed_images": True}, "`embed_images` goes with Parquet"),
        ({"output": "a.csv", "rows_per_shard": 5}, "`rows_per_shard` goes with several archives"),
        ({"output": "a.tar", "rows_per_shard": 5}, "`rows_per_shard` goes with several archives"),
        ({"output": "%05d.tar", "rows_per_shard": 0}, "a whole number from 1"),
        ({"output": "{0..9}.tar"}, "write %05d"),
        ({"output": "a.xlsx"}, "ends in .xlsx"),
    ],
)
def test_options_that_do_not_go_together(
    rows: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        convert(rows, **options | {"output": tmp_path / options["output"]})


def test_a_row_of_several_images_is_not_put_into_one(rows: Path, tmp_path: Path) -> None:
    write_rows(rows, [("image_path", "text"), ("red.png;blue.png", "red")])
    options: dict[str, Any] = {"image_base_path": tmp_path, "multi_image": "best"}
    with pytest.raises(InputError, match=r"rows\.csv:2: this row has 2 images"):
        convert(rows, output=tmp_path / "out.tar", **options)
    convert(rows, output=tmp_path / "out.csv", **options)
    assert (tmp_path / "out.csv").read_text() == "image_path,text\nred.png;blue.png,red\n"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "a.csv", [("image_path", "text")])
    with pytest.raises(InputError, match="no rows under the header"):
        convert(rows, output=tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()


def test_the_command(colour_images: Path) -> None:
    coco = {
        "images": [{"id": 1, "file_name": "red.png"}],
        "annotations": [{"image_id": 1, "caption": "red"}, {"image_id": 1, "caption": "a red one"}],
    }
    (colour_images / "coco.json").write_text(json.dumps(coco))
    source = ("--csv", colour_images / "coco.json", "--image-base-path", colour_images)
    result = run(*source, "--output", colour_images / "out.csv")
    assert (result.exit_code, result.stdout) == (
        0,
        f"2 rows written to {colour_images / 'out.csv'}\n",
    )
    assert result.stderr == (
        f"{colour_images / 'coco.json'}: it holds captions in COCO's form; 'file_name' is read as"
        " image_path and 'caption' as text\n"
    )
    result = run(
        *source, "--output", colour_images / "s" / "%02d.tar", "--rows-per-shard", "1", "--json"
    )
    assert json.loads(result.stdout) == {
        "rows": 2,
        "images": 2,
        "columns": ["image_path", "image_id", "text"],
        "paths": [str(colour_images / "s" / name) for name in ("00.tar", "01.tar")],
    }
    result = run(*source, "--output", colour_images / "out.csv", "--embed-images")
    assert result.exit_code == 2
    assert "--embed-images goes with Parquet" in result.stderr


def test_it_is_public() -> None:
    assert mismatch.convert is convert
    result = mismatch.ConvertResult(3, 3, ["image"], [Path("0.tar"), Path("1.tar")])
    assert result.summary() == ["3 rows with their images written to 2 files, 0.tar to 1.tar"]
