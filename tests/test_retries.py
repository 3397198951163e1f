"""What may pass is tried again, a few times; what can't pass, once."""

from __future__ import annotations

import errno
import io
import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import ImageError, MachineError
from mismatch.io import retries
from mismatch.io.retries import PAUSES, open_patiently, reason, retried, shortage
from mismatch.runtime.preprocess import open_image


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that it would have slept."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def failing(times: int, number: int) -> Callable[[], str]:
    left = [times]

    def act() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return "done"

    return act


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EHOSTDOWN]
)
def test_an_error_that_passes_is_waited_for(number: int, pauses: list[float]) -> None:
    assert retried(failing(2, number)) == "done"
    assert pauses == [*PAUSES[:2]]


def test_the_last_try_says_what_is_wrong_and_how_often_it_was_tried(pauses: list[float]) -> None:
    with pytest.raises(OSError, match="Input/output error") as caught:
        retried(failing(9, errno.EIO))
    assert pauses == [*PAUSES]
    assert reason(caught.value) == "Input/output error, tried 4 times"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOSPC])
def test_what_can_not_pass_is_tried_once(number: int, pauses: list[float]) -> None:
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        retried(failing(1, number))
    assert (caught.value.errno, pauses) == (number, [])
    assert reason(caught.value) == os.strerror(number)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Reads of any FileIO fail: the `first`-th and so many after it."""

    def flaky(first: int, times: int, number: int = errno.EIO) -> None:
        calls = [0]
        real = io.FileIO.readinto

        def readinto(self: Any, buffer: Any) -> Any:
            calls[0] += 1
            if first <= calls[0] < first + times:
                raise OSError(number, os.strerror(number))
            return real(self, buffer)

        monkeypatch.setattr(retries._Strict, "readinto", readinto)

    return flaky


@pytest.mark.parametrize("size", [0, 5, 65_536, 300_000])
def test_a_file_is_read_on_where_a_read_failed(
    tmp_path: Path, flaky: Callable[..., None], size: int
) -> None:
    (tmp_path / "a").write_bytes(content := os.urandom(size))
    for first in (1, 2, 3):
        flaky(first, len(PAUSES))
        with open_patiently(tmp_path / "a") as file:
            assert file.read() == content
        flaky(first, len(PAUSES))
        with open_patiently(tmp_path / "a") as file:
            assert b"".join(iter(partial(file.read, 70_000), b"")) == content
    flaky(1, 99)
    with pytest.raises(OSError, match="Input/output error"), open_patiently(tmp_path / "a") as file:
        file.read()


def test_an_absent_file_is_said_at_once(tmp_path: Path, pauses: list[float]) -> None:
    with pytest.raises(FileNotFoundError):
        open_patiently(tmp_path / "absent")
    assert pauses == []


def test_shortages_name_a_cure() -> None:
    assert (
        str(shortage("a.png can't be opened", OSError(errno.EMFILE, os.strerror(errno.EMFILE))))
        == "a.png can't be opened: Too many open files; close other files or raise `ulimit -n`"
    )
    assert "fewer `num_workers`" in str(shortage("a.png can't be decoded", MemoryError()))
    assert isinstance(shortage("x", MemoryError()), MachineError)


def test_an_image_is_decoded_anew_and_then_its_status_says_why(
    colour_images: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    real, left = os.stat, [3]

    def stat(path: Any, *args: Any, **more: Any) -> Any:
        if str(path).endswith("red.png") and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return real(path, *args, **more)

    monkeypatch.setattr(os, "stat", stat)
    assert open_image(colour_images / "red.png").size == (20, 12)
    left[0] = 99
    with pytest.raises(
        ImageError,
        match=(
            r"red.png' can't be read \(Stale file handle, tried 4 times\); look after its disk or"
            r" network"
        ),
    ):
        open_image(colour_images / "red.png")
    assert pauses == [*PAUSES, *PAUSES]
