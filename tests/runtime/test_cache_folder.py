"""mismatch.runtime.cache_folder: of what lies in a cache's folder only what the cache wrote and
lists is ever removed.
"""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.errors import CheckpointError
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.cache_folder import LIST, TAG, Namespace, cache_folder, checksum

HEX = "0123456789abcdef0123456789abcdef"
OLD = (1000, 1000)  # seconds since 1970


def rows(*numbers: int) -> dict[bytes, Any]:
    return {i.to_bytes(16, "big"): np.full(4, i, np.float32) for i in numbers}


def fill(folder: Path, count: int = 3) -> EmbeddingCache:
    """A cache so small that it keeps its newest segment only."""
    cache = EmbeddingCache(folder, "aa", max_bytes=1)
    for i in range(count):
        cache.put_many(rows(i))
    return cache


def older(folder: Path, *, lone: bool = False) -> Path:
    """A cache as older versions wrote it: no list, no tag. Returns its array."""
    cache = EmbeddingCache(folder / "made", "aa")
    cache.put_many(rows(1, 2))
    (folder / "aa").mkdir(parents=True)
    for path in cache.folder.glob("*.[nk]*"):
        path.rename(folder / "aa" / path.name)
    for path in (*cache.folder.iterdir(), cache.root / TAG):
        path.unlink()
    cache.folder.rmdir()
    cache.root.rmdir()
    if not lone:
        (folder / "notes.txt").write_text("mine")
    [array] = (folder / "aa").glob("*.npy")
    os.utime(array, OLD)
    return array


@pytest.mark.parametrize(
    "name",
    [
        "features/mine.npy",
        "features/mine.keys",
        "features/.mine.npy.part.npy",
        f"{HEX}/mine.npy",
        f"{HEX}/{HEX}.npy",
        f"{HEX}/{HEX}.keys",
        f"{HEX}/.{HEX}.npy.part.npy",
        "mine.npy",
        "CACHEDIR.TAG",
        "aa/mine.npy",
        "aa/.mine.keys.part.keys",
        f"aa/{HEX}.npy",
        f"mismatch-cache/aa/{HEX}.npy",
    ],
)
def test_what_a_user_keeps_in_the_folder_stays(tmp_path: Path, name: str) -> None:
    for folder in (tmp_path / "before", tmp_path / "after"):
        if folder.name == "after":
            fill(folder)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == TAG and path.exists():
            continue
        path.write_bytes(b"mine" * 2000)
        os.utime(path, OLD)
        with suppress(CheckpointError):  # where the cache's own subfolder is somebody's too
            fill(folder)
        assert path.read_bytes() == b"mine" * 2000


def test_a_folder_of_other_things_gets_a_cache_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    cache = fill(tmp_path)
    assert cache.root == tmp_path / "mismatch-cache"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mismatch-cache", "notes.txt"]
    assert len(EmbeddingCache(tmp_path, "aa")) == 1


def test_a_new_cache_is_tagged_for_backups_and_known_again(tmp_path: Path) -> None:
    assert cache_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (
        (tmp_path / "a" / "b" / TAG)
        .read_text()
        .startswith("Signature: 8a477f597d28d172789f06886806bc55")
    )
    (tmp_path / "a" / "b" / "notes.txt").write_text("mine")
    assert cache_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"


@pytest.mark.parametrize("lone", [True, False])
def test_what_an_older_version_wrote_is_used_listed_and_trimmed(tmp_path: Path, lone: bool) -> None:
    array = older(tmp_path, lone=lone)
    cache = EmbeddingCache(tmp_path, "bb", max_bytes=200)
    assert cache.root == tmp_path
    assert len(EmbeddingCache(tmp_path, "aa")) == 2
    assert (tmp_path / "aa" / LIST).read_text().split() == [array.stem]
    cache.put_many(rows(3, 4))
    assert not array.exists()
    assert lone or (tmp_path / "notes.txt").read_text() == "mine"


def test_a_segment_of_an_older_version_that_proves_nothing_stays(tmp_path: Path) -> None:
    """An array and keys of somebody else's, as large as ours, under names such as ours."""
    older(tmp_path)
    np.save(tmp_path / "aa" / f"{HEX}.npy", np.ones((2, 5), np.float32))
    (tmp_path / "aa" / f"{HEX}.keys").write_bytes(bytes(32))
    os.utime(tmp_path / "aa" / f"{HEX}.npy", OLD)
    fill(tmp_path)
    assert (tmp_path / "aa" / f"{HEX}.npy").exists()


