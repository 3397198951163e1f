"""mismatch.runtime.onnx_engine: onnxruntime as an engine; dynamic shapes; no quiet fallback."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mismatch.errors import CheckpointError, DeviceError, MismatchWarning
from mismatch.runtime import onnx_engine as sessions
from mismatch.runtime.bundle import read_bundle, write_manifest
from mismatch.runtime.onnx_engine import open_bundle
from mismatch.runtime.onnx_graph import BoundGraph, Graph


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("length", [2, 5, 77])
def test_any_batch_and_any_length(
    tiny_bundles: dict[str, Path], family: str, batch: int, length: int
) -> None:
    engine = open_bundle(tiny_bundles[family], provider="cpu", threads=1)
    size = engine.image_spec.size
    images = engine.encode_images(
        np.random.default_rng(0).random((batch, 3, size, size), np.float32)
    )
    ids = np.full((batch, length), engine.text_spec.pad_id, np.int64)
    texts = engine.encode_texts(ids, np.ones_like(ids))
    assert images.shape == (batch, engine.image_dim)
    assert texts.shape == (batch, engine.text_dim)
    logits = engine.logits(images, texts)
    assert logits.shape == (batch,)
    assert np.isfinite(logits).all()


def test_a_row_does_not_depend_on_its_batch(tiny_bundles: dict[str, Path], family: str) -> None:
    engine = open_bundle(tiny_bundles[family], provider="cpu", threads=1)
    pixels = np.random.default_rng(0).random(
        (7, 3, engine.image_spec.size, engine.image_spec.size), np.float32
    )
    np.testing.assert_allclose(
        engine.encode_images(pixels),
        np.concatenate([engine.encode_images(row[None]) for row in pixels]),
        atol=1e-5,
    )


def test_it_says_what_runs(tiny_bundles: dict[str, Path]) -> None:
    engine = open_bundle(tiny_bundles["hf-clip"], provider="cpu", threads=2)
    assert engine.describe() == {
        "engine": "onnxruntime cpu",
        "onnxruntime": ort.__version__,
        "precision": "fp32",
        "threads": 2,
        "backbone": "hf-clip:tiny",
    }


def test_the_fingerprint_follows_the_weights(tiny_bundles: dict[str, Path]) -> None:
    prints = [
        open_bundle(tiny_bundles[name], provider="cpu", threads=1).fingerprint
        for name in ("hf-clip", "openclip", "hf-clip")
    ]
    assert prints[0] == prints[2] != prints[1]


def test_the_fingerprint_follows_the_colours(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    """So the cache keeps embeddings of converted colours apart from others."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundles["hf-clip"], folder)
    before = open_bundle(folder, provider="cpu", threads=1).fingerprint
    manifest = read_bundle(folder)
    write_manifest(
        folder, replace(manifest, image_spec=replace(manifest.image_spec, colour_profile="ignore"))
    )
    assert open_bundle(folder, provider="cpu", threads=1).fingerprint != before


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_cuda_without_cuda_is_an_error(tiny_bundles: dict[str, Path]) -> None:
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        open_bundle(tiny_bundles["hf-clip"], provider="cuda")


def test_an_unknown_provider_is_an_error(tiny_bundles: dict[str, Path]) -> None:
    with pytest.raises(DeviceError, match="'tpu' is unknown"):
        open_bundle(tiny_bundles["hf-clip"], provider="tpu")


def test_a_fallback_to_cpu_is_an_error(
    tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime lists CUDA, can't load it, and would go on with the CPU."""
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda *_, **__: SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]),
    )
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider"):
        open_bundle(tiny_bundles["hf-clip"], provider="cuda")


def test_auto_takes_the_cpu_in_words_where_cuda_is_listed_but_broken(
    tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ort.InferenceSession

    def session(path: Path, options: Any, providers: list[Any], **others: Any) -> Any:
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(
        ort,
        "get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr(ort, "InferenceSession", session)
    with pytest.warns(MismatchWarning, match="so the CPU is taken"):
        assert open_bundle(tiny_bundles["hf-clip"]).name == "onnxruntime cpu"


def test_a_graph_that_onnxruntime_cannot_load_is_named(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bundles["hf-clip"], tmp_path / "bundle"))
    manifest: Any = read_bundle(folder)
    node = onnx.helper.make_node("NoSuchOperator", ["x"], ["y"])
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"
    ]
    (folder / "head.onnx").write_bytes(
        onnx.helper.make_model(
            onnx.helper.make_graph([node], "g", values[:1], values[1:])
        ).SerializeToString()
    )
    write_manifest(folder, manifest)
    with pytest.raises(CheckpointError, match=r"can't load .*head\.onnx"):
        open_bundle(folder, provider="cpu")


