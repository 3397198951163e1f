"""Which engine opens a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.errors import CheckpointError
from mismatch.runtime.engines import is_bundle, open_engine


def test_a_manifest_makes_a_bundle(tmp_path: Path) -> None:
    assert not is_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert is_bundle(tmp_path)
    assert is_bundle(str(tmp_path))


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        open_engine("nowhere", "cpu", 1)
