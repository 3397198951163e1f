"""Models of ours on a hub: which names mean one, and that they are read as any folder is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import CheckpointError
from mismatch.io.atomic import sealed
from mismatch.runtime.hub_models import (
    listed_files,
    local_model,
    pinned_model,
    refuse_hub_cache,
)
from mismatch.runtime.model_copy import copy_model
from tests.support.commands import run
from tests.support.hub import Hub
from tests.support.paths import BUNDLE, ROOT
from tests.support.rows import write_rows

NAME = "shop/bundle"
IMAGE = ROOT / "tests" / "fixtures" / "red.png"


def score(model: str | Path) -> float | None:
    return mismatch.load(model).predict(IMAGE, "red").similarity_score


@pytest.mark.parametrize("name", [NAME, f"hub:{NAME}", f"hub:{NAME}@main", f"{NAME}@main"])
def test_a_bundle_of_the_hub_scores_as_the_folder_does(hub: Hub, name: str) -> None:
    hub.add(NAME, BUNDLE)
    assert score(name) == score(BUNDLE)


def test_a_commit_is_loaded_offline_afterwards(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add(NAME, BUNDLE)
    before = score(f"hub:{NAME}@{commit}")
    score(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert score(f"hub:{NAME}@{commit}") == score(NAME) == before
    assert hub.requests == []


def test_only_the_models_files_are_downloaded(hub: Hub) -> None:
    files = {path.name: path.read_bytes() for path in BUNDLE.iterdir()}
    more = {"extra.onnx": b"x", "notes.py": b"x", "README.md": b"# ours\n"}
    hub.add(NAME, files | more)
    folder = Path(local_model(f"hub:{NAME}"))
    assert {path.name for path in folder.iterdir()} == {*files, "README.md"}


def test_a_folder_wins_unless_the_hub_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BUNDLE, tmp_path / "shop" / "bundle")
    assert local_model(NAME) == NAME
    assert hub.requests == []
    hub.add(NAME, BUNDLE)
    assert local_model(f"hub:{NAME}") != NAME


def test_a_path_in_a_folder_of_here_is_never_asked_of_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("runs/bset_model", "./a/b", "../a", "absent", "/a/b", "openclip:a/b", "a/b/c"):
        with pytest.raises(mismatch.MismatchError):
            mismatch.load(name)
    assert hub.requests == []


def test_what_is_nowhere_says_both(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match=r"folder shop/none not found, and .* has no"):
        mismatch.load("shop/none")


def test_a_changed_file_is_refused_by_its_hash(hub: Hub) -> None:
    files = {path.name: path.read_bytes() for path in BUNDLE.iterdir()}
    hub.add(NAME, files | {"head.onnx": files["head.onnx"][:-1] + b"\0"})
    with pytest.raises(CheckpointError, match=r"head\.onnx differs"):
        mismatch.load(NAME)


def test_a_missing_file_is_named(hub: Hub) -> None:
    files = {path.name: path.read_bytes() for path in BUNDLE.iterdir()}
    del files["head.onnx"]
    hub.add(NAME, files)
    with pytest.raises(CheckpointError, match=r"has no head\.onnx"):
        mismatch.load(NAME)


def test_a_backbones_repository_says_how_it_is_named(hub: Hub) -> None:
    hub.add("shop/clip", {"config.json": b"{}", "model.safetensors": b"w"})
    with pytest.raises(CheckpointError, match="hf-clip:shop/clip"):
        mismatch.load("shop/clip")
    assert hub.asked("safetensors") == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"../x.json": "0"}, "outside"),
        ({"/etc/passwd": "0"}, "outside"),
        ({"pytorch_model.bin": "0"}, "may hold code"),
        ({"deep/model.PT": "0"}, "may hold code"),
        ({"modeling.py": "0"}, "may hold code"),
        ({}, "no hashes"),
        (None, "no hashes"),
        ({f"{i}.json": "0" for i in range(2000)}, "no hashes"),
    ],
)
def test_a_list_of_files_that_could_do_harm_is_refused(files: Any, reason: str, hub: Hub) -> None:
    record = {"format_version": 1, "files": files}
    with pytest.raises(CheckpointError, match=reason):
        listed_files(record, "it")
    others = {name.strip("/.") or "x": b"x" for name in files or {}}
    hub.add(NAME, {"mismatch.json": json.dumps(sealed(record)).encode()} | others)
    hub.requests.clear()
    with pytest.raises(CheckpointError, match=reason):
        mismatch.load(f"hub:{NAME}")
    assert [one for one in hub.asked("resolve") if "mismatch.json" not in one.path] == []


@pytest.mark.parametrize("change", [mismatch.calibrate, mismatch.tune_threshold])
def test_nothing_is_stored_in_the_hubs_cache(
    hub: Hub, change: Callable[..., object], tmp_path: Path
) -> None:
    rows = [(IMAGE.name, "red", 1), (IMAGE.name, "blue", 0)] * 30
    path = write_rows(tmp_path / "rows.csv", [("image_path", "text", "label"), *rows])
    hub.add(NAME, BUNDLE)
    with pytest.raises(CheckpointError, match="hf download"):
        change(NAME, path, image_base_path=IMAGE.parent)
    refuse_hub_cache(BUNDLE)


def test_several_machines_load_one_commit(hub: Hub) -> None:
    commit = hub.add(NAME, BUNDLE)
    for name in (NAME, f"hub:{NAME}@main", f"hub:{NAME}@{commit}"):
        assert pinned_model(name) == f"hub:{NAME}@{commit}"
    assert pinned_model("openclip:tiny") == "openclip:tiny"
    assert pinned_model(BUNDLE) == str(BUNDLE)


def test_a_copy_of_the_hubs_model_has_its_card(hub: Hub, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in BUNDLE.iterdir()}
    hub.add(NAME, files | {"README.md": b"# ours\n"})
    copy_model(Path(local_model(NAME)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {*files, "README.md"}
    assert not any(path.is_symlink() for path in tmp_path.iterdir())


def test_a_command_takes_a_model_of_the_hub(hub: Hub) -> None:
    hub.add(NAME, BUNDLE)
    done = run("predict", "--model", f"hub:{NAME}", "--image", IMAGE, "--text", "red")
    assert done.exit_code == 0, done.stderr
    assert "Similarity Score" in done.stdout


def test_a_bundle_of_the_hub_needs_no_torch(hub: Hub) -> None:
    hub.add(NAME, BUNDLE)
    score(NAME)  # so that it is cached
    from huggingface_hub import constants

    code = (
        f"import sys, mismatch; mismatch.load('hub:{NAME}');"
        " print(sorted({'torch', 'transformers', 'open_clip'} & set(sys.modules)))"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(constants.HF_HUB_CACHE)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_without_the_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for name in (NAME, f"hub:{NAME}"):
        with pytest.raises(mismatch.MismatchError, match=r"mismatch-clip\[hub\]"):
            mismatch.load(name)
