"""mismatch.runtime.cache: nothing is encoded twice, nothing half-written is read, the size is
bounded, writers don't disturb each other.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.errors import CheckpointError, ImageError
from mismatch.io.remote import Remote
from mismatch.runtime.cache import EmbeddingCache, HashedFile, bytes_key, hash_file, text_key


def key(i: int) -> bytes:
    return i.to_bytes(16, "big")


def hashed(path: Path | Remote) -> HashedFile:
    found = hash_file(path)
    assert isinstance(found, HashedFile)
    return found


def key_of(path: Path | Remote) -> bytes:
    return hashed(path).key


def rows(*numbers: int) -> dict[bytes, Any]:
    return {key(i): np.full(4, i, np.float32) for i in numbers}


def test_what_one_writer_wrote_another_reads(tmp_path: Path) -> None:
    first, second = EmbeddingCache(tmp_path, "aa"), EmbeddingCache(tmp_path, "aa")
    first.put_many(rows(1, 2))
    second.put_many(rows(3))
    fresh = EmbeddingCache(tmp_path, "aa")
    assert len(fresh) == 3
    found = fresh.get_many([key(3), key(2), key(9)])
    assert {k: v.tolist() for k, v in found.items()} == {key(3): [3.0] * 4, key(2): [2.0] * 4}
    assert len(EmbeddingCache(tmp_path, "bb")) == 0, "other weights, other embeddings"


@pytest.mark.parametrize(
    "damage", ["no array", "empty array", "cut array", "cut keys", "keys only begun"]
)
def test_a_damaged_segment_counts_as_absent(tmp_path: Path, damage: str) -> None:
    cache = EmbeddingCache(tmp_path, "aa")
    cache.put_many(rows(1, 2))
    [keys] = cache.folder.glob("*.keys")
    array = keys.with_suffix(".npy")
    if damage == "no array":
        array.unlink()
    elif damage == "empty array":
        array.write_bytes(b"")
    elif damage == "cut array":
        array.write_bytes(array.read_bytes()[:-8])
    elif damage == "cut keys":
        keys.write_bytes(keys.read_bytes()[:-8])
    else:
        keys.rename(keys.with_name(f".{keys.name}.part.keys.tmp"))
    again = EmbeddingCache(tmp_path, "aa")
    assert len(again) == 0
    again.put_many(rows(1, 2))
    assert len(EmbeddingCache(tmp_path, "aa")) == 2


def test_embeddings_of_another_width_count_as_damaged(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "aa")
    cache.put_many(rows(1))
    assert cache.get_many([key(1)], 4).keys() == {key(1)}
    assert cache.get_many([key(1)], 5) == {}


def test_the_oldest_segments_go_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "aa", max_bytes=2 * (128 + 20))
    for i in range(4):
        cache.put_many(rows(i))
        for age, path in enumerate(
            sorted(cache.folder.glob("*.npy"), key=lambda p: p.stat().st_mtime_ns)
        ):
            os.utime(path, (1000 + 10 * i + age, 1000 + 10 * i + age))
    left = EmbeddingCache(tmp_path, "aa")
    assert key(3) in left.get_many([key(i) for i in range(4)])
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.npy")) <= 2 * (128 + 20)
    assert {path.stem for path in tmp_path.glob("*/*.npy")} == {
        path.stem for path in tmp_path.glob("*/*.keys")
    }


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="`cache`"):
        EmbeddingCache(tmp_path / "file", "aa")


def test_of_two_embeddings_of_one_content_the_older_counts_and_a_new_one_replaces_one_that_is_gone(
    tmp_path: Path,
) -> None:
    for value in (1.0, 2.0):
        EmbeddingCache(tmp_path, "aa").put_many({key(1): np.full(4, value, np.float32)})
    first, second = sorted(
        (tmp_path / "aa").glob("*.keys"),
        key=lambda path: float(np.load(path.with_suffix(".npy"))[0, 0]),
    )
    for age, path in enumerate((first, second)):
        os.utime(path, (1000 + age, 1000 + age))
    assert EmbeddingCache(tmp_path, "aa").get_many([key(1)])[key(1)].tolist() == [1.0] * 4
    os.utime(first, (2000, 2000))
    assert EmbeddingCache(tmp_path, "aa").get_many([key(1)])[key(1)].tolist() == [2.0] * 4


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_many_segments_hold_no_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    cache = EmbeddingCache(tmp_path, "aa")
    for i in range(100):
        cache.put_many(rows(i))
    again = EmbeddingCache(tmp_path, "aa")
    found = again.get_many([key(i) for i in range(120)])
    assert {k: v.tolist() for k, v in found.items()} == {key(i): [float(i)] * 4 for i in range(100)}
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_shortage_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    EmbeddingCache(tmp_path, "aa").put_many(rows(1))

    def load(path: Path, *kind: object, **options: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(np, "memmap", load)
    with pytest.raises(CheckpointError, match=os.strerror(number)):
        EmbeddingCache(tmp_path, "aa")


def test_a_file_in_use_stays_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EmbeddingCache(tmp_path, "aa", max_bytes=144)
    cache.put_many(rows(1))

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "in use", str(path))

    monkeypatch.setattr(Path, "unlink", unlink)
    cache.put_many(rows(2))
    assert len(cache.get_many([key(1), key(2)])) == 2


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 4096])
def test_a_files_hash_is_its_contents(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert key_of(tmp_path / "a") == bytes_key(content) != text_key(content.decode("latin-1"))


def test_the_index_is_as_good_as_a_dict(tmp_path: Path) -> None:
    """Over keys that end in zero bytes, in segments that overlap, found in this process and by the
    next one.
    """
    chance = np.random.default_rng(0)
    cache = EmbeddingCache(tmp_path, "aa")
    truth: dict[bytes, np.ndarray] = {}
    for _ in range(20):
        chosen = [
            int(i) << 8 * int(shift)
            for i, shift in zip(chance.integers(1, 60, 30), chance.integers(0, 15, 30), strict=True)
        ]
        fresh = {key(i): np.array([i % 977, 1], np.float32) for i in chosen if key(i) not in truth}
        cache.put_many(fresh)
        truth |= fresh
    absent = [key(i) for i in (0, 61, 2**127)]
    for reader in (cache, EmbeddingCache(tmp_path, "aa")):
        assert len(reader) == len(truth) > 200
        found = reader.get_many([*truth, *absent, *truth])
        assert {name: value.tolist() for name, value in found.items()} == {
            name: value.tolist() for name, value in truth.items()
        }


def test_what_is_written_anew_counts_for_the_writer(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "aa")
    cache.put_many(rows(1, 2))
    for path in cache.folder.iterdir():
        path.unlink()
    assert cache.get_many([key(1), key(2)]) == {}
    cache.put_many({key(1): np.full(4, 7, np.float32)})
    assert [value.tolist() for value in cache.get_many([key(1), key(2)]).values()] == [[7.0] * 4]


@pytest.mark.parametrize("suffix", [".npy", ".keys"])
def test_a_wrong_bit_makes_an_embedding_unknown_and_no_other(tmp_path: Path, suffix: str) -> None:
    EmbeddingCache(tmp_path, "aa").put_many(rows(1, 2, 3))
    [path] = (tmp_path / "aa").glob(f"*{suffix}")
    data = bytearray(path.read_bytes())
    data[128 + 20 + 5 if suffix == ".npy" else 16 + 3] ^= 4  # of the second one
    path.write_bytes(data)
    cache = EmbeddingCache(tmp_path, "aa")
    found = cache.get_many([key(i) for i in (1, 2, 3)])
    assert {name: value.tolist() for name, value in found.items()} == {
        key(i): [float(i)] * 4 for i in (1, 3)
    }
    cache.put_many(rows(2))
    assert cache.get_many([key(2)])[key(2)].tolist() == [2.0] * 4


def test_what_an_older_version_wrote_without_checksums_counts_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "aa").mkdir()
    np.save(tmp_path / "aa" / "0.npy", np.ones((2, 4), np.float32))
    (tmp_path / "aa" / "0.keys").write_bytes(key(1) + key(2))
    assert EmbeddingCache(tmp_path, "aa").get_many([key(1), key(2)]) == {}


def test_an_object_has_the_key_of_its_bytes(store: Remote) -> None:
    (store / "a.jpg").write(b"content")
    assert key_of(store / "a.jpg") == bytes_key(b"content")
    assert isinstance(hash_file(store / "gone.jpg"), ImageError)


def overwrite(path: Path) -> None:
    path.write_bytes(b"CONTENT")


def replace_keeping_times(path: Path) -> None:
    """With another file of the same size and the same time of its content."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    other = path.with_name("other")
    other.write_bytes(b"CONTENT")
    os.utime(other, ns=times)
    other.replace(path)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


CHANGES = [overwrite, replace_keeping_times, lengthen, Path.unlink]


@pytest.mark.parametrize("settled", [True, False], ids=["old", "just-written"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_hashed_file_knows_whether_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, settled: bool
) -> None:
    monkeypatch.setattr("mismatch.runtime.cache.SETTLED_NS", -(10**12) if settled else 2 * 10**9)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"content")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    file = hashed(path)
    assert (file.version is not None) == settled
    assert file.is_unchanged()
    change(path)
    assert not file.is_unchanged()


def test_a_file_that_was_just_written_is_judged_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"content")
    file = hashed(path)
    path.write_bytes(b"content")
    assert file.is_unchanged()


def test_an_object_that_is_written_anew_has_changed(store: Remote) -> None:
    (store / "a.jpg").write(b"content")
    file = hashed(store / "a.jpg")
    assert file.is_unchanged()
    (store / "a.jpg").write(b"CONTENT")
    assert not file.is_unchanged()
