"""mismatch.data.embedded.shared_file: threads read one file, each where it needs to."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mismatch.data.embedded.shared_file import SharedFile


@pytest.mark.parametrize("has_pread", [True, False])
def test_many_threads_read_where_they_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_pread: bool
) -> None:
    if not has_pread:
        monkeypatch.delattr(os, "pread", raising=False)
    path = tmp_path / "numbers"
    path.write_bytes(b"".join(number.to_bytes(4, "big") for number in range(5_000)))
    file = SharedFile(path)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda number: file.read(4 * number, 4), range(5_000)))
    assert [int.from_bytes(data, "big") for data in read] == list(range(5_000))
    assert file.read(4 * 4_999, 100) == (4_999).to_bytes(4, "big")
    assert file.read(10**6, 4) == b""


def test_it_is_closed_once_nobody_has_it(tmp_path: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("open files are counted in /proc")
    (tmp_path / "a").touch()
    before = len(list(folder.iterdir()))
    files = [SharedFile(tmp_path / "a") for _ in range(5)]
    assert len(list(folder.iterdir())) == before + 5
    del files
    assert len(list(folder.iterdir())) == before
