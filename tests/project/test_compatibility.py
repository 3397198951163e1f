"""Bundles of earlier versions: each that is kept under fixtures/ opens, and says what it said when
it was written. Needs the light runtime alone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import mismatch
from mismatch.errors import CheckpointError
from mismatch.runtime.bundle import FORMAT_VERSION

FIXTURES = Path(__file__).parents[1] / "fixtures"
BUNDLES = sorted(path for path in (FIXTURES / "bundles").iterdir() if path.is_dir())


def test_the_format_of_today_is_among_them() -> None:
    assert f"format-{FORMAT_VERSION}" in [path.name for path in BUNDLES], (
        "python tests/fixtures/make_bundle.py writes it"
    )


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_a_kept_bundle_says_what_it_said(bundle: Path) -> None:
    predictor = mismatch.load(bundle, "cpu", threads=1)
    expected = json.loads(bundle.with_suffix(".json").read_text())
    assert {one["prediction"] for one in expected} == {
        "match",
        "mismatch",
        "review",
    }, "a fixture of one answer would prove little"
    found = list(predictor.predict_pairs(expected, image_base_path=FIXTURES))
    assert [one.prediction for one in found] == [one["prediction"] for one in expected]
    assert [one.similarity_score for one in found] == pytest.approx(
        [one["similarity_score"] for one in expected], abs=1e-4
    )


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, None, "1"])
def test_another_format_is_refused_with_the_remedy(tmp_path: Path, version: object) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLES[-1], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format_version": version}))
    with pytest.raises(CheckpointError, match="upgrade mismatch-clip or export the bundle again"):
        mismatch.load(folder)
