"""The model of quickstart: a small backbone with random weights, its training and its bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mismatch.data.catalogue import Catalogue, title_words
from mismatch.data.pairs import resolve_image
from mismatch.data.rows import Row
from mismatch.io.atomic import atomic_directory
from mismatch.jobs.quickstart_folder import BACKBONE, MODEL
from mismatch.progress import progress
from mismatch.reports.model_card import write_bundle_card, write_checkpoint_card
from mismatch.runtime.pipeline import Pair
from mismatch.runtime.predictor import Predictor, load

if TYPE_CHECKING:
    from mismatch.export.onnx import WrittenBundle

__all__ = [
    "KNOWN_PROBE",
    "KNOWN_SECONDS",
    "RECIPE",
    "export_model",
    "open_bundle",
    "open_model",
    "probe_seconds",
    "train_model",
    "write_backbone",
]

BATCH = 64  # images a tower call, for both engines alike

# the mean of three runs on two cores of an EPYC with avx2
KNOWN_SECONDS = 142.0  # of all steps
KNOWN_PROBE = 0.073  # seconds of a probe
PROBES = 5  # passes of BATCH images, forward and backward

# A small convolutional tower of timm and a two-layer text tower in open_clip's own format.
# Convolutions learn articles and patterns in a fifth of the time that a ViT needs.
BACKBONE_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 64,
        "timm_model_name": "test_byobnet",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 128,
        "width": 64,
        "heads": 2,
        "layers": 2,
        "hf_tokenizer_name": "catalogue",  # the folder's own
    },
}

# A start from random weights wants rates far above those that fine-tune a trained backbone; a
# cosine head learns faster here than an adapter.
RECIPE: Mapping[str, Any] = {
    "epochs": 9,
    "batch_size": 128,
    "batch_by": "image",  # a photo's title and its mismatch: one pass of the tower for both
    "learning_rate": 4e-3,
    "head": "cosine",
    "head_learning_rate": 1e-2,
    "best_metric": "auroc",
    "precision": "fp32",  # its promise was measured in it
}


def write_backbone(folder: Path, seed: int) -> None:
    """Write a CLIP of open_clip with random weights, as `backbone="openclip"` with the folder as
    `model_name` reads it.
    """
    from safetensors.torch import save_file

    model = _random_model(seed)
    config = {
        "model_cfg": BACKBONE_CONFIG,
        "preprocess_cfg": {"size": BACKBONE_CONFIG["vision_cfg"]["image_size"]},
    }
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with atomic_directory(folder) as part:
        (part / "open_clip_config.json").write_text(
            json.dumps(config, indent=2) + "\n", encoding="utf-8"
        )
        save_file(weights, part / "open_clip_model.safetensors", metadata={"format": "pt"})
        _write_tokenizer(part)


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of the titles' words. CLIP's own has 49,408 tokens, of which titles use a
    few hundred; each step would update all of their embeddings.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    # the tower pools at the highest id, which is the end's
    tokens = ["[PAD]", "[UNK]", *title_words(), "[START]", "[END]"]
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[START] $A [END]",
        special_tokens=[(token, numbers[token]) for token in ("[START]", "[END]")],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[START]",
        eos_token="[END]",
    ).save_pretrained(folder)


def _random_model(seed: int) -> Any:
    """Return a CLIP of open_clip with random weights; torch's own random state stays."""
    import open_clip
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return open_clip.CLIP(**BACKBONE_CONFIG)  # type: ignore[attr-defined, unused-ignore]


def probe_seconds() -> float:
    """Return how long a pass of the image tower over BATCH images takes here, there and back."""
    import torch

    tower = _random_model(0).visual
    side = BACKBONE_CONFIG["vision_cfg"]["image_size"]
    images = torch.zeros(BATCH, 3, side, side)
    seconds = []
    for _ in range(PROBES + 1):
        began = time.perf_counter()
        tower(images).sum().backward()
        seconds.append(time.perf_counter() - began)
    return min(seconds)  # what other work on the machine takes is no property of it


def train_model(catalogue: Catalogue, seed: int, training: Mapping[str, Any]) -> Path:
    """Train a new backbone on the catalogue; return the best model's folder. `training` holds
    fields of TrainConfig.
    """
    from mismatch.training.config import TrainConfig
    from mismatch.training.trainer import train

    write_backbone(catalogue.folder / BACKBONE, seed)
    config = TrainConfig(
        train_csv=str(catalogue.train_csv),
        val_csv=str(catalogue.val_csv),
        image_base_path=str(catalogue.folder),
        backbone="openclip",
        model_name=str(catalogue.folder / BACKBONE),
        output_dir=str(catalogue.folder / MODEL),
        seed=seed,
        **training,
    )
    # such a rate would break a pretrained backbone; this one starts from random weights
    trained = train(config, ignore_warnings=["learning_rate"], write_card=write_checkpoint_card)
    return trained.best_model


def open_model(checkpoint: Path) -> Predictor:
    """Return a predictor that runs the trained model with torch."""
    from mismatch.training.engine import open_checkpoint

    return Predictor(open_checkpoint(checkpoint, provider="cpu"), batch_size=BATCH)


def open_bundle(folder: Path) -> Predictor:
    """Return a predictor that runs the bundle with onnxruntime."""
    return load(folder, provider="cpu", batch_size=BATCH)


def export_model(
    predictor: Predictor, bundle: Path, rows: Sequence[Row], catalogue: Catalogue
) -> WrittenBundle:
    """Write the model of `open_model` as a bundle that agrees with torch on these rows."""
    from mismatch.export.onnx import Rows, export_bundle
    from mismatch.training.engine import TorchEngine

    if not isinstance(predictor.engine, TorchEngine):
        raise TypeError(f"{predictor.engine.name} can't be exported")
    pairs = [Pair(resolve_image(catalogue.folder, row.image_path), row.text) for row in rows]
    checkpoint = catalogue.folder / MODEL / "best_model"
    write_card = partial(write_bundle_card, checkpoint=checkpoint)
    with progress("verify", unit="item") as advance:
        return export_bundle(
            predictor.engine,
            bundle,
            rows=Rows(pairs, str(catalogue.test_csv)),
            progress=advance,
            write_card=write_card,
        )
