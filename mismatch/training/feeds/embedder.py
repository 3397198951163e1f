"""A backbone, a checkpoint or a bundle as what embeds rows for heads that are yet to be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mismatch.backbones.base import Backbone
from mismatch.backbones.features import features_offered
from mismatch.backbones.registry import families, load_backbone, parse_reference
from mismatch.data.pairs import Row
from mismatch.errors import InputError
from mismatch.progress import Bar
from mismatch.progress import progress as show_progress
from mismatch.runtime.batch_size import choose_batch_size
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.embedding import embed_images, embed_texts
from mismatch.runtime.hub_models import local_model
from mismatch.runtime.long_text import cutting_problem
from mismatch.runtime.pipeline import Engine, Pipeline
from mismatch.runtime.predictor import is_bundle, load
from mismatch.specs import HeadSpec, ScoreSpec
from mismatch.training.checkpoint import is_checkpoint, load_detector, meta_for
from mismatch.training.config import TrainConfig
from mismatch.training.detector import Detector, choose_device
from mismatch.training.engine import TorchEngine, open_checkpoint
from mismatch.training.feeds.batches import PairSet
from mismatch.training.head import COMMON_DIM, Head, build_head, head_spec_for
from mismatch.training.legacy import FAMILY, is_legacy
from mismatch.training.tuning.modes import MODES

__all__ = ["EmbeddedRows", "Embedder", "open_embedder"]

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
DEFAULTS = TrainConfig(train_csv="")
# the recipe of tune='head'
RECIPE: dict[str, Any] = {
    "hidden_dim": DEFAULTS.head_hidden,
    "dropout": MODES["head"]["dropout"],
    "members": DEFAULTS.head_members,
}
REMEMBERS = (
    "if these rows were among its training rows, its towers remember their labels, wrong ones too;"
    " {other} does not"
)
BUNDLE_NOTE = "the bundle doesn't say whether its towers were fine-tuned: " + REMEMBERS.format(
    other="the backbone that they came from"
)


@dataclass(frozen=True)
class EmbeddedRows:
    """Rows whose image and text have an embedding, and why the others have none."""

    pairs: PairSet  # of `rows`
    rows: NDArray[np.int64]  # (N,) places of those among the rows that were given
    images: Array  # (U, image_width)
    pieces: Array  # (W, text_width); nan for those that no row here names
    problems: dict[int, str]  # place of a row that was given → why it can't be scored

    @property
    def texts(self) -> Array:
        """Return (V, text_width), the mean of each text's pieces."""
        pairs = self.pairs
        counts = np.diff(self.pairs.starts)
        return np.asarray(
            np.add.reduceat(self.pieces[pairs.piece_of], pairs.starts[:-1]) / counts[:, None],
            np.float32,
        )


@dataclass(frozen=True)
class Embedder:
    """An engine, the head to train on what it gives, and what is to be said of it."""

    engine: Engine
    head: HeadSpec
    note: str  # empty where there is nothing to say
    # (B, image_width), (B, text_width) → (B,): the score that the model has itself, higher for a
    # better fit; None where its towers share no space and it has no head
    own_score: Callable[[Array, Array], Array] | None = None

    def embed(
        self,
        csv_file: str,
        rows: list[Row],
        image_base_path: str,
        cache: str | Path,
        *,
        workers: int | None = None,
        batch_size: int | str = 16,
        progress: Bar = show_progress,
    ) -> EmbeddedRows:
        """Embed each unique image and text once; what the cache knows is not encoded again.
        InputError where no row is left.
        """
        size = choose_batch_size(self.engine) if isinstance(batch_size, str) else batch_size
        pipeline = Pipeline(self.engine, batch_size=size, workers=workers)
        cut = pipeline.long_text != "truncate"
        reasons = (row.problem or (cutting_problem(row.text) if cut else None) for row in rows)
        problems = {i: reason for i, reason in enumerate(reasons) if reason}
        usable = np.array([i for i in range(len(rows)) if i not in problems], np.int64)
        pairs = PairSet.from_rows(csv_file, [rows[i] for i in usable], image_base_path)
        split = dict(zip(pairs.texts, pipeline.pieces(pairs.texts), strict=True))
        unsplit = {text: error for text, error in split.items() if isinstance(error, InputError)}
        pairs = pairs.cut(
            {text: pieces for text, pieces in split.items() if not isinstance(pieces, InputError)}
        )
        store = EmbeddingCache(cache, self.engine.fingerprint)
        with progress(
            f"embed {Path(csv_file).name}", len(pairs.images) + len(pairs.pieces), "item"
        ) as advance:
            images, bad_images = embed_images(pipeline, pairs.images, cache=store, progress=advance)
            pieces, bad_pieces = embed_texts(pipeline, pairs.pieces, cache=store, progress=advance)
        unsplit_at = {
            index: unsplit[text] for index, text in enumerate(pairs.texts) if text in unsplit
        }
        bad = [
            _why(pairs, index, bad_images, bad_pieces, unsplit_at) for index in range(len(pairs))
        ]
        problems |= {int(usable[index]): why for index, why in enumerate(bad) if why is not None}
        good = np.array([index for index, why in enumerate(bad) if why is None], np.int64)
        if not len(good):
            raise InputError(
                f"{csv_file}: not one of its {len(rows):,} rows can be scored; mismatch validate"
                " says why row by row"
            )
        return _only(pairs, good, images, pieces, usable[good], problems)


