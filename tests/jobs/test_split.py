"""mismatch.split, `mismatch split` and what they stand on: nothing stands on two sides, labels are spread evenly,
no row is lost.
"""

from __future__ import annotations

import errno
import json
import os
import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.data.split import assign, join
from mismatch.errors import InputError
from mismatch.runtime import preprocess
from mismatch.runtime.preprocess import open_image
from tests.support import commands
from tests.support.files import hashes
from tests.support.rows import read_rows

run = partial(commands.run, "split")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 rows over 100 images; image 2k + 1 is image 2k encoded again, for the first twenty. One
    image is broken, one row has no text.
    """
    folder, draw = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    for number in range(0, 100, 2):
        image = Image.fromarray(draw.integers(0, 255, (5, 5, 3), dtype=np.uint8)).resize(
            (90, 90), Image.Resampling.BICUBIC
        )
        image.save(folder / f"{number}.png")
        other = image if number < 20 else image.transpose(Image.Transpose.ROTATE_90)
        other.save(folder / f"{number + 1}.jpg", quality=70)
    (folder / "broken.png").write_bytes(b"x")
    lines = [
        f'{i // 2}.{"jpg" if i // 2 % 2 else "png"},"text {i % 70}, with a comma",{i % 2},shop'
        f" {i % 7}"
        for i in range(200)
    ]
    lines[50:50] = ["broken.png,a text,1,shop 0", "3.jpg,,1,shop 0"]
    (folder / "rows.csv").write_text("\n".join(["image_path,text,label,shop", *lines]) + "\n")
    return folder / "rows.csv"


def test_near_duplicates_stay_together_and_no_row_is_lost(rows: Path, tmp_path: Path) -> None:
    result = run(
        rows,
        "--image-base-path",
        rows.parent,
        "--output-dir",
        tmp_path,
        "--fractions",
        "0.6,0.2,0.2",
    )
    assert result.exit_code == 0, result.output
    parts = {name: read_rows(tmp_path / f"{name}.csv") for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 120,
        "val": 40,
        "test": 40,
    }
    assert all(
        Counter(row["label"] for row in part) == {"0": len(part) // 2, "1": len(part) // 2}
        for part in parts.values()
    )
    side = {row["image_path"].split(".")[0]: name for name, part in parts.items() for row in part}
    assert all(side[str(number)] == side[str(number + 1)] for number in range(0, 20, 2))
    assert any(side[str(number)] != side[str(number + 1)] for number in range(20, 100, 2))
    rejected = read_rows(tmp_path / "rejected.csv")
    assert [row["image_path"] for row in rejected] == ["broken.png", "3.jpg"]
    assert "broken.png" in rejected[0]["reason"]
    assert rejected[1]["reason"] == "the text is empty"
    back = sorted(tuple(row.values()) for part in parts.values() for row in part) + sorted(
        tuple(row.values())[:4] for row in rejected
    )
    assert sorted(back) == sorted(tuple(row.values()) for row in read_rows(rows))
    assert (
        "200 rows in 90 groups, the largest of 4 rows; 10 images are near-duplicates of another one"
        in result.stdout
    )
    assert "2 rows can't be used" in result.stdout


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does(
    rows: Path, tmp_path: Path
) -> None:
    header, *lines = rows.read_text().splitlines()
    random.Random(1).shuffle(lines)
    shuffled = tmp_path / "shuffled.csv"
    shuffled.write_text("\n".join([header, *lines]) + "\n")
    sides = []
    for number, (source, seed) in enumerate([(rows, 0), (shuffled, 0), (rows, 1)]):
        folder = tmp_path / str(number)
        assert (
            run(source, "--output-dir", folder, "--no-near-duplicates", "--seed", seed).exit_code
            == 0
        )
        sides.append(
            {
                name: sorted(map(str, read_rows(folder / f"{name}.csv")))
                for name in ("train", "val", "test")
            }
        )
    assert sides[0] == sides[1] != sides[2]


def test_one_image_under_several_spellings_stands_on_one_side(tmp_path: Path) -> None:
    spellings = ("images/{}.png", "./images/{}.png", "images/../images/{}.png", "{}/images/{}.png")
    rows = [
        (spelling.format(number, number).replace(f"{number}/", f"{tmp_path}/", 1), "red", 1)
        if spelling.startswith("{")
        else (spelling.format(number), "red", 1)
        for number in range(20)
        for spelling in spellings
    ]
    parts = mismatch.split(
        [dict(zip(("image_path", "text", "label"), row, strict=True)) for row in rows],
        image_base_path=str(tmp_path),
        allow_outside_images=True,
        near_duplicates=False,
    ).parts
    sides = [{Path(row["image_path"]).name for row in part} for part in parts.values()]
    assert sorted(map(len, sides)) == [2, 2, 16]
    assert len(set.union(*sides)) == 20


@pytest.mark.parametrize("how", [["--group-by-text"], ["--group-column", "shop"]])
def test_texts_and_columns_can_be_kept_together(how: list[str], rows: Path, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(
        "image_path,text,label,shop\n"
        + "".join(f"{i}.png,text {i % 31},{i % 2},shop {i % 31}\n" for i in range(310))
    )
    assert (
        run(source, "--output-dir", tmp_path / "out", "--no-near-duplicates", *how).exit_code == 0
    )
    column = "text" if how[0] == "--group-by-text" else "shop"
    values = [
        {row[column] for row in read_rows(tmp_path / "out" / f"{name}.csv")}
        for name in ("train", "val", "test")
    ]
    assert all(values)
    assert sum(map(len, values)) == len(set.union(*values)) == 31


def test_rows_without_labels_and_two_shares(rows: Path, tmp_path: Path) -> None:
    source = tmp_path / "pairs.csv"
    source.write_text("image_path,text\n" + "".join(f"{i}.png,text {i}\n" for i in range(100)))
    result = run(
        source,
        "--output-dir",
        tmp_path / "out",
        "--no-near-duplicates",
        "--fractions",
        "9,1",
        "--json",
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {name: part["rows"] for name, part in report["splits"].items()} == {
        "train": 90,
        "val": 10,
    }
    assert not (tmp_path / "out" / "test.csv").exists()


def test_an_earlier_split_is_kept_unless_told_otherwise(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("mine")
    refused = run(rows, "--output-dir", tmp_path, "--no-near-duplicates")
    assert refused.exit_code == 2
    assert (
        "val.csv exists already; choose another --output-dir, or pass --overwrite" in refused.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["val.csv"]
    assert (
        run(rows, "--output-dir", tmp_path, "--no-near-duplicates", "--overwrite").exit_code == 2
    ), "no split wrote it"
    assert (tmp_path / "val.csv").read_text() == "mine"
    (tmp_path / "val.csv").write_text(rows.read_text().partition("\n")[0] + "\n")
    assert run(rows, "--output-dir", tmp_path, "--no-near-duplicates", "--overwrite").exit_code == 0
    assert len(read_rows(tmp_path / "val.csv")) == 20


def test_on_a_full_disk_every_file_of_the_earlier_split_stays(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(rows, "--output-dir", tmp_path, "--no-near-duplicates").exit_code == 0
    before = hashes(tmp_path)
    real = os.fsync
    calls: list[int] = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == len(before):  # all are written but one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    options = ["--no-near-duplicates", "--overwrite", "--seed", "7"]
    full = run(rows, "--output-dir", tmp_path, *options)
    assert full.exit_code == 2
    assert "No space left on device" in full.stderr
    assert hashes(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "args", "said"),
    [
        (
            "image_path,text\na.png,x\n",
            ["--group-column", "shop"],
            "there is no column 'shop'; found 'image_path', 'text'",
        ),
        ("image_path,text\n", ["--no-near-duplicates"], "there are no rows under the header"),
        ("image_path,text\na.png,x\n", [], "a.png"),
        ("image_path,text\na.png,x\n", ["--fractions", "1,x"], "is not a list of numbers"),
        ("image_path,text\na.png,x\n", ["--fractions", "1"], "two or three shares"),
        (
            "image_path,text,label\na.png,x,7\n",
            ["--no-near-duplicates"],
            "label '7' is neither 0 nor 1",
        ),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    content: str, args: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text(content)
    result = run(tmp_path / "rows.csv", "--output-dir", tmp_path / "out", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_group_that_is_too_large_is_said(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "image_path,text\n" + "".join(f"{'a' if i < 60 else i}.png,text {i}\n" for i in range(100))
    )
    result = run(tmp_path / "rows.csv", "--output-dir", tmp_path / "out", "--no-near-duplicates")
    assert "warning: the largest group is larger than the smallest split should be" in result.stdout
    assert len(read_rows(tmp_path / "out" / "train.csv")) == 80


def test_components_over_several_columns() -> None:
    assert join([0, 1, 2, 3, 0], [["a", "b", "b", "c", "d"], ["x", "y", "z", "x", "w"]]) == [
        0,
        1,
        1,
        0,
        0,
    ]


def test_shares_must_add_up() -> None:
    with pytest.raises(InputError, match=r"the fractions 0\.5, 0\.4 don't add up to 1"):
        assign([0], ["a"], ["k"], fractions=(0.5, 0.4))


def test_many_rows_and_rare_strata() -> None:
    draw = random.Random(0)
    groups = [draw.randrange(3_000) for _ in range(20_000)]
    strata = ["rare" if draw.random() < 0.01 else "common" for _ in groups]
    splits = assign(groups, strata, [str(group) for group in groups])
    for stratum in ("rare", "common"):
        counts = Counter(
            split for split, kind in zip(splits, strata, strict=True) if kind == stratum
        )
        assert counts[0] / counts.total() == pytest.approx(0.8, abs=0.01)
    assert len({(group, split) for group, split in zip(groups, splits, strict=True)}) == len(
        set(groups)
    )


def test_an_image_is_decoded_once(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def open_and_count(path: Path) -> Image.Image:
        opened.append(path)
        return open_image(path)

    monkeypatch.setattr(preprocess, "open_image", open_and_count)
    assert (
        run(
            rows, "--image-base-path", rows.parent, "--output-dir", tmp_path, "--num-workers", 1
        ).exit_code
        == 0
    )
    assert len(opened) == len(set(opened)) == 101


def test_the_input_is_never_written_over(rows: Path, tmp_path: Path) -> None:
    source = tmp_path / "train.csv"
    source.write_bytes(rows.read_bytes())
    result = run(source, "--output-dir", tmp_path, "--no-near-duplicates", "--overwrite")
    assert (result.exit_code, source.read_bytes()) == (2, rows.read_bytes())
    assert "train.csv is the input, which would be lost" in result.stderr


PARTS = ("train", "val", "test")


def test_from_python_it_writes_what_the_command_writes(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"image_base_path": rows.parent, "stratify_columns": ["shop"]}
    result = mismatch.split(str(rows), output_dir=tmp_path / "python", **options)
    assert isinstance(result, mismatch.SplitResult)
    assert capsys.readouterr() == ("", "")
    done = run(
        rows,
        *("--image-base-path", rows.parent, "--stratify-column", "shop", "--json"),
        *("--output-dir", tmp_path / "command"),
    )
    assert json.loads(done.stdout) == result.to_dict()
    for name in (*PARTS, "rejected"):
        written = (tmp_path / "python" / f"{name}.csv").read_bytes()
        assert written == (tmp_path / "command" / f"{name}.csv").read_bytes()
    assert result.train == result.parts["train"] == tmp_path / "python" / "train.csv"
    assert result.rejected_rows == tmp_path / "python" / "rejected.csv"


def test_from_python_without_a_folder_it_returns_the_rows(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(rows, "--image-base-path", rows.parent, "--output-dir", tmp_path)
    result = mismatch.split(rows, image_base_path=rows.parent)
    for name in PARTS:
        assert result.parts[name] == read_rows(tmp_path / f"{name}.csv")
    assert [row["reason"] for row in result.rejected_rows][1] == "the text is empty"
    mappings = read_rows(rows)
    again = mismatch.split(iter(mappings), image_base_path=rows.parent)
    assert again.parts == result.parts
    assert again.to_dict() == result.to_dict()
    assert "train" not in repr(result).replace("'train': SplitPart", "")
    assert capsys.readouterr() == ("", "")


def test_a_frame_is_split_into_frames_with_its_own_index(rows: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(rows)
    frame.index = [f"row {number}" for number in range(len(frame))]
    result = mismatch.split(frame, image_base_path=rows.parent, fractions=(0.75, 0.25))
    assert result.test is None
    together = pandas.concat(
        [result.train, result.val, result.rejected_rows.drop(columns="reason")]
    )
    pandas.testing.assert_frame_equal(together.loc[frame.index], frame)
    assert list(result.rejected_rows.index) == ["row 50", "row 51"]


def test_images_in_memory_stay_there(rows: Path, tmp_path: Path) -> None:
    mappings: list[dict[str, Any]] = [
        {"image": (rows.parent / row["image_path"]).read_bytes(), "text": row["text"]}
        for row in read_rows(rows)[:40]
    ]
    result = mismatch.split(mappings, fractions=(1, 1))
    assert sorted(row["text"] for row in [*result.train, *result.val]) == sorted(
        row["text"] for row in mappings
    )
    assert all(isinstance(row["image"], bytes) for row in result.train)
    with pytest.raises(InputError, match=r"row 1: .*in memory.*`output_dir`"):
        mismatch.split(mappings, output_dir=tmp_path / "out", near_duplicates=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fractions", [(1,), (0.5, 0), (1, float("nan")), ("a", 1), None, 3])
def test_fractions_that_are_none(fractions: Any, rows: Path) -> None:
    with pytest.raises(InputError, match=r"`fractions` .* two or three shares above 0"):
        mismatch.split(rows, fractions=fractions)


def test_a_split_with_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "image_path,text\n" + "".join(f"{i}.png,text {i}\n" for i in range(100))
    )
    result = run(
        tmp_path / "rows.csv",
        *("--output-dir", tmp_path / "out", "--no-near-duplicates"),
        *("--fractions", "1e-9,0.5,0.499999999"),
    )
    assert result.exit_code == 2
    assert "train would hold none of the 100 rows" in result.stderr
    assert "--fractions" in result.stderr
    assert not (tmp_path / "out").exists()


def test_another_part_without_rows_is_said(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "image_path,text\n" + "".join(f"{i % 2}.png,text {i}\n" for i in range(100))
    )
    result = run(tmp_path / "rows.csv", "--output-dir", tmp_path / "out", "--no-near-duplicates")
    assert result.exit_code == 0, result.output
    empty = [name for name in ("val", "test") if not read_rows(tmp_path / "out" / f"{name}.csv")]
    [line] = [line for line in result.stdout.splitlines() if "no rows" in line]
    assert line.startswith("warning: ")
    assert [name for name in PARTS if f"{name}.csv" in line] == empty != []


def test_a_wrong_option_is_named(rows: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'image_base_path'"):
        mismatch.split(rows, image_base="x")  # type: ignore[call-arg]
