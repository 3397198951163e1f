"""Checkpoints: what is written is read back, upstream reads its part too, and damage is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mismatch.errors import CheckpointError
from mismatch.io.atomic import sealed
from mismatch.specs import HeadSpec
from mismatch.training import checkpoint
from mismatch.training.checkpoint import (
    CheckpointMeta,
    clone_checkpoint,
    is_checkpoint,
    load_detector,
    meta_for,
    read_meta,
    save_checkpoint,
    write_meta,
)

FILES = {"mismatch.json", "classification_head.safetensors", "training_stats.json"}


@pytest.fixture
def folder(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoints["hf-clip"], tmp_path / "ck"))


def test_what_is_saved_loads_back_bit_for_bit(
    tiny_checkpoints: dict[str, Path], family: str, tmp_path: Path
) -> None:
    detector, meta = load_detector(tiny_checkpoints[family])
    save_checkpoint(tmp_path / "again", detector, meta, {"train_losses": [0.5]})
    again, meta_again = load_detector(tmp_path / "again")
    before, after = detector.state_dict(), again.state_dict()
    assert meta_again == meta
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (meta.family, meta.model_id, meta.backbone["distribution"], meta.api_version) == (
        family,
        "tiny",
        "mismatch-clip",
        1,
    )
    assert again.backbone.model_id == "tiny"
    assert not again.training
    assert json.loads((tmp_path / "again" / "training_stats.json").read_text()) == {
        "train_losses": [0.5]
    }
    assert {path.name for path in (tmp_path / "again").iterdir()} >= FILES


def test_plain_transformers_loads_the_backbone(tiny_checkpoints: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tiny_checkpoints["hf-clip"]
    model = transformers.CLIPModel.from_pretrained(folder)
    ours = dict(load_detector(folder)[0].backbone.named_parameters())
    assert all(
        torch.equal(value, ours[f"model.{name}"]) for name, value in model.named_parameters()
    )
    assert {"config.json", "preprocessor_config.json", "model.safetensors"} <= {
        path.name for path in folder.iterdir()
    }


def test_a_clone_shares_its_weights_and_has_its_own_statistics(
    folder: Path, tmp_path: Path
) -> None:
    clone_checkpoint(folder, tmp_path / "best", {"best_epoch": 3})
    assert (tmp_path / "best" / "model.safetensors").stat().st_ino == (
        folder / "model.safetensors"
    ).stat().st_ino
    write_meta(tmp_path / "best", read_meta(folder))
    for name in FILES:
        assert (tmp_path / "best" / name).stat().st_ino != (folder / name).stat().st_ino
    assert json.loads((folder / "training_stats.json").read_text()) == {}
    assert json.loads((tmp_path / "best" / "training_stats.json").read_text()) == {"best_epoch": 3}
    assert load_detector(tmp_path / "best")[1] == load_detector(folder)[1]


def test_files_that_somebody_put_there_stay(folder: Path, tmp_path: Path) -> None:
    best = tmp_path / "best"
    clone_checkpoint(folder, best, {})
    (best / ".git").mkdir()
    for name in ("notes.txt", ".git/HEAD"):
        (best / name).write_text("mine")
    clone_checkpoint(folder, best, {"best_epoch": 2})
    detector, meta = load_detector(folder)
    save_checkpoint(best, detector, meta, {"best_epoch": 3})
    assert (best / "notes.txt").read_text() == (best / ".git" / "HEAD").read_text() == "mine"
    assert json.loads((best / "training_stats.json").read_text()) == {"best_epoch": 3}
    assert set(load_detector(best)[1].files) == set(meta.files)


def test_where_links_fail_weights_are_copied(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    clone_checkpoint(folder, tmp_path / "best", {})
    assert (tmp_path / "best" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "best" / "model.safetensors").stat().st_nlink == 1


def test_backbone_files_of_another_checkpoint_are_shared_and_the_head_is_new(
    folder: Path, tmp_path: Path
) -> None:
    detector, meta = load_detector(folder)
    with torch.no_grad():
        detector.head.get_parameter("bias").add_(1.0)
    save_checkpoint(tmp_path / "next", detector, meta, {}, backbone_files=folder)
    old, new = (
        load_detector(path)[0].head.get_parameter("bias") for path in (folder, tmp_path / "next")
    )
    assert (new - old).item() == pytest.approx(1.0, abs=1e-5)
    assert (tmp_path / "next" / "model.safetensors").stat().st_ino == (
        folder / "model.safetensors"
    ).stat().st_ino


def test_a_write_that_fails_leaves_nothing_and_the_old_folder_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, meta = load_detector(folder)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", interrupted)
    for target in (folder, folder.parent / "new"):
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(target, detector, meta, {})
    assert [path.name for path in folder.parent.iterdir()] == ["ck"]
    assert load_detector(folder)[1] == meta


def edit(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / "mismatch.json").read_text())
        (folder / "mismatch.json").write_text(json.dumps(sealed(data | changes)))

    return apply


def wider_head(folder: Path) -> None:
    data = json.loads((folder / "mismatch.json").read_text())
    data["head"]["hidden_dim"] += 1
    (folder / "mismatch.json").write_text(json.dumps(sealed(data)))


def wider_embedding(folder: Path) -> None:
    data = json.loads((folder / "mismatch.json").read_text())
    data["head"]["image_dim"] += 1
    (folder / "mismatch.json").write_text(json.dumps(sealed(data)))


def without_hashes(folder: Path) -> None:
    """As versions before them wrote it."""
    data = json.loads((folder / "mismatch.json").read_text())
    (folder / "mismatch.json").write_text(
        json.dumps(
            {name: value for name, value in data.items() if name not in ("files", "checksum")}
        )
    )


def changed_threshold(folder: Path) -> None:
    path = folder / "mismatch.json"
    path.write_text(path.read_text().replace("0.4321", "0.4322"))


def cut_old_head(folder: Path) -> None:
    without_hashes(folder)
    (folder / "classification_head.safetensors").write_bytes(b"\x00" * 20)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no meta": (
        lambda folder: (folder / "mismatch.json").unlink(),
        r"mismatch.json can't be read: No such file.*plain weights are named FAMILY:FOLDER",
    ),
    "cut meta": (
        lambda folder: (folder / "mismatch.json").write_text('{"format'),
        "mismatch.json is not valid JSON",
    ),
    "a list": (
        lambda folder: (folder / "mismatch.json").write_text("[]"),
        "mismatch.json has format_version None",
    ),
    "newer": (
        edit(format_version=2),
        (
            r"mismatch.json has format_version 2, this mismatch reads 1; upgrade mismatch-clip or"
            r" train again"
        ),
    ),
    "no backbone": (edit(backbone={}), "mismatch.json is incomplete or damaged"),
    "no score": (edit(score=None), "mismatch.json is incomplete or damaged"),
    "unknown head": (
        edit(head={"kind": "mlp", "image_dim": 1, "text_dim": 1}),
        "mismatch.json is incomplete or damaged",
    ),
    "other widths": (
        wider_embedding,
        (
            r"embeddings are 128 and 128 wide, the head expects 129 and 128|embeddings are \d+ and"
            r" \d+ wide"
        ),
    ),
    "other shapes": (
        wider_head,
        "classification_head.safetensors can't be read as the head that mismatch.json describes",
    ),
    "no head": (
        lambda folder: (folder / "classification_head.safetensors").unlink(),
        "classification_head.safetensors can't be read",
    ),
    "cut head": (
        lambda folder: (folder / "classification_head.safetensors").write_bytes(b"\x00" * 20),
        (
            r"classification_head.safetensors differs from the sha256 in mismatch.json: damaged or"
            r" changed; copy the checkpoint again"
        ),
    ),
    "an older one's cut head": (
        cut_old_head,
        "classification_head.safetensors can't be read as the head",
    ),
    "another threshold": (
        changed_threshold,
        (
            "mismatch.json differs from its own checksum: damaged or changed by hand; copy the"
            " checkpoint again"
        ),
    ),
}


def in_meta(part: str, **values: Any) -> Callable[[Path], None]:
    """Other values in a part of what the checkpoint says of itself, with a checksum that vouches
    for them.
    """

    def apply(folder: Path) -> None:
        data = json.loads((folder / "mismatch.json").read_text())
        data[part].update(values)
        (folder / "mismatch.json").write_text(json.dumps(sealed(data)))

    return apply


def instead(name: str, kind: str) -> Callable[[Path], None]:
    """What is no file, in a file's place."""

    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(folder / name)
        elif kind == "device":
            (folder / name).symlink_to("/dev/zero")
        elif kind == "huge":
            (folder / name).touch()
            os.truncate(folder / name, 10 * 2**30)
        else:
            (folder / name).mkdir()

    return apply


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a width of a thousand millions": (
        in_meta("head", hidden_dim=10**9),
        "HeadSpec.hidden_dim is 1000000000",
    ),
    "widths as text": (in_meta("head", common_dim="8"), "HeadSpec.common_dim is '8'"),
    "a head of gigabytes": (
        in_meta("head", hidden_dim=65_000, common_dim=65_000),
        "classification_head.safetensors can't be read as the head",
    ),
    "members without number": (in_meta("head", members=10**9), "HeadSpec.members is"),
    "a threshold as text": (
        in_meta("score", default_threshold="0.5"),
        "ScoreSpec.default_threshold is '0.5'",
    ),
    "a family that is a list": (in_meta("backbone", family=["hf-clip"]), "incomplete or damaged"),
    "an unknown fact of the backbone": (in_meta("backbone", more=1), "incomplete or damaged"),
    "a format of true": (edit(format_version=True), "format_version True"),
    "files by a list": (edit(files=[]), "incomplete or damaged"),
    "a file above": (in_meta("files", **{"../x": "0" * 64}), "outside the folder"),
    "a file anywhere": (in_meta("files", **{"/dev/zero": "0" * 64}), "outside the folder"),
    "a hash by a number": (in_meta("files", x=5), "incomplete or damaged"),
    "nan": (
        lambda folder: (folder / "mismatch.json").write_text('{"format_version": NaN}'),
        "mismatch.json is not valid JSON",
    ),
    "meta is a pipe": (
        instead("mismatch.json", "pipe"),
        "mismatch.json can't be read: it is a pipe or a device",
    ),
    "meta is a device": (
        instead("mismatch.json", "device"),
        "mismatch.json can't be read: it is a pipe or a device",
    ),
    "meta is a folder": (instead("mismatch.json", "folder"), "mismatch.json can't be read"),
    "meta is huge": (
        instead("mismatch.json", "huge"),
        "mismatch.json can't be read: it is larger than",
    ),
    "the head is a pipe": (
        instead("classification_head.safetensors", "pipe"),
        "classification_head.safetensors can't be read: it is a pipe",
    ),
    "the head is a device": (
        instead("classification_head.safetensors", "device"),
        "classification_head.safetensors can't be read: it is a pipe",
    ),
    "weights are a pipe": (
        instead("model.safetensors", "pipe"),
        "model.safetensors can't be read: it is a pipe",
    ),
    "another file is a pipe": (
        instead("more.json", "pipe"),
        "more.json can't be read: it is a pipe",
    ),
    "another file is huge": (
        instead("more.json", "huge"),
        "more.json can't be read: it is larger than",
    ),
}


