"""Names of the files and models in a repository of Triton's."""

from __future__ import annotations

from mismatch.runtime.bundle import MANIFEST, TOKENIZER

__all__ = [
    "CONFIG",
    "ENSEMBLE",
    "FILES",
    "GPU",
    "GRAPHS",
    "HEAD",
    "IMAGE",
    "MODEL",
    "TEXT",
    "VERSION",
]

ENSEMBLE = "mismatch"
IMAGE = "mismatch_image_encoder"
TEXT = "mismatch_text_encoder"
HEAD = "mismatch_head"
GRAPHS = {IMAGE: "image_encoder.onnx", TEXT: "text_encoder.onnx", HEAD: "head.onnx"}
CONFIG = "config.pbtxt"
MODEL = "model.onnx"
VERSION = "1"
GPU = "configs/gpu.pbtxt"  # in its place with tritonserver --model-config-name gpu
FILES = frozenset(
    [
        *(f"{name}/{file}" for name in GRAPHS for file in (CONFIG, GPU, f"{VERSION}/{MODEL}")),
        *(
            f"{ENSEMBLE}/{file}"
            for file in (CONFIG, f"{VERSION}/{MANIFEST}", f"{VERSION}/{TOKENIZER}")
        ),
    ]
)  # of a repository
