"""mismatch.jobs.output.shards: rows as webdataset archives."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.io.atomic import together
from mismatch.jobs.output.shards import shard_table, shards_of

PNG = b"\x89PNG\r\n\x1a\n and more"
HEADER = ["image_path", "text", "label"]


def row(label: str = "1") -> Row:
    columns = {"image_path": "a/b.png", "text": " 红, red\n", "label": label}
    return Row(2, columns["image_path"], columns["text"], None, columns)


def write(path: Path, *labels: str) -> bytes:
    with together() as names, shard_table(path, HEADER, names) as shard:
        for number, label in enumerate(labels, start=1):
            shard.add(number, row(label), PNG)
        assert shard.count == len(labels)
    return path.read_bytes()


def test_a_sample_has_its_image_text_label_and_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", "1", "no")
    with tarfile.open(tmp_path / "a.tar") as archive:
        names = archive.getnames()
        read = {member.name: archive.extractfile(member) for member in archive}
        content = {name: file.read() for name, file in read.items() if file is not None}
        assert {member.mtime for member in archive.getmembers()} == {0}
    assert names == [
        *("000000000.cls", "000000000.json", "000000000.png", "000000000.txt"),
        *("000000001.json", "000000001.png", "000000001.txt"),
    ]
    assert content["000000000.png"] == PNG
    assert content["000000000.cls"] == b"1"
    assert content["000000000.txt"].decode() == row().text
    assert json.loads(content["000000001.json"]) == row("no").columns


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.tar", "1", "0") == write(tmp_path / "b.tar", "1", "0")


def test_a_pattern_names_several(tmp_path: Path) -> None:
    shards = shards_of(tmp_path / "a-%03d.tar")
    assert shards is not None
    assert shards.several
    assert shards.path(12) == tmp_path / "a-012.tar"
    assert shards.path(1234) == tmp_path / "a-1234.tar"
    for name in ("a-001.tar", "a-1000.tar", "a-1.tar", "b-001.tar", "a-001.tar.part"):
        (tmp_path / name).touch()
    assert shards.earlier() == [tmp_path / "a-001.tar", tmp_path / "a-1000.tar"]
    one = shards_of(tmp_path / "a.TAR")
    assert one is not None
    assert not one.several
    assert one.path(0) == tmp_path / "a.TAR"
    assert shards_of(tmp_path / "a.csv") is None


@pytest.mark.parametrize(
    ("name", "words"),
    [("{00..09}.tar", "write %05d"), ("a-{1,2}.tar", "write %05d"), ("%05d-%05d.tar", "once")],
)
def test_other_patterns_are_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        shards_of(tmp_path / name)


def test_an_archive_is_known_by_its_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", "1")
    shards = shards_of(tmp_path / "a.tar")
    assert shards is not None
    assert shards.kind(HEADER).is_known(tmp_path / "a.tar")
    assert not shards.kind([*HEADER, "more"]).is_known(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("b.json"))
    (tmp_path / "c.tar").write_text("no archive")
    for name in ("b.tar", "c.tar"):
        assert not shards.kind(HEADER).is_known(tmp_path / name)