@pytest.mark.parametrize(("damage", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_checkpoint_of_a_stranger_is_refused_in_one_line(
    folder: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as error:
        load_detector(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_an_older_checkpoint_without_hashes_is_looked_at_too(folder: Path, kind: str) -> None:
    without_hashes(folder)
    instead("config.json" if (folder / "config.json").exists() else "open_clip_config.json", kind)(
        folder
    )
    with pytest.raises(CheckpointError, match="can't be read: it is a pipe or a device"):
        load_detector(folder)


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_one_line_that_names_the_file(
    folder: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as error:
        load_detector(folder)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_an_older_version_has_no_hashes_and_is_read(folder: Path) -> None:
    detector, meta = load_detector(folder)
    without_hashes(folder)
    again, meta_again = load_detector(folder)
    assert (meta_again, meta_again.files) == (meta, {})
    assert all(
        torch.equal(value, again.state_dict()[name])
        for name, value in detector.state_dict().items()
    )


def as_written_earlier(folder: Path) -> None:
    """Drop what mismatch.json says since colours are converted."""
    path = folder / "mismatch.json"
    data = json.loads(path.read_text())
    assert data.pop("colour_profile") == "convert"
    del data["checksum"]
    path.write_text(json.dumps(sealed(data)))


def test_a_checkpoint_of_an_older_version_sees_the_colours_that_it_saw(
    folder: Path, tmp_path: Path
) -> None:
    as_written_earlier(folder)
    detector, meta = load_detector(folder)
    assert detector.backbone.image_spec.colour_profile == meta.colour_profile == "ignore"
    save_checkpoint(tmp_path / "next", detector, replace(meta, colour_profile="convert"), {})
    assert load_detector(tmp_path / "next")[0].backbone.image_spec.colour_profile == "ignore"


@pytest.mark.parametrize("value", ["srgb", None, 1, []])
def test_an_unknown_way_with_colours_is_refused(folder: Path, value: Any) -> None:
    path = folder / "mismatch.json"
    data = json.loads(path.read_text()) | {"colour_profile": value}
    del data["checksum"]
    path.write_text(json.dumps(sealed(data)))
    with pytest.raises(CheckpointError, match="colour_profile"):
        read_meta(folder)


def test_the_folder_above_names_the_checkpoints_in_it(folder: Path) -> None:
    assert not is_checkpoint(folder.parent)
    with pytest.raises(CheckpointError, match="pass one of the checkpoints in it: ck"):
        read_meta(folder.parent)


def test_a_relative_folder_called_like_a_model_is_the_folder(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """`--model tiny` in a folder that holds a checkpoint of that name."""
    shutil.copytree(tiny_checkpoints[family], tmp_path / "tiny")
    detector, _ = load_detector(tmp_path / "tiny")
    with torch.no_grad():
        next(detector.backbone.parameters()).add_(1.0)
    detector.backbone.save_pretrained(tmp_path / "tiny")
    without_hashes(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    again, _ = load_detector("tiny")
    assert torch.equal(next(again.backbone.parameters()), next(detector.backbone.parameters()))


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_all_files_of_a_checkpoint_have_one_mode(
    tiny_checkpoints: dict[str, Path], family: str, tmp_path: Path
) -> None:
    detector, meta = load_detector(tiny_checkpoints[family])
    before = os.umask(0o022)
    try:
        save_checkpoint(tmp_path / "ck", detector, meta, {})
        clone_checkpoint(tmp_path / "ck", tmp_path / "best", {})
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == dict.fromkeys(
        [path.name for path in files], 0o644
    )


def test_the_commit_on_the_hub_is_kept_and_older_files_have_none() -> None:
    """Apart from `backbone`, of which earlier versions take exactly five values."""
    head = HeadSpec("cosine", 4, 4, 4)
    meta = meta_for("openclip", "ViT-B-32/openai", head, commit="0a" * 20)
    written = meta.to_dict()
    assert CheckpointMeta.from_dict(written) == meta
    assert set(written["backbone"]) == set(meta.backbone) - {"commit"}
    assert meta.backbone["commit"] == "0a" * 20  # as a bundle's manifest has it
    del written["backbone_commit"]
    assert CheckpointMeta.from_dict(written).commit == ""
    assert "commit" not in CheckpointMeta.from_dict(written).backbone