@pytest.mark.parametrize("line", ["../notes", "/etc/hosts", "..", "", "é", "A" * 32])
def test_a_list_names_nothing_outside_of_its_folder(tmp_path: Path, line: str) -> None:
    cache = fill(tmp_path / "cache")
    for ending in ("npy", "keys"):
        (tmp_path / "cache" / f"notes.{ending}").write_text("mine")
    with (cache.folder / LIST).open("ab") as file:
        file.write(f"{line}\n".encode())
    assert line not in Namespace(cache.folder).segments()
    fill(tmp_path / "cache")
    assert (tmp_path / "cache" / "notes.npy").read_text() == "mine"


def test_what_a_killed_writer_began_goes_after_a_day_where_it_is_listed(tmp_path: Path) -> None:
    own = EmbeddingCache(tmp_path, "aa").folder
    begun = Namespace(own).new_segment().stem
    for name in (begun, HEX):
        (own / f".{name}.npy.part.npy").write_text("half")
        os.utime(own / f".{name}.npy.part.npy", OLD)
    (own / f".{begun}.keys.part.keys").write_text("young")
    EmbeddingCache(tmp_path, "aa")
    left = {path.name for path in own.iterdir()}
    assert left == {LIST, f".{HEX}.npy.part.npy", f".{begun}.keys.part.keys"}


@pytest.mark.parametrize("where", ["", "sub", "a/b"])
def test_no_cache_lies_in_a_model(tmp_path: Path, where: str) -> None:
    (tmp_path / "mismatch.json").write_text('{"format_version": 1, "head": {}, "score": {}}')
    with pytest.raises(CheckpointError, match=r"`cache` .* lies in the model"):
        EmbeddingCache(tmp_path / where, "aa")
    assert [path.name for path in tmp_path.iterdir()] == ["mismatch.json"]


def test_a_list_that_cannot_be_written_hinders_no_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older(tmp_path)

    def refuse(self: Namespace, names: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Namespace, "_enter", refuse)
    assert len(EmbeddingCache(tmp_path, "aa")) == 2


@pytest.mark.parametrize("name", [LIST, TAG, ".npy", ".keys"])
@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_what_is_no_file_of_a_cache_counts_as_damaged(tmp_path: Path, name: str, kind: str) -> None:
    cache = fill(tmp_path / "c", 1)
    [keys] = cache.folder.glob("*.keys")
    path = keys.with_suffix(name) if name.startswith(".") else cache.folder / name
    if name == TAG:
        path = cache.root / TAG
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(40 * 2**30)  # without blocks on the disk
    again = EmbeddingCache(tmp_path / "c", "aa")
    assert len(again) == (1 if name in (LIST, TAG) else 0)
    if name == LIST and kind != "sparse":
        with pytest.raises(CheckpointError, match="pipe or a device"):
            again.put_many(rows(9))
    else:
        again.put_many(rows(9))
        assert again.get_many(rows(9)).keys() == rows(9).keys()


def test_an_array_that_is_an_archive_counts_as_damaged(tmp_path: Path) -> None:
    cache = fill(tmp_path / "c", 1)
    [keys] = cache.folder.glob("*.keys")
    for content in (b"PK\x03\x04" + bytes(99), b"\x80\x04K\x01."):
        keys.with_suffix(".npy").write_bytes(content)
        assert len(EmbeddingCache(tmp_path / "c", "aa")) == 0


@pytest.mark.parametrize(
    "head",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 3L), }",  # Python 2's
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 3), }",
        b"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 3), }",
        b"{'descr': '<f4', 'shape': (1, 3), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 3), }",
        b"[]",
        b"(" * 9999,
    ],
)
def test_a_damaged_head_of_an_array_is_no_warning(tmp_path: Path, head: bytes) -> None:
    cache = fill(tmp_path / "c", 1)
    [keys] = cache.folder.glob("*.keys")
    array = keys.with_suffix(".npy")
    content = array.read_bytes()
    array.write_bytes(content[:8] + len(head).to_bytes(2, "little") + head + content[128:])
    before = list(warnings.filters)
    assert len(EmbeddingCache(tmp_path / "c", "aa")) == 0
    assert warnings.filters == before


def test_the_checksum_covers_key_and_row() -> None:
    row = np.ones(4, np.float32)
    assert checksum(b"a", row) not in (checksum(b"b", row), checksum(b"a", row * 2))
