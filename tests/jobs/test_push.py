"""A model to the hub and back: its own files, no paths of the machine, one commit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import CheckpointError, InputError
from mismatch.jobs.push import PushResult, push
from mismatch.runtime.bundle import read_bundle
from mismatch.runtime.card_file import write_card
from tests.support.commands import run
from tests.support.hub import TOKEN, Hub
from tests.support.paths import BUNDLE, ROOT

NAME = "shop/model"
IMAGE = ROOT / "tests" / "fixtures" / "red.png"
# of what huggingface_hub asks of its own library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
LISTED = {"head.onnx", "image_encoder.onnx", "text_encoder.onnx", "tokenizer.json", "parity.json"}


@pytest.fixture(autouse=True)
def logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle, and next to its files what is no part of it."""
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLE, folder)
    write_card(folder, 'Load it by `mismatch.load("this/folder")`.\n')
    (folder / "LICENSE").write_text("MIT\n")
    (folder / ".cache").write_text("not the model's")
    return folder


def commits(hub: Hub) -> list[str]:
    return list(hub.repositories[NAME].commits)


def test_a_bundle_goes_in_one_commit_and_comes_back(bundle: Path, hub: Hub) -> None:
    result = push(bundle, NAME, message="The first")
    repository = hub.repositories[NAME]
    assert isinstance(result, PushResult)
    assert set(result.files) == LISTED | {"manifest.json", "README.md", "LICENSE"}
    assert set(repository.files) == {*result.files, ".gitattributes"}
    assert result.bytes == sum(len(repository.files[name]) for name in result.files)
    assert commits(hub)[1:] == [result.commit]  # the repository itself is one
    assert repository.messages[result.commit] == "The first"
    assert not repository.private
    there = mismatch.load(f"hub:{NAME}@{result.commit}").predict(IMAGE, "red")
    assert there.similarity_score == mismatch.load(bundle).predict(IMAGE, "red").similarity_score
    assert f"hub:{NAME}@{result.commit}" in "\n".join(result.summary())


def test_its_card_says_how_to_load_it_from_there(bundle: Path, hub: Hub) -> None:
    push(bundle, NAME)
    assert f'mismatch.load("hub:{NAME}")' in hub.repositories[NAME].files["README.md"].decode()
    (bundle / "README.md").write_text("# Ours\n")
    push(bundle, NAME)
    assert hub.repositories[NAME].files["README.md"] == b"# Ours\n"


def test_a_predictor_pushes_its_folder(bundle: Path, hub: Hub) -> None:
    done = mismatch.load(bundle).push_to_hub(NAME, revision="v2", private=True)
    assert hub.repositories[NAME].refs["v2"] == done.commit
    assert hub.repositories[NAME].private
    again = mismatch.push(mismatch.load(f"hub:{NAME}@v2"), "shop/again")
    assert set(again.files) == set(done.files) - {"LICENSE"}


def test_a_model_without_a_folder_is_refused(colour_engine: Any) -> None:
    with pytest.raises(InputError, match="no folder"):
        mismatch.Predictor(colour_engine()).push_to_hub(NAME)


def test_a_dry_run_asks_nothing(bundle: Path, hub: Hub) -> None:
    result = push(bundle, NAME, dry_run=True)
    assert (result.commit, hub.requests) == ("", [])
    assert "README.md" in result.files


def test_paths_of_the_machine_stay_here(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, hub: Hub
) -> None:
    from mismatch.training.checkpoint import read_meta, write_meta, write_stats

    folder = tmp_path / "best_model"
    shutil.copytree(tiny_checkpoints["openclip"], folder)
    secret = str(tmp_path)
    train = {
        "train_csv": f"{secret}/rows.csv",
        "image_base_path": secret,
        "output_dir": secret,
        "track": f"mlflow:https://me:pw@{secret}",
        "model_name": f"{secret}/my_clip",
        "tune": "head",
    }
    write_meta(folder, replace(read_meta(folder), train=train, model_id=f"{secret}/my_clip"))
    write_stats(folder, {"epochs": 1, "config": train})
    (folder / "training_state.pt").write_bytes(b"of a run that goes on here")
    (folder / "notes.txt").write_text(secret)
    result = push(folder, NAME)
    files = hub.repositories[NAME].files
    assert not {"notes.txt", "training_state.pt"} & set(files)
    assert [name for name, content in files.items() if secret.encode() in content] == []
    meta = json.loads(files["mismatch.json"])
    assert meta["train"] == {"train_csv": "rows.csv", "model_name": "my_clip", "tune": "head"}
    assert meta["backbone"]["model_id"] == "my_clip"
    there = mismatch.load(f"hub:{NAME}@{result.commit}", "cpu").predict(IMAGE, "red")
    here = mismatch.load(folder, "cpu").predict(IMAGE, "red")
    assert there.similarity_score == here.similarity_score


