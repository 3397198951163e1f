"""How much each part of the default recipe of `--tune head` is worth: cross-validated, three seeds
each, on rows with labels.

    python benchmarks/bench_quality.py --csv train.csv --csv val.csv --image-base-path photos/
    [--backbone lit] [--only NAME…] [--jobs 2] [--json results.json]

Everything is embedded once, with all features. Each seed holds out another third of the images,
trains a head on the rest with one thing changed, and measures AUROC, and accuracy at a threshold
that is chosen on one half of the held-out images and applied to the other. No test row is looked
at.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mismatch.backbones.base import Backbone
from mismatch.backbones.features import feature_fields, features_offered
from mismatch.backbones.registry import load_backbone, parse_reference
from mismatch.data.pairs import load_pairs
from mismatch.evaluation.metrics import auroc
from mismatch.evaluation.threshold import choose_threshold
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.embedding import embed_images, embed_texts
from mismatch.runtime.pipeline import Pipeline
from mismatch.runtime.preprocess import Preprocessor
from mismatch.specs import HeadSpec
from mismatch.training.checkpoint import meta_for
from mismatch.training.config import TrainConfig
from mismatch.training.detector import Detector
from mismatch.training.engine import TorchEngine
from mismatch.training.feeds.batches import Batch, PairSet, make_batches
from mismatch.training.feeds.feeds import EmbeddingFeed
from mismatch.training.head import COMMON_DIM, AdapterHead, Standardise, build_head, head_spec_for
from mismatch.training.losses import contrastive_loss
from mismatch.training.objective import TrainingObjective
from mismatch.training.optim import CLIP_NORM, build_optimizer, rate_factor, set_rates
from mismatch.training.tuning.modes import MODES

SEEDS = 3
DEFAULT = {
    name: TrainConfig.__dataclass_fields__[name].default
    for name in ("head_hidden", "head_members", "contrastive_weight", "weight_decay", "warmup")
}
DEFAULT |= dict(MODES["head"]) | {"features": None, "normalisation": "standard", "common": None}
EARLIER = {
    "features": (),
    "normalisation": "layer",
    "dropout": 0.1,
    "head_members": 1,
    "head_hidden": 512,
    "common": 512,
    "epochs": 25,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "embeddings alone": {"features": ()},
    "with colours alone": {"features": ("colour",)},
    "with the image's levels alone": {"features": ("image-levels",)},
    "without the text's levels": {"features": ("image-levels", "colour")},
    "LayerNorm instead of standardising": {"normalisation": "layer"},
    "one member": {"head_members": 1},
    "dropout 0.1": {"dropout": 0.1},
    "25 epochs": {"epochs": 25},
    "no contrastive term": {"contrastive_weight": 0.0},
    "contrastive weight 1": {"contrastive_weight": 1.0},
    "batches of 128": {"batch_size": 128},
    "no masking of false negatives": {"candidate": {"masking": False}},
    "temperature kept at 14.3": {"candidate": {"temperature": False}},
    "label smoothing 0.05": {"candidate": {"smoothing": 0.05}},
    "rows weighted by their error": {"candidate": {"focus": 1.0}},
    "the batch's hardest text as a mismatch": {"candidate": {"mined": 0.5}},
    "noise of 0.3 spreads on what is seen": {"candidate": {"noise": 0.3}},
    "weights averaged (EMA 0.998)": {"candidate": {"averaged": 0.998}},
    "two crops, averaged": {"crops": True},
    "width 512": {"head_hidden": 512, "common": 512},
    "five members": {"head_members": 5},
    "the recipe before this one": EARLIER | {"head_learning_rate": 1e-3},
}


@dataclass(frozen=True)
class Data:
    """All rows, and all that a head can see of them."""

    pairs: PairSet
    detector: Detector
    images: torch.Tensor  # (U, image_width)
    texts: torch.Tensor  # (V, text_width)
    # (U, image_width): of each image's middle, 3/4 as high and wide, where a variant asks for it
    zoomed: torch.Tensor | None = None


@dataclass(frozen=True)
class Candidate:
    """What could be added to the recipe, and is not."""

    masking: bool = True  # of pairs that share an image or a text, in the contrastive term
    temperature: bool = True  # learned
    smoothing: float = 0.0  # of labels
    focus: float = 0.0  # power of (1 - probability of the truth) that weighs a row
    # weight of each matched image's hardest foreign text in the batch, taught as a mismatch
    mined: float = 0.0
    noise: float = 0.0  # spreads of each column
    averaged: float = 0.0  # decay of the weights' moving average


@click.command()
@click.option(
    "--csv",
    "csv_files",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="Rows image_path,text,label; repeatable.",
)
@click.option("--image-base-path", default="", help="Folder of the images.")
@click.option("--backbone", default="lit", show_default=True, help="FAMILY:MODEL.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path("bench_quality_cache"),
    show_default=True,
    help="Folder of embeddings.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(VARIANTS)),
    help="Variants to measure; repeatable.  [default: all]",
)
@click.option("--epochs", type=int, help="Epochs of each variant, to see that it runs.")
@click.option("--jobs", default=1, show_default=True, help="Processes, of one thread each.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here too."
)
def main(
    csv_files: tuple[Path, ...],
    image_base_path: str,
    backbone: str,
    cache: Path,
    only: tuple[str, ...],
    epochs: int | None,
    jobs: int,
    json_file: Path | None,
) -> None:
    """Print a table of AUROC and accuracy, mean and spread over the seeds."""
    data = embedded(
        csv_files,
        image_base_path,
        backbone,
        cache,
        zoomed=any("crops" in VARIANTS[name] for name in only or VARIANTS),
    )
    tasks = [(name, seed, epochs) for name in only or VARIANTS for seed in range(SEEDS)]
    torch.set_num_threads(1)
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("fork"), initializer=_take, initargs=(data,)
    ) as pool:
        found = list(pool.map(measure, tasks))
    names = list(dict.fromkeys(name for name, *_ in tasks))
    results = [
        summary(name, [value for task, value in zip(tasks, found, strict=True) if task[0] == name])
        for name in names
    ]
    click.echo(report(results))
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def embedded(
    csv_files: Sequence[Path], base: str, reference: str, cache: Path, *, zoomed: bool
) -> Data:
    """Each image and each text once, through the cache that training has."""
    rows = [row for path in csv_files for row in load_pairs(str(path), base)]
    pairs = PairSet.from_rows(str(csv_files[0]), rows, base)
    backbone = load_backbone(reference)
    detector = Detector(
        backbone,
        build_head(head_spec_for(backbone, "adapter", features=features_offered(backbone))),
    )
    engine = TorchEngine(detector, meta_for(*parse_reference(reference), detector.head.spec))
    store = EmbeddingCache(cache, engine.fingerprint)
    images, problems = embed_images(Pipeline(engine), pairs.images, cache=store)
    texts, more = embed_texts(Pipeline(engine), pairs.texts, cache=store)
    for problem in (*problems.values(), *more.values()):
        raise problem
    data = Data(pairs, detector, torch.from_numpy(images), torch.from_numpy(texts))
    if not zoomed:
        return data
    nearer, spec = Pipeline(engine), engine.image_spec
    nearer.preprocess = Preprocessor(replace(spec, mode="shortest", resize=round(spec.size / 0.75)))
    middles, _ = embed_images(
        nearer,
        pairs.images,
        cache=EmbeddingCache(
            cache, hashlib.sha256(f"{engine.fingerprint} nearer".encode()).hexdigest()
        ),
    )
    return replace(data, zoomed=torch.from_numpy(middles))


_data: list[Data] = []  # of this process


def _take(data: Data) -> None:
    torch.set_num_threads(1)
    _data[:] = [data]


def measure(task: tuple[str, int, int | None]) -> dict[str, float]:
    """AUROC, accuracy and seconds of one variant with one seed."""
    name, seed, epochs = task
    [data], options = _data, DEFAULT | VARIANTS[name]
    options |= {} if epochs is None else {"epochs": epochs}
    train, held = split(data.pairs, seed)
    began = time.perf_counter()
    head, (image_columns, text_columns) = new_head(data, options, seed)
    # (U, image_width)
    images = (
        (data.images + data.zoomed) / 2
        if "crops" in options and data.zoomed is not None
        else data.images
    )
    objective = fit(
        head,
        EmbeddingFeed(train, images[:, image_columns], data.texts[:, text_columns]),
        data.detector,
        options,
        seed,
    )
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        logits = objective.logits(held, images[:, image_columns], data.texts[:, text_columns])
    return {
        "auroc": float(auroc(held.labels, logits)),
        "accuracy": accuracy(held, logits),
        "seconds": seconds,
    }


def split(pairs: PairSet, seed: int) -> tuple[PairSet, PairSet]:
    """Two thirds of the images, and the third that this seed holds out."""
    third = np.random.default_rng(0).permutation(len(pairs.images)) % SEEDS  # (U,) in 0..SEEDS
    held = third[pairs.image_of] == seed

    def chosen(rows: NDArray[np.bool_]) -> PairSet:
        return replace(
            pairs,
            image_of=pairs.image_of[rows],
            text_of=pairs.text_of[rows],
            labels=pairs.labels[rows],
        )

    return chosen(~held), chosen(held)


def new_head(
    data: Data, options: dict[str, Any], seed: int
) -> tuple[AdapterHead, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """A head and the columns that it sees."""
    backbone = data.detector.backbone
    names = (
        features_offered(backbone)
        if options["features"] is None
        else tuple(name for name in options["features"] if name in features_offered(backbone))
    )
    spec = HeadSpec(
        "adapter",
        backbone.image_dim,
        backbone.text_dim,
        common_dim=options["common"]
        or (backbone.image_dim if backbone.image_dim == backbone.text_dim else COMMON_DIM),
        hidden_dim=options["head_hidden"],
        dropout=options["dropout"],
        normalisation=options["normalisation"],
        members=options["head_members"],
        **feature_fields(backbone, names),
    )
    torch.manual_seed(seed)
    head = build_head(spec, backbone)
    assert isinstance(head, AdapterHead)  # noqa: S101  for mypy
    return head, (
        _image_columns(backbone, spec.image_features, data.images.shape[1]),
        np.arange(spec.text_width),
    )


def _image_columns(backbone: Backbone, features: tuple[str, ...], width: int) -> NDArray[np.int64]:
    """Of rows that hold everything: the embedding, then levels, then colours."""
    after = np.arange(backbone.image_dim, width)
    wanted = np.where(
        after < backbone.image_dim + backbone.levels_dim, "levels" in features, "colour" in features
    )
    return np.concatenate([np.arange(backbone.image_dim), after[wanted]])


def fit(
    head: AdapterHead, feed: EmbeddingFeed, detector: Detector, options: dict[str, Any], seed: int
) -> TrainingObjective:
    """What the trainer does with a frozen backbone, without its folder."""
    detector = Detector(detector.backbone.requires_grad_(False), head)
    candidate = Candidate(**options["candidate"]) if "candidate" in options else None
    objective = (
        TrainingObjective(head, "truncate", options["contrastive_weight"])
        if candidate is None
        else Trial(head, candidate, options["contrastive_weight"])
    )
    rates = {"backbone_rate": 0.0, "head_rate": options["head_learning_rate"]}
    optimizer = build_optimizer(detector, **rates, weight_decay=options["weight_decay"])
    head.fit(feed.images, feed.pieces)
    with torch.no_grad():
        first = next(make_batches(feed.pairs, options["batch_size"], seed, 1))
        head.eval()
        objective.centre(first, *feed.embeddings_of(first))
    steps = math.ceil(len(feed.pairs) / options["batch_size"]) * options["epochs"]
    batches = (
        batch
        for epoch in range(1, options["epochs"] + 1)
        for batch in make_batches(feed.pairs, options["batch_size"], seed, epoch)
    )
    head.train()
    average = (
        AveragedModel(head, multi_avg_fn=get_ema_multi_avg_fn(candidate.averaged))
        if candidate and candidate.averaged
        else None
    )
    for step, batch in enumerate(batches):
        set_rates(optimizer, rate_factor(step, steps, options["warmup"]))
        optimizer.zero_grad(set_to_none=True)
        objective.total(*objective.losses(batch, *feed.embeddings_of(batch))).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), CLIP_NORM)
        optimizer.step()
        objective.clamp()
        if average is not None:
            average.update_parameters(head)
    if average is not None:
        head.load_state_dict(average.module.state_dict())
    head.eval()
    return objective


class Trial(TrainingObjective):
    """The recipe's losses with a candidate's changes; texts in one piece."""

    def __init__(self, head: AdapterHead, candidate: Candidate, contrastive_weight: float) -> None:
        super().__init__(head, "truncate", contrastive_weight)
        self.candidate = candidate
        head.log_temperature.requires_grad_(candidate.temperature)

    def losses(
        self, batch: Batch, images: torch.Tensor, pieces: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        head: Any = self.head
        images = self._noisy(images, head.image_norm)
        pieces = self._noisy(pieces, head.text_norm)
        # (B, members x D) each
        sides = (
            self.head.embed_image(images)[batch.image_of],
            self.head.embed_text(pieces)[batch.piece_of],
        )
        losses = [
            self._member(batch, *rows) for rows in zip(*map(self.head.members, sides), strict=True)
        ]
        binary, contrastive = torch.stack(losses).mean(0)
        return binary, contrastive

    def _noisy(self, rows: torch.Tensor, norm: Standardise) -> torch.Tensor:
        return (
            rows + self.candidate.noise * norm.spread * torch.randn_like(rows)
            if self.candidate.noise
            else rows
        )

    def _member(self, batch: Batch, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        labels, chosen = batch.labels.float(), self.candidate
        logits = self.head.logit((images * texts).sum(-1))  # (B,)
        # probability of what is right
        truth = torch.sigmoid(torch.where(labels == 1, logits, -logits)).detach()
        weights = (1 - truth) ** chosen.focus if chosen.focus else torch.ones_like(truth)
        targets = labels * (1 - 2 * chosen.smoothing) + chosen.smoothing
        binary = F.binary_cross_entropy_with_logits(logits, targets, weights / weights.mean())
        matched = labels.nonzero().squeeze(1)
        ids = [ids[matched] for ids in (batch.image_of, batch.text_of)]
        if chosen.mined:
            cosines = images[matched] @ texts[matched].T
            shared = (ids[0][:, None] == ids[0]) | (ids[1][:, None] == ids[1])
            hardest = cosines.masked_fill(shared, -1.0).amax(1)
            binary = binary + chosen.mined * F.softplus(self.head.logit(hardest)).mean()
        image_ids, text_ids = ids if chosen.masking else [torch.arange(len(matched))] * 2
        temperature = self.head.log_temperature.exp()
        contrastive = contrastive_loss(
            images[matched], texts[matched], image_ids, text_ids, temperature
        )
        return torch.stack([binary, contrastive])


def accuracy(held: PairSet, logits: NDArray[np.float32]) -> float:
    """Mean over both halves of the images, each at the threshold that is best on the other."""
    half = np.random.default_rng(1).random(len(held.images))[held.image_of] < 0.5
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    shares = []
    for here in (half, ~half):
        threshold = choose_threshold(held.labels[~here], scores[~here], "accuracy").value
        shares.append(float(((scores[here] >= threshold) == (held.labels[here] == 1)).mean()))
    return statistics.mean(shares)


def summary(name: str, found: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and spread (standard deviation) over the seeds."""
    figures = {key: [one[key] for one in found] for key in found[0]}
    return {"variant": name} | {
        key: {"mean": statistics.mean(values), "spread": statistics.pstdev(values)}
        for key, values in figures.items()
    }


def report(results: Sequence[dict[str, Any]]) -> str:
    """A Markdown table."""
    lines = ["", "| recipe | AUROC | accuracy | seconds |", "|---|---|---|---|"]
    for row in results:
        auc, share = (
            f"{row[key]['mean']:.4f} ± {row[key]['spread']:.4f}" for key in ("auroc", "accuracy")
        )
        lines.append(f"| {row['variant']} | {auc} | {share} | {row['seconds']['mean']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
