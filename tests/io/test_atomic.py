"""Files are written whole or not at all, and what goes wrong is one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, ImageNotFoundError
from mismatch.io import atomic as files
from mismatch.io import reading
from mismatch.io.atomic import (
    atomic_binary,
    atomic_directory,
    atomic_file,
    finite,
    is_sealed,
    sealed,
    sha256_file,
    sweep,
    together,
    write_bytes,
    write_json,
)
from mismatch.io.reading import read_json
from tests.support.files import names


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a.csv") as file:
        file.write("é\n")
        assert not (tmp_path / "a.csv").exists()
        assert len(names(tmp_path)) == 1
    assert (tmp_path / "a.csv").read_bytes() == "é\n".encode()
    assert names(tmp_path) == ["a.csv"]


def test_files_take_their_names_together_or_none_does(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("older")
    with pytest.raises(ValueError, match="half-way"):
        write_two(tmp_path, fail=True)
    assert names(tmp_path) == ["a", "b"]
    assert [(tmp_path / name).read_text() for name in "ab"] == ["older", "older"]
    write_two(tmp_path, fail=False)
    assert names(tmp_path) == ["a", "b"]
    assert [(tmp_path / name).read_text() for name in "ab"] == ["newer", "newer"]


def write_two(folder: Path, *, fail: bool) -> None:
    with together() as waiting:
        with atomic_file(folder / "a", waiting) as file:
            file.write("newer")
        with atomic_file(folder / "b", waiting) as file:
            file.write("newer")
            if fail:
                raise ValueError("half-way")


def test_line_ends_stay_as_written(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a.csv") as file:
        file.write("a\r\nb\n")
    assert (tmp_path / "a.csv").read_bytes() == b"a\r\nb\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError])
@pytest.mark.parametrize("older", [True, False])
def test_a_file_that_fails_half_way_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException], older: bool
) -> None:
    target = tmp_path / "a.csv"
    if older:
        target.write_text("older")

    def fail() -> None:
        with atomic_file(target) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == (["a.csv"] if older else [])
    assert not older or target.read_text() == "older"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("older", [True, False])
def test_a_folder_that_fails_half_way_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException], older: bool
) -> None:
    target = tmp_path / "model"
    if older:
        target.mkdir()
        (target / "old").write_text("older")

    def fail() -> None:
        with atomic_directory(target) as part:
            (part / "new").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == (["model"] if older else [])
    assert not older or names(target) == ["old"]


def test_a_folder_takes_the_place_of_an_older_one_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with atomic_directory(tmp_path / "model") as part:
            (part / name).write_text(name)
            (part / "sub").mkdir()
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["second", "sub"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names in one step")
def test_a_reader_finds_an_older_or_a_newer_folder_at_any_time(tmp_path: Path) -> None:
    target, absent, done = tmp_path / "model", [], threading.Event()

    def write() -> None:
        for i in range(100):
            with atomic_directory(target) as part:
                (part / "number").write_text(str(i))
        done.set()

    with atomic_directory(target) as part:
        (part / "number").write_text("first")
    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        absent += [] if target.exists() else [1]
    writer.join()
    assert absent == []
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("moved_away", [True, False])
def test_what_a_crash_left_between_two_renames_is_put_right(
    tmp_path: Path, moved_away: bool
) -> None:
    for name, content in (
        (".model.0123abcd.old", "older"),
        (".model.4567abcd.part", "newer"),
        *(() if moved_away else (("model", "newest"),)),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(content)
    sweep(tmp_path, re.compile("model"))
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "content").read_text() == ("older" if moved_away else "newest")


def test_a_sealed_object_knows_when_it_was_changed() -> None:
    data = sealed({"b": [1, 0.1, float("nan")], "é": {"x": None}})
    assert is_sealed(json.loads(json.dumps(data)))
    assert is_sealed(dict(reversed(data.items())))
    assert not is_sealed(data | {"b": [1, 0.2, None]})
    assert not is_sealed({name: value for name, value in data.items() if name != "b"})
    assert is_sealed({"b": 1}), "older versions wrote none"
    assert sealed(data) == data


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "a" / "b" / "model") as part:
        (part / "x").write_text("x")
    assert (tmp_path / "a" / "b" / "model" / "x").read_text() == "x"


def test_when_the_new_folder_can_not_take_the_place_the_older_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_directory(tmp_path / "model") as part:
        (part / "old").write_text("old")
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    real, calls = Path.replace, []

    def replace(self: Path, target: Path) -> Any:
        calls.append(self)
        if len(calls) == 2:  # the first moves the older folder away
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with (
        pytest.raises(CheckpointError, match="No space left on device"),
        atomic_directory(tmp_path / "model") as part,
    ):
        (part / "new").write_text("new")
    assert len(calls) == 3
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["old"]


class FullDisk:
    """A file whose disk is full when it is flushed."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, text: str) -> None:
        self.file.write(text)

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **more: FullDisk(real(self, *args, **more))
    )
    with pytest.raises(CheckpointError) as caught, atomic_file(tmp_path / "a.csv") as file:
        file.write("x")
    assert str(caught.value) == f"can't write {tmp_path / 'a.csv'}: No space left on device"
    monkeypatch.undo()
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_file_that_can_not_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError) as caught, atomic_file(tmp_path / "a.csv"):
        pytest.fail("never reached")
    assert str(caught.value) == f"can't write {tmp_path / 'a.csv'}: {os.strerror(code)}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent/a.csv", "the folder .*absent does not exist; create it"),
        ("", "it is a folder; add a file name"),
        ("plain/a.csv", "Not a directory"),
    ],
)
def test_where_a_file_can_not_be_written(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "plain").write_text("a file")
    with pytest.raises(CheckpointError, match=words), atomic_file(tmp_path / name):
        pytest.fail("never reached")
    assert names(tmp_path) == ["plain"]