def open_embedder(
    reference: str, *, provider: str = "auto", threads: int | None = None
) -> Embedder:
    """Open a checkpoint or bundle folder, a folder of an older pipeline, or FAMILY[:MODEL]. The
    towers need share no space, as heads are trained.
    """
    reference = str(local_model(reference))
    if is_bundle(reference):
        engine: Any = load(reference, provider, threads)  # type: ignore[arg-type]
        spec = engine.engine.manifest.head
        common = spec.image_dim if spec.image_dim == spec.text_dim else COMMON_DIM
        return Embedder(
            engine.engine,
            replace(spec, kind="adapter", normalisation="standard", common_dim=common, **RECIPE),
            BUNDLE_NOTE,
            engine.engine.logits,
        )
    if threads is not None:
        torch.set_num_threads(threads)
    device = choose_device(provider)
    opened = _open(reference)
    backbone = opened.backbone
    spec = head_spec_for(backbone, "adapter", **RECIPE, features=features_offered(backbone))
    meta = meta_for(opened.family, opened.model_id, spec, score=opened.score)
    with torch.random.fork_rng(devices=[]):  # a head's first weights are drawn
        head = build_head(spec)
    engine = TorchEngine(Detector(backbone, head), meta, device=device)
    own_score = None
    if opened.head is not None and _widths(opened.head.spec) == _widths(spec):
        own_score = TorchEngine(Detector(backbone, opened.head), meta, device=device).logits
    elif backbone.shared_space:
        own_score = partial(_cosines, backbone.image_dim)
    return Embedder(engine, spec, opened.note, own_score)


def _widths(spec: HeadSpec) -> tuple[int, int]:
    return spec.image_width, spec.text_width


def _cosines(width: int, images: Array, texts: Array) -> Array:
    """Map (B, image_width), (B, text_width) → (B,) cosines of the embeddings, without features."""
    left = images[:, :width]
    right = texts[:, :width]
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left * right).sum(1) / np.maximum(lengths, 1e-12), np.float32)


class _Opened(NamedTuple):
    """A backbone, and what is known of its weights."""

    backbone: Backbone
    family: str
    model_id: str
    score: ScoreSpec | None  # how a checkpoint scores
    note: str  # on weights that may have seen the labels
    head: Head | None = None  # a checkpoint's


def _open(reference: str) -> _Opened:
    """Open a checkpoint, an older pipeline's folder, or a backbone by its name."""
    if is_checkpoint(reference):
        detector, meta = load_detector(reference)
        tuned = str(meta.train.get("tune", "full"))
        note = (
            ""
            if tuned == "head"
            else (
                f"{reference} was trained by `tune='{tuned}'`:"
                f" {REMEMBERS.format(other=f'{meta.family}:{meta.model_id}')}"
            )
        )
        return _Opened(
            detector.backbone, meta.family, meta.model_id, meta.score, note, detector.head
        )
    if reference.partition(":")[0] not in families() and not is_legacy(reference):
        open_checkpoint(reference)  # raises and says what to do
    family, model_id = (FAMILY, reference) if is_legacy(reference) else parse_reference(reference)
    note = (
        f"{reference} has been fine-tuned:"
        f" {REMEMBERS.format(other='its backbone as it was before')}"
        if is_legacy(reference)
        else ""
    )
    backbone = load_backbone(f"{family}:{model_id}" if is_legacy(reference) else reference)
    return _Opened(backbone, family, model_id, None, note)


def _why(
    pairs: PairSet,
    row: int,
    bad_images: Mapping[int, InputError],
    bad_pieces: Mapping[int, InputError],
    bad_texts: Mapping[int, InputError],
) -> str | None:
    """Return why a row has no embedding."""
    error = bad_images.get(int(pairs.image_of[row])) or bad_texts.get(int(pairs.text_of[row]))
    if error is not None:
        return str(error)
    pieces, _ = pairs.row_pieces(np.array([row]))
    return next((str(bad_pieces[int(piece)]) for piece in pieces if int(piece) in bad_pieces), None)


def _only(
    pairs: PairSet,
    good: Indices,
    images: Array,
    pieces: Array,
    rows: Indices,
    problems: dict[int, str],
) -> EmbeddedRows:
    """Return these rows of `pairs`, with the images and texts that they name and no others. The
    pieces stay.
    """
    kept_images, image_of = np.unique(pairs.image_of[good], return_inverse=True)
    kept_texts, text_of = np.unique(pairs.text_of[good], return_inverse=True)
    spans = [pairs.piece_of[pairs.starts[text] : pairs.starts[text + 1]] for text in kept_texts]
    kept = replace(
        pairs,
        images=[pairs.images[i] for i in kept_images],
        lines=pairs.lines[kept_images],
        texts=[pairs.texts[i] for i in kept_texts],
        image_of=np.asarray(image_of, np.int64),
        text_of=np.asarray(text_of, np.int64),
        labels=pairs.labels[good],
        piece_of=np.concatenate(spans),
        starts=np.cumsum([0, *map(len, spans)]),
    )
    return EmbeddedRows(kept, rows, images[kept_images], pieces, problems)
