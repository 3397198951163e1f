"""mismatch.runtime.sessions: onnxruntime as an engine; dynamic shapes; no quiet fallback."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from mismatch.errors import CheckpointError, DeviceError, MismatchWarning
from mismatch.runtime import sessions
from mismatch.runtime.bundle import read_bundle, write_manifest
from mismatch.runtime.sessions import open_bundle


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("length", [2, 5, 77])
def test_any_batch_and_any_length(tiny_bundles: dict[str, Path], family: str, batch: int, length: int) -> None:
    engine = open_bundle(tiny_bundles[family], provider="cpu", threads=1)
    size = engine.image_spec.size
    images = engine.encode_images(np.random.default_rng(0).random((batch, 3, size, size), np.float32))
    ids = np.full((batch, length), engine.text_spec.pad_id, np.int64)
    texts = engine.encode_texts(ids, np.ones_like(ids))
    assert images.shape == (batch, engine.image_dim)
    assert texts.shape == (batch, engine.text_dim)
    logits = engine.logits(images, texts)
    assert logits.shape == (batch,)
    assert np.isfinite(logits).all()


def test_a_row_does_not_depend_on_its_batch(tiny_bundles: dict[str, Path], family: str) -> None:
    engine = open_bundle(tiny_bundles[family], provider="cpu", threads=1)
    pixels = np.random.default_rng(0).random((7, 3, engine.image_spec.size, engine.image_spec.size), np.float32)
    np.testing.assert_allclose(engine.encode_images(pixels), np.concatenate([engine.encode_images(row[None]) for row in pixels]), atol=1e-5)


def test_it_says_what_runs(tiny_bundles: dict[str, Path]) -> None:
    engine = open_bundle(tiny_bundles["hf-clip"], provider="cpu", threads=2)
    assert engine.describe() == {"engine": "onnxruntime cpu", "onnxruntime": ort.__version__, "precision": "fp32", "threads": 2, "backbone": "hf-clip:tiny"}


def test_the_fingerprint_follows_the_weights(tiny_bundles: dict[str, Path]) -> None:
    prints = [open_bundle(tiny_bundles[name], provider="cpu", threads=1).fingerprint for name in ("hf-clip", "openclip", "hf-clip")]
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA")
def test_cuda_without_cuda_is_an_error(tiny_bundles: dict[str, Path]) -> None:
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        open_bundle(tiny_bundles["hf-clip"], provider="cuda")


def test_an_unknown_provider_is_an_error(tiny_bundles: dict[str, Path]) -> None:
    with pytest.raises(DeviceError, match="'tpu' is unknown"):
        open_bundle(tiny_bundles["hf-clip"], provider="tpu")


def test_a_fallback_to_cpu_is_an_error(tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime lists CUDA, can't load it, and would go on with the CPU."""
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(sessions.ort, "get_available_providers", lambda: offered)
    monkeypatch.setattr(sessions.ort, "InferenceSession", lambda *_, **__: SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]))
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider"):
        open_bundle(tiny_bundles["hf-clip"], provider="cuda")


def test_auto_takes_the_cpu_in_words_where_cuda_is_listed_but_broken(tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = sessions.ort.InferenceSession

    def session(path: Path, options: Any, providers: list[Any], **others: Any) -> Any:
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(sessions.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(sessions.ort, "InferenceSession", session)
    with pytest.warns(MismatchWarning, match="so the CPU is taken"):
        assert open_bundle(tiny_bundles["hf-clip"]).name == "onnxruntime cpu"


def test_a_graph_that_onnxruntime_cannot_load_is_named(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundles["hf-clip"], tmp_path / "bundle"))
    manifest: Any = read_bundle(folder)
    (folder / "head.onnx").write_bytes(b"not a graph")
    write_manifest(folder, manifest)
    with pytest.raises(CheckpointError, match=r"can't load .*head\.onnx"):
        open_bundle(folder, provider="cpu")


@pytest.mark.parametrize("version", ["1.21.1", "1.9.0"])
def test_an_onnxruntime_that_misreads_masks_is_refused(tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(sessions.ort, "__version__", version)
    with pytest.raises(CheckpointError, match=rf"onnxruntime {version} gives wrong scores for bundles; upgrade it: pip install 'onnxruntime>=1\.22'"):
        open_bundle(tiny_bundles["hf-clip"])


def test_two_onnxruntimes_over_each_other_are_named(tiny_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime_gpu-1.22.0.dist-info").mkdir()
    (tmp_path / "onnxruntime_gpu-1.22.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.22.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sessions.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"onnxruntime and onnxruntime-gpu are both installed and share one folder"):
        open_bundle(tiny_bundles["hf-clip"], provider="cuda")