@pytest.mark.parametrize("version", ["1.21.1", "1.9.0"])
def test_an_onnxruntime_that_misreads_masks_is_refused(
    tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(sessions, "VERSION", version)
    with pytest.raises(
        CheckpointError,
        match=(
            rf"onnxruntime {version} gives wrong scores for bundles; upgrade it: pip install"
            r" 'onnxruntime>=1\.22'"
        ),
    ):
        open_bundle(tiny_bundles["hf-clip"])


def test_two_onnxruntimes_over_each_other_are_named(
    tiny_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime_gpu-1.22.0.dist-info").mkdir()
    (tmp_path / "onnxruntime_gpu-1.22.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.22.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        DeviceError,
        match=r"onnxruntime and onnxruntime-gpu are both installed and share one folder",
    ):
        open_bundle(tiny_bundles["hf-clip"], provider="cuda")


@pytest.mark.parametrize("tower", ["image", "text"])
def test_bound_buffers_give_the_same(tiny_bundles: dict[str, Path], tower: str) -> None:
    """The path that GPUs take, its buffers on the CPU: several shapes, each used again, batches
    that are no power of two, none of it overwritten later.
    """
    path = tiny_bundles["hf-clip"] / f"{tower}_encoder.onnx"
    plain, bound = (
        Graph(path, output=f"{tower}_embedding"),
        BoundGraph(path, "cpu", output=f"{tower}_embedding", device="cpu"),
    )
    random, kept = np.random.default_rng(0), []
    for batch, length in [(3, 4), (4, 4), (1, 4), (3, 8), (3, 4), (7, 8)]:
        ids = random.integers(1, 500, (batch, length))
        pixels = random.random((batch, 3, 64, 64), np.float32)
        feeds = (
            {"pixel_values": pixels}
            if tower == "image"
            else {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        )
        kept.append((bound(**feeds), plain(**feeds)))
    assert all(ours.shape == theirs.shape for ours, theirs in kept)
    for ours, theirs in kept:
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert len(bound._buffers) == (3 if tower == "image" else 4)


def offer(monkeypatch: pytest.MonkeyPatch, *providers: str) -> list[Any]:
    """As if this onnxruntime had GPUs; what it is asked for, the work itself done on the CPU."""
    real, asked = ort.InferenceSession, []

    def session(path: Path, options: Any, providers: list[Any], **others: Any) -> Any:
        asked.append(providers)
        made = real(path, options, providers=["CPUExecutionProvider"])
        return SimpleNamespace(
            get_providers=lambda: [providers[0][0]],
            get_inputs=made.get_inputs,
            get_outputs=made.get_outputs,
            run=made.run,
        )

    monkeypatch.setattr(
        ort, "get_available_providers", lambda: [*providers, "CPUExecutionProvider"]
    )
    monkeypatch.setattr(ort, "InferenceSession", session)
    return asked


@pytest.mark.parametrize(
    ("environment", "options"),
    [("", {"use_tf32": "0"}), ("1", {"use_tf32": "0", "enable_cuda_graph": "1"})],
)
def test_cuda_graphs_are_asked_for_by_the_environment(
    tiny_bundles: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    options: dict[str, str],
) -> None:
    asked = offer(monkeypatch, "CUDAExecutionProvider")
    monkeypatch.setenv("MISMATCH_CUDA_GRAPHS", environment)
    assert open_bundle(tiny_bundles["hf-clip"]).name == "onnxruntime cuda"
    assert asked == [[("CUDAExecutionProvider", options)]] * 2 + [[("CPUExecutionProvider", {})]]


def test_tensorrt_is_taken_when_asked_for_only(
    tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = offer(monkeypatch, "TensorrtExecutionProvider", "CUDAExecutionProvider")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_bundle(tiny_bundles["hf-clip"]).name == "onnxruntime cuda"
    asked.clear()
    assert open_bundle(tiny_bundles["hf-clip"], provider="tensorrt").name == "onnxruntime tensorrt"
    (first, options), second = asked[0]
    assert (first, second) == (
        "TensorrtExecutionProvider",
        ("CUDAExecutionProvider", {"use_tf32": "0"}),
    )
    assert options["trt_engine_cache_path"] == str(tmp_path / "mismatch" / "tensorrt")


def test_tensorrt_without_it_is_an_error(
    tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, "CUDAExecutionProvider")
    with pytest.raises(
        DeviceError,
        match=r"provider tensorrt was asked for, but this onnxruntime offers CUDAExecutionProvider",
    ):
        open_bundle(tiny_bundles["hf-clip"], provider="tensorrt")
