"""mismatch.predict_file: many rows from Python, without a word on standard output."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import InputError
from mismatch.runtime.predictor import Predictor
from tests.support.processes import command_line

ROWS = [
    {"image_path": f"{name}.png", "text": text, "sku": number}
    for number, (name, text) in enumerate(
        [("red", "red shirt"), ("blue", "red"), ("gone", "red"), ("green", "green bag")]
    )
]


@pytest.fixture
def model(colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """The numpy engine, in the folder of its images."""
    monkeypatch.chdir(colour_images)
    return Predictor(colour_engine())


def predictions(path: str) -> list[str]:
    with open(path, encoding="utf-8", newline="") as file:
        return [row["prediction"] for row in csv.DictReader(file)]


def test_a_path_mappings_and_a_frame_give_the_same(
    model: Predictor, write_rows: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    path = write_rows(Path("rows.csv"), [ROWS[0], *(row.values() for row in ROWS)])
    found = mismatch.predict_file(model, path, "path.csv", keep_columns=True)
    assert isinstance(found, mismatch.PredictFileResult)
    assert (found.rows, found.scored, found.failed, found.written) == (4, 3, 1, 4)
    assert (found.output, found.parts, found.long_texts, found.notes) == ("path.csv", None, 0, ())
    assert found.to_dict()["scored"] == 3
    assert found.summary()[0] == "3 rows scored → path.csv; 1 could not be: see their status"
    for name, rows in {"frame": pandas.DataFrame(ROWS), "generator": iter(ROWS)}.items():
        again = mismatch.predict_file(model, rows, Path(f"{name}.csv"), keep_columns=True)
        assert again.rows == 4
        assert Path(f"{name}.csv").read_bytes() == Path("path.csv").read_bytes()
    assert predictions("path.csv") == ["match", "mismatch", "error", "match"]
    assert capsys.readouterr() == ("", "")


def test_images_in_memory_and_a_folder(model: Predictor) -> None:
    rows = [{"image": Path("red.png").read_bytes(), "text": "red"}]
    mismatch.predict_file(model, rows, "memory.csv")
    assert predictions("memory.csv") == ["match"]
    Path("red.txt").write_text("red")
    found = mismatch.predict_file(model, None, "folder.csv", images=".")
    assert "images have no title" in found.notes[0]
    assert predictions("folder.csv") == ["match"]


def test_the_lowest_and_a_shard(model: Predictor) -> None:
    found = mismatch.predict_file(model, ROWS, "top.csv", top=1)
    assert (found.rows, found.written) == (4, 1)
    assert predictions("top.csv") == ["mismatch"]
    mismatch.predict_file(model, ROWS, "shard.jsonl", shard="2/2")
    shard = [json.loads(line)["text"] for line in Path("shard.jsonl").read_text().splitlines()]
    assert shard == ["red", "green bag"]


def test_standard_output_only_where_it_is_named(
    model: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    mismatch.predict_file(model, ROWS, "-")
    printed, errors = capsys.readouterr()
    assert [row["text"] for row in csv.DictReader(io.StringIO(printed))] == [
        row["text"] for row in ROWS
    ]
    assert errors == ""


def test_if_no_row_can_be_scored_that_is_an_error(
    model: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), pytest.raises(InputError, match="list: not one of its 1 rows"):
        mismatch.predict_file(model, [ROWS[2]], "out.csv")
    assert caplog.messages == ["0 rows scored → out.csv; 1 could not be: see their status"]
    assert predictions("out.csv") == ["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_base": "."}, "no option 'image_base'; did you mean 'image_base_path'"),
        ({"images": "."}, "give either `rows` or `images`"),
        ({"resume": True, "top": 3}, "nothing to resume"),
        ({"engine": "dask"}, "`engine` is 'dask'; local or ray"),
        ({"actors": 2}, "`actors` goes with `engine='ray'`"),
        ({"engine": "ray"}, "loads the model on each machine"),
        ({"engine": "ray", "top": 2}, "go with `engine='local'`"),
        ({"shard": "5/2"}, "is not a shard"),
        ({"threshold": 0.5}, "`threshold` goes with a model's folder or name"),
    ],
)
def test_what_does_not_go_together_is_refused(
    model: Predictor, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        mismatch.predict_file(model, ROWS, "out.csv", **options)
    assert not Path("out.csv").exists()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="there is no /dev/stdout")
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "link"])
def test_shards_that_are_appended_to_one_file_are_all_there(
    colour_images: Path, tiny_bundles: dict[str, Path], write_rows: Any, name: str
) -> None:
    write_rows(colour_images / "rows.csv", [ROWS[0], *(row.values() for row in ROWS)])
    (colour_images / "link").symlink_to("/dev/stdout")
    with (colour_images / "app.csv").open("ab") as file:
        for shard in ("1/2", "2/2"):
            model = ("--model", tiny_bundles["openclip"], "--shard", shard)
            command = command_line("predict", "--csv", "rows.csv", *model, "--output", name)
            done = subprocess.run(command, cwd=colour_images, stdout=file, stderr=-1, check=True)
            assert b" rows scored" in done.stderr
    lines = (colour_images / "app.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == [
        *("text", "red shirt", "red"),
        *("text", "red", "green bag"),
    ]


def test_a_first_row_without_an_image_leaves_the_others_their_names(model: Predictor) -> None:
    images = [None, Path("red.png").read_bytes(), None, Path("blue.png").read_bytes()]
    rows = [{"image": image, "text": "red"} for image in images]
    mismatch.predict_file(model, rows, "scores.csv")
    with open("scores.csv", encoding="utf-8", newline="") as file:
        found = [row["image_path"] for row in csv.DictReader(file)]
    assert found == ["", "row-2", "", "row-4"]
    assert predictions("scores.csv") == ["error", "match", "error", "mismatch"]


TITLES = ["红色衬衫", "红色", "蓝色手提包", "绿色"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("encoding", ["gb18030", "utf-16-le"])
def test_rows_in_another_encoding_give_the_same_bytes(
    model: Predictor, suffix: str, encoding: str
) -> None:
    names = [row["image_path"] for row in ROWS]
    rows = [
        dict(zip(("image_path", "text"), map(str, pair), strict=True))
        for pair in zip(names, TITLES, strict=True)
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if suffix == ".csv":
        text = "image_path,text\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    Path(f"utf8{suffix}").write_text(text, encoding="utf-8")
    Path(f"other{suffix}").write_bytes(text.encode(encoding))
    mismatch.predict_file(model, f"utf8{suffix}", "utf8_out.csv")
    mismatch.predict_file(model, f"other{suffix}", "out.csv", encoding=encoding)
    whole = Path("utf8_out.csv").read_bytes()
    assert Path("out.csv").read_bytes() == whole
    with pytest.raises(InputError, match=f"`encoding='{encoding}'`"):
        mismatch.predict_file(model, f"other{suffix}", "refused.csv")
    mismatch.predict_file(model, rows, "memory.csv", encoding=encoding)
    assert Path("memory.csv").read_bytes() == whole
    shards = []
    for shard in ("1/2", "2/2"):
        name = f"shard{shard[0]}.jsonl"
        mismatch.predict_file(model, f"other{suffix}", name, encoding=encoding, shard=shard)
        shards += [json.loads(line)["text"] for line in Path(name).read_text("utf-8").splitlines()]
    assert sorted(shards) == sorted(TITLES)


def test_pictures_in_a_folder_that_can_not_be_read_are_said(model: Predictor) -> None:
    folder = Path("shop")
    folder.mkdir()
    (folder / "a.png").write_bytes(Path("red.png").read_bytes())
    (folder / "a.TXT").write_bytes("红色".encode("gbk"))
    (folder / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (folder / "c.txt").write_text("red")
    (folder / "d.xyz").write_bytes(b"x")
    found = mismatch.predict_file(model, None, "out.jsonl", images=folder, encoding="gbk")
    first, second = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines()]
    assert (first["image_path"], first["text"], first["status"]) == ("a.png", "红色", "ok")
    assert (second["image_path"], second["prediction"]) == ("c.heic", "error")
    assert "c.heic' is HEIC" in second["status"]
    assert found.notes == ("1 file has a suffix of no image and was not scored: d.xyz",)
