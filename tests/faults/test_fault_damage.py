"""Files with one wrong bit, files that were cut, mixed up or written by another version: refused by
name, or never missed.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest


def flip(path: Path, at: int | None = None) -> None:
    """One bit, somewhere that the name of the file decides."""
    data = bytearray(path.read_bytes())
    chance = random.Random(path.name)
    data[chance.randrange(len(data)) if at is None else at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def copied(source: Path, shop: Path) -> Path:
    shutil.copytree(source, shop / "model")
    return shop / "model"


BUNDLE = (
    "image_encoder.onnx",
    "text_encoder.onnx",
    "head.onnx",
    "tokenizer.json",
    "parity.json",
    "manifest.json",
)


@pytest.mark.fault(
    "one bit flipped, in each file of a bundle in turn",
    "predict",
    "refused in one line that names the file and says what to do",
)
@pytest.mark.parametrize("name", BUNDLE)
def test_a_bundle_with_a_wrong_bit(cases: Any, shop: Path, name: str) -> None:
    bundle = copied(cases.model.bundle, shop)
    # the card may be anybody's
    assert {*BUNDLE, "README.md"} == {path.name for path in bundle.iterdir()}
    whole = (bundle / name).read_bytes()
    for at in (None, len(whole) // 3, len(whole) - 9):
        flip(bundle / name, at)
        if name == "manifest.json" and json_or_none(bundle / name) == json.loads(whole):
            continue  # white space
        cases.predict(shop, "--model", "model").refused(f"model/{name}", "again")
        (bundle / name).write_bytes(whole)


def json_or_none(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


@pytest.mark.fault(
    "a file of a bundle cut short, and one that is missing, as after a copy that broke off",
    "predict",
    "refused in one line that names the file",
)
def test_a_bundle_that_was_copied_in_part(cases: Any, shop: Path) -> None:
    bundle = copied(cases.model.bundle, shop)
    whole = (bundle / "head.onnx").read_bytes()
    (bundle / "head.onnx").write_bytes(whole[: len(whole) // 2])
    cases.predict(shop, "--model", "model").refused(
        "model/head.onnx differs from the manifest's sha256: damaged or changed; copy or export the"
        " bundle again"
    )
    (bundle / "head.onnx").unlink()
    cases.predict(shop, "--model", "model").refused(
        "model/head.onnx is missing from the bundle; copy the folder again, whole"
    )


CHECKPOINT = (
    "open_clip_model.safetensors",
    "open_clip_config.json",
    "tokenizer.json",
    "classification_head.safetensors",
    "mismatch.json",
)


@pytest.mark.fault(
    "one bit flipped, in each file of a checkpoint in turn",
    "predict, export-onnx",
    "refused in one line that names the file and says what to do",
)
def test_a_checkpoint_with_a_wrong_bit(cases: Any, shop: Path) -> None:
    checkpoint = copied(cases.model.checkpoint, shop)
    names = {path.name for path in checkpoint.iterdir()} - {"training_stats.json", "README.md"}
    assert {
        "open_clip_model.safetensors",
        "open_clip_config.json",
        "classification_head.safetensors",
        "mismatch.json",
    } <= names
    for name in sorted(names):
        whole = (checkpoint / name).read_bytes()
        flip(checkpoint / name)
        if not (name == "mismatch.json" and json_or_none(checkpoint / name) == json.loads(whole)):
            cases.predict(shop, "--model", "model").refused(f"model/{name}", "again")
        (checkpoint / name).write_bytes(whole)
    flip(checkpoint / "open_clip_model.safetensors")
    cases.commands.run(shop, "export-onnx", "--model", "model", "--output", "bundle").refused(
        "open_clip_model.safetensors", "again"
    )
    assert not (shop / "bundle").exists()


@pytest.mark.fault(
    "bits flipped in each file of a cache of embeddings",
    "predict --cache",
    "what is damaged is encoded again: the same bytes as an undisturbed run",
)
def test_a_cache_with_wrong_bits(cases: Any, shop: Path) -> None:
    cases.predict(shop, "--cache", "cache").fine()
    segments = sorted((shop / "cache").rglob("*.*"))
    assert {path.suffix for path in segments} == {".npy", ".keys", ".txt", ".TAG"}
    for path in segments:
        size = path.stat().st_size
        for at in range(130 if path.suffix == ".npy" else 0, size, 61):
            flip(path, at)
    cases.predict(shop, "--cache", "cache").fine()
    cases.check_predicted(shop)


@pytest.mark.fault(
    "files of a cache cut short, emptied, deleted, mixed up",
    "predict --cache",
    "what is damaged is encoded again: the same bytes as an undisturbed run",
)
def test_a_cache_that_was_cut(cases: Any, shop: Path) -> None:
    for damage in ("cut", "empty", "gone", "mixed"):
        cases.predict(shop, "--cache", "cache").fine()
        arrays = sorted((shop / "cache").rglob("*.npy"))
        whole = [path.read_bytes() for path in arrays]
        for i, path in enumerate(arrays):
            if damage == "gone":
                path.unlink()
            else:
                path.write_bytes(
                    {"cut": whole[i][:-7], "empty": b"", "mixed": whole[i - 1]}[damage]
                )
        cases.predict(shop, "--cache", "cache").fine()
        cases.check_predicted(shop)


@pytest.fixture
def begun(cases: Any, shop: Path) -> Path:
    """Some windows are done in out.csv.part."""
    assert cases.predict(shop, fault="change:out.csv.part:25:1:kill").code == -9
    assert (shop / "out.csv.part.json").exists()
    return shop


@pytest.mark.fault(
    "half a row behind the rows that are done, cut in the middle of a letter",
    "predict --resume",
    "it is cut off: the same bytes as an undisturbed run",
)
def test_a_part_with_half_a_row(cases: Any, begun: Path) -> None:
    with (begun / "out.csv.part").open("ab") as file:
        file.write("images/01.png,Größe".encode()[:-3])
    cases.resumed(begun)


@pytest.mark.fault(
    "rows that are done cut off, changed, or gone",
    "predict --resume",
    "refused in one line that names the file; begun again, the same bytes",
)
def test_a_part_that_is_not_what_was_written(cases: Any, begun: Path) -> None:
    part = begun / "out.csv.part"
    whole = part.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"images/01", b"images/02", 1), b""):
        part.write_bytes(damaged)
        cases.predict(begun, "--resume").refused(
            "out.csv.part is not what was written to it; leave --resume out to begin again"
        )
    cases.predict(begun).fine()
    cases.check_predicted(begun)


@pytest.mark.fault(
    "the note of what is done damaged: one digit, cut, of another kind, empty",
    "predict --resume",
    "refused in one line that names the file; no row is skipped",
)
def test_a_note_that_is_damaged(cases: Any, begun: Path) -> None:
    note = begun / "out.csv.part.json"
    whole = note.read_text()
    rows = json.loads(whole)["counts"]["rows"]
    assert f'"rows": {rows}' in whole
    for damaged in (whole.replace(f'"rows": {rows}', f'"rows": {rows + 1}'), whole[:-30], "[]", ""):
        note.write_text(damaged)
        cases.predict(begun, "--resume").refused(
            "out.csv.part.json can't be used; leave --resume out to begin again"
        )
    note.write_text(whole)
    cases.resumed(begun)


@pytest.fixture
def half_trained(cases: Any, shop: Path) -> Path:
    """A run that was killed in its second epoch."""
    assert cases.train(shop, fault="change:run/.checkpoint_epoch_2:1:1:kill").code == -9
    return shop / "run" / "checkpoint_epoch_1"


@pytest.mark.fault(
    "one bit flipped in what a run resumes from",
    "train --resume",
    "refused in one line that names the file; nothing is written over",
)
def test_a_state_with_a_wrong_bit(cases: Any, shop: Path, half_trained: Path, files: Any) -> None:
    for name, at in (
        ("training_state.pt", None),
        ("training_state.pt", 5000),
        ("training_state.json", 40),
        ("open_clip_model.safetensors", None),
    ):
        whole = (half_trained / name).read_bytes()
        flip(half_trained / name, at)
        before = files(shop / "run")
        done = cases.train(shop, "full", "--resume")
        if name == "open_clip_model.safetensors":
            cases.predict(shop, "--model", half_trained).refused(name)
            shutil.rmtree(shop / "run")
            return
        done.refused(name, "train again without --resume")
        assert files(shop / "run") == before
        (half_trained / name).write_bytes(whole)


@pytest.mark.fault(
    "what a run resumes from cut short, as by a copy that broke off",
    "train --resume",
    "refused in one line that names the file; made whole, the same weights",
)
def test_a_state_that_was_cut(cases: Any, shop: Path, half_trained: Path) -> None:
    whole = (half_trained / "training_state.pt").read_bytes()
    (half_trained / "training_state.pt").write_bytes(whole[: len(whole) // 2])
    cases.train(shop, "full", "--resume").refused(
        "training_state.pt can't be resumed from", "train again without --resume"
    )
    (half_trained / "training_state.pt").write_bytes(whole)
    cases.train_resumed(shop)


def edited(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text())
    path.write_text(
        json.dumps({name: value for name, value in (data | changes).items() if value is not ...})
    )


@pytest.mark.fault(
    "a bundle, a checkpoint and a state of a newer format version",
    "predict, train --resume",
    "refused in one line with both versions and the remedy: upgrade",
)
def test_newer_formats(cases: Any, shop: Path, half_trained: Path) -> None:
    edited(copied(cases.model.bundle, shop) / "manifest.json", format_version=2, checksum=...)
    cases.predict(shop, "--model", "model").refused(
        "manifest.json has format_version 2, this mismatch reads 1; upgrade mismatch-clip or export"
        " the bundle again"
    )
    edited(half_trained / "mismatch.json", format_version=2)
    cases.predict(shop, "--model", half_trained).refused(
        "mismatch.json has format_version 2, this mismatch reads 1; upgrade mismatch-clip or train"
        " again"
    )
    edited(half_trained / "training_state.json", format_version=7)
    cases.train(shop, "full", "--resume").refused(
        "training_state.json has format_version 7, this mismatch reads 1; upgrade mismatch-clip or"
        " train again"
    )


@pytest.mark.fault(
    "a bundle and a checkpoint without checksums, as older versions wrote them",
    "predict",
    "read as they are: the same scores",
)
def test_older_files_have_no_checksums(cases: Any, shop: Path) -> None:
    edited(copied(cases.model.bundle, shop) / "manifest.json", checksum=...)
    cases.predict(shop, "--model", "model").fine()
    assert (shop / "out.csv").read_bytes() == cases.whole
    shutil.rmtree(shop / "model")
    edited(copied(cases.model.checkpoint, shop) / "mismatch.json", checksum=..., files=...)
    cases.predict(shop, "--model", "model", output="torch.csv").fine()


@pytest.mark.fault(
    "a state without checksums, as older versions wrote it",
    "train --resume",
    "gone on with: the same weights as an undisturbed run",
)
def test_an_older_state_has_no_checksums(cases: Any, shop: Path, half_trained: Path) -> None:
    edited(half_trained / "training_state.json", checksum=..., sha256=...)
    edited(half_trained / "mismatch.json", checksum=..., files=...)
    cases.train_resumed(shop)


@pytest.mark.fault(
    "a folder of format version 0, or of a version that is no number",
    "predict",
    "refused in one line with both versions and the remedy",
)
def test_older_formats(cases: Any, shop: Path) -> None:
    bundle = copied(cases.model.bundle, shop)
    for version in (0, "one", None):
        edited(bundle / "manifest.json", format_version=version, checksum=...)
        cases.predict(shop, "--model", "model").refused(
            f"manifest.json has format_version {version!r}, this mismatch reads 1",
            "export the bundle again",
        )
