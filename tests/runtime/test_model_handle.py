"""A model in use: its settings are checked, it is let go, and a copy knows where it lies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, InputError
from mismatch.runtime.model_handle import EngineSettings, ModelHandle, ModelOrigin


def test_settings_are_checked() -> None:
    assert EngineSettings.checked("auto", None, "chunk", None, None).long_text == "chunk"
    for batch_size, workers, long_text in (
        ("x", None, None),
        (16, 1.5, None),
        (16, None, "cut"),
    ):
        with pytest.raises(InputError):
            EngineSettings.checked(batch_size, workers, long_text, None, None)


def test_a_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ModelOrigin.of("model", "cpu", 1).path == tmp_path / "model"
    assert ModelOrigin.of("hf-clip:tiny", "cpu", 1).path == "hf-clip:tiny"


def test_a_forked_process_does_not_load_another_model(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_bundles["hf-clip"], tmp_path / "bundle")
    origin = ModelOrigin.of(tmp_path / "bundle", "cpu", 2)
    handle = ModelHandle(origin.open(), EngineSettings.checked(16, None, None, None, None))
    handle.origin = origin
    handle.after_fork()
    shutil.rmtree(tmp_path / "bundle")
    shutil.copytree(tiny_bundles["openclip"], tmp_path / "bundle")
    with pytest.raises(CheckpointError, match=r"bundle holds another model .* load"):
        _ = handle.pipeline


def test_a_model_is_let_go(colour_engine: Any) -> None:
    handle = ModelHandle(colour_engine(), EngineSettings.checked(16, None, None, None, None))
    assert handle.state == "numpy cpu"
    assert handle.pipeline.batch_size == 16
    handle.close()
    handle.after_fork()
    assert handle.state == "closed"
    with pytest.raises(InputError, match="closed"):
        _ = handle.pipeline
