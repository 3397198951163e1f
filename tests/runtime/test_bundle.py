"""mismatch.runtime.bundle: what is written is read back, and anything damaged, foreign or newer is
refused by name.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mismatch.errors import CheckpointError
from mismatch.io.atomic import sealed
from mismatch.runtime.bundle import GRAPHS, read_bundle
from mismatch.specs import Threshold
from tests.support.paths import BUNDLE


@pytest.fixture
def bundle(tiny_bundles: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundles["openclip"], tmp_path / "bundle"))


def test_the_manifest_carries_everything(bundle: Path) -> None:
    manifest = read_bundle(bundle)
    assert manifest.backbone["family"] == "openclip"
    assert manifest.backbone["model_id"] == "tiny"
    assert manifest.backbone["distribution"] == "mismatch-clip"
    assert set(manifest.files) == {*GRAPHS, "tokenizer.json", "parity.json"}
    assert manifest.score.threshold == Threshold(
        0.4321, "accuracy", 50, "2026-01-01T00:00:00+00:00"
    )
    assert manifest.head.kind == "adapter"
    assert (manifest.precision, manifest.opset) == ("fp32", 20)
    assert len(json.loads(manifest.text_spec.tokenizer_json)["model"]["vocab"]) > 100
    assert manifest.image_spec.colour_profile == "convert"


def test_a_bundle_of_an_earlier_version_sees_the_colours_that_it_saw() -> None:
    assert read_bundle(BUNDLE).image_spec.colour_profile == "ignore"


@pytest.mark.parametrize("name", [*GRAPHS, "tokenizer.json", "parity.json"])
def test_one_flipped_byte_is_refused_and_named(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} differs from the manifest's sha256"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", [*GRAPHS, "tokenizer.json"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "format_version 2"),
        ({"format_version": None}, "format_version None"),
        ({"files": {}}, "names no hash for"),
        ({"files": {"../outside": "00"}}, "path outside the bundle"),
        ({"image_spec": {"size": 3}}, "incomplete or damaged"),
        ({"head": None}, "incomplete or damaged"),
        ({"score": {"kind": "probability"}}, "incomplete or damaged"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(
    bundle: Path, change: dict[str, object], words: str
) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    if change.get("files") == {"../outside": "00"}:
        change = {"files": manifest["files"] | {"../outside": "00"}}
    (bundle / "manifest.json").write_text(json.dumps(sealed(manifest | change)))
    with pytest.raises(CheckpointError, match=words):
        read_bundle(bundle)


def test_a_manifest_with_another_threshold_than_was_written_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["score"]["default_threshold"] = 0.25
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        CheckpointError,
        match=r"manifest\.json differs from its own checksum: damaged or changed by hand",
    ):
        read_bundle(bundle)
    (bundle / "manifest.json").write_text(
        json.dumps({name: value for name, value in manifest.items() if name != "checksum"})
    )
    assert read_bundle(bundle).score.default_threshold == 0.25, (
        "as versions before the checksum wrote it"
    )


@pytest.mark.parametrize("content", ["{", "[]", "3", ""])
def test_a_manifest_that_is_no_object_is_refused(bundle: Path, content: str) -> None:
    (bundle / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        read_bundle(bundle)