def test_where_rows_lay_is_not_told(bundle: Path, hub: Hub) -> None:
    from mismatch.runtime.bundle import write_manifest

    manifest = read_bundle(bundle)
    for name in ("README.md", "LICENSE", ".cache"):
        (bundle / name).unlink()
    parity = json.loads((bundle / "parity.json").read_text())
    (bundle / "parity.json").write_text(json.dumps(parity | {"source": "/home/me/rows.csv"}))
    write_manifest(bundle, manifest)
    result = push(bundle, NAME)
    assert json.loads(hub.repositories[NAME].files["parity.json"])["source"] == "rows.csv"
    assert mismatch.load(f"hub:{NAME}@{result.commit}").threshold == mismatch.load(bundle).threshold


def test_a_bundle_takes_the_place_of_a_checkpoint(bundle: Path, hub: Hub) -> None:
    hub.add(NAME, {"mismatch.json": b"{}", "kept.txt": b"x"})
    push(bundle, NAME)
    assert set(hub.repositories[NAME].files) >= {"manifest.json", "kept.txt"}
    assert "mismatch.json" not in hub.repositories[NAME].files


def test_private_is_not_believed_of_a_public_one(bundle: Path, hub: Hub) -> None:
    push(bundle, NAME)
    before = commits(hub)
    with pytest.raises(CheckpointError, match="public"):
        push(bundle, NAME, private=True)
    assert commits(hub) == before


def test_a_damaged_model_is_not_pushed(bundle: Path, hub: Hub) -> None:
    (bundle / "head.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"head\.onnx differs"):
        push(bundle, NAME)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"checksum": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"manifest\.json differs"):
        push(bundle, NAME)
    assert hub.requests == []


def test_what_holds_no_model_is_refused(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a bundle"):
        push(tmp_path, NAME)
    (tmp_path / "best_model").mkdir()
    (tmp_path / "best_model" / "mismatch.json").write_text("{}")
    with pytest.raises(CheckpointError, match="best_model"):
        push(tmp_path, NAME)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["model", "shop/model@v1", "", "a/b/c", "../x", "shop/a b"])
def test_a_name_that_can_be_none_is_refused(name: str, bundle: Path, hub: Hub) -> None:
    with pytest.raises(InputError):
        push(bundle, name)
    assert hub.requests == []


def test_without_a_token_the_login_is_named(
    bundle: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match="hf auth login"):
        push(bundle, NAME)
    assert hub.requests == []


@pytest.mark.parametrize(("token", "name"), [("hf_of_nobody", NAME), (TOKEN, "other/model")])
def test_a_token_without_the_right_is_refused(
    token: str, name: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(CheckpointError, match=f"write to '{name}'") as caught:
        push(bundle, name)
    assert token not in str(caught.value)


def test_a_hub_that_fails_or_is_forbidden(
    bundle: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.failing = 500
    with pytest.raises(CheckpointError, match="nothing was pushed"):
        push(bundle, NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        push(bundle, NAME)


def test_the_command_says_what_went_where(bundle: Path, hub: Hub) -> None:
    done = run("push", bundle, NAME, "--message", "By hand")
    assert done.exit_code == 0, done.stderr
    assert f"{hub.url}/{NAME}" in done.stdout
    assert "head.onnx" in done.stdout
    told = json.loads(run("push", bundle, NAME, "--dry-run", "--json").stdout)
    assert (told["repository"], told["commit"]) == (NAME, "")
    refused = run("push", bundle / "absent", NAME)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
