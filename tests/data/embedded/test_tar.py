"""mismatch.data.embedded.tar: samples of archives as any program writes them; hostile ones end in a
line, and take no memory.
"""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest

from mismatch.data.embedded import tar
from mismatch.data.embedded.tar import TarSamples
from mismatch.errors import ImageError, ImageNotFoundError, InputError
from tests.support.embedded import write_tar

PICTURES = [("a.jpg", b"one"), ("a.txt", b"red"), ("b.PNG", b"two"), ("b.seg.png", b"2")]
MANY = 2**20  # bytes, more than any picture here


def read(archive: TarSamples, key: str, max_bytes: int = MANY) -> bytes:
    return archive.image(key, max_bytes, f"image {key!r}")


def test_members_of_one_stem_are_a_sample(tmp_path: Path) -> None:
    archive = TarSamples(write_tar(tmp_path / "a.tar", PICTURES))
    assert [sample.key for sample in archive.samples] == ["a", "b"]
    assert list(archive.samples[1].members) == ["png", "seg.png"]
    assert (read(archive, "a"), read(archive, "b")) == (b"one", b"two")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_in_any_format(tmp_path: Path, kind: int) -> None:
    keys = ["a" * 90, "ä" * 60, "d/" * 60 + "e", "./f", "g" * 240]
    if kind == tarfile.USTAR_FORMAT:
        keys = [key for key in keys if len(key.encode()) < 96 or "/" in key]
    with tarfile.open(tmp_path / "a.tar", "w", format=kind) as file:
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        for number, key in enumerate(keys):
            member = tarfile.TarInfo(f"{key}.jpg")
            member.size = number * 600
            file.addfile(member, io.BytesIO(bytes([number]) * member.size))
    archive = TarSamples(tmp_path / "a.tar")
    assert [sample.key for sample in archive.samples] == [key.removeprefix("./") for key in keys]
    for number, sample in enumerate(archive.samples):
        assert read(archive, sample.key) == bytes([number]) * (number * 600)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    archive = TarSamples(write_tar(tmp_path / "a.tar", [*PICTURES, ("c.txt", b"no picture")]))
    with pytest.raises(ImageNotFoundError, match=r"a\.tar has no sample 'z'"):
        read(archive, "z")
    with pytest.raises(ImageNotFoundError, match=r"no image, which one of \.jpg, .*it has \.txt"):
        read(archive, "c")
    with pytest.raises(ImageError, match="more than 2 bytes"):
        read(archive, "a", max_bytes=2)


def test_a_key_that_stands_twice_is_no_image_of_two(tmp_path: Path) -> None:
    members = [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3")]
    archive = TarSamples(write_tar(tmp_path / "a.tar", members))
    assert [sample.problem is None for sample in archive.samples] == [True, True, False]
    assert "stands twice" in (archive.samples[2].problem or "")
    assert read(archive, "a") == b"1"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_no_link_is_followed(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        member = tarfile.TarInfo("a.jpg")
        member.type = kind
        member.linkname = "/etc/passwd"
        file.addfile(member)
    with pytest.raises(ImageError, match=r"member 'a\.jpg' is (a link|no plain file)"):
        read(TarSamples(tmp_path / "a.tar"), "a")


@pytest.mark.parametrize("name", ["/a.jpg", "../a.jpg", "b/../../a.jpg"])
def test_no_name_leaves_the_archive(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as file:
        file.addfile(tarfile.TarInfo(name))
    with pytest.raises(InputError, match="leaves the archive"):
        TarSamples(path)


def test_a_compressed_archive_is_named_for_what_it_is(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as file:
        file.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(InputError, match="gzip compressed; unpack it, as gunzip does"):
        TarSamples(tmp_path / "a.tar")


@pytest.mark.parametrize("content", [b"", b"\0" * 10_240, b"image_path,text\n" * 400, b"\x89PNG"])
def test_no_archive_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tar is (an empty|no) tar archive"):
        TarSamples(tmp_path / "a.tar")


def test_an_archive_cut_short_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x" * 5_000)])
    path.write_bytes(path.read_bytes()[:2_048])
    with pytest.raises(InputError, match=r"cut short: member 'a\.jpg'"):
        TarSamples(path)


def test_what_is_said_of_a_member_is_bounded(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo("a.jpg")
        member.pax_headers = {"comment": "x" * 100_000}
        file.addfile(member)
    with pytest.raises(InputError, match="at most 65,536 are read"):
        TarSamples(tmp_path / "a.tar")


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo("a.jpg")
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(2**60)}
        file.addfile(member)
    with pytest.raises(ImageError, match="a sparse file"):
        read(TarSamples(tmp_path / "a.tar"), "a")


def test_samples_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_SAMPLES", 3)
    members = [(f"{number}.jpg", b"1") for number in range(4)]
    with pytest.raises(InputError, match="more than 3 samples"):
        TarSamples(write_tar(tmp_path / "a.tar", members))


def test_damage_ends_in_a_line(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", PICTURES).read_bytes()
    refused = 0
    chance = random.Random(0)
    path = tmp_path / "damaged.tar"
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(4_096)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            archive = TarSamples(path)
            for sample in archive.samples:
                read(archive, sample.key)
        except InputError:
            refused += 1
    assert refused > 10, "damage is seen"
