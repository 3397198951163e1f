"""mismatch.data.embedded.names: which paths name an image in a file of rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data.columns import Columns, file_finder
from mismatch.data.confined import ConfinedFolder
from mismatch.data.embedded.names import container_of, member_name, split_member


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("train.parquet:17", ("train.parquet", "17")),
        ("a/train.PARQUET:image 2:17", ("a/train.PARQUET", "image 2:17")),
        ("shards/00000.tar:a/b/000001", ("shards/00000.tar", "a/b/000001")),
        ("data/d.arrow:1", ("data/d.arrow", "1")),
        ("a.tar:b.tar:c", ("a.tar", "b.tar:c")),
        ("C:/data/x.pq:3", ("C:/data/x.pq", "3")),
        ("photo.jpg", None),
        ("photo.jpg:3", None),
        ("train.parquet:", None),
        ("train.parquet", None),
    ],
)
def test_a_file_and_a_key(path: str, parts: tuple[str, str] | None) -> None:
    assert split_member(path) == parts
    assert split_member(Path(path)) == parts


def test_a_file_of_such_a_name_counts(tmp_path: Path) -> None:
    name = str(tmp_path / "a.tar:1")
    assert container_of(name) == str(tmp_path / "a.tar")
    Path(name).touch()
    assert container_of(name) == name


def test_names_are_relative_to_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert member_name("data/a.tar", "") == "data/a.tar"
    assert member_name("data/a.tar", "data") == "a.tar"
    assert member_name(tmp_path / "data" / "a.tar", ".") == "data/a.tar"
    assert member_name("data/a.tar", "photos") == str(tmp_path / "data" / "a.tar")


def test_an_image_leaves_a_folder_where_its_file_of_rows_does(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "out.tar").touch()
    (inside / "own.tar").touch()
    (inside / "link.tar").symlink_to(tmp_path / "out.tar")
    confined = ConfinedFolder(str(inside))
    assert not confined.leaves("own.tar:a/../../b")  # a key is no path
    assert confined.leaves("../out.tar:1")
    assert confined.leaves("link.tar:1")
    problem = Columns(inside=str(inside)).path_problem("link.tar:1")
    assert "link.tar:1" in (problem or "")


def test_links_to_a_file_of_rows_hold_the_same_images(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    (tmp_path / "b.tar").symlink_to(tmp_path / "a.tar")
    file = file_finder(str(tmp_path))
    assert file("a.tar:x/1") == file("./b.tar:x/1") == str(tmp_path.resolve() / "a.tar:x/1")
    assert file("a.tar:x/1") != file("a.tar:x/2")
