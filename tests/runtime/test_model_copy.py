"""mismatch.runtime.model_copy: a model is copied, and nothing that somebody has linked to from its
folder.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError
from mismatch.runtime.model_copy import copy_model

FILES = {"weights.bin": b"weights", "text/vocabulary.txt": b"words"}


def model(folder: Path, name: str = "mismatch.json", *, listed: bool = True) -> Path:
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    data = (
        {"format_version": 1, "files": dict.fromkeys(FILES, "0" * 64)}
        if listed
        else {"format_version": 1}
    )
    (folder / name).write_text(json.dumps(data))
    return folder


def copied(source: Path, target: Path) -> dict[str, bytes]:
    target.mkdir()
    copy_model(source, target)
    assert not [path for path in target.rglob("*") if path.is_symlink()]
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["mismatch.json", "manifest.json"])
def test_its_own_files_are_copied_and_others_are_not(tmp_path: Path, name: str) -> None:
    source = model(tmp_path / "m", name)
    (source / "notes.txt").write_text("mine")
    (source / "README.md").write_text("about it")
    (tmp_path / "secret").write_text("secret")
    (source / "LICENSE").symlink_to(tmp_path / "secret")
    (source / "other").symlink_to(tmp_path)
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe")
    assert set(copied(source, tmp_path / "o")) == {name, *FILES, "README.md"}


def test_a_link_of_a_hubs_cache_is_followed(tmp_path: Path) -> None:
    source = model(tmp_path / "snapshots/1")
    (tmp_path / "blobs").mkdir()
    for name in FILES:
        (source / name).replace(tmp_path / "blobs" / Path(name).name)
        (source / name).symlink_to(tmp_path / "blobs" / Path(name).name)
    assert FILES.items() <= copied(source, tmp_path / "o").items()


@pytest.mark.parametrize(
    "kind", ["folder", "loop", "nowhere", "pipe", "device", "link to a folder above"]
)
def test_what_is_listed_and_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    source = model(tmp_path / "m")
    (source / "weights.bin").unlink()
    if kind == "pipe":
        os.mkfifo(source / "weights.bin")
    elif kind == "link to a folder above":
        shutil.move(source / "text", tmp_path / "text")
        (source / "text").symlink_to(tmp_path / "text")
        (source / "weights.bin").write_bytes(b"weights")
    else:
        targets = {
            "folder": tmp_path,
            "loop": source / "weights.bin",
            "nowhere": tmp_path / "none",
            "device": Path("/dev/zero"),
        }
        (source / "weights.bin").symlink_to(targets[kind])
    with pytest.raises(CheckpointError, match=r"weights\.bin|m/text"):
        copied(source, tmp_path / "o")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "text/../../secret", "..\\secret", "a\0b"]
)
def test_a_name_outside_is_refused(tmp_path: Path, name: str) -> None:
    source = model(tmp_path / "m")
    (tmp_path / "secret").write_text("secret")
    (source / "mismatch.json").write_text(json.dumps({"files": {name: "0" * 64}}))
    with pytest.raises(CheckpointError, match="outside"):
        copied(source, tmp_path / "o")


def test_of_an_older_checkpoint_all_files_are_copied_but_no_link(tmp_path: Path) -> None:
    source = model(tmp_path / "m", listed=False)
    assert copied(source, tmp_path / "o") == {
        **FILES,
        "mismatch.json": (source / "mismatch.json").read_bytes(),
    }
    for number, target in enumerate((tmp_path, source, source / "weights.bin", tmp_path / "none")):
        (source / "link").symlink_to(target)
        with pytest.raises(CheckpointError, match="m/link is a link"):
            copied(source, tmp_path / f"o{number}")
        (source / "link").unlink()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Any, _target: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(CheckpointError, match="No space left") as error:
        copied(model(tmp_path / "m"), tmp_path / "o")
    assert len(str(error.value).splitlines()) == 1