def test_a_folder_never_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("precious")
    with (
        pytest.raises(CheckpointError, match="a file of that name is in the way"),
        atomic_directory(tmp_path / "model"),
    ):
        pytest.fail("never reached")
    assert (tmp_path / "model").read_text() == "precious"


def test_errors_of_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_file(tmp_path / "a.csv"):
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(ImageNotFoundError, match="no photo"), atomic_file(tmp_path / "a.csv"):
        raise ImageNotFoundError("no photo")
    assert names(tmp_path) == []


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with atomic_file(tmp_path / "link.csv") as file:
        file.write("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"


def test_a_device_is_written_to_directly() -> None:
    with atomic_file("/dev/null") as file:
        file.write("x")
    assert not Path("/dev/null").is_file()


def test_json_goes_out_and_comes_back_with_null_for_what_json_has_not(tmp_path: Path) -> None:
    write_json(
        tmp_path / "a.json",
        {
            "é": [1, 0.5, float("nan")],
            "inf": float("inf"),
            "t": (1, {"x": float("-inf")}),
            "s": "nan",
        },
    )
    assert read_json(tmp_path / "a.json") == {
        "é": [1, 0.5, None],
        "inf": None,
        "t": [1, {"x": None}],
        "s": "nan",
    }
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "é": [')
    assert json.dumps(finite({"a": float("nan")})) == '{"a": null}'


def test_what_is_no_json_is_never_half_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": [1, object()]})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read: No such file"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
    ],
)
def test_json_that_can_not_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"", b"abc", bytes(3_000_000)])
def test_sha256(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_bytes_are_written_as_they_are_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "a.png", b"\x89PNG\r\n")
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG\r\n"
    with pytest.raises(
        CheckpointError,
        match=r"can't write .*absent.a.png: the folder .*absent does not exist; create it",
    ):
        write_bytes(tmp_path / "absent" / "a.png", b"")

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_bytes(tmp_path / "a.png", b"new")
    assert names(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG\r\n"


def test_a_file_of_bytes_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_binary(tmp_path / "a.parquet") as file:
        file.write(b"\xff\r\n")
        assert not (tmp_path / "a.parquet").exists()
    assert (tmp_path / "a.parquet").read_bytes() == b"\xff\r\n"
    with pytest.raises(KeyboardInterrupt), atomic_binary(tmp_path / "a.parquet") as file:
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a.parquet"]


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    assert reading.read_bytes(tmp_path / "a", 5) == b"12345"
    assert reading.read_text(tmp_path / "link", 5) == "12345"
    for path in (tmp_path / "a", tmp_path / "link"):
        with pytest.raises(OSError, match="larger than the 4 bytes"):
            reading.read_bytes(path, 4)
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="a pipe or a device"):
            reading.read_bytes(path)
        with pytest.raises(CheckpointError, match="a pipe or a device"):
            reading.read_json(path)
    with pytest.raises(IsADirectoryError):
        reading.read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        reading.read_bytes(tmp_path / "nothing")


def test_json_of_any_size_but_a_bounded_one_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(CheckpointError, match="larger than"):
        reading.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_what_python_takes_for_json_and_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        reading.read_json(tmp_path / "a.json")


def test_a_seal_over_lists_without_end_is_broken() -> None:
    nested: list[object] = []
    for _ in range(5_000):
        nested = [nested]
    assert not files.is_sealed({"a": nested, files.SEAL: ""})


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(
    ("umask", "file_mode", "folder_mode"),
    [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)],
)
def test_the_umask_alone_gives_modes(
    tmp_path: Path, umask: int, file_mode: int, folder_mode: int
) -> None:
    """Of what other libraries write too: safetensors makes its files 0600, a copy brings the mode
    of what was copied.
    """
    before = os.umask(umask)
    try:
        with atomic_directory(tmp_path / "model") as part:
            (part / "sub").mkdir(mode=0o700)
            for mode in (0o600, 0o444, 0o777):
                place = part / "sub" / f"{mode:o}"
                place.write_text("x")
                place.chmod(mode)
            part.chmod(0o700)
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {file_mode}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {folder_mode}


def test_the_former_home_still_leads_there() -> None:
    from mismatch import files as former

    with pytest.warns(DeprecationWarning, match=r"mismatch\.io\.reading"):
        assert former.read_json is reading.read_json
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = former.nothing
