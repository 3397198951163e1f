"""mismatch.data.embedded.containers: an image by its name; files are opened once, and again once
they change.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from mismatch.data.embedded import containers
from mismatch.data.embedded.containers import open_encoded, open_member, open_table, open_tar
from mismatch.errors import ImageError, ImageNotFoundError, InputError
from tests.support.embedded import FORMATS, drawn_rows, image_table, write_tar

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = drawn_rows(30)


def content(path: str | Path) -> bytes:
    member = open_member(path)
    assert member is not None
    return member.read()


def test_an_image_by_its_name(tmp_path: Path) -> None:
    parquet = FORMATS["parquet"](tmp_path, ROWS)
    tar = FORMATS["webdataset"](tmp_path, ROWS)
    assert content(f"{parquet}:1") == ROWS[0].image
    assert content(f"{parquet}:image:30") == ROWS[29].image
    assert content(f"{tar}:000000029") == ROWS[29].image
    assert open_member(tmp_path / "a.jpg") is None
    assert open_encoded(f"{tar}:000000003").read() == ROWS[3].image


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rows.parquet:31", r"rows\.parquet has no row 31; it has 30 rows"),
        ("rows.parquet:0", "no row 0"),
        ("rows.parquet:-1", "no row -1"),
        ("rows.parquet:" + "9" * 30, "no row 9"),
        ("rows.parquet:text:1", "no column 'text' of images"),
        ("gone.parquet:1", r"there is no file .*gone\.parquet"),
        ("rows.parquet/x.tar:1", "there is no file"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, name: str, said: str) -> None:
    FORMATS["parquet"](tmp_path, ROWS)
    with pytest.raises(ImageNotFoundError, match=said):
        open_member(tmp_path / name)


def test_a_row_without_an_image(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"1", None], "text": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(ImageNotFoundError, match="the row holds no image"):
        open_member(tmp_path / "a.parquet:2")


@pytest.mark.parametrize("ending", ["parquet", "arrow", "tar"])
def test_a_damaged_file_is_named(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").write_bytes(b"neither this nor that" * 100)
    with pytest.raises(ImageError, match=rf"a\.{ending}"):
        open_member(tmp_path / f"a.{ending}:1")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(ImageError, match="a pipe or a device"):
        open_member(tmp_path / "a.tar:1")


def test_images_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    pq.write_table(image_table([ROWS[0]]), tmp_path / "a.parquet")
    write_tar(tmp_path / "a.tar", [("1.jpg", ROWS[0].image)])
    for name in ("a.parquet:1", "a.tar:1"):
        with pytest.raises(ImageError, match="more than 40 bytes"):
            open_member(tmp_path / name)


def test_a_file_that_changes_is_opened_again(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"one")])
    assert content(f"{path}:1") == b"one"
    write_tar(tmp_path / "b.tar", [("1.jpg", b"two")]).replace(path)
    assert content(f"{path}:1") == b"two"


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_OPEN", 2)
    paths = [write_tar(tmp_path / f"{i}.tar", [("1.jpg", b"%d" % i)]) for i in range(9)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(content, [f"{paths[i % 9]}:1" for i in range(200)]))
    assert found == [b"%d" % (i % 9) for i in range(200)]
    assert len(containers._OPEN.files) == 2


def test_a_forked_process_begins_without_files(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"one")])
    content(f"{path}:1")
    with containers._OPEN.lock:  # as a thread that another one's fork would leave behind
        child = os.fork()
        if not child:
            os._exit(content(f"{path}:1") != b"one")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_each_kind_is_opened_as_such(tmp_path: Path) -> None:
    parquet = FORMATS["parquet"](tmp_path, ROWS)
    tar = FORMATS["webdataset"](tmp_path, ROWS)
    assert open_table(parquet).count == len(open_tar(tar).samples) == 30
    with pytest.raises(InputError, match=r"rows\.parquet is no tar archive"):
        open_tar(parquet)
    with pytest.raises(InputError, match=r"rows\.tar is a tar archive"):
        open_table(tar)
